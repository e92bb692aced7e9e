"""What a strategy names, how its parameters are drawn, and how they are applied to images."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.augment import dc, dsa

DSA = "color_crop_cutout_flip_scale_rotate"
DSA_WITHOUT_FLIP = "color_crop_cutout_scale_rotate"  # digits: a mirrored 2 is not a 2
DC_DIGITS = "dc:crop_scale_rotate"  # DC trains on a memory of MNIST with it, and on other data without augmentation
DC_NOISE = "dc:crop_noise"  # the same for networks with batch norm, on any data
# IDC (Kim et al., ICML 2022, arXiv:2205.14959), the authors' condense.py and argument.py. Written with colour first
# and cutout last, operations run as published; flip there comes first, which is the same in distribution.
IDC = "idc:color_crop_cutout"  # the matching of gradients
IDC_NETWORK = "idc:color_crop"  # training the network on real images between matches, with CutMix for cutout
IDC_EVALUATION = "idc:color_crop_flip_scale_rotate"  # training on the memory, with CutMix for cutout
IDC_EVALUATION_WITHOUT_FLIP = "idc:color_crop_scale_rotate"  # the same for MNIST and SVHN
MOST_VALUES = 3  # numbers an operation may draw

# Family -> the operations it knows. One of those named runs: dsa draws it per group or batch, dc per group or image;
# idc draws it as dsa does, of all but IDC_ALWAYS, which run whenever they are named.
FAMILIES: dict[str, Collection[str]] = {"dsa": dsa.OPERATIONS, "dc": dc.OPERATIONS, "idc": dsa.OPERATIONS}
IDC_ALWAYS = ("color", "flip", "cutout")


@dataclass(frozen=True)
class Parameters:
    """The operations that apply to each of n images or groups of images, and their values."""

    active: Tensor  # (n, operations) bool, on the CPU: knowing what runs never waits for a device
    values: Tensor  # (n, operations, MOST_VALUES) float, in [0, 1)

    def of(self, owner: Tensor) -> "Parameters":
        """The parameters of images (N,) that belong to groups `owner` (N,) int64, on the CPU."""
        return Parameters(self.active[owner], self.values[owner])


def operations(strategy: str) -> tuple[str, ...]:
    """The operations a strategy such as `color_crop_flip` or `dc:crop_noise` names, in its order.

    Raises:
        ValueError: the family or an operation is unknown.
    """
    return _parse(strategy)[1]


def draw_shared(strategy: str, groups: int, rng: Generator) -> Parameters:
    """Draw one operation and its values for each group, shared by its images: the Siamese draw, with a group per class.

    In family `idc`, it is one operation besides those that always run.
    """
    return _draw(strategy, groups, groups, rng)


def draw_batch(strategy: str, images: int, rng: Generator) -> Parameters:
    """Draw one operation for the batch, and its values for each image: the draw for training on a memory.

    In family `idc`, it is one operation besides those that always run; in family `dc`, one operation for each image.
    """
    family, _ = _parse(strategy)
    return _draw(strategy, images if family == "dc" else 1, images, rng)


def apply(strategy: str, images: Tensor, parameters: Parameters, align_corners: bool = False) -> Tensor:
    """Apply the active operations to images (N, C, H, W), in the strategy's order; the input is not changed.

    Args:
        strategy: such as `color_crop_flip` or `dc:crop_noise`.
        images: (N, C, H, W), normalised.
        parameters: one row for each image.
        align_corners: how scale and rotate place pixel centres, except in family `dc`; True was the default of torch
            1.2, with which the published numbers were computed.
    """
    family, names = _parse(strategy)
    mean = images.mean((0, 2, 3), keepdim=True) if family == "dc" else None  # of the batch as it came

    def run(name: str, part: Tensor, values: Tensor) -> Tensor:
        u = values.to(part, non_blocking=True)
        if mean is not None:
            return dc.OPERATIONS[name](part, u, mean)
        return dsa.OPERATIONS[name](part, u, align_corners)

    for index, name in enumerate(names):
        chosen, values = parameters.active[:, index], parameters.values[:, index]
        if not chosen.any():
            continue
        if chosen.all():
            images = run(name, images, values)
        else:
            rows = chosen.nonzero().squeeze(1)
            device_rows = rows.to(images.device, non_blocking=True)
            images = images.index_copy(0, device_rows, run(name, images[device_rows], values[rows]))
    return images


def _parse(strategy: str) -> tuple[str, tuple[str, ...]]:
    """The family of a strategy and the operations it names."""
    prefix, colon, named = strategy.rpartition(":")
    family = prefix if colon else "dsa"
    if family not in FAMILIES:
        raise ValueError(f"augment: family {family!r} is unknown; families are {', '.join(FAMILIES)}")
    names = tuple(named.split("_")) if named not in ("", "none") else ()
    if unknown := [name for name in names if name not in FAMILIES[family]]:
        known = ", ".join(FAMILIES[family])
        raise ValueError(f"augment: {prefix + colon + unknown[0]!r} is unknown; operations are {known}, or none")
    return family, names


def _draw(strategy: str, decisions: int, n: int, rng: Generator) -> Parameters:
    family, names = _parse(strategy)
    active = torch.ones(n, len(names), dtype=torch.bool)
    if not names:
        return Parameters(active, torch.zeros(n, 0, MOST_VALUES))
    if choices := [i for i, name in enumerate(names) if family != "idc" or name not in IDC_ALWAYS]:
        chosen = torch.randint(len(choices), (decisions,), generator=rng, device=rng.device).cpu()
        active[:, choices] = F.one_hot(chosen, len(choices)).bool()
    values = torch.rand(n, len(names), MOST_VALUES, generator=rng, device=rng.device).cpu()
    return Parameters(active, values)
