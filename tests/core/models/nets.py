"""Shapes of images, and networks without data."""

import pytest
import torch

from harness.core import models
from harness.core.models import make
from harness.core.models.others import NAMES

CPU = torch.device("cpu")
COLOUR = (3, 32, 32)
GREY = (1, 28, 28)
TINY = (1, 8, 8)
each_other = pytest.mark.parametrize("name", NAMES)


def on_meta(name: str, shape: tuple[int, int, int] = COLOUR, num_classes: int = 10) -> models.Network:
    with torch.device("meta"):
        return make(name, shape, num_classes)


def parameters(name: str, num_classes: int, shape: tuple[int, int, int] = COLOUR) -> int:
    return sum(weight.numel() for weight in on_meta(name, shape, num_classes).parameters())
