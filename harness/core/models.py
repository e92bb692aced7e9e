"""The ConvNet-D-W family of the condensation papers, named on the command line by what differs from the default.

    name   = "convnet" [depth] { "-" part }
    part   = "d" DEPTH | "w" WIDTH | norm | activation | pooling      each at most once, in any order
    norm   = instancenorm (in) | batchnorm (bn) | layernorm (ln) | groupnorm (gn) | nonorm (nn)
    activation = relu | sigmoid | leakyrelu | swish
    pooling    = avgpooling (avg) | maxpooling (max) | nopooling

`convnet3` is the papers' default: depth 3, width 128, instance norm, relu, average pooling;
`convnet-d3-w32-bn` changes two axes of it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Generator, Tensor, nn

_SHORT = {
    "in": "instancenorm", "bn": "batchnorm", "ln": "layernorm", "gn": "groupnorm", "nn": "nonorm",
    "avg": "avgpooling", "max": "maxpooling",
}  # fmt: skip
_NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "instancenorm": lambda width, size: nn.GroupNorm(width, width),  # one group per channel; no running statistics
    "batchnorm": lambda width, size: nn.BatchNorm2d(width),
    "layernorm": lambda width, size: nn.LayerNorm((width, size, size)),  # affine per element of the map
    "groupnorm": lambda width, size: nn.GroupNorm(4, width),
    "nonorm": lambda width, size: nn.Identity(),
}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leakyrelu": lambda: nn.LeakyReLU(0.01),
    "swish": nn.SiLU,
}
_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avgpooling": lambda: nn.AvgPool2d(2),
    "maxpooling": lambda: nn.MaxPool2d(2),
    "nopooling": nn.Identity,
}


@dataclass(frozen=True)
class ConvNetSpec:
    """One member of the family; `str` gives its full name."""

    depth: int = 3  # blocks of convolution, norm, activation, pooling
    width: int = 128  # filters of each convolution
    norm: str = "instancenorm"
    activation: str = "relu"
    pooling: str = "avgpooling"

    def __post_init__(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise ValueError(f"model: depth and width are at least 1, got depth {self.depth}, width {self.width}")
        if self.norm == "groupnorm" and self.width % 4:
            raise ValueError(f"model: groupnorm has 4 groups, so the width is a multiple of 4, got {self.width}")

    def __str__(self) -> str:
        return f"convnet-d{self.depth}-w{self.width}-{self.norm}-{self.activation}-{self.pooling}"


def parse(name: str) -> ConvNetSpec:
    """The network a name stands for (the grammar is at the top of this file).

    Raises:
        ValueError: the name is not of the grammar; the message says which part.
    """
    head, *parts = name.lower().split("-")
    match = re.fullmatch(r"convnet(\d*)", head)
    if match is None:
        raise ValueError(f"model: {name!r} is unknown; models are named like convnet3 or convnet-d3-w32-batchnorm")
    axes: dict[str, str] = {"depth": match[1]} if match[1] else {}
    for part in parts:
        axis, value = _axis(part, name)
        if axis in axes:
            raise ValueError(f"model: {name!r} gives its {axis} twice")
        axes[axis] = value
    types = {field.name: field.type for field in fields(ConvNetSpec)}
    return ConvNetSpec(**{axis: int(value) if types[axis] is int else value for axis, value in axes.items()})  # type: ignore[arg-type]


def _axis(part: str, name: str) -> tuple[str, str]:
    if number := re.fullmatch(r"([dw])(\d+)", part):
        return {"d": "depth", "w": "width"}[number[1]], number[2]
    value = _SHORT.get(part, part)
    for axis, values in (("norm", _NORMS), ("activation", _ACTIVATIONS), ("pooling", _POOLINGS)):
        if value in values:
            return axis, value
    known = ["dDEPTH", "wWIDTH", *_NORMS, *_ACTIVATIONS, *_POOLINGS]
    raise ValueError(f"model: {part!r} in {name!r} is unknown; parts are {', '.join(known)}")


class ConvNet(nn.Module):
    """Images (N, C, H, W) to logits (N, K); `embed` stops at the flattened features (N, D).

    Gidaris & Komodakis' network as Zhao et al. use it (DC, arXiv:2006.05929). The weights are PyTorch's first draw;
    `draw_weights` replaces them by a draw from a generator.
    """

    def __init__(self, spec: ConvNetSpec, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height != width:
            raise ValueError(f"model: {spec} takes square images, got {height} x {width}")
        size, blocks = height, []
        for block in range(spec.depth):
            first_of_grey = block == 0 and channels == 1
            padding = 3 if first_of_grey else 1  # 28 x 28 becomes 32 x 32, as in the reference networks
            size += 2 * padding - 2
            blocks += [
                nn.Conv2d(channels if block == 0 else spec.width, spec.width, 3, padding=padding),
                _NORMS[spec.norm](spec.width, size),
                _ACTIVATIONS[spec.activation](),
                _POOLINGS[spec.pooling](),
            ]
            size = size if spec.pooling == "nopooling" else size // 2
            if size == 0:
                raise ValueError(f"model: {spec} pools {height} x {width} images away; use a smaller depth")
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(spec.width * size * size, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images).flatten(1)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(images))
        return logits


def build(name: str, image_shape: tuple[int, int, int], num_classes: int, rng: Generator) -> ConvNet:
    """The named network for images (C, H, W), its weights drawn from `rng`; the global generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        network = ConvNet(parse(name), image_shape, num_classes)
    draw_weights(network, rng)
    return network


@lru_cache(maxsize=8)
def scratch(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    trainable: bool = True,
) -> ConvNet:
    """A network whose weights the caller is about to draw: the same object for the same arguments.

    So what is compiled for it serves every iteration and every unit of a process. It is in train mode and belongs to
    one caller at a time. One that is not trainable costs no gradients of its weights.
    """
    with torch.random.fork_rng(devices=[]):
        return ConvNet(parse(name), image_shape, num_classes).to(device, dtype).train().requires_grad_(trainable)


@torch.no_grad()
def draw_weights(network: nn.Module, rng: Generator) -> None:
    """Redraw every weight in place from `rng`, by PyTorch's own default distributions.

    Convolutions and linear layers: weights and biases uniform within 1/sqrt(fan in). Norms: weight 1, bias 0, fresh
    running statistics. Drawn on the generator's device, in the order of `network.modules()`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight.copy_(torch.rand(weight.shape, generator=rng, device=rng.device).mul_(2).sub_(1).mul_(bound))
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()


def has_batch_statistics(network: nn.Module) -> bool:
    """Whether an image's output depends on the others in its batch (BatchNorm), so that a batch may not be cut up."""
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
