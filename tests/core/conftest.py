"""A set that a small network learns."""

import pytest
import torch
from torch import Tensor

from tests.core.draws import seeded
from tests.core.training import SHAPE


@pytest.fixture(scope="module")
def stripes() -> tuple[Tensor, Tensor]:
    """40 images: rows that alternate (class 0), or columns that do (class 1), under noise."""
    labels = torch.arange(40) % 2
    rows = torch.tensor([1.0, -1.0]).repeat(4).view(8, 1).expand(3, 8, 8)
    images = torch.stack([rows, rows.mT])[labels]
    return images + 0.3 * torch.randn(40, *SHAPE, generator=seeded(1)), labels
