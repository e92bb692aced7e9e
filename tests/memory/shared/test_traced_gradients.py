"""The compiled form of gradient matching gives what the eager form gives."""

import sys
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor

from harness.core import models
from harness.core.compute import tuning
from harness.memory.shared.distances import DISTANCES
from harness.memory.shared.gradients import GradientMatching, matching_statistics
from harness.memory.shared.sampling import rows_by_class
from tests.memory.toys import SHAPE, a_set, seeded


def gradient(
    form: str, model: str, distance: str, ipc: int, together: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by the synthetic images of three classes."""
    images, labels = a_set(dtype=dtype)
    network = models.scratch(model, SHAPE, 3, images.device, dtype)
    models.draw_weights(network, seeded(3))
    matching = GradientMatching(
        network,
        DISTANCES[distance],
        form="eager",
        real_dtype="float32",
        device=images.device,
        weights=lambda name, weight: weight.ndim == 4 or distance != "mse",
    )
    matching.second = form
    batches = [images[rows] for rows in rows_by_class(labels).values()]
    pixels = torch.randn(3 * ipc, *SHAPE, generator=seeded(5)).to(dtype).requires_grad_()
    with matching_statistics(network, batches, "exact"):
        real = matching.real_gradients(batches)
        loss = (matching.backward_together if together else matching.backward)(pixels, real)
    assert pixels.grad is not None
    return loss, pixels.grad


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run traced graphs as they are, for compiling takes half a minute; the graphs."""
    graphs: list[Any] = []

    def keep(graph: Any, **_: object) -> Any:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", keep)
    monkeypatch.setattr(sys.modules["harness.core.compute.tracing"], "_COMPILED", WeakKeyDictionary())
    return graphs


@pytest.mark.parametrize(
    ("model", "distance", "ipc", "together", "at_once", "graphs"),
    [
        ("convnet1-w4", "rows", 2, False, 256, 1),  # three classes in a graph
        ("convnet1-w4", "rows", 5, False, 256, 1),  # a graph for each class, all of one shape
        ("convnet1-w4", "rows", 2, False, 4, 2),  # two classes, then one
        ("convnet1-w4", "cos", 5, False, 3, 4),  # a class in two chunks: its gradient and its share of the distance's
        ("convnet1-w4", "rows", 4, True, 7, 4),
        ("convnet2-w4", "mse", 4, False, 256, 1),  # the convolutions' weights alone
        ("convnet2-w4-ln", "rows", 2, False, 256, 1),  # which vmap gets wrong
        ("convnet2-w4-bn", "rows", 2, False, 256, 1),
    ],
)
def test_traced_graphs_give_the_eager_gradient(
    model: str,
    distance: str,
    ipc: int,
    together: bool,
    at_once: int,
    graphs: int,
    traced_only: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "CPU_GRAPH", at_once)
    setting = (model, distance, ipc, together, torch.float64)
    for found, expected in zip(gradient("compiled", *setting), gradient("eager", *setting), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert len(traced_only) == graphs


def test_inductor_compiles_both_backward_passes() -> None:
    setting = ("convnet1-w4-gn", "rows", 2, False, torch.float32)
    for found, expected in zip(gradient("compiled", *setting), gradient("eager", *setting), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
