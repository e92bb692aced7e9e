"""Rows as track condense leaves them, small enough to work out by hand."""

from pandas import DataFrame

from harness.results import rows

CONVNET3 = "convnet-d3-w128-instancenorm-relu-avgpooling"
Values = dict[tuple[int, int], float]
Row = dict[str, object]

# Two sets x two networks. Means of the sets 47 and 49; their mean 48, their std sqrt(2) = 1.4142;
# t(df 1) = 12.7062, so the half width is 12.7062 * 1.4142 / sqrt(2) = 12.7062. Inside the sets: squares
# 1 + 1 about 47, 4 + 4 about 49, so sqrt(10 / (4 - 2)) = 2.2361.
TWO_BY_TWO: Values = {(0, 0): 46.0, (0, 1): 48.0, (1, 0): 47.0, (1, 1): 51.0}


def networks(values: Values = TWO_BY_TWO, uint8: float | None = -1.0, **more: object) -> list[Row]:
    """A test accuracy by (set, repeat), and `uint8` points beside it that of the memory rounded to 8 bits."""
    setting = {
        "track": "condense", "dataset": "cifar10", "dataset_digest": "d1", "exactness": "official", "preset": "paper",
        "memory": "dm", "league": "pixel", "ipc": 10, "stored_bytes": 10 * 122880, "recipe": "dm", "model": CONVNET3,
        "memory_model": CONVNET3, "classes_seen": 10, "iterations": 20000, "split": "test", "unit": "%",
    } | more  # fmt: skip
    metrics = {"test_accuracy": 0.0} | ({} if uint8 is None else {"test_accuracy_uint8": uint8})
    return [
        setting | {"set": of, "repeat": repeat, "metric": metric, "value": value + shift}
        for (of, repeat), value in values.items()
        for metric, shift in metrics.items()
    ]


def memories(
    seconds: dict[int, float], flop: float | None = 3.2e15, images: int = 100, mib: int = 100, part: str = "",
    **more: object,
) -> list[Row]:  # fmt: skip
    """What the memories of the sets in `seconds`, or a part of each, hold and cost."""
    setting = {
        "track": "condense", "dataset": "cifar10", "dataset_digest": "d1", "exactness": "official", "preset": "paper",
        "memory": "dm", "league": "pixel", "ipc": 10, "memory_model": CONVNET3, "iterations": 20000, "split": "test",
        "peak_bytes": mib * 2**20,
    } | more  # fmt: skip
    held: list[tuple[str, str, float | None]] = [
        ("memory_images", "images", images),
        ("memory_scalars", "scalars", images * 3072),
        ("condensing_flop", "FLOP", flop),
    ]
    return [
        setting
        | {"set": of, "key": f"{of}{part}", "metric": metric, "unit": unit, "value": value, "wall_seconds": took}
        for of, took in seconds.items()
        for metric, unit, value in held
        if value is not None
    ]


def frame(*parts: list[Row]) -> DataFrame:
    """The rows of all parts, as they are read."""
    return rows.to_frame(row for part in parts for row in part)
