"""Columns of rows that all tracks share: the run, its form of computing, and the cost of its units."""

import json
from collections.abc import Sequence
from importlib.metadata import version

from harness import config
from harness.config import Run
from harness.core import models
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.recipes import TrainConfig
from harness.execution.units import Spec, Unit
from harness.memory.method import Form
from harness.tracks.base import Row, get_memory_name


def make_shared_columns(run: Run, dataset: DataSet, changes: str) -> Row:
    """Return the columns that all rows of a run share."""
    model = run.method.model
    return {
        "track": run.track,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "exactness": dataset.exactness,
        "preset": run.preset,
        "changes": changes,
        "memory": get_memory_name(run),
        "memory_model": None if model is None else str(models.parse(model)),
        "ipc": run.ipc if run.method.stored else None,
        "split": run.split,
        "seed": run.seed,
        "version": version("condensation-harness"),
        "spec": make_spec_column(run, config.to_plain(run.training)),
    }


def make_spec_column(run: Run, recipe: Spec) -> str:
    """Return the column `spec`, in JSON: the configurations of the run's method and of the given recipe."""
    return json.dumps({"memory": config.to_plain(run.method), "recipe": recipe}, sort_keys=True)


def make_cost_columns(unit: Unit, card: Card) -> Row:
    """Return the columns on the cost of a unit: its key, device, version of torch, seconds and bytes."""
    cost = card["cost"]
    return {"key": unit.key} | {name: cost.get(name) for name in ("device", "torch", "wall_seconds", "peak_bytes")}


def describe_form(form: Form) -> str:
    """Describe a form of computing, such as "compiled, float32, real bfloat16"."""
    real = [] if form.real_dtype is None else [f"real {form.real_dtype}"]
    return ", ".join([form.compute, form.dtype, *real])


def describe_training_form(recipe: TrainConfig) -> str:
    """Describe the form of computing of a training, such as "compiled, float32"."""
    return describe_form(Form(recipe.compute, recipe.dtype))


def add_costs(costs: Sequence[Spec]) -> Card:
    """Combine the costs of the units that build a memory: the sums of seconds and FLOP, and the largest peak_bytes.

    The device is that of the first unit. FLOP are left out unless all costs have them.
    """
    total: Card = {
        "wall_seconds": sum(cost["wall_seconds"] for cost in costs),
        "device": costs[0]["device"],
    }
    if all("flop" in cost for cost in costs):
        total["flop"] = sum(cost["flop"] for cost in costs)
    if peaks := [cost["peak_bytes"] for cost in costs if "peak_bytes" in cost]:
        total["peak_bytes"] = max(peaks)
    return total
