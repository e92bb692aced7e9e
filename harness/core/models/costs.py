"""What one image costs, worked out on the meta device: nothing is computed, and the network stays as it is."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.core.models.network import Network


def forward_flop(network: Network, image_shape: tuple[int, int, int]) -> int:
    """Floating point operations of one image's forward pass: two for each multiply-add of a weight."""
    with FlopCounterMode(display=False) as counter:
        _forward_one(_without_data(network), image_shape)
    return int(counter.get_total_flops())


def count_outputs(network: Network, image_shape: tuple[int, int, int]) -> int:
    """How many numbers the convolutions and linear layers before the classifier give for one image."""
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        counts.append(output.numel())

    copy = _without_data(network)
    for module in copy.features.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    _forward_one(copy, image_shape)
    return sum(counts)


def _without_data(network: Network) -> Network:
    """A copy to be hooked and run; in eval mode, where BatchNorm takes a single image."""
    return deepcopy(network).to("meta").eval()


@torch.no_grad()
def _forward_one(network: Network, image_shape: tuple[int, int, int]) -> None:
    network(torch.empty(1, *image_shape, dtype=network.classifier.weight.dtype, device="meta"))
