"""Track condense on the command line: what it says, the files it leaves, the one line that bad input gets."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.commands import run as runs
from harness.core import atomic as files
from harness.core import data, memory_file
from harness.core import memory as memories
from harness.results import rows as rowfiles

SMOKE = ["--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8"]
RUN = ["run", "condense", *SMOKE, "--engine", "serial", "--sets", "2", "--nets", "2", "--at", "1,2"]


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` shows warnings its own way, for good."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


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


def test_a_set_is_judged_by_more_networks_without_condensing_anew(
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


def test_a_dry_run_shows_every_field_and_does_nothing(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "condense", *SMOKE, "--memory", "dsa", "--at", "1", "--out", str(tmp_path), "--dry-run"]
    assert main(command) == 0
    printed, errors = said.readouterr()
    assert printed == ""
    lines = {"sets = 1", "nets = 1", "at = (1,)", "eval_models = ()", "uint8 = True", "memory.iterations = 2"}
    assert lines <= set(errors.splitlines())
    assert not any(line.startswith(("steps = ", "orders = ")) for line in errors.splitlines())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("memory", ["dm", "dsa", "herding", "random"])
def test_estimate_says_how_long_and_does_nothing(memory: str, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "condense", *SMOKE, "--memory", memory, "--out", str(tmp_path)]) == 0
    errors = said.readouterr().err
    assert f"digits, 1 set by {memory} (2 per class), 1 network each: convnet-d1-w8\n" in errors
    assert f"{2 if memory in ('herding', 'random') else 3} units, 0 of them done already\n" in errors
    assert "about " in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_long_run_names_the_quick_command(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "condense", "--dataset", "digits", "--model", "convnet-d1-w8", "--device", "cpu"]
    command += ["--set", "compute=eager", "--set", "recipe.epochs=10000000", "--out", str(tmp_path)]
    assert main(command) == 0
    assert said.readouterr().err.endswith(
        "for an answer in minutes: harness run condense --dataset digits --memory dm --preset quick\n"
    )


def test_a_file_of_fields(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'preset = "smoke"\ndataset = "digits"\nsets = 3\neval_models = ["mlp"]\nat = [1]\n'
        '[memory]\nname = "dm"\nnetworks = "trained:20-40"\n'
    )
    command = [
        "run",
        "condense",
        "--config",
        str(file),
        "--dry-run",
        "--out",
        str(tmp_path),
        "--model",
        "convnet-d1-w8",
    ]
    assert main(command) == 0
    lines = set(said.readouterr().err.splitlines())
    assert {"sets = 3", "eval_models = ('mlp',)", "at = (1,)", "memory.networks = trained:20-40"} <= lines
    assert main([*command, "--networks", "random", "--at", "2", "--sets", "1"]) == 0
    lines = set(said.readouterr().err.splitlines())
    assert {"sets = 1", "at = (2,)", "memory.networks = random"} <= lines


def test_a_time_limit_stops_and_the_same_command_continues(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = [*RUN, "--set", "memory.iterations=60", "--out", str(tmp_path), "--quiet", "--time-limit"]
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


@pytest.mark.parametrize(("format", "sign"), [("md", "|"), ("latex", "&"), ("terminal", "dm")])
def test_the_table_in_other_formats(format: str, sign: str, run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "--format", format]) == 0
    assert sign in said.readouterr().out


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


def test_memory_images_shows_a_set(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "memory.png"
    assert main(["plot", str(run), "--figure", "memory-images", "-o", str(target)]) == 0
    assert target.is_file()


def test_export_writes_files_that_are_judged_alike(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "sets")]) == 0
    written = [Path(line) for line in said.readouterr().out.split()]
    names = [f"set-{number}.{suffix}" for number in (0, 1) for suffix in ("safetensors", "json", "png")]
    assert [path.name for path in written] == names
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


# --- bad input ------------------------------------------------------------------------------------------------------

CONDENSE = ["run", "condense", *SMOKE]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with files that do not fit."""
    monkeypatch.chdir(tmp_path)
    labels = torch.arange(10).repeat(2)
    torch.save({"data": [[torch.randn(20, 1, 9, 9), labels]]}, "shape.pt")
    torch.save({"data": [[torch.randn(19, 1, 8, 8), labels[:-1]]]}, "uneven.pt")
    torch.save([torch.rand(20, 1, 8, 8), labels], "space.pt")
    torch.save({"accs": 3.0}, "layout.pt")
    Path("bytes.pt").write_bytes(b"these are no tensors")
    np.save("short.npy", np.zeros(100))
    np.savez("order.npz", scores=np.zeros(1442), labels=np.zeros(1442, dtype=np.int64))
    other = data.load("digits")
    images = torch.zeros(10, 1, 8, 8)
    memory_file.save(memories.Memory(images, torch.arange(10)), Path("ours.safetensors"), other, {"builder": "dm"})
    tensors, card = files.load(Path("ours.safetensors"))
    files.save(Path("named.safetensors"), tensors, card | {"dataset": "mnist"})
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--ipc", "141"], "ipc: 141 images a class are asked for, class 8 has 140"),
        (
            ["--eval-models", "mlp,convnt3"],
            "model: 'convnt3' is unknown; models are named like convnet3 or convnet-d3-w",
        ),
        (
            ["--eval-models", "mlp,convnet-d9"],
            "model: convnet-d9-w128-instancenorm-relu-avgpooling pools 8 x 8 images a",
        ),
        (["--sets", "0"], "sets: at least 1 is needed, got 0"),
        (["--set", "uint8=maybe"], "uint8: true or false is needed, got 'maybe'"),
        (["--memory", "dmm"], "memory: 'dmm' is unknown (did you mean 'dm'?); choose from cscore, dc, "),
        (["--steps", "2"], "No such option: --steps"),
        # where to stop on the way
        (["--at", "4"], "at: 4 is beyond the 3 iterations of dm"),
        (["--at", "1,3", "--memory", "lo-dsa"], "at: 3 is beyond the 2 iterations of lo-dsa"),
        (["--at", "2,1"], "at: expected ascending numbers of iterations, got 2, 1"),
        (["--at", "0"], "at: expected ascending numbers of iterations, got 0"),
        (["--at", "soon"], "at: numbers such as 0 or 0,2 or 0-4 are needed, got 'soon'"),
        (["--at", "1", "--memory", "herding"], "at: herding has no iterations to be judged after; leave it out"),
        (["--at", "1", "--memory", "full"], "at: full has no iterations to be judged after; leave it out"),
        # builders around others
        (
            ["--memory", "lo-herding"],
            "lo: herding takes no other form of its images; lo- goes around dc, dcc, dm, dsa, dsac",
        ),
        (["--memory", "mim-random"], "mim: random "),
        (
            ["--memory", "lo-dm", "--set", "memory.rank=9"],
            "low-rank: rank 9 is too large, one image of 8 x 8 would exceed the budget of 2 per class; use a rank ",
        ),
        (["--memory", "lo-dm", "--set", "memory.rank=0"], "low-rank: rank is at least 1, got 0"),
        (["--memory", "idc", "--set", "memory.factor=3"], "multi-formation: 8 x 8 cannot be cut by a factor of 3"),
        # networks to match in
        (
            ["--networks", "random", "--memory", "dsa"],
            "networks: dsa has no choice of the networks it works in, dm, lo-dm, mim-dm have; leave it out",
        ),
        (
            ["--networks", "trained:90-10"],
            "networks: expected random, or trained:LO-HI with LO < HI in percent, got 'tr",
        ),
        (
            ["--networks", "trained"],
            "networks: expected random, or trained:LO-HI with LO < HI in percent, got 'trained'",
        ),
        # scores
        (
            ["--memory", "cscore"],
            "cscore: a file of scores is needed; give a file with one score per train image, in of",
        ),
        (["--memory", "cscore", "--set", "memory.scores=no.npy"], "no.npy: no such file"),
        (
            ["--memory", "cscore", "--set", "memory.scores=short.npy"],
            "cscore: short.npy has 100 scores, the data 1442 images",
        ),
        (
            ["--memory", "cscore", "--set", "memory.scores=order.npz"],
            "cscore: order.npz has other labels than the data;",
        ),
        (
            ["--memory", "cscore", "--set", "memory.scores=shape.pt"],
            "cscore: shape.pt cannot be read (its name ends in",
        ),
        (["--memory", "cscore", "--set", "memory.keep=best"], "keep: 'best' is unknown; choose from easy, hard"),
        # others' sets
        (["--memory", "file:missing.pt"], "missing.pt: no such file"),
        (
            ["--memory", "file:shape.pt"],
            "shape.pt: images (N, 1, 8, 8) of a float type fit digits; got (20, 1, 9, 9), ",
        ),
        (
            ["--memory", "file:uneven.pt"],
            "uneven.pt: as many images of each of digits's 10 classes fit; got 1 to 2 of a",
        ),
        (
            ["--memory", "file:space.pt"],
            "space.pt: the file does not say what its numbers are; say so by --set memory.",
        ),
        (
            ["--memory", "file:layout.pt"],
            "layout.pt: {'data': [[images, labels], ...]} (DC, DM's res_*.pt) or [images, ",
        ),
        (["--memory", "file:bytes.pt"], "bytes.pt: "),
        (["--memory", "file:named.safetensors"], "named.safetensors: made from mnist, not from digits"),
        (
            ["--memory", "file:ours.safetensors", "--set", "memory.space=unit"],
            "ours.safetensors: a memory's file says it",
        ),
        (
            ["--memory", "file:ours.safetensors", "--set", "split=validation"],
            "split: a set that others condensed has see",
        ),
        (
            ["--memory", "file:ours.safetensors", "--at", "1"],
            "at: file:ours.safetensors has no iterations to be judged ",
        ),
        (
            ["--memory", "file:ours.safetensors", "--set", "memory.iterations=3"],
            "--set: 'memory.iterations' is a setting of dc, dcc, dm, dsa, ",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_one_clear_line(arguments: list[str], line: str, here: Path, said: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    for command in ("run", "estimate"):
        assert main([command, *CONDENSE[1:], *arguments]) == 2
        printed, errors = said.readouterr()
        assert printed == ""
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith(f"harness: {line}")
    assert sorted(here.rglob("*")) == before


def test_scores_and_sets_are_checked_for_a_stream_too(here: Path, said: pytest.CaptureFixture[str]) -> None:
    for arguments, line in (
        (["--memory", "cscore"], "cscore: a file of scores is needed; "),
        (["--memory", "file:shape.pt"], "shape.pt: images (N, 1, 8, 8) of a float type fit digits; "),
    ):
        assert main(["run", "cl", *SMOKE, "--steps", "2", *arguments]) == 2
        errors = said.readouterr().err
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith(f"harness: {line}")


def test_export_of_what_holds_no_memory(here: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nowhere"]) == 2
    assert said.readouterr().err == (
        "harness: nowhere: no such directory; pass a run's, such as `harness ls runs` lists\n"
    )


def test_a_figure_of_sets_needs_rows_of_sets(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "1", "--memory", "random", "--engine", "serial", "--quiet"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    for figure in ("condense-accuracy", "condense-iterations"):
        assert main(["plot", str(tmp_path), "--figure", figure, "-o", str(tmp_path / "figure.png")]) == 2
        errors = said.readouterr().err
        assert len(errors.splitlines()) == 1, errors
    assert not (tmp_path / "figure.png").exists()
