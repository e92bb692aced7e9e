"""Small condensing runs and their units, which tests of the tracks share."""

from typing import Any

import torch

from harness.config import CondenseRun, assemble, resolve_form
from harness.core.data import DataSet
from harness.execution.units import Unit
from harness.tracks.base import (
    Place,
    make_context,
)
from harness.tracks.memories import (
    plan_memory,
)

CPU = torch.device("cpu")


def run_of(**settings: Any) -> CondenseRun:
    usual = {"dataset": "digits", "memory": "dm", "model": "convnet-d1-w8"}
    run, _ = resolve_form(assemble(CondenseRun, "smoke", {**usual, **settings}), CPU)
    return run


def unit_of(run: CondenseRun, dataset: DataSet, classes: list[int] | None = None) -> Unit:
    chosen = list(range(10)) if classes is None else classes
    return plan_memory(run, dataset, "set 0", chosen, make_context(run, Place()))
