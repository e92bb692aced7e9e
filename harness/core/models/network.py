"""What all networks have in common, and the blocks that most are a row of."""

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

    Eager on a CPU it adds halves of the map: 2.5 times as fast, there and back, as PyTorch's, which takes a third of a
    narrow ConvNet's step there. Channels last, compiled and on CUDA PyTorch's is as fast or faster.
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
    """PyTorch's; compiled for a CPU, images of one channel get a second, empty one: the same sum.

    A compiled graph takes one channel for channels last as it stands, and oneDNN then convolves it the slow way.
    Forward alone, on a core of an AMD EPYC, a ConvNet of width 128 is 1.7 times as fast so in bfloat16, 1.3 times in
    float32; with gradients nothing is gained.
    """

    def forward(self, maps: Tensor) -> Tensor:
        grows = self.in_channels == 1 and maps.device.type == "cpu" and not torch.is_grad_enabled()
        if not (grows and torch.compiler.is_compiling()):
            return super().forward(maps)
        second = (0, 0, 0, 0, 0, 1)
        weight = F.pad(self.weight, second)
        return F.conv2d(F.pad(maps, second), weight, self.bias, self.stride, self.padding)


class Stage(nn.Sequential):
    """Layers that give one map together, that of the last: a stage of a residual network."""


class Network(nn.Module):
    """Images (N, C, H, W) to logits (N, K): `features`, flattened to (N, D), then the linear `classifier`.

    The weights are PyTorch's first draw; `draw_weights` replaces them by a draw from a generator.
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
        """What every activation gives, before any pooling, (N, C, H, W) or, of a linear layer, (N, D, 1, 1).

        Of a residual network: what each of its stages gives.
        """
        maps: list[Tensor] = []
        ends = (nn.ReLU, nn.Sigmoid, nn.LeakyReLU, nn.SiLU, Stage)
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, ends):
                maps.append(images if images.ndim == 4 else images[:, :, None, None])
        return maps


class Block(NamedTuple):
    """A square convolution, a norm, an activation and, if pooled, 2 x 2 pooling."""

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
    """The layers of `blocks`, four of each, and the side of the map they end with.

    The first convolution of 1-channel images pads by 2 more: 28 x 28 becomes 32 x 32, as in the reference networks.

    Raises:
        ValueError: nothing is left of images of this shape.
    """
    channels, size = image_shape[0], side(spec, image_shape)
    layers: list[nn.Module] = []
    for number, (filters, kernel, padding, pooled) in enumerate(blocks):
        padding += 2 if number == 0 and channels == 1 else 0
        size += 2 * padding - kernel + 1
        after = size // 2 if pooled else size
        if after < 1:
            raise pooled_away(spec, image_shape, remedy)
        layers += [
            Convolution(channels, filters, kernel, padding=padding),
            NORMS[norm](filters, size),
            ACTIVATIONS[activation](),
            POOLINGS[pooling]() if pooled else nn.Identity(),
        ]
        channels, size = filters, after
    return layers, size


def side(spec: object, image_shape: tuple[int, int, int]) -> int:
    """The side of square images.

    Raises:
        ValueError: they are not square.
    """
    _, height, width = image_shape
    if height != width:
        raise ValueError(f"model: {spec} takes square images, got {height} x {width}")
    return height


def pooled_away(spec: object, image_shape: tuple[int, int, int], remedy: str) -> ValueError:
    return ValueError(f"model: {spec} pools {image_shape[1]} x {image_shape[2]} images away; {remedy}")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, `network` is in eval mode; afterwards in the mode it was in before."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def has_batch_statistics(network: nn.Module) -> bool:
    """Whether an image's output depends on the others in its batch (BatchNorm), so that a batch may not be cut up."""
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
