"""The networks of fixed structure that a memory is also tested on, as Zhao et al. use them (DC, arXiv:2006.05929).

Each is a function of its specification, images (C, H, W) and K classes. The published sizes are those of 32 x 32
images, and of 1-channel ones of 28 x 28; for other images the linear layers fit what the convolutions leave.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from harness.core.models.network import (
    NORMS,
    SHORT,
    AveragePool,
    Block,
    Convolution,
    Network,
    Stage,
    side,
    stack,
    too_small_error,
)


@dataclass(frozen=True)
class OtherSpec:
    """A network of fixed structure; `str` gives its full name."""

    family: str  # one of FAMILIES
    norm: str  # one of the family's
    halving: str = "stride"  # how resnet18 halves its maps: stride or ap, by average pooling

    def __post_init__(self) -> None:
        halvings = ("stride", "ap") if self.family == "resnet18" else ("stride",)
        if self.norm not in _NORMS_OF.get(self.family, ()) or self.halving not in halvings:
            raise ValueError(f"model: there is no {self.family} with {self.norm} and halving {self.halving}")

    @property
    def has_batchnorm(self) -> bool:
        """Whether an image's output depends on the others in its batch; `has_batch_statistics` tells of a network."""
        return self.norm == "batchnorm"

    def __str__(self) -> str:
        norm = [self.norm] if len(_NORMS_OF[self.family]) > 1 else []
        return "-".join([self.family, *norm, *(["ap"] if self.halving == "ap" else [])])


NAMES = (
    "mlp", "lenet", "alexnet", "alexnet-bn", "vgg11", "vgg11-bn",
    "resnet18", "resnet18-bn", "resnet18-ap", "resnet18-bn-ap",
)  # fmt: skip
_NORMS_OF = {
    "mlp": ("nonorm",),
    "lenet": ("nonorm",),
    "alexnet": ("nonorm", "batchnorm"),  # the default first
    "vgg11": ("instancenorm", "batchnorm"),
    "resnet18": ("instancenorm", "batchnorm"),
}


def parse(name: str) -> OtherSpec | None:
    """The network a name stands for; None if its first part is none of FAMILIES.

    Raises:
        ValueError: a later part is not one of the family's; the message says which.
    """
    family, *parts = name.lower().split("-")
    if family not in FAMILIES:
        return None
    norms = _NORMS_OF[family]
    known = [*(norms if len(norms) > 1 else []), *(["ap"] if family == "resnet18" else [])]
    axes: dict[str, str] = {}
    for part in parts:
        value = SHORT.get(part, part)
        if value not in known:
            has = f"parts are {', '.join(known)}" if known else f"{family} has no parts"
            raise ValueError(f"model: {part!r} in {name!r} is unknown; {has}")
        axis = "halving" if value == "ap" else "norm"
        if axis in axes:
            raise ValueError(f"model: {name!r} gives its {axis} twice")
        axes[axis] = value
    return OtherSpec(family, axes.get("norm", norms[0]), axes.get("halving", "stride"))


def mlp(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Two hidden layers of 128; D = 128."""
    channels, height, width = image_shape
    hidden = [nn.Linear(channels * height * width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return Network([nn.Flatten(), *hidden], 128, num_classes)


def lenet(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Two pooled convolutions, the last 16 x 5 x 5 for published sizes, and two hidden layers; D = 84."""
    blocks = [Block(6, kernel=5, padding=0, pooled=True), Block(16, kernel=5, padding=0, pooled=True)]
    layers, size = stack(blocks, spec, image_shape, spec.norm)
    hidden = [nn.Linear(16 * size * size, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return Network([*layers, nn.Flatten(), *hidden], 84, num_classes)


def alexnet(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Five convolutions, three of them pooled; D = 192 x 4 x 4 for published sizes."""
    blocks = [
        Block(128, kernel=5, padding=2, pooled=True),
        Block(192, kernel=5, padding=2, pooled=True),
        Block(256, kernel=3, padding=1, pooled=False),
        Block(192, kernel=3, padding=1, pooled=False),
        Block(192, kernel=3, padding=1, pooled=True),
    ]
    layers, size = stack(blocks, spec, image_shape, spec.norm)
    return Network(layers, 192 * size * size, num_classes)


def vgg11(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Eight convolutions, five of them pooled, and the mean of the map they leave; D = 512.

    The published average at the end is over 1 x 1, the whole map of 32 x 32 images, where it changes nothing. So it
    is over the whole map of any others, 2 x 2 for 64 x 64, and the classifier is the same for all.
    """
    plan = [(64, True), (128, True), (256, False), (256, True), (512, False), (512, True), (512, False), (512, True)]
    blocks = [Block(filters, kernel=3, padding=1, pooled=pooled) for filters, pooled in plan]
    layers, size = stack(blocks, spec, image_shape, spec.norm)
    return Network([*layers, nn.AvgPool2d(size)], 512, num_classes)


def resnet18(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """A convolution and four stages of two residual blocks, each stage but the first with maps of half the side.

    Strided, it ends with the mean of the map, D = 512: published is 4 x 4, the whole map of 32 x 32 images, and so it
    is over the whole map of any others, 8 x 8 for 64 x 64. Halved by average pooling (`ap`), it ends with the map
    itself, D = 512 x 4 x 4 for 32 x 32 images. No extra padding here: `ap` leaves 3 x 3 of 1-channel 28 x 28 images.

    Raises:
        ValueError: nothing is left of images of this shape; an instance norm leaves nothing of a 1 x 1 map.
    """
    channels, size = image_shape[0], side(spec, image_shape)
    stem = [Convolution(channels, 64, 3, padding=1, bias=False), NORMS[spec.norm](64, size), nn.ReLU()]
    stages = [Stage(*stem, ResidualBlock(64, 64, spec), ResidualBlock(64, 64, spec))]
    for filters in (128, 256, 512):
        stages.append(Stage(ResidualBlock(filters // 2, filters, spec), ResidualBlock(filters, filters, spec)))
        size = size // 2 if spec.halving == "ap" else (size + 1) // 2  # strided: 7 x 7 becomes 4 x 4
    if size == 0:
        raise too_small_error(spec, image_shape, "use larger images")
    if size == 1 and spec.norm == "instancenorm":
        raise too_small_error(spec, image_shape, "use batchnorm, since an instance norm makes 1 x 1 maps zero")
    if spec.halving == "ap":
        return Network(stages, 512 * size * size, num_classes)
    return Network([*stages, nn.AvgPool2d(size)], 512, num_classes)


class ResidualBlock(nn.Module):
    """relu(residual + shortcut) of maps (N, channels, H, W), of half the side where there are more filters."""

    def __init__(self, channels: int, filters: int, spec: OtherSpec) -> None:
        super().__init__()
        halves, norm = filters != channels, NORMS[spec.norm]
        stride = 2 if halves and spec.halving == "stride" else 1
        pooling = [AveragePool()] if halves and spec.halving == "ap" else []
        self.residual = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False),
            norm(filters, 0),  # neither norm asks for the side of the map
            nn.ReLU(),
            *pooling,
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            norm(filters, 0),
        )
        shortcut = [nn.Conv2d(channels, filters, 1, stride, bias=False), *pooling, norm(filters, 0)]
        self.shortcut = nn.Sequential(*shortcut) if halves else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.residual(maps) + self.shortcut(maps))


FAMILIES: dict[str, Callable[[OtherSpec, tuple[int, int, int], int], Network]] = {
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "resnet18": resnet18,
}
