import math

import pytest

from harness.results import rows
from harness.results.statistics.means import n_in_words, summary, t_interval, within_std

# Two groups x two networks. Means of the groups 11 and 15; their mean 13, their std sqrt(8) = 2.8284;
# t(df 1) = 12.7062, so the half width is 12.7062 * 2.8284 / sqrt(2) = 25.4124.
TWO_BY_TWO = {(0, 0): 10.0, (0, 1): 12.0, (1, 0): 14.0, (1, 1): 16.0}

each_group = pytest.mark.parametrize("group", ["order", "set"])


def measured(values: dict[tuple[int, int], float], group: str = "order", **more: object) -> list[dict[str, object]]:
    setting = {"dataset": "cifar10", "preset": "paper", "memory": "dm", "league": "pixel", "ipc": 10, "split": "test"}
    return [
        {**setting, "metric": "accuracy", group: of, "repeat": repeat, "value": value, **more}
        for (of, repeat), value in values.items()
    ]


def estimate(values: dict[tuple[int, int], float], group: str) -> dict[str, object]:
    table = summary(rows.to_frame(measured(values, group)), "accuracy", by=["memory"], group=group)
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


@each_group
def test_the_interval_is_over_the_means_of_the_groups(group: str) -> None:
    line = estimate(TWO_BY_TWO, group)
    assert line["mean"] == 13.0
    assert line["low"] == pytest.approx(13 - 25.4124, abs=1e-3)
    assert line["high"] == pytest.approx(13 + 25.4124, abs=1e-3)
    assert line["std"] == pytest.approx(2.8284, abs=1e-4)
    assert (line["n"], line[f"n_{group}s"], line["n_nets"], line["varies"]) == (4, 2, 2, f"{group}s")


@each_group
def test_groups_weigh_alike_however_many_networks_they_have(group: str) -> None:
    line = estimate({(0, 0): 10.0, (0, 1): 12.0, (0, 2): 14.0, (1, 0): 18.0}, group)  # groups 12 and 18
    assert line["mean"] == 15.0  # not 13.5, the mean of the four


@each_group
def test_with_one_group_the_interval_is_over_its_networks(group: str) -> None:
    line = estimate({(3, 0): 10.0, (3, 1): 12.0, (3, 2): 14.0}, group)
    # std 2, t(df 2) = 4.3027, half width 4.3027 * 2 / sqrt(3) = 4.9683
    assert (line["mean"], line["varies"], line["std"]) == (12.0, "nets", 2.0)
    assert line["high"] == pytest.approx(12 + 4.9683, abs=1e-3)


@each_group
def test_one_value_has_no_interval(group: str) -> None:
    line = estimate({(0, 0): 10.0}, group)
    assert (line["mean"], line["n"], line["varies"]) == (10.0, 1, "nothing")
    assert all(math.isnan(float(str(line[name]))) for name in ("low", "high", "std"))


@each_group
def test_missing_values_are_left_out_and_not_counted(group: str) -> None:
    line = estimate(TWO_BY_TWO | {(1, 1): math.nan}, group)
    assert (line["mean"], line["n"]) == (12.5, 3)  # groups 11 and 14
    none = estimate({(0, 0): math.nan}, group)
    assert math.isnan(float(str(none["mean"])))
    assert none["n"] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": "cifar100"}, "a mean over dataset cifar10 and cifar100"),
        ({"league": "soft"}, "a mean over league pixel and soft"),
        ({"preset": "smoke"}, "a mean over preset paper and smoke"),
        ({"split": "validation"}, "a mean over split test and validation"),
        ({"dataset_digest": "d2"}, r"a mean over dataset_digest \(missing\) and d2"),
        ({"ipc": None}, r"a mean over ipc \(missing\) and 10"),
        ({"memory_model": "convnet3"}, r"a mean over memory_model \(missing\) and convnet3"),
        ({"iterations": 100}, r"a mean over iterations \(missing\) and 100"),
        ({"changes": "memory.lr=1"}, r"a mean over changes \(missing\) and memory.lr=1"),
        ({"experience": 3}, "set 0, repeat 0 has several values"),
    ],
)
def test_a_mean_over_what_must_not_be_mixed_is_refused(more: dict[str, object], message: str) -> None:
    mixed = rows.to_frame([*measured(TWO_BY_TWO, "set"), *measured(TWO_BY_TWO, "set", **more)])
    with pytest.raises(ValueError, match=message):
        summary(mixed, "accuracy", by=["memory"], group="set")


def test_sets_are_not_taken_for_networks_of_one_order() -> None:
    with pytest.raises(ValueError, match="order , repeat 0 has several values"):
        summary(rows.to_frame(measured(TWO_BY_TWO, "set")), "accuracy", by=["memory"])


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="none of the 4 rows is forgetting; there are: accuracy"):
        summary(rows.to_frame(measured(TWO_BY_TWO)), "forgetting", by=["memory"])


def test_the_interval_of_independent_values() -> None:
    # Mean 2, std 1, t(df 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.4841
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert all(math.isnan(end) for end in t_interval([1.0]))


def test_the_standard_deviation_inside_groups_is_pooled() -> None:
    values = {(0, 0): 10.0, (0, 1): 12.0, (0, 2): 14.0, (1, 0): 20.0, (1, 1): 24.0}
    # Squares 4 + 0 + 4 about 12, 4 + 4 about 22; 5 values, 2 groups: sqrt(16 / 3) = 2.3094
    assert within_std(rows.to_frame(measured(values, "set")), "set") == pytest.approx(2.3094, abs=1e-4)
    assert math.isnan(within_std(rows.to_frame(measured({(0, 0): 1.0, (1, 0): 2.0}, "set")), "set"))


def test_n_in_words() -> None:
    assert n_in_words(6, 2, 3, "set") == "2 sets x 3 nets"
    assert n_in_words(1, 1, 1, "set") == "1 set x 1 net"
    assert n_in_words(4, 2, 3, "set") == "4 nets in 2 sets"
    assert n_in_words(4, 2, 2) == "2 orders x 2 nets"


def test_networks_trained_on_all_the_data_are_one_group() -> None:
    # Condensed sets or not, four values 10 12 14 16: std sqrt(20 / 3) = 2.5820, t(df 3) = 3.1824, half width 4.1085.
    full = rows.to_frame(measured(TWO_BY_TWO, "set", memory="full", league="full"))
    line = summary(full, "accuracy", by=["memory"], group="set").iloc[0]
    assert (line["mean"], line["n"], line["n_sets"], line["n_nets"], line["varies"]) == (13, 4, 0, 4, "nets")
    assert line["high"] == pytest.approx(13 + 4.1085, abs=1e-3)
    assert n_in_words(line["n"], line["n_sets"], line["n_nets"], "set") == "4 nets"


@pytest.mark.parametrize(("metric", "experience", "is_one"), [
    ("last_accuracy", 4, True), ("seen_accuracy", 4, True), ("seen_accuracy", 3, False), ("forgetting", 4, False),
    ("experience_accuracy", 4, False),
])  # fmt: skip
def test_class_orders_matter_to_all_the_data_but_at_the_end(metric: str, experience: int, is_one: bool) -> None:
    own = {"memory": "full", "league": "full", "metric": metric, "steps": 5, "experience": experience}
    line = summary(rows.to_frame(row | own for row in measured(TWO_BY_TWO)), metric, by=["memory"]).iloc[0]
    assert (line["n_orders"], line["varies"]) == ((0, "nets") if is_one else (2, "orders"))


def test_a_network_that_all_orders_share_counts_once() -> None:
    own = {"memory": "full", "league": "full", "metric": "last_accuracy", "steps": 5, "experience": 4}
    shared = [
        row | own | {"key": f"net {row['repeat']}", "value": 10.0 + float(str(row["repeat"]))}
        for row in measured(TWO_BY_TWO)
    ]
    line = summary(rows.to_frame(shared), "last_accuracy", by=["memory"]).iloc[0]
    assert (line["mean"], line["n"], line["n_orders"]) == (10.5, 2, 0)


@each_group
def test_the_columns_of_a_summary(group: str) -> None:
    table = summary(rows.to_frame(measured(TWO_BY_TWO, group)), "accuracy", by=["memory", "ipc"], group=group)
    counts = ["n", f"n_{group}s", "n_nets", "varies", "std"]
    assert table.columns.tolist() == ["memory", "ipc", "mean", "low", "high", *counts]
