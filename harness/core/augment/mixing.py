"""CutMix (Yun et al., ICCV 2019, arXiv:1905.04899) as a pure function of a batch and what was drawn."""

import math
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Generator, Tensor


@dataclass(frozen=True)
class CutMix:
    """One box for the whole batch, in which each image takes the pixels of its partner."""

    partner: Tensor  # (n,) int64, on the CPU: a permutation of the batch
    kept: float  # share of the image around the box, before the box is clipped: the paper's lambda; 1 mixes nothing
    centre: tuple[float, float]  # of the box, in [0, 1): shares of height and width


def draw_cutmix(n: int, probability: float, alpha: float, rng: Generator) -> CutMix:
    """Draw a mix for a batch of n images, which leaves the batch unchanged with 1 - `probability`.

    Args:
        n: images in the batch.
        probability: of mixing; at 0 nothing is drawn from rng.
        alpha: the share of an image outside the box is drawn from Beta(alpha, alpha); 1 is uniform.
        rng: advanced by the call, by as many numbers whether the batch is mixed or not.
    Raises:
        ValueError: probability is outside 0 .. 1, or alpha is not above 0.
    """
    if not 0 <= probability <= 1 or not alpha > 0:
        raise ValueError(f"cutmix: probability lies in 0 .. 1 and alpha above 0, got {probability} and {alpha}")
    if probability == 0:
        return CutMix(torch.arange(n), 1.0, (0.0, 0.0))
    coin, quantile, *centre = torch.rand(4, generator=rng, device=rng.device, dtype=torch.float64).tolist()
    partner = torch.randperm(n, generator=rng, device=rng.device).cpu()
    kept = float(betaincinv(alpha, alpha, quantile)) if coin < probability else 1.0
    return CutMix(partner, kept, (centre[0], centre[1]))


def cutmix(images: Tensor, targets: Tensor, draw: CutMix) -> tuple[Tensor, Tensor]:
    """Fill the box in each image from its partner, and mix the targets by area; the inputs are not changed.

    Args:
        images: (N, C, H, W).
        targets: class probabilities (N, K).
        draw: from `draw_cutmix`.
    Returns:
        The images and the targets, of the same shapes.
    Raises:
        ValueError: targets are not of shape (N, K), for example because they are labels.
    """
    if targets.ndim != 2:
        raise ValueError(f"cutmix: targets are class probabilities (N, K), got shape {tuple(targets.shape)}")
    height, width = images.shape[2:]
    side = math.sqrt(1 - draw.kept)
    rows, columns = _span(draw.centre[0], side, height), _span(draw.centre[1], side, width)
    share = len(rows) * len(columns) / (height * width)  # 1 - kept, after rounding and clipping
    if share == 0:
        return images, targets
    box = (..., slice(rows.start, rows.stop), slice(columns.start, columns.stop))
    partner = draw.partner.to(images.device, non_blocking=True)
    mixed = images.clone()
    mixed[box] = images[box][partner]
    return mixed, (1 - share) * targets + share * targets[partner]


def _span(centre: float, side: float, size: int) -> range:
    """The pixels a box covers along one axis of `size` pixels, as the authors round: half its side each way."""
    middle, half = int(centre * size), int(side * size) // 2
    return range(max(middle - half, 0), min(middle + half, size))
