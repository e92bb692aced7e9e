import math

import pytest
from pandas import DataFrame

from harness.results.tables.columns import Table
from harness.results.tables.streams import STREAMS, cl_table
from harness.results.tables.text import to_text
from tests.results.streamed import TWO_BY_TWO, frame, stream


def only(table: DataFrame) -> dict[str, object]:
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def test_n_and_what_varies_stand_in_words() -> None:
    values = {("0", 0): 10.0, ("0", 1): 12.0, ("0", 2): 14.0, ("1", 0): 18.0}
    assert cl_table(frame(stream(values)))[["n", "varies"]].iloc[0].tolist() == ["4 nets in 2 orders", "orders"]
    values = {("listed", 0): 10.0, ("listed", 1): 12.0, ("listed", 2): 14.0}
    assert cl_table(frame(stream(values)))[["n", "varies"]].iloc[0].tolist() == ["1 order x 3 nets", "nets"]


def test_networks_a_memory_was_condensed_with_are_not_mixed() -> None:
    table = cl_table(frame(stream({("0", 0): 20.0}), stream({("1", 0): 30.0}, memory_model="convnet-d3-w32")))
    assert table[["memory_model", "last_accuracy"]].to_numpy().tolist() == [["convnet-d3-w32", 30.0], ["", 20.0]]


def test_a_line_of_the_table() -> None:
    line = only(cl_table(frame(stream(TWO_BY_TWO))))
    assert (line["last_accuracy"], line["average_incremental_accuracy"], line["forgetting"]) == (13.0, 33.0, 43.0)
    assert line["forgetting_low"] == pytest.approx(43 - 25.4124, abs=1e-3)
    assert (line["n"], line["varies"], line["note"]) == ("2 orders x 2 nets", "orders", "")
    assert line["stored_kib_per_class"] == 60.0  # 61440 bytes: 20 images of 3072
    assert line["published"] == 34.4  # DM paper, section 3.5, 5 steps
    assert line["difference"] == pytest.approx(13 - 34.4)


@pytest.mark.parametrize(
    "more",
    [{"dataset": "cifar10"}, {"ipc": 10}, {"ipc": None}, {"preset": "quick"}, {"split": "validation"}, {"steps": 20},
     {"memory": "dc"}, {"recipe": "other"}, {"model": "convnet-d3-w32"}],
)  # fmt: skip
def test_an_end_point_of_another_setting_is_not_shown(more: dict[str, object]) -> None:
    line = only(cl_table(frame(stream(TWO_BY_TWO, **more))))
    assert math.isnan(float(str(line["published"])))
    assert math.isnan(float(str(line["difference"])))


def test_leagues_stand_apart_and_the_best_comes_first() -> None:
    table = cl_table(
        frame(
            stream({("0", 0): 20.0}, memory="random"),
            stream({("0", 0): 30.0}, memory="dm"),
            stream({("0", 0): 40.0}, memory="lodm", league="storage"),
            stream({("0", 0): 35.0}, memory="dm", steps=10),
            stream({("0", 0): 90.0}, memory="dm", dataset="cifar10"),
            stream({("0", 0): 10.0}, memory="dm", dataset_digest="d2", exactness="jpeg"),
        )
    )
    assert table[["dataset", "exactness", "league", "steps", "memory"]].apply(tuple, axis="columns").tolist() == [
        ("cifar10", "official", "pixel", 5, "dm"),
        ("cifar100", "jpeg", "pixel", 5, "dm"),
        ("cifar100", "official", "pixel", 5, "dm"),
        ("cifar100", "official", "pixel", 5, "random"),
        ("cifar100", "official", "pixel", 10, "dm"),
        ("cifar100", "official", "storage", 5, "lodm"),
    ]
    assert to_text(Table(table, STREAMS), "md").count("| ---: |") >= 4  # a table per block
    assert to_text(Table(table, STREAMS), "latex").count(r"\midrule") == 4  # of each block


def test_the_n_of_another_metric_is_told_where_it_is_another() -> None:
    table = cl_table(frame(stream(TWO_BY_TWO), stream(TWO_BY_TWO, memory="full", league="full", ipc=None)))
    counts = table[["memory", "n", "varies", "average_incremental_accuracy_n", "forgetting_n"]].to_numpy().tolist()
    # At the end the networks have seen all the data, whatever the order; along the way they have not.
    assert counts == [["full", "4 nets", "nets", *["2 orders x 2 nets, over orders"] * 2],
                      ["dm", "2 orders x 2 nets", "orders", "", ""]]  # fmt: skip
    caption = to_text(Table(table[table["memory"] == "full"], STREAMS), "md").splitlines()[0]
    assert "n 4 nets, 95 % interval over nets" in caption
    assert "n of forgetting 2 orders x 2 nets, over orders" in caption


def test_metrics_that_are_not_there_stay_empty() -> None:
    some = frame(stream(TWO_BY_TWO))
    line = only(cl_table(some[some["metric"] == "last_accuracy"]))
    assert math.isnan(float(str(line["forgetting"])))
    with pytest.raises(ValueError, match="no stream is finished"):
        cl_table(some[some["metric"] == "forgetting"])


def test_a_changed_setting_makes_a_line_of_its_own() -> None:
    usual = stream({("0", 0): 30.0, ("1", 0): 32.0})
    changed = stream({("0", 0): 20.0, ("1", 0): 22.0}, changes="memory.iterations=1000")
    table = cl_table(frame(usual, changed))
    assert table[["last_accuracy", "note"]].to_numpy().tolist() == [[31.0, ""], [21.0, "(memory.iterations=1000)"]]
    assert "dm (memory.iterations=1000)" in to_text(Table(table, STREAMS), "md")
