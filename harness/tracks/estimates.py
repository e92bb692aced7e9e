"""Estimates of the seconds that the units of a run will take on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from harness.config import Run, restore
from harness.core.data import DataSet
from harness.execution.costs import Load
from harness.execution.units import Unit
from harness.tracks.base import count_images_per_class
from harness.tracks.memories import restore_recipe

AVALANCHE_SECONDS = 2.0  # for each training unit: the stream, evaluation, and a share of a worker's imports


def estimate_costs(units: Sequence[Unit], run: Run, dataset: DataSet) -> list[Unit]:
    """Return the units with the estimated seconds that each takes on one CPU core or on the GPU."""
    return [replace(unit, cost=_estimate_seconds(unit, run, dataset)) for unit in units]


def _estimate_seconds(unit: Unit, run: Run, dataset: DataSet) -> float:
    device, shape = torch.device(unit.context["device"]), dataset.image_shape
    if unit.kind == "memory":
        seconds = sum(load.estimate_seconds(shape, device) for load in _find_memory_loads(unit, run, dataset))
    else:
        recipe = restore_recipe(unit.spec["recipe"])
        load = Load(unit.spec["model"], unit.context["images"] * recipe.rounds, recipe.compute, recipe.dtype)
        overhead = AVALANCHE_SECONDS if unit.kind == "training" else 0.0
        seconds = overhead + load.estimate_seconds(shape, device, measured_model=run.model)
    # A unit that continues an earlier one does only a share of the work.
    return float(unit.context.get("share", 1.0) * seconds)


def _find_memory_loads(unit: Unit, run: Run, dataset: DataSet) -> Iterator[Load]:
    """Yield the loads of building a memory; none if the configuration of the method does not count its passes."""
    cfg = run.method
    if "continues" in unit.spec:
        cfg = restore(cfg, unit.spec["config"])
    classes, per_class = len(unit.spec["classes"]), len(dataset.train_labels) // dataset.num_classes
    passes = cfg.passes(classes, per_class, count_images_per_class(run, dataset))
    if passes is None or cfg.model is None:
        return
    forward, both = passes
    real, real_dtype = cfg.real_passes(classes, per_class), cfg.form.real_dtype or "float32"
    yield Load(cfg.model, both - real, cfg.form.compute, cfg.form.dtype)
    if real:
        yield Load(cfg.model, real, cfg.form.compute, real_dtype)
    if forward:
        yield Load(cfg.model, forward, cfg.form.compute, real_dtype, is_training=False)
