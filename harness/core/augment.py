"""Differentiable Siamese augmentation (Zhao & Bilen, ICML 2021, arXiv:2102.08259) as pure functions.

A strategy names the operations; `draw_shared` and `draw_batch` draw parameters from a generator; `apply` transforms
images by given parameters. Nothing is hidden in between: the same parameters always do the same, to real and to
synthetic images alike, and gradients flow through every operation.

Images are (N, C, H, W), normalised; what is shifted, cut or rotated in is 0, the data set's mean colour.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

DSA = "color_crop_cutout_flip_scale_rotate"
DSA_WITHOUT_FLIP = "color_crop_cutout_scale_rotate"  # digits: a mirrored 2 is not a 2
MOST_VALUES = 3  # numbers an operation may draw


@dataclass(frozen=True)
class Parameters:
    """What happens to each of n images (or groups of images), and by how much."""

    active: Tensor  # (n, operations) bool, on the CPU: knowing what runs never waits for a device
    values: Tensor  # (n, operations, MOST_VALUES) float, in [0, 1)

    def of(self, owner: Tensor) -> "Parameters":
        """The parameters of images (N,) that belong to groups `owner` (N,) int64, on the CPU."""
        return Parameters(self.active[owner], self.values[owner])


def operations(strategy: str) -> tuple[str, ...]:
    """The operations a strategy such as `color_crop_flip` names, in its order.

    Raises:
        ValueError: an operation is unknown.
    """
    names = tuple(strategy.split("_")) if strategy not in ("", "none") else ()
    if unknown := [name for name in names if name not in OPERATIONS]:
        raise ValueError(f"augment: {unknown[0]!r} is unknown; operations are {', '.join(OPERATIONS)}, or none")
    return names


def draw_shared(strategy: str, groups: int, rng: Generator) -> Parameters:
    """Per group one operation and its values, for all images of the group: the Siamese draw (one group per class)."""
    return _draw(len(operations(strategy)), groups, groups, rng)


def draw_batch(strategy: str, images: int, rng: Generator) -> Parameters:
    """One operation for the whole batch, its values per image: the draw for training on a memory."""
    return _draw(len(operations(strategy)), 1, images, rng)


def _draw(choices: int, decisions: int, n: int, rng: Generator) -> Parameters:
    if choices == 0:
        return Parameters(torch.zeros(n, 0, dtype=torch.bool), torch.zeros(n, 0, MOST_VALUES))
    chosen = torch.randint(choices, (decisions,), generator=rng, device=rng.device).cpu()
    values = torch.rand(n, choices, MOST_VALUES, generator=rng, device=rng.device).cpu()
    return Parameters(F.one_hot(chosen, choices).bool().expand(n, choices), values)


def apply(strategy: str, images: Tensor, parameters: Parameters, align_corners: bool = False) -> Tensor:
    """Images (N, C, H, W) after the active operations, in the strategy's order; the input is left as it is.

    Args:
        parameters: one row per image.
        align_corners: how scale and rotate place pixel centres; True was the default of the torch version (1.2) that
            the published numbers were made with.
    """
    for index, name in enumerate(operations(strategy)):
        chosen, values = parameters.active[:, index], parameters.values[:, index]
        if not chosen.any():
            continue
        if chosen.all():
            images = OPERATIONS[name](images, values.to(images, non_blocking=True), align_corners)
        else:
            rows = chosen.nonzero().squeeze(1)
            there = rows.to(images.device, non_blocking=True)
            part = OPERATIONS[name](images[there], values[rows].to(images, non_blocking=True), align_corners)
            images = images.index_copy(0, there, part)
    return images


def color(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Brightness, then saturation, then contrast; u (N, 3) holds a uniform number for each."""
    brightness, saturation, contrast = u.view(-1, 3, 1, 1, 1).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def crop(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Shift down and right by whole pixels in -k .. k, k an eighth of the height."""
    height, width = images.shape[2:]
    most = int(height * 0.125 + 0.5)
    shift = (u * (2 * most + 1)).floor().long() - most  # (N, 3); the third is not used
    rows = torch.arange(height, device=images.device) - shift[:, 0:1]  # (N, H): where each row comes from
    columns = torch.arange(width, device=images.device) - shift[:, 1:2]
    inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
    source = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
    source = source.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images) * inside.unsqueeze(1)


def cutout(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """A square of half the height set to 0, its centre anywhere in the image."""
    height, width = images.shape[2:]
    side = int(height * 0.5 + 0.5)
    places = torch.tensor([height, width, 1], device=images.device) + (1 - side % 2)
    start = (u * places).floor().long() - side // 2  # (N, 3): first row, first column; the third is not used
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (rows >= start[:, 0:1]) & (rows < start[:, 0:1] + side)
    in_columns = (columns >= start[:, 1:2]) & (columns < start[:, 1:2] + side)
    return images * ~(in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


def flip(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Left becomes right with probability one half."""
    return torch.where(u[:, 0].view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


def scale(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
    """Height and width zoomed independently by a factor in 1/1.2 .. 1.2."""
    least, most = 1 / 1.2, 1.2
    factor = least + u[:, :2] * (most - least)
    return _sample(images, torch.diag_embed(factor), align_corners)


def rotate(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
    """A turn by -15 .. 15 degrees."""
    angle = (u[:, 0] - 0.5) * 2 * (15 / 180 * torch.pi)
    cos, sin = angle.cos(), angle.sin()
    return _sample(images, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2), align_corners)


def _sample(images: Tensor, matrix: Tensor, align_corners: bool) -> Tensor:
    """Images read at `matrix` (N, 2, 2) times the pixel's place, bilinearly, 0 outside."""
    grid = F.affine_grid(F.pad(matrix, (0, 1)), list(images.shape), align_corners=align_corners)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)


OPERATIONS: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
