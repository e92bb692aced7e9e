"""The base class of all networks, and the blocks that most of them are made of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORT = {
    "in": "instancenorm", "bn": "batchnorm", "ln": "layernorm", "gn": "groupnorm", "nn": "nonorm",
    "avg": "avgpooling", "max": "maxpooling",
}  # fmt: skip
NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "instancenorm": lambda width, size: nn.GroupNorm(width, width),  # one group per channel; no running statistics
    "batchnorm": lambda width, size: nn.BatchNorm2d(width),
    "layernorm": lambda width, size: nn.LayerNorm((width, size, size)),  # affine per element of the map
    "groupnorm": lambda width, size: nn.GroupNorm(4, width),
    "nonorm": lambda width, size: nn.Identity(),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leakyrelu": lambda: nn.LeakyReLU(0.01),
    "swish": nn.SiLU,
}
POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avgpooling": lambda: AveragePool(),
    "maxpooling": lambda: nn.MaxPool2d(2),
    "nopooling": nn.Identity,
}


class AveragePool(nn.AvgPool2d):
    """The mean of each 2 x 2 square, (N, C, H, W) to (N, C, H // 2, W // 2); an odd last row or column is left out.

    In an eager pass on a CPU it adds slices of the map, which is 2.5 times as fast, forward and backward, as PyTorch's
    layer; that takes a third of a step of a narrow ConvNet. PyTorch's layer is as fast or faster, and is used, on CUDA,
    when compiled, and for maps in channels last.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, maps: Tensor) -> Tensor:
        if maps.device.type != "cpu" or torch.compiler.is_compiling() or not maps.is_contiguous():
            return F.avg_pool2d(maps, 2)
        height, width = maps.shape[-2] // 2, maps.shape[-1] // 2
        upper, lower = maps[..., : 2 * height, : 2 * width].unflatten(-2, (height, 2)).unbind(-2)
        left, right = (upper + lower).unflatten(-1, (width, 2)).unbind(-1)
        mean: Tensor = (left + right) / 4
        return mean


class Convolution(nn.Conv2d):
    """A convolution that, compiled for a CPU without gradients, adds a channel of zeros to images of one channel.

    The outputs are equal. Without it, compiled code treats one channel as channels last, for which oneDNN is slow.
    The forward pass of a ConvNet of width 128 on one core of an AMD EPYC is 1.7 times as fast in bfloat16 and 1.3 times
    as fast in float32; a pass with gradients is not faster.
    """

    def forward(self, maps: Tensor) -> Tensor:
        grows = self.in_channels == 1 and maps.device.type == "cpu" and not torch.is_grad_enabled()
        if not (grows and torch.compiler.is_compiling()):
            return super().forward(maps)
        second = (0, 0, 0, 0, 0, 1)
        weight = F.pad(self.weight, second)
        return F.conv2d(F.pad(maps, second), weight, self.bias, self.stride, self.padding)


class Stage(nn.Sequential):
    """A stage of a residual network, whose output is one of the network's `maps`."""


class Network(nn.Module):
    """Maps images (N, C, H, W) to logits (N, K): `features`, flattened to (N, D), then the linear `classifier`.

    Weights are initialised by PyTorch; `draw_weights` draws them from a generator.
    """

    def __init__(self, features: Sequence[nn.Module], embedding: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Linear(embedding, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """The input of the classifier, (N, D)."""
        features: Tensor = self.features(images).flatten(1)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(images))
        return logits

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each activation before pooling; of a residual network, that of each stage.

        Shapes are (N, C, H, W), and (N, D, 1, 1) after a linear layer.
        """
        maps: list[Tensor] = []
        ends = (nn.ReLU, nn.Sigmoid, nn.LeakyReLU, nn.SiLU, Stage)
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, ends):
                maps.append(images if images.ndim == 4 else images[:, :, None, None])
        return maps


class Block(NamedTuple):
    """A square convolution, a norm, an activation and, if `pooled`, 2 x 2 pooling."""

    filters: int
    kernel: int
    padding: int
    pooled: bool


def stack(
    blocks: Sequence[Block],
    spec: object,
    image_shape: tuple[int, int, int],
    norm: str,
    activation: str = "relu",
    pooling: str = "maxpooling",
    remedy: str = "use larger images",
) -> tuple[list[nn.Module], int]:
    """Return the layers of `blocks`, four for each, and the side of the final map.

    For 1-channel images the first convolution pads by 2 more, so that 28 x 28 becomes 32 x 32, as in the published
    networks.

    Raises:
        ValueError: images of this shape are too small for the blocks.
    """
    channels, size = image_shape[0], side(spec, image_shape)
    layers: list[nn.Module] = []
    for number, (filters, kernel, padding, pooled) in enumerate(blocks):
        padding += 2 if number == 0 and channels == 1 else 0
        size += 2 * padding - kernel + 1
        after = size // 2 if pooled else size
        if after < 1:
            raise too_small_error(spec, image_shape, remedy)
        layers += [
            Convolution(channels, filters, kernel, padding=padding),
            NORMS[norm](filters, size),
            ACTIVATIONS[activation](),
            POOLINGS[pooling]() if pooled else nn.Identity(),
        ]
        channels, size = filters, after
    return layers, size


def side(spec: object, image_shape: tuple[int, int, int]) -> int:
    """Return the side of square images.

    Raises:
        ValueError: the images are not square.
    """
    _, height, width = image_shape
    if height != width:
        raise ValueError(f"model: {spec} takes square images, got {height} x {width}")
    return height


def too_small_error(spec: object, image_shape: tuple[int, int, int], remedy: str) -> ValueError:
    return ValueError(f"model: {spec} pools {image_shape[1]} x {image_shape[2]} images away; {remedy}")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put `network` in eval mode inside the context, and restore its mode on exit."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def has_batch_statistics(network: nn.Module) -> bool:
    """Whether the output for an image depends on the other images of its batch, as with BatchNorm."""
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
