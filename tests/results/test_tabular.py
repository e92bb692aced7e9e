import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pandas import DataFrame
from pyarrow import parquet

from harness.results import rows, tabular
from harness.results.tables.search import nas_table
from harness.results.tabular import Tabular
from tests.results.files import write_rows
from tests.results.searched import MODELS, Row, alike, condensed, frame, trained, zero_cost

NAN = math.nan
TRUTH = {7: [(60.0, 58.0), (64.0, 62.0)], 437: [(80.0, 78.0), (82.0, 80.0)], 10: [(70.0, 69.0), (NAN, NAN)]}
PROXY = {7: [(30.0, 29.0)], 437: [(40.0, 39.0)]}


def some() -> DataFrame:
    return frame(
        trained("full", TRUTH, seconds=100),
        trained("dm", PROXY, seconds=5),
        condensed("dm", 500, 60),
        zero_cost("params", {7: 100.0, 437: 900.0}),
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Tabular:
    path = tmp_path_factory.mktemp("tabular") / "some.parquet"
    path.write_bytes(tabular.to_parquet(some()))
    return tabular.load(path)


def test_the_mean_over_repeats_at_the_end(table: Tabular) -> None:
    found = table.query(437)
    assert (found.arch, found.model, found.proxy, found.epoch) == ("437", MODELS[437], "full", 20)
    assert (found.validation_accuracy, found.test_accuracy) == (81, 79)
    assert found.curve == ((10, 71), (20, 81))  # ten points less at half of the training
    assert (found.seconds, found.repeats, found.diverged) == (100, 2, 0)
    assert math.isnan(found.score)


def test_one_repeat_one_epoch_one_proxy(table: Tabular) -> None:
    assert table.query("437", repeat=1).test_accuracy == 80
    early = table.query(437, epoch=10)
    assert (early.validation_accuracy, early.curve) == (71, ((10, 71),))
    assert math.isnan(early.test_accuracy)  # measured at the end only
    proxy = table.query(7, proxy="dm")
    assert (proxy.proxy, proxy.test_accuracy, proxy.seconds, proxy.repeats) == ("dm-50ipc", 29, 5, 1)
    assert table.query(7, proxy="dm-50ipc") == proxy


def test_an_architecture_goes_by_id_or_name(table: Tabular) -> None:
    assert table.query(437) == table.query("437") == table.query(MODELS[437])


def test_a_diverged_network_is_counted_and_its_mean_missing(table: Tabular) -> None:
    found = table.query(10)
    assert (found.repeats, found.diverged, found.epoch) == (2, 1, 20)
    assert math.isnan(found.test_accuracy)
    assert math.isnan(found.validation_accuracy)
    assert table.query(10, repeat=0).test_accuracy == 69


def test_a_number_that_needs_no_training(table: Tabular) -> None:
    found = table.query(437, proxy="params")
    assert (found.score, found.epoch, found.curve) == (900, None, ())
    assert math.isnan(found.test_accuracy)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"arch": 5}, "arch: 5 is not in this table under full; it holds 3 of them, 7, 10, 437"),
        ({"arch": MODELS[5]}, "it holds 3 of them"),
        ({"arch": 10, "proxy": "dm"}, "arch: 10 is not in this table under dm-50ipc; it holds 2 of them, 7, 437"),
        ({"arch": 7, "proxy": "dsa"}, "proxy: 'dsa' is not in this table; it has dm-50ipc, full, params"),
        ({"arch": 7, "repeat": 2}, "repeat: arch 7 under full has 0, 1, not 2"),
        ({"arch": 7, "epoch": 15}, "epoch: arch 7 under full has 10, 20, not 15"),
        ({"arch": 7, "proxy": "params", "epoch": 1}, "epoch: arch 7 under params has none, not 1"),
    ],
)
def test_what_is_not_there_is_told(table: Tabular, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.query(**asked)  # type: ignore[arg-type]


def test_looking_up_goes_by_dictionaries(table: Tabular) -> None:
    dropped = replace(table, _frame=DataFrame())  # once it is loaded, no frame is searched
    assert dropped.query(7, proxy="dm").test_accuracy == 29
    assert dropped.proxies == ("dm-50ipc", "full", "params")
    assert dropped.archs() == ("7", "10", "437")


def test_several_budgets_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(tabular.to_parquet(frame(trained("dm", PROXY), trained("dm", {7: [(1.0, 2.0)]}, ipc=10))))
    table = tabular.load(path)
    assert table.query(7, proxy="dm-10ipc").test_accuracy == 2
    with pytest.raises(ValueError, match="'dm' is not in this table; it has dm-10ipc, dm-50ipc"):
        table.query(7, proxy="dm")


def test_the_card_says_what_is_held(table: Tabular) -> None:
    card = table.card
    assert (card["space"], card["dataset"], card["preset"], card["exactness"]) == (
        "convnet720", "cifar10", "paper", "official",
    )  # fmt: skip
    assert card["versions"] == {"version": ["0.2.0"], "torch": ["2.15"]}
    assert card["hardware"] == {"device": ["a CPU"], "compute": ["eager, float32"]}
    assert (card["architectures"], card["rows"]) == (3, len(table.rows()))
    full, params = card["proxies"]["full"], card["proxies"]["params"]
    assert (full["architectures"], full["networks"], full["most_repeats"], full["recipe"]) == (3, 6, 2, ["dm"])
    assert full["spec"] == [{}]
    assert (params["architectures"], params["networks"]) == (2, 0)


def test_the_rows_come_back_as_they_were_read(table: Tabular, tmp_path: Path) -> None:
    write_rows(some().to_dict("records"), tmp_path / "rows.csv")
    key = ["memory", "arch", "repeat", "metric", "epoch", "key"]
    read, back = (of.sort_values(key, ignore_index=True) for of in (rows.read(tmp_path), table.rows()))
    pd.testing.assert_frame_equal(read, back)


def test_another_proxy_is_scored_by_the_tables_truth(table: Tabular) -> None:
    mine = frame(trained("mine", PROXY))
    truth = table.rows()
    scored = nas_table(pd.concat([mine, truth[truth["memory"] == "full"]], ignore_index=True), draws=5)
    line = scored.set_index("memory").loc["mine"]
    assert (line["architectures"], line["performance"], line["not_shared"]) == (2, 79, 1)


def test_a_table_grows_to_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    parts = [frame(trained("full", {arch: TRUTH[arch]})) for arch in TRUTH]
    together = tabular.to_parquet(pd.concat(parts, ignore_index=True))
    path = tmp_path / "t.parquet"
    for order in (parts, parts[::-1], [*parts, *parts]):
        path.write_bytes(tabular.to_parquet(order[0]))
        for part in order[1:]:
            path.write_bytes(tabular.to_parquet(tabular.load(path).rows(), part))
        assert path.read_bytes() == together
    assert tabular.load(path).archs() == ("7", "10", "437")


def test_a_network_that_several_runs_share_stands_once(tmp_path: Path) -> None:
    again = [row | {"changes": "memory.lr=2"} for row in trained("full", TRUTH)]  # the same keys
    (tmp_path / "t").write_bytes(tabular.to_parquet(frame(again, trained("full", TRUTH))))
    back = tabular.load(tmp_path / "t").rows()
    assert len(back) == len(trained("full", TRUTH))
    assert set(back["changes"]) == {""}


def test_an_unfinished_network_is_left_out(tmp_path: Path) -> None:
    rest = [row for row in trained("full", TRUTH) if not (row["arch"] == "7" and row["metric"] == "test_accuracy")]
    (tmp_path / "t").write_bytes(tabular.to_parquet(frame(rest)))
    assert tabular.load(tmp_path / "t").archs() == ("10", "437")


def test_the_earlier_of_two_values_is_kept_with_a_warning(tmp_path: Path) -> None:
    earlier, later = frame(trained("full", alike((1.0,)))), frame(trained("full", {0: [(1.0, 5.0)]}))
    with pytest.warns(UserWarning, match="1 rows repeat a measurement with another value .* the earlier one is kept"):
        (tmp_path / "t").write_bytes(tabular.to_parquet(earlier, later))
    assert tabular.load(tmp_path / "t").query(0).test_accuracy == 1


def mixed(**other: object) -> list[Row]:
    return [*trained("full", TRUTH), *trained("dm", PROXY, **other)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (mixed(dataset="mnist"), "of one dataset; the rows mix cifar10 and mnist"),
        (mixed(dataset_digest="d2"), "of one dataset_digest; the rows mix d1 and d2"),
        (mixed(preset="quick"), "of one preset; the rows mix paper and quick"),
        (mixed(space="mine"), "of one space; the rows mix convnet720 and mine"),
        (condensed("dm", 500, 1.0), "none of the 1 rows is a result of track nas"),
        ([*trained("dm", PROXY), *trained("dm", PROXY, changes="lr=2")],
         "dm-50ipc: arch 7, repeat 0 stands for two networks, of changes '' and 'lr=2'; select one"),
    ],
)  # fmt: skip
def test_what_one_table_cannot_hold_is_refused(made: list[Row], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        (tmp_path / "t").write_bytes(tabular.to_parquet(frame(made)))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    whole.write_bytes(tabular.to_parquet(some()))
    foreign = tmp_path / "foreign.parquet"
    parquet.write_table(pa.table({"a": [1]}), foreign)
    strange = tmp_path / "strange.parquet"
    parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata({tabular.CARD: b"{"}), strange)
    later = tmp_path / "later.parquet"
    newer = json.dumps({"schema": 9}).encode()
    parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata({tabular.CARD: newer}), later)
    content = whole.read_bytes()
    cut, text, turned = tmp_path / "cut.parquet", tmp_path / "text.parquet", tmp_path / "turned.parquet"
    cut.write_bytes(content[: len(content) // 2])
    text.write_text("no table\n")
    turned.write_bytes(content[:200] + bytes(64) + content[264:])
    for path, message in (
        (foreign, "none of this benchmark's: it has no card"), (strange, "its card cannot be read"),
        (later, "of schema 9, 1 columns; this version reads schema 1"), (cut, "not a whole Parquet file"),
        (text, "not a whole Parquet file"), (turned, "not a whole Parquet file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message) as caught:
            tabular.load(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"tabular: 'mine' is unknown; there are .* ends in \.parquet"):
        tabular.load("mine")
    with pytest.raises(FileNotFoundError, match=r"mine\.parquet: no such file"):
        tabular.load(str(tmp_path / "mine.parquet"))
    monkeypatch.setattr(tabular, "NAMED", tmp_path)
    (tmp_path / "mine.parquet").write_bytes(tabular.to_parquet(some()))
    assert tabular.names() == ["mine"]
    assert tabular.load("mine") == tabular.load(tmp_path / "mine.parquet")
    monkeypatch.setattr(tabular, "NAMED", tmp_path / "none")
    assert tabular.names() == []


@pytest.mark.parametrize("name", tabular.names())
def test_the_tables_that_come_along_can_be_read(name: str) -> None:
    table = tabular.load(name)
    assert table.card["preset"] != "smoke"
    assert table.card["rows"] == len(table.rows())
    for proxy in table.proxies:
        assert table.query(table.archs(proxy)[0], proxy).repeats >= 1
