"""Builds networks from their names, and draws their weights from a generator."""

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
    """Return the specification of the network called `name`; the package's docstring has the grammar.

    Raises:
        ValueError: the name is not in the grammar; the message says which part.
    """
    spec = convnet.parse(name) or others.parse(name)
    if spec is None:
        raise ValueError(
            f"model: {name!r} is unknown; models are named like convnet3 or convnet-d3-w32-batchnorm, "
            f"or are one of {', '.join(others.NAMES)}"
        )
    return spec


def make(model: str | Spec, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Make a network for images (C, H, W), with weights as PyTorch initialises them.

    Under `torch.device("meta")` the weights hold no data.

    Raises:
        ValueError: the name is unknown, or the network does not fit the images.
    """
    spec = parse(model) if isinstance(model, str) else model
    if isinstance(spec, ConvNetSpec):
        return ConvNet(spec, image_shape, num_classes)
    return others.FAMILIES[spec.family](spec, image_shape, num_classes)


def build(name: str, image_shape: tuple[int, int, int], num_classes: int, rng: Generator) -> Network:
    """Make a network for images (C, H, W), and draw its weights from `rng`; the global generator is unchanged."""
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
    """Return a cached network, the same object for the same arguments, whose weights the caller has yet to draw.

    Code that is compiled for it serves all iterations and all units of a process. It is in train mode. Only one caller
    may use it at a time. If it is not trainable, no gradients of its weights are computed.
    """
    with torch.random.fork_rng(devices=[]):
        return make(name, image_shape, num_classes).to(device, dtype).train().requires_grad_(trainable)


@torch.no_grad()
def draw_weights(network: nn.Module, rng: Generator) -> None:
    """Draw all weights anew in place from `rng`, from PyTorch's default distributions.

    Weights and biases of convolutions and linear layers are uniform within 1/sqrt(fan in). Norms get weight 1, bias 0
    and initial running statistics. Numbers are drawn on the generator's device, in the order of `network.modules()`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight.copy_(torch.rand(weight.shape, generator=rng, device=rng.device).mul_(2).sub_(1).mul_(bound))
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
