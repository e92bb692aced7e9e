"""Rows as track cl leaves them, small enough to work out by hand."""

from collections.abc import Iterator

from pandas import DataFrame

from harness.results import rows

# Two orders x two networks. Means of the orders 11 and 15; their mean 13, their std sqrt(8) = 2.8284;
# t(df 1) = 12.7062, so the half width is 12.7062 * 2.8284 / sqrt(2) = 25.4124.
TWO_BY_TWO = {("0", 0): 10.0, ("0", 1): 12.0, ("1", 0): 14.0, ("1", 1): 16.0}


def stream(values: dict[tuple[str, int], float], **more: object) -> Iterator[dict[str, object]]:
    setting = {
        "track": "cl", "dataset": "cifar100", "dataset_digest": "d1", "exactness": "official", "preset": "paper",
        "memory": "dm", "league": "pixel", "ipc": 20, "stored_bytes": 100 * 61440, "recipe": "dm", "model": "convnet3",
        "steps": 5, "experience": 4, "classes_seen": 100, "split": "test", "unit": "%",
    } | more  # fmt: skip
    for (order, repeat), value in values.items():
        for metric, shift in (("last_accuracy", 0), ("average_incremental_accuracy", 20), ("forgetting", 30)):
            yield setting | {"order": order, "repeat": repeat, "metric": metric, "value": value + shift}


def frame(*streams: Iterator[dict[str, object]]) -> DataFrame:
    return rows.to_frame(row for part in streams for row in part)


def two_orders(mean: float, half: float, **more: object) -> Iterator[dict[str, object]]:
    """A stream whose last accuracy has the interval mean +- half: t(df 1) = 12.7062 times half the difference."""
    return stream({("0", 0): mean - half / 12.7062, ("1", 0): mean + half / 12.7062}, **more)
