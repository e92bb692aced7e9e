"""Networks of fixed structure other than ConvNets, as used by Zhao et al. (DC, arXiv:2006.05929).

Each function takes a specification, the shape (C, H, W) of an image and the number K of classes. Zhao et al. publish
them for images of 32 x 32, or 28 x 28 with one channel. For other images, the linear layers take the size of the map
that the convolutions return. D is the size of the embedding, the input of the classifier.
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
    """The specification of a network of fixed structure; `str` returns its full name."""

    family: str  # one of FAMILIES
    norm: str  # a norm that the family has
    halving: str = "stride"  # how resnet18 halves the side of its maps: "stride", or "ap" for average pooling

    def __post_init__(self) -> None:
        halvings = ("stride", "ap") if self.family == "resnet18" else ("stride",)
        if self.norm not in _NORMS_OF.get(self.family, ()) or self.halving not in halvings:
            raise ValueError(f"model: there is no {self.family} with {self.norm} and halving {self.halving}")

    @property
    def has_batchnorm(self) -> bool:
        """Whether the network has BatchNorm; `has_batch_statistics` checks a network that is built."""
        return self.norm == "batchnorm"

    def __str__(self) -> str:
        norm = [self.norm] if len(_NORMS_OF[self.family]) > 1 else []
        return "-".join([self.family, *norm, *(["ap"] if self.halving == "ap" else [])])


NAMES = (
    "mlp", "lenet", "alexnet", "alexnet-bn", "vgg11", "vgg11-bn",
    "resnet18", "resnet18-bn", "resnet18-ap", "resnet18-bn-ap",
)  # fmt: skip
_NORMS_OF = {  # family -> its norms, the default first
    "mlp": ("nonorm",),
    "lenet": ("nonorm",),
    "alexnet": ("nonorm", "batchnorm"),
    "vgg11": ("instancenorm", "batchnorm"),
    "resnet18": ("instancenorm", "batchnorm"),
}


def parse(name: str) -> OtherSpec | None:
    """Parse the name of a network, such as resnet18-bn-ap; return None if it does not begin with one of FAMILIES.

    Raises:
        ValueError: a later part of the name is unknown or contradicts another one; the message says which.
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
            choices = f"parts are {', '.join(known)}" if known else f"{family} has no parts"
            raise ValueError(f"model: {part!r} in {name!r} is unknown; {choices}")
        axis = "halving" if value == "ap" else "norm"
        if axis in axes:
            raise ValueError(f"model: {name!r} gives its {axis} twice")
        axes[axis] = value
    return OtherSpec(family, axes.get("norm", norms[0]), axes.get("halving", "stride"))


def mlp(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Build a perceptron with two hidden layers of 128 units; D = 128."""
    channels, height, width = image_shape
    hidden = [nn.Linear(channels * height * width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return Network([nn.Flatten(), *hidden], 128, num_classes)


def lenet(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Build LeNet: two convolutions with pooling and two hidden layers; D = 84.

    The second convolution returns 16 x 5 x 5 maps for the published image sizes.
    """
    blocks = [Block(6, kernel=5, padding=0, pooled=True), Block(16, kernel=5, padding=0, pooled=True)]
    layers, size = stack(blocks, spec, image_shape, spec.norm)
    hidden = [nn.Linear(16 * size * size, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return Network([*layers, nn.Flatten(), *hidden], 84, num_classes)


def alexnet(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Build AlexNet: five convolutions, three of them with pooling; D = 192 x 4 x 4 for the published image sizes."""
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
    """Build VGG11: eight convolutions, five of them with pooling, and an average over the final map; D = 512.

    The published network averages over 1 x 1, which is the whole map for images of 32 x 32. Here it averages over the
    whole map for images of any size, such as 2 x 2 for images of 64 x 64, so that D does not depend on the size.
    """
    plan = [(64, True), (128, True), (256, False), (256, True), (512, False), (512, True), (512, False), (512, True)]
    blocks = [Block(filters, kernel=3, padding=1, pooled=pooled) for filters, pooled in plan]
    layers, size = stack(blocks, spec, image_shape, spec.norm)
    return Network([*layers, nn.AvgPool2d(size)], 512, num_classes)


def resnet18(spec: OtherSpec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Build ResNet18: a convolution and four stages of two residual blocks; all stages but the first halve the maps.

    With halving "stride", the network ends with an average over the final map, and D = 512. The published average is
    over 4 x 4, which is the whole map for images of 32 x 32; here it is over the whole map for images of any size, such
    as 8 x 8 for images of 64 x 64. With halving "ap", the network ends with the final map itself, and D = 512 x 4 x 4
    for images of 32 x 32. Images of one channel get no extra padding: "ap" turns 28 x 28 into 3 x 3.

    Raises:
        ValueError: the images are too small: the final map is empty, or it is 1 x 1, which an instance norm sets to
            zero.
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
    """Maps (N, channels, H, W) to relu(residual + shortcut); halves H and W if `filters` differs from `channels`."""

    def __init__(self, channels: int, filters: int, spec: OtherSpec) -> None:
        super().__init__()
        halves, norm = filters != channels, NORMS[spec.norm]
        stride = 2 if halves and spec.halving == "stride" else 1
        pooling = [AveragePool()] if halves and spec.halving == "ap" else []
        self.residual = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False),
            norm(filters, 0),  # instance norm and BatchNorm do not use the side of the map
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
