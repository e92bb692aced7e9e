"""Costs of a network per image, counted by a pass on the meta device, which computes nothing."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from harness.core.models.network import Network


def forward_flop(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Count the floating point operations of the forward pass of one image: two for each multiply-add of a weight."""
    return sum(2 * outputs * layer.weight[0].numel() for layer, outputs in _layers(network, image_shape))


def count_outputs(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Count the outputs of the convolutions and linear layers before the classifier for one image."""
    return sum(outputs for _, outputs in _layers(network, image_shape)[:-1])


def bytes_per_image(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Estimate the bytes of feature maps that a forward and backward pass of one image stores.

    There are about four float32 maps of the size of each convolution's output.
    """
    return 4 * 4 * count_outputs(network, image_shape)


def _layers(network: Network, image_shape: tuple[int, int, int]) -> list[tuple[nn.Conv2d | nn.Linear, int]]:
    """The convolutions and linear layers in the order of their use, with the count of outputs of each for one image."""
    found: list[tuple[nn.Conv2d | nn.Linear, int]] = []

    def record(module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        found.append((module, output.numel()))

    copy = _copy_to_meta(network)
    for module in copy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(record)
    _forward_one(copy, image_shape)
    return found


def _copy_to_meta(network: Network) -> Network:
    """Copy a network to the meta device, in eval mode, in which BatchNorm accepts a single image."""
    return deepcopy(network).to("meta").eval()


@torch.no_grad()
def _forward_one(network: Network, image_shape: tuple[int, int, int]) -> None:
    network(torch.empty(1, *image_shape, dtype=network.classifier.weight.dtype, device="meta"))
