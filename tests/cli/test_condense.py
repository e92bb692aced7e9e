"""Track condense on the command line: what it says, the files it leaves, the one line that bad input gets."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from harness.cli import main
from harness.commands import run as runs
from harness.results import rows as rowfiles

SMOKE = ["--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8"]
RUN = ["run", "condense", *SMOKE, "--engine", "serial", "--sets", "2", "--nets", "2", "--at", "1,2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke run's directory: dm, judged after 1, 2 and 3 iterations."""
    out = tmp_path_factory.mktemp("runs")
    assert main([*RUN, "--out", str(out), "--quiet"]) == 0
    (directory,) = out.glob("condense-digits-dm-2ipc-smoke-*")
    return directory


@pytest.fixture
def said(run: Path, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()  # what fixtures said does not count
    return capsys


# --- run, estimate --------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_does_and_what_came_of_it(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "condense", *SMOKE, "--memory", "lo-dm", "--networks", "random", "--engine", "serial"]
    command += ["--eval-models", "mlp,convnet-d1-w8", "--out", str(tmp_path)]
    assert main(command) == 0
    printed, errors = said.readouterr()
    (directory,) = tmp_path.glob("condense-digits-lo-dm-2ipc-smoke-*")
    assert "digits, 1 set by lo-dm (2 per class), 1 network each: mlp, convnet-d1-w8\n" in errors
    assert "form: eager (preset smoke), float32 where no gradient passes, training in float32; device cpu\n" in errors
    assert "3 units, 0 of them done already\n" in errors
    assert " lo-dm memory, set 0, classes 0 .. 9: " in errors
    assert " mlp 0 on set 0 of lo-dm after 3 updates: " in errors
    assert errors.endswith(f"rows: {directory / 'rows.csv'}\n")
    assert "accuracy (%)" in printed
    assert main(command) == 0
    again, errors = said.readouterr()
    assert "3 units, 3 of them done already\n" in errors
    assert again == printed


def test_more_networks_judge_a_set_that_is_there_already(
    run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "units").symlink_to(run.parent / "units")
    assert main([*RUN, "--eval-models", "convnet-d1-w8,mlp", "--out", str(tmp_path)]) == 0
    # 2 sets after 1, 2 and 3 updates, of each 2 networks, rounded or not: 6 + 24; the other 24 are new
    assert "54 units, 30 of them done already\n" in said.readouterr().err


def test_the_last_line_of_json_is_one_object(run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--out", str(run.parent), "--json"]) == 0
    printed, _ = said.readouterr()
    assert len(printed.splitlines()) == 1
    result = json.loads(printed)
    assert (result["complete"], result["failed"], result["left"]) == (True, {}, 0)
    assert result["directory"] == str(run)
    found = [(row["metric"], row["set"], row["iterations"], row["repeat"]) for row in result["results"]]
    metrics = ("test_accuracy", "test_accuracy_uint8")
    expected = [
        (metric, of, count, net) for metric in metrics for of in (0, 1) for count in (1, 2, 3) for net in (0, 1)
    ]
    assert sorted(found) == expected
    rows = rowfiles.read(run)
    values = rows[rows["metric"].isin(metrics)]["value"]
    assert [row["value"] for row in result["results"]] == pytest.approx(list(values))
    assert {row["model"] for row in result["results"]} == {"convnet-d1-w8-instancenorm-relu-avgpooling"}


@pytest.mark.parametrize("memory", ["dm", "dsa", "herding", "random"])
def test_estimate_says_how_long_and_does_nothing(memory: str, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "condense", *SMOKE, "--memory", memory, "--out", str(tmp_path)]) == 0
    errors = said.readouterr().err
    assert f"digits, 1 set by {memory} (2 per class), 1 network each: convnet-d1-w8\n" in errors
    assert f"{2 if memory in ('herding', 'random') else 3} units, 0 of them done already\n" in errors
    assert "about " in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_time_limit_stops_and_the_same_command_continues(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "condense", *SMOKE, "--engine", "serial", "--set", "memory.iterations=30", "--out", str(tmp_path)]
    command += ["--quiet", "--time-limit"]
    codes = [main([*command, "0.01s"])]
    assert said.readouterr().err.rstrip().endswith("units left (time limit); the same command continues")
    while codes[-1] == 3:
        codes.append(main([*command, "3s"]))
    assert codes[0] == 3
    assert codes[-1] == 0


def test_a_time_limit_counts_from_the_start_of_the_command(
    tmp_path: Path, said: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly = runs.prepare

    def prepare(run: Any, options: runs.Options) -> runs.Prepared:
        time.sleep(0.5)
        return slowly(run, options)

    monkeypatch.setattr(runs, "prepare", prepare)
    assert main([*RUN, "--out", str(tmp_path), "--quiet", "--time-limit", "0.5s"]) == 3
    assert not list(tmp_path.rglob("*.safetensors"))  # there was no time to begin
    assert said.readouterr().err.rstrip().endswith("units left (time limit); the same command continues")


# --- table, plot, export, show --------------------------------------------------------------------------------------


def test_the_table_has_means_intervals_and_n(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "--format", "csv"]) == 0
    (tmp_path / "table.csv").write_text(said.readouterr().out)
    table, rows = pd.read_csv(tmp_path / "table.csv"), rowfiles.read(run)
    assert table["iterations"].tolist() == [1, 2, 3]
    for line in table.to_dict("records"):
        after = rows[rows["iterations"] == line["iterations"]]
        for metric in ("test_accuracy", "test_accuracy_uint8"):
            assert line[metric] == pytest.approx(after[after["metric"] == metric]["value"].mean())
        assert (line["memory"], line["n"], line["ipc"]) == ("dm", "2 sets x 2 nets", 2)
        assert (line["images_per_class"], line["scalars_per_class"]) == (2, 128)
        assert line["note"] == "(smoke: not a result)"


@pytest.mark.parametrize(("figure", "points"), [("condense-accuracy", 1), ("condense-iterations", 3)])
def test_plot_writes_the_figure_and_its_numbers(
    figure: str, points: int, run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figure.png"
    assert main(["plot", str(run), "--figure", figure, "-o", str(target)]) == 0
    assert said.readouterr().out.split() == [str(target), str(target.with_suffix(".csv"))]
    with Image.open(target) as image:
        assert min(image.size) > 200
    numbers = pd.read_csv(target.with_suffix(".csv"))
    assert len(numbers[numbers["memory"] == "dm"]) == points


def test_export_writes_files_that_are_judged_alike(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "sets")]) == 0
    written = [Path(line) for line in said.readouterr().out.split()]
    names = [f"set-{number}.{suffix}" for number in (0, 1) for suffix in ("safetensors", "json", "pt", "png")]
    assert [path.name for path in written if path.name.startswith("set-")] == names
    assert len(written) == len(names) + 2 * 10 * 2  # and each image of both sets alone
    assert all(path.is_file() for path in written)
    card = json.loads((tmp_path / "sets" / "set-1.json").read_text())
    assert (card["builder"], card["dataset"], card["ipc"]) == ("dm", "digits", 2)
    command = ["run", "condense", *SMOKE, "--memory", f"file:{written[0]}", "--engine", "serial", "--nets", "2"]
    assert main([*command, "--out", str(tmp_path / "runs"), "--quiet"]) == 0
    ours, theirs = rowfiles.read(run), rowfiles.read(tmp_path / "runs")
    ours = ours[(ours["set"] == 0) & (ours["iterations"] == 3)]

    def values(rows: pd.DataFrame) -> list[float]:
        return list(rows[rows["metric"].str.startswith("test_accuracy")]["value"])

    assert values(theirs) == values(ours)


def test_show_tells_of_a_run(run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    printed = said.readouterr().out
    assert "  memory = dm\n" in printed
    assert "2 sets x 2 nets" in printed


def test_a_stream_and_sets_in_one_table(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "2", "--memory", "random", "--engine", "serial", "--quiet"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    (stream,) = tmp_path.glob("cl-*")
    assert main(["table", str(run), str(stream), "--format", "md"]) == 0
    printed = said.readouterr().out
    assert "last accuracy (%)" in printed
    assert "at 8 bits (%)" in printed
