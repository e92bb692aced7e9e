"""Rows as track nas leaves them, small enough to work out by hand."""

import itertools
import math
from collections.abc import Mapping, Sequence

from pandas import DataFrame

from harness.results import rows

NORMS = ("nonorm", "batchnorm", "layernorm", "instancenorm", "groupnorm")
ACTIVATIONS = ("sigmoid", "relu", "leakyrelu")
POOLINGS = ("nopooling", "maxpooling", "avgpooling")
MODELS = [  # of the space convnet720, by id
    f"convnet-d{depth}-w{width}-{norm}-{activation}-{pooling}"
    for width, depth, norm, activation, pooling in itertools.product(
        (32, 64, 128, 256), (1, 2, 3, 4), NORMS, ACTIVATIONS, POOLINGS
    )
]
LEAGUES = {"full": "full", "early-stopping": "full", "params": "", "macs": "", "depth": ""}
Accuracies = tuple[float, float]  # of one network: validation, test; nan, nan: it diverged
Row = dict[str, object]


def trained(
    memory: str, values: Mapping[int, Sequence[Accuracies]], seconds: float = 6.0, epochs: int = 20, **more: object
) -> list[Row]:
    """Networks by arch: both accuracies at the end, a validation accuracy 10 points lower at half of the epochs."""
    found = []
    for arch, repeats in values.items():
        for repeat, (validation, test) in enumerate(repeats):
            changes = more.get("changes", "")
            network = _setting(memory) | {"arch": str(arch), "model": MODELS[arch], "repeat": repeat} | more
            network |= {"key": f"{network['preset']}-{memory}-{network['ipc']}-{arch}-{repeat}-{changes}"} | more
            network |= {"wall_seconds": seconds, "unit": "%", "epoch": epochs, "split": "validation"}
            half = {"epoch": epochs // 2, "metric": "validation_accuracy", "value": validation - 10}
            found += [network | half] if not math.isnan(test) else []
            found.append(network | {"metric": "validation_accuracy", "value": validation})
            found.append(network | {"metric": "test_accuracy", "value": test, "split": "test"})
            if math.isnan(test):
                found.append(network | {"metric": "diverged", "unit": "networks", "value": 1.0})
    return found


def alike(accuracies: Sequence[float], of: Sequence[int] | None = None) -> dict[int, list[Accuracies]]:
    """One network of each arch from 0, or of those given, as good in validation as in test."""
    return {arch: [(value, value)] for arch, value in zip(of or range(len(accuracies)), accuracies, strict=True)}


def zero_cost(memory: str, values: Mapping[int, float], unit: str = "parameters", **more: object) -> list[Row]:
    """A score of each arch."""
    own = {"ipc": None, "key": "", "recipe": "", "metric": "score", "unit": unit, "repeat": 0}
    setting = _setting(memory) | own | more
    return [setting | {"arch": str(arch), "model": MODELS[arch], "value": value} for arch, value in values.items()]


def condensed(memory: str, images: int, seconds: float, part: str = "", **more: object) -> list[Row]:
    """What a proxy set, or a part of it, holds and cost."""
    own = {"recipe": "", "metric": "memory_images", "unit": "images", "value": images, "wall_seconds": seconds}
    return [_setting(memory) | own | {"key": f"memory-{memory}{part}"} | more]


def frame(*parts: list[Row]) -> DataFrame:
    """The rows of all parts, as they are read."""
    return rows.to_frame(row for part in parts for row in part)


def _setting(memory: str) -> Row:
    has_budget = memory not in LEAGUES
    return {
        "track": "nas", "dataset": "cifar10", "dataset_digest": "d1", "exactness": "official", "preset": "paper",
        "memory": memory, "league": LEAGUES.get(memory, "pixel"), "ipc": 50 if has_budget else None, "recipe": "dm",
        "memory_model": MODELS[1] if memory in ("dm", "dsa") else "", "space": "convnet720", "classes_seen": 10,
        "seed": 0, "version": "0.2.0", "device": "a CPU", "compute": "eager, float32", "torch": "2.15", "spec": "{}",
    }  # fmt: skip


# Five architectures, true accuracies 50 60 70 80 90. The proxy swaps the middle two of them and knows the best: by rank
# differences 0 1 -1 0 0 its rho is 1 - 6 x 2 / (5 x 24) = 0.9, and 9 of 10 pairs agree: tau (9 - 1) / 10 = 0.8.
TRUE, NEAR = alike((50, 60, 70, 80, 90)), alike((20, 30, 25, 40, 45))
