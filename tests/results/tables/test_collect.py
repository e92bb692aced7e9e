import pytest

from harness.results.statistics.comparisons import has_axes
from harness.results.tables.collect import tables_of
from tests.results.condensed import Row, frame, memories, networks
from tests.results.searched import NEAR, TRUE, alike, trained

# Of the five of TRUE it puts first what is truly second.
OFF = alike((20, 25, 30, 45, 40))


def test_a_table_per_track() -> None:
    stream: Row = {"track": "cl", "dataset": "cifar100", "memory": "dm", "steps": 5, "order": "0", "repeat": 0,
                   "metric": "last_accuracy", "value": 30.0, "stored_bytes": 1024, "classes_seen": 100}  # fmt: skip
    both = frame([stream], networks(), memories({0: 1.0}))
    streams, condensed = (table.frame for table in tables_of(both))
    assert streams["last_accuracy"].tolist() == [30.0]
    assert condensed["test_accuracy"].tolist() == [48.0]
    assert [len(table.frame) for table in tables_of(frame([stream]))] == [1]
    assert "test_accuracy" in tables_of(frame(networks()))[0].frame
    unfinished = frame([stream | {"metric": "seen_accuracy"}], memories({0: 1.0}))
    with pytest.raises(ValueError, match=r"none of the 4 rows is a last_accuracy .* nothing is finished"):
        tables_of(unfinished)


def test_harness_table_prints_all_three() -> None:
    proxies = trained("dm", NEAR), trained("random", OFF)
    table, pairs, partial = (each.frame for each in tables_of(frame(trained("full", TRUE), *proxies)))
    assert {"spearman_rho", "advantage", "partial_rho"} <= {*table, *pairs, *partial}
    others = [row | {"model": "mine"} for row in trained("full", TRUE)]
    assert not has_axes(frame(others))
    assert len(tables_of(frame(others))) == 1  # axes cannot be told, nothing to pair
    assert len(tables_of(frame(trained("full", TRUE)))) == 1  # of the truth alone


def test_harness_table_where_the_truth_is_missing() -> None:
    proxy = trained("dm", NEAR)
    with pytest.raises(ValueError, match="no truth for dm"):
        tables_of(frame(proxy))
    stream: Row = {"track": "cl", "metric": "last_accuracy", "value": 1.0, "order": "0", "repeat": 0, "classes_seen": 9}
    assert len(tables_of(frame([stream], proxy))) == 1  # a search not yet finished, beside a finished stream
