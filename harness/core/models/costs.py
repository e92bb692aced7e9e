"""What one image costs, worked out on the meta device: nothing is computed, and the network stays as it is."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from harness.core.models.network import Network


def forward_flop(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Floating point operations of one image's forward pass: two for each multiply-add of a weight."""
    return sum(2 * outputs * layer.weight[0].numel() for layer, outputs in _layers(network, image_shape))


def count_outputs(network: Network, image_shape: tuple[int, int, int]) -> int:
    """How many numbers the convolutions and linear layers before the classifier give for one image."""
    return sum(outputs for _, outputs in _layers(network, image_shape)[:-1])


def bytes_per_image(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Feature maps of one image that a forward and backward pass keeps: about four of each convolution's size."""
    return 4 * 4 * count_outputs(network, image_shape)


def _layers(network: Network, image_shape: tuple[int, int, int]) -> list[tuple[nn.Conv2d | nn.Linear, int]]:
    """The convolutions and linear layers in the order they are used, and how many numbers each gives for one image."""
    found: list[tuple[nn.Conv2d | nn.Linear, int]] = []

    def note(module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        found.append((module, output.numel()))

    copy = _without_data(network)
    for module in copy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    _forward_one(copy, image_shape)
    return found


def _without_data(network: Network) -> Network:
    """A copy to be hooked and run; in eval mode, where BatchNorm takes a single image."""
    return deepcopy(network).to("meta").eval()


@torch.no_grad()
def _forward_one(network: Network, image_shape: tuple[int, int, int]) -> None:
    network(torch.empty(1, *image_shape, dtype=network.classifier.weight.dtype, device="meta"))
