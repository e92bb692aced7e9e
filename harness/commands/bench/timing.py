"""Time two functions against each other; the images and the networks of all benches."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from harness.core import models
from harness.core.parametrisation import Shape

Result = dict[str, object]  # the fields of a bench's line of JSON

CIFAR = (3, 32, 32)  # shape of the images
MNIST = (1, 28, 28)
SIZES = {"paper": (10, 10), "quick": (100, 10)}  # preset -> number of classes, and images per class in the memory
CLASS_IMAGES = 300  # real images per class, unless a batch has more
MIN_PAIRS = 5  # pairs of calls


@dataclass(frozen=True)
class Comparison:
    """Seconds that a plain and a shipped form took, in pairs measured one after the other."""

    plain: list[float]
    shipped: list[float]

    @property
    def plain_seconds(self) -> float:
        """Median time of the plain form."""
        return statistics.median(self.plain)

    @property
    def shipped_seconds(self) -> float:
        """Median time of the shipped form."""
        return statistics.median(self.shipped)

    @property
    def ratio(self) -> float:
        """How many times as fast the shipped form is."""
        return self.plain_seconds / self.shipped_seconds

    @property
    def ratio_quartiles(self) -> list[float]:
        """First and third quartile of the ratios of the pairs."""
        pairs = zip(self.plain, self.shipped, strict=True)
        first, _, third = statistics.quantiles([plain / shipped for plain, shipped in pairs], n=4)
        return [first, third]

    def as_result(self, form: str, device: torch.device, flop: int = 0) -> Result:
        """Return the fields that a bench reports.

        Args:
            form: how the shipped form computes.
            device: where both forms ran.
            flop: floating-point operations of one call; 0 where they are not reported.
        """
        return {
            "ratio": self.ratio,
            "ratio_quartiles": self.ratio_quartiles,
            "plain_seconds": self.plain_seconds,
            "shipped_seconds": self.shipped_seconds,
            "pairs": len(self.plain),
            "form": form,
            **rates(self.shipped_seconds, flop, device),
        }


def compare(plain: Callable[[], object], shipped: Callable[[], object], seconds: float) -> Comparison:
    """Call two functions in turn until the slower one has run for `seconds`, and at least five times each.

    Both are called once before the measurement, so that it excludes compilation and allocation.
    """
    plain()
    shipped()
    _wait_for_gpu()
    comparison = Comparison([], [])
    while len(comparison.plain) < MIN_PAIRS or max(sum(comparison.plain), sum(comparison.shipped)) < seconds:
        for call, times in ((plain, comparison.plain), (shipped, comparison.shipped)):
            began = time.perf_counter()
            call()
            _wait_for_gpu()
            times.append(time.perf_counter() - began)
    return comparison


def rates(shipped_seconds: float, flop: int, device: torch.device) -> Result:
    """Return calls and TFLOP per second of the shipped form on a GPU; {} on a CPU or without `flop`."""
    if device.type != "cuda" or not flop:
        return {}
    return {"iterations_per_second": 1 / shipped_seconds, "tflop_per_second": flop / shipped_seconds / 1e12}


def make_noise(classes: int, per_class: int, device: torch.device, shape: Shape = CIFAR) -> tuple[Tensor, Tensor]:
    """Return images of noise, (N, C, H, W), and their labels, (N,); the time of a bench does not depend on them."""
    images = torch.randn(classes * per_class, *shape, generator=Generator().manual_seed(0))
    return images.to(device), torch.arange(classes).repeat_interleave(per_class).to(device)


def use_torch_pooling(network: models.Network) -> models.Network:
    """Replace the network's average pooling by PyTorch's, which plain forms use."""
    for at, layer in enumerate(network.features):
        if isinstance(layer, models.AveragePool):
            network.features[at] = torch.nn.AvgPool2d(2)
    return network


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
