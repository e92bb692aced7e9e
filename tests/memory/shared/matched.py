"""Gradients of a small network to match."""

import pytest
from torch import Tensor

from harness.core import compute, models
from harness.memory.shared.distances import DISTANCES
from harness.memory.shared.gradients import GradientMatching
from harness.memory.shared.sampling import rows_by_class
from tests.memory.toys import SHAPE, seeded


def cut(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `chunk` images through a network at a time."""
    monkeypatch.setattr(compute, "gradient_chunk", lambda _: chunk)


def matching(images: Tensor, classes: int, model: str = "convnet2-w4", distance: str = "rows") -> GradientMatching:
    """Of a network drawn from seed 3, without the gradients that an earlier test left on it."""
    network = models.scratch(model, SHAPE, classes, images.device, images.dtype)
    models.draw_weights(network, seeded(3))
    network.zero_grad()
    return GradientMatching(network, DISTANCES[distance], form="eager", real_dtype="float32", device=images.device)


def batches_of(images: Tensor, labels: Tensor) -> list[Tensor]:
    return [images[rows] for rows in rows_by_class(labels).values()]
