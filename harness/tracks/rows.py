"""Columns that rows of every track share: the run, its form of computing, and the cost of its units."""

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
from harness.tracks.base import Row, memory_name


def shared_columns(run: Run, dataset: DataSet, changes: str) -> Row:
    """Return the columns that all rows of a run share."""
    model = run.method.model
    return {
        "track": run.track,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "exactness": dataset.exactness,
        "preset": run.preset,
        "changes": changes,
        "memory": memory_name(run),
        "memory_model": None if model is None else str(models.parse(model)),
        "ipc": run.ipc if run.method.stored else None,
        "split": run.split,
        "seed": run.seed,
        "version": version("condensation-harness"),
        "spec": spec_column(run, config.plain(run.training)),
    }


def spec_column(run: Run, recipe: Spec) -> str:
    """Return the column `spec`: the configurations of the method and of a recipe, which may differ from the run's."""
    return json.dumps({"memory": config.plain(run.method), "recipe": recipe}, sort_keys=True)


def cost_columns(unit: Unit, card: Card) -> Row:
    """Return the columns for the work on a unit."""
    cost = card["cost"]
    return {"key": unit.key} | {name: cost.get(name) for name in ("device", "torch", "wall_seconds", "peak_bytes")}


def compute_form(form: Form) -> str:
    """A form of computing in words, such as "compiled, float32, real bfloat16"."""
    real = [] if form.real_dtype is None else [f"real {form.real_dtype}"]
    return ", ".join([form.compute, form.dtype, *real])


def training_form(recipe: TrainConfig) -> str:
    """The form of computing of a training, in words."""
    return compute_form(Form(recipe.compute, recipe.dtype))


def add_costs(costs: Sequence[Spec]) -> Card:
    """Return the cost of a memory from the costs of its units: seconds and FLOP add up, the peak of memory does not."""
    whole: Card = {
        "wall_seconds": sum(cost["wall_seconds"] for cost in costs),
        "device": costs[0]["device"],
    }
    if all("flop" in cost for cost in costs):
        whole["flop"] = sum(cost["flop"] for cost in costs)
    if peaks := [cost["peak_bytes"] for cost in costs if "peak_bytes" in cost]:
        whole["peak_bytes"] = max(peaks)
    return whole
