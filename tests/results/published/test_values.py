import math

import pandas as pd
import pytest
from pandas import DataFrame

from harness.results.published.values import accuracies_for, published_accuracies, published_end_points
from tests.results.condensed import CONVNET3

CONVNET4 = CONVNET3.replace("d3", "d4")
BATCH_NORM = CONVNET3.replace("instancenorm", "batchnorm")


def test_the_published_end_points_are_all_found() -> None:
    points = {(p.steps, p.memory): p.value for p in published_end_points().itertuples()}
    assert points == {(5, "random"): 24.8, (5, "herding"): 28.2, (5, "dsa"): 31.7, (5, "dm"): 34.4,
                      (10, "random"): 24.8, (10, "herding"): 27.4, (10, "dsa"): 30.5, (10, "dm"): 34.6}  # fmt: skip


def test_every_setting_has_one_value() -> None:
    published = published_accuracies()
    assert not published.duplicated(["dataset", "memory", "ipc", "recipe", "memory_model", "model"]).any()
    assert published["value"].between(0, 100).all()
    assert (published["source"] != "").all()
    assert set(published["recipe"]) == {"dc", "dm", "idc"}


@pytest.mark.parametrize(
    ("dataset", "memory", "ipc", "value", "std", "source"),
    [
        ("cifar10", "dm", 10, 48.9, 0.6, "DM paper Table 1"),
        ("cifar10", "random", 50, 43.4, 1.0, "DM paper Table 1"),
        ("cifar100", "dsa", 50, 42.8, 0.4, "DM paper Table 1"),  # the DCC slides: 38.6
        ("cifar100", "dc", 10, 25.2, 0.3, "DM paper Table 1"),  # the DCC slides: 26.6
        ("cifar100", "dc", 50, 32.1, 0.3, "DCC slides"),
        ("svhn", "dsa", 1, 27.5, math.nan, "DatasetCondensation readme"),  # the DCC slides: 36.0
        ("svhn", "dc", 1, 31.2, math.nan, "DatasetCondensation readme"),  # the DCC slides: 34.6
        ("cifar10", "dcc", 50, 61.6, 0.4, "DCC slides"),
        ("cifar10", "cscore", 1, 21.7, 0.6, "DCC slides"),
        ("cifar10", "dsac", 10, 54.5, 0.5, "DCC slides"),
        ("cifar10", "idc", 10, 67.5, math.nan, "Efficient-Dataset-Condensation readme"),
        ("cifar10", "idc-i", 10, 58.3, math.nan, "Efficient-Dataset-Condensation readme"),
        ("cifar10", "dm", 1000, 79.8, 0.3, "DatasetCondensation readme"),
    ],
)
def test_the_methods_own_table_comes_first(
    dataset: str, memory: str, ipc: int, value: float, std: float, source: str
) -> None:
    published = published_accuracies()
    usual = published["model"] == CONVNET3
    found = published[(published["dataset"] == dataset) & (published["memory"] == memory) & usual]
    line = found[found["ipc"] == ipc].iloc[0]
    assert (line["value"], line["std"]) == pytest.approx((value, std), nan_ok=True)
    assert source in line["source"]


def test_what_was_read_off_a_figure_is_left_out() -> None:
    published = published_accuracies()
    large = published[(published["dataset"] == "cifar10") & (published["ipc"] >= 100)]
    printed = large[large["memory"] == "dm"].set_index("ipc")["value"].to_dict()
    assert printed == {100: 67.0, 200: 71.2, 500: 76.1, 1000: 79.8, 1250: 80.8}
    assert not (large["memory"] == "random").any()  # the same file has them, from a figure


def line(**more: object) -> DataFrame:
    setting = {
        "dataset": "cifar10", "split": "test", "preset": "paper", "memory": "dm", "ipc": 10, "recipe": "dm",
        "memory_model": CONVNET3, "model": CONVNET3,
    }  # fmt: skip
    return DataFrame([setting | more]).astype({"ipc": "Int64"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ({}, 48.9),
        ({"model": "convnet3", "memory_model": "convnet3"}, 48.9),
        ({"ipc": 50}, 63.0),
        ({"memory": "dsa"}, 52.1),
        ({"memory": "dc", "recipe": "dc"}, 44.9),
        ({"memory": "dcc", "recipe": "dc"}, 49.4),
        ({"memory": "random", "recipe": "dc", "memory_model": ""}, 26.0),
        ({"memory": "herding", "recipe": "dc"}, 31.6),  # by which network is not told
        ({"memory": "full", "memory_model": "", "ipc": None}, 84.8),
        ({"dataset": "tinyimagenet", "model": "convnet4", "memory_model": CONVNET4}, 12.9),
        ({"memory": "idc", "recipe": "idc"}, 67.5),
        # DM paper, Table 3
        ({"ipc": 50, "model": BATCH_NORM, "memory_model": BATCH_NORM}, 65.2),
        ({"ipc": 50, "model": "resnet18-batchnorm", "memory_model": BATCH_NORM}, 57.0),
        ({"ipc": 50, "model": "vgg11-batchnorm", "memory_model": "resnet18-batchnorm-ap"}, 49.6),
    ],
)
def test_the_value_of_exactly_that_setting(setting: dict[str, object], value: float) -> None:
    assert accuracies_for(line(**setting))["value"].tolist() == [value]


@pytest.mark.parametrize(
    "other",
    [{"dataset": "digits"}, {"split": "validation"}, {"preset": "quick"}, {"memory": "own"}, {"ipc": 20},
     {"recipe": "dc"}, {"memory": "dc"}, {"memory": "random", "memory_model": ""}, {"model": "convnet4"},
     {"memory_model": "convnet4"}, {"memory_model": ""}, {"model": BATCH_NORM}, {"ipc": None},
     {"dataset": "tinyimagenet"}],
)  # fmt: skip
def test_a_value_of_another_setting_is_not_given(other: dict[str, object]) -> None:
    assert accuracies_for(line(**other)).isna().all(axis=None)


def test_values_stand_beside_their_lines() -> None:
    table = pd.concat([line(), line(memory="own"), line(ipc=50), line()]).set_axis([7, 3, 5, 1])
    found = accuracies_for(table)
    assert found.index.tolist() == [7, 3, 5, 1]
    assert found["value"].tolist() == pytest.approx([48.9, math.nan, 63.0, 48.9], nan_ok=True)
    assert found["std"].tolist() == pytest.approx([0.6, math.nan, 0.4, 0.6], nan_ok=True)
