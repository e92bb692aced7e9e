"""From a name to a network, and its weights from a generator."""

import math
from functools import lru_cache

import torch
from torch import Generator, nn

from harness.core.models import convnet, others
from harness.core.models.convnet import ConvNet, ConvNetSpec
from harness.core.models.network import Network
from harness.core.models.others import OtherSpec

Spec = ConvNetSpec | OtherSpec


def parse(name: str) -> Spec:
    """The network a name stands for (the grammar is at the top of this package).

    Raises:
        ValueError: the name is not of the grammar; the message says which part.
    """
    spec = convnet.parse(name) or others.parse(name)
    if spec is None:
        raise ValueError(
            f"model: {name!r} is unknown; models are named like convnet3 or convnet-d3-w32-batchnorm, "
            f"or are one of {', '.join(others.NAMES)}"
        )
    return spec


def make(model: str | Spec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """The network for images (C, H, W), its weights PyTorch's own first draw, or none under `torch.device("meta")`.

    Raises:
        ValueError: the name is unknown, or the network does not fit the images.
    """
    spec = parse(model) if isinstance(model, str) else model
    if isinstance(spec, ConvNetSpec):
        return ConvNet(spec, image_shape, num_classes)
    return others.FAMILIES[spec.family](spec, image_shape, num_classes)


def build(name: str, image_shape: tuple[int, int, int], num_classes: int, rng: Generator) -> Network:
    """The named network for images (C, H, W), its weights drawn from `rng`; the global generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        network = make(name, image_shape, num_classes)
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
) -> Network:
    """A network whose weights the caller is about to draw: the same object for the same arguments.

    So what is compiled for it serves every iteration and every unit of a process. It is in train mode and belongs to
    one caller at a time. One that is not trainable costs no gradients of its weights.
    """
    with torch.random.fork_rng(devices=[]):
        return make(name, image_shape, num_classes).to(device, dtype).train().requires_grad_(trainable)


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
