"""What the rows of every track have in common: the run, its form of computing, and what its units cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

from harness import config
from harness.config import Run
from harness.core import models
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.execution.units import Unit
from harness.tracks.base import Row, is_stored, memory_name, model_of


def shared_columns(run: Run, dataset: DataSet, changes: str) -> Row:
    """What all rows of a run say."""
    model = model_of(run.memory_config)
    return {
        "track": run.track,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "exactness": dataset.exactness,
        "preset": run.preset,
        "changes": changes,
        "memory": memory_name(run),
        "memory_model": None if model is None else str(models.parse(model)),
        "ipc": run.ipc if is_stored(run) else None,
        "split": run.split,
        "seed": run.seed,
        "version": version("condensation-harness"),
        "spec": spec_column(run, config.plain(run.recipe_config)),
    }


def spec_column(run: Run, recipe: Mapping[str, Any]) -> str:
    """What a row says of how its memory was made and its network trained, which may not be the run's usual one."""
    return json.dumps({"memory": config.plain(run.memory_config), "recipe": recipe}, sort_keys=True)


def cost_columns(unit: Unit, card: Card) -> Row:
    """What a row says of the work on a unit."""
    cost = card["cost"]
    return {"key": unit.key} | {name: cost.get(name) for name in ("device", "torch", "wall_seconds", "peak_bytes")}


def compute_form(cfg: Any) -> str:
    """The form of computing a configuration names, such as "compiled, float32, real bfloat16"."""
    names = {f.name for f in fields(cfg)}
    for nested in ("host", "train"):
        if "compute" not in names and is_dataclass(part := getattr(cfg, nested, None)):
            return compute_form(part)
    parts = [getattr(cfg, "compute", "eager"), getattr(cfg, "dtype", getattr(cfg, "synthetic_dtype", "float32"))]
    return ", ".join(parts + ([f"real {cfg.real_dtype}"] if "real_dtype" in names else []))


def add_costs(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a memory cost whose parts cost `costs`: seconds and FLOP add up, memory does not."""
    whole: dict[str, Any] = {
        "wall_seconds": sum(cost["wall_seconds"] for cost in costs),
        "device": costs[0]["device"],
    }
    if all("flop" in cost for cost in costs):
        whole["flop"] = sum(cost["flop"] for cost in costs)
    if peaks := [cost["peak_bytes"] for cost in costs if "peak_bytes" in cost]:
        whole["peak_bytes"] = max(peaks)
    return whole
