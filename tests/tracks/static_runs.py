"""Small runs of the static track, which its tests share."""

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.commands import run as runs
from harness.commands.run import Finished, Options
from harness.config import CondenseRun, Run, assemble, resolve_form
from harness.core.data import DataSet
from harness.core.progress import SILENT
from harness.execution.engines import Event
from harness.execution.units import Store, Unit
from harness.tracks import static
from harness.tracks.base import Place
from harness.tracks.static import StaticPlan, plan

CPU = torch.device("cpu")
SMALL = {"dataset": "digits", "memory": "dm", "model": "convnet-d1-w8", "classes_per_unit": 5}


def run_of(preset: str = "smoke", **settings: Any) -> CondenseRun:
    run, _ = resolve_form(assemble(CondenseRun, preset, {**SMALL, **settings}), CPU)
    return run


def plan_of(dataset: DataSet, /, **settings: Any) -> StaticPlan:
    return plan(run_of(**settings), dataset, Place())


def keys(units: list[Unit]) -> set[str]:
    return {unit.key for unit in units}


def memory_units(of: StaticPlan) -> list[Unit]:
    return [unit for unit in of.units if unit.kind == "memory"]


def carry_out(
    run: Run, out: Path, watch: Callable[[list[Event]], None] = lambda events: None, **options: Any
) -> tuple[Finished, Counter[str]]:
    """The finished run, and how often each kind of event was told; `watch` is told all up to each."""
    chosen = Options(**{"out": out, "engine": "serial", **options})
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        watch(events)

    finished = runs.carry_out(runs.prepare(run, chosen), chosen, report)
    assert not finished.outcome.failed
    return finished, Counter(event.kind for event in events)


def complete(run: Run, out: Path, **options: Any) -> Finished:
    finished, _ = carry_out(run, out, **options)
    assert not finished.outcome.left
    return finished


def without_cost(directory: Path) -> str:
    """The rows of a run as text, but for the time and the memory that the work took."""
    table = list(csv.reader(io.StringIO((directory / "rows.csv").read_text())))
    costs = {table[0].index(name) for name in ("wall_seconds", "peak_bytes")}
    return "\n".join(",".join(cell for number, cell in enumerate(line) if number not in costs) for line in table)


FULL: dict[str, Any] = {"sets": 2, "nets": 2, "eval_models": "convnet-d1-w8,mlp", "at": "2", "memory.iterations": 4}


def done(units: list[Unit], store: Store) -> None:
    for unit in units:
        static.work(unit, store, SILENT)


def tensors_of(unit: Unit, store: Store) -> dict[str, torch.Tensor]:
    found = store.load(unit.key)
    assert found is not None
    return found[0]


def cost_of(unit: Unit, store: Store) -> dict[str, Any]:
    found = store.load(unit.key)
    assert found is not None
    return dict(found[1]["cost"])
