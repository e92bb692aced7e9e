import csv
import io
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.results import rows
from tests.results.files import write_rows

ODD = 'a,"b"\r\nc\rd|$\\ [x] ü\x1b'


def row(**more: object) -> dict[str, object]:
    return {"track": "cl", "metric": "seen_accuracy", "key": "k", "experience": 0, "value": 1.5} | more


def test_every_column_is_explained() -> None:
    described = [line.split()[0] for line in (rows.__doc__ or "").splitlines() if line.startswith("    ")]
    assert tuple(described) == rows.COLUMNS


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    value = 0.1 + 0.2  # 0.30000000000000004: its repr is needed in full
    first = row(memory=ODD, device="\r", compute="\n", value=value, seed=2**63 - 1, order=3)
    write_rows([first, row(value=math.nan, ipc=None)], tmp_path / "r.csv")
    back = rows.read(tmp_path / "r.csv")
    assert tuple(back.columns) == rows.COLUMNS
    assert back["memory"].tolist() == [ODD, ""]
    assert back[["device", "compute"]].iloc[0].tolist() == ["\r", "\n"]
    assert back["value"][0] == value
    assert math.isnan(back["value"][1])
    assert back["seed"][0] == 2**63 - 1  # a float would round it
    assert back["seed"][1] is pd.NA
    assert back["order"].tolist() == ["3", ""]
    assert back["ipc"].isna().all()


def test_a_frame_is_what_is_read_back(tmp_path: Path) -> None:
    some = [row(memory=ODD, ipc=20), row(experience=1, value=None, wall_seconds=0.5)]
    write_rows(some, tmp_path / "rows.csv")
    pd.testing.assert_frame_equal(rows.to_frame(some), rows.read([tmp_path]))


def test_the_same_rows_give_the_same_bytes() -> None:
    content = rows.to_csv([row(value=2)])
    assert content == rows.to_csv(iter([dict(reversed(row(value=2.0).items()))]))
    assert content == (",".join(rows.COLUMNS) + "\ncl,,,,,,,,,,,,,,,,0,,,,,,,,seen_accuracy,,2.0,,,,k,,,,,,\n").encode()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"acc": 1}, "unknown column 'acc'"),
        ({"ipc": 2.5}, "column ipc: expected a 64-bit integer, got 2.5"),
        ({"seed": 2**63}, "column seed: expected a 64-bit integer"),
        ({"value": "much"}, "column value: expected a number, got 'much'"),
        ({"spec": {"a": 1}}, "column spec: expected text"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows.to_csv([row(**wrong)])


def test_a_path_may_be_a_file_a_run_or_a_folder_of_runs(tmp_path: Path) -> None:
    write_rows([row(key="a")], tmp_path / "runs" / "one" / "rows.csv")
    write_rows([row(key="b")], tmp_path / "runs" / "deep" / "two" / "rows-1.csv")
    write_rows([row(key="c")], tmp_path / "runs" / "one" / "rows-old.csv")  # beside a rows.csv: searched folders only
    assert rows.read(tmp_path / "runs" / "one" / "rows.csv")["key"].tolist() == ["a"]
    assert rows.read(str(tmp_path / "runs" / "one"))["key"].tolist() == ["a"]
    assert sorted(rows.read([tmp_path / "runs"])["key"]) == ["a", "b", "c"]


def test_what_lies_beside_runs_is_passed_over(tmp_path: Path) -> None:
    write_rows([row()], tmp_path / "run" / "rows.csv")
    (tmp_path / "units" / "0a").mkdir(parents=True)
    (tmp_path / "reproduce-table1-quick").mkdir()
    (tmp_path / "reproduce-table1-quick" / "verdicts.csv").write_text("cell\n")
    (tmp_path / "other").mkdir()
    beside = [tmp_path / "units", tmp_path / "reproduce-table1-quick"]
    assert len(rows.read([tmp_path / "run", *beside])) == 1  # runs/*
    for paths in ([tmp_path / "run", tmp_path / "other"], beside):
        with pytest.raises(FileNotFoundError, match=r"no rows\.csv here or below"):
            rows.read(paths)


def test_a_measurement_met_twice_counts_once(tmp_path: Path) -> None:
    first = [row(), row(experience=1), row(steps=5), row(order="1"), row(repeat=1), row(tested_experience=0),
             row(metric="forgetting"), row(split="test"), row(preset="quick"), row(set=1), row(iterations=100),
             row(changes="recipe.epochs=300"), row(recipe="idc"), row(space="mine"), row(arch="7")]  # fmt: skip
    write_rows(first, tmp_path / "a" / "rows.csv")
    write_rows([row(wall_seconds=9.0), row(key="other")], tmp_path / "b" / "rows.csv")
    together = rows.read([tmp_path / "a", tmp_path, tmp_path / "a" / "rows.csv"])
    assert len(together) == len(first) + 1
    assert together["wall_seconds"].isna().all()  # the first one is kept


def test_rows_without_a_key_count_once_only_if_equal(tmp_path: Path) -> None:
    write_rows([row(key="", memory="dm"), row(key="", memory="dsa"), row(key="", memory="dm")], tmp_path / "rows.csv")
    assert rows.read(tmp_path)["memory"].tolist() == ["dm", "dsa"]


def test_a_measurement_met_with_another_value_is_told(tmp_path: Path) -> None:
    write_rows([row(value=1.0), row(value=2.0)], tmp_path / "rows.csv")
    with pytest.warns(UserWarning, match="1 rows repeat a measurement with another value"):
        assert rows.read(tmp_path)["value"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[:-5], "cut short"),
        (lambda text: "", "empty"),
        (lambda text: text[: text.rindex(",k,")] + "\n", "row 2 has 30 cells, not 37"),
        (lambda text: text.replace("tested_experience", "tested"), "not those of schema 1: no tested_experience; for"),
        (lambda text: text.replace("track,dataset,", "dataset,track,"), "not those of schema 1: in another order"),
        (lambda text: text.replace("set,experience", "experience,set"), "not those of schema 1: in another order"),
        (lambda text: text.replace("set,experience", "experience"), "row 1 has 37 cells, not 36"),
        (lambda text: text.replace("1.5", "1.5x"), "could not convert"),
        (lambda text: text + '"\n', "unexpected end of data"),
    ],
)
def test_a_damaged_file_is_named_and_skipped(tmp_path: Path, damage: object, reason: str) -> None:
    write_rows([row(key="whole")], tmp_path / "rows-1.csv")
    write_rows([row(), row(experience=1)], tmp_path / "rows-2.csv")
    text = (tmp_path / "rows-2.csv").read_text()
    (tmp_path / "rows-2.csv").write_text(damage(text))  # type: ignore[operator]
    with pytest.warns(UserWarning, match=rf"rows-2\.csv: damaged.*{reason}"):
        assert rows.read(tmp_path)["key"].tolist() == ["whole"]
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match=r"no rows in .*rows-2\.csv"):
        rows.read(tmp_path / "rows-2.csv")


def test_of_many_damaged_files_ten_are_named(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"rows-{number:02}.csv").write_text("no rows\n")
    write_rows([row(key="whole")], tmp_path / "rows-12.csv")
    with pytest.warns(UserWarning, match=r"rows-09\.csv.*; and 2 more; 12 of 13 row files are damaged$") as told:
        rows.read(tmp_path)
    assert str(told[0].message).count("damaged, its rows are left out") == 10


def test_damaged_files_are_counted(tmp_path: Path) -> None:
    for name in "abc":
        write_rows([row(key=name)], tmp_path / f"rows-{name}.csv")
    (tmp_path / "rows-a.csv").write_text("")
    (tmp_path / "rows-c.csv").write_text("no rows\n")
    with pytest.warns(
        UserWarning, match=r"rows-a\.csv: .*empty.*rows-c\.csv: .*; 2 of 3 row files are damaged$"
    ) as told:
        assert rows.read(tmp_path)["key"].tolist() == ["b"]
    assert len(told) == 1


def test_a_number_beyond_64_bits_is_damage(tmp_path: Path) -> None:
    write_rows([row(seed=7)], tmp_path / "rows-1.csv")
    write_rows([row(key="whole")], tmp_path / "rows-2.csv")
    text = (tmp_path / "rows-1.csv").read_text()
    (tmp_path / "rows-1.csv").write_text(text.replace(",7,", f",{2**63},"))
    with pytest.warns(UserWarning, match=r"rows-1\.csv: damaged.*9223372036854775808: more than 64 bits"):
        assert rows.read(tmp_path)["key"].tolist() == ["whole"]


@pytest.mark.parametrize("absent", [rows.ADDED, ("set",), ("memory_model", "iterations")])
def test_columns_that_an_older_file_lacks_are_empty(tmp_path: Path, absent: list[str]) -> None:
    some = [row(memory=ODD, ipc=20, repeat=2, arch="a"), row(experience=1, wall_seconds=0.5)]
    write_rows(some, tmp_path / "new.csv")
    lines = list(csv.reader(io.StringIO((tmp_path / "new.csv").read_bytes().decode(), newline="")))
    kept = [i for i, name in enumerate(lines[0]) if name not in absent]
    old = io.StringIO(newline="")
    csv.writer(old, lineterminator="\n").writerows([line[i] for i in kept] for line in lines)
    (tmp_path / "old.csv").write_bytes(old.getvalue().encode())
    pd.testing.assert_frame_equal(rows.read(tmp_path / "old.csv"), rows.to_frame(some))
    write_rows([row(key="later", set=1, iterations=10, memory_model="m")], tmp_path / "later.csv")
    both = rows.read([tmp_path / "old.csv", tmp_path / "later.csv"])
    assert both["set"].tolist() == [pd.NA, pd.NA, 1]
    assert both["memory_model"].tolist() == ["", "", "m"]


def test_the_reference_rows_read() -> None:
    reference = rows.read(Path(rows.__file__).parent / "reference")
    assert tuple(reference.columns) == rows.COLUMNS
    assert set(reference["track"]) >= {"cl"}


def test_a_missing_path_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):  # absent, and a folder without rows
        with pytest.raises(FileNotFoundError, match=r"pass a rows\.csv or a run directory") as caught:
            rows.read([path])
        assert "\n" not in str(caught.value)


def test_results_import_no_torch_no_pyplot_no_other_rooms() -> None:
    modules = ("rows", "tabular", "tables.collect", "published.verdicts", "figures.registry", "report.page")
    code = (
        f"import sys, {', '.join(f'harness.results.{module}' for module in modules)}; "
        "rooms = {'.'.join(name.split('.')[:2]) for name in sys.modules if name.startswith('harness.')}; "
        "print(rooms - {'harness.results'} | {'torch', 'matplotlib.pyplot'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"
