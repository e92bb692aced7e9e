import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.cli import main
from harness.results import rows as rowfiles

SMOKE = ["--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8"]
HERDING = ["run", "cl", *SMOKE, "--steps", "5", "--memory", "herding", "--engine", "serial"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a smoke run of herding is."""
    out = tmp_path_factory.mktemp("runs")
    assert main([*HERDING, "--out", str(out), "--quiet", "--orders", "0-1"]) == 0
    return out


@pytest.fixture(scope="module")
def run(out: Path) -> Path:
    (directory,) = out.glob("cl-digits-herding-5steps-smoke-*")
    return directory


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()  # what fixtures said does not count
    return capsys


# --- what is imported -----------------------------------------------------------------------------------------------


def modules_after(code: str) -> set[str]:
    """The modules loaded in a fresh process after `code`."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_help_imports_nothing_heavy() -> None:
    loaded = modules_after("from harness.cli import main; assert main(['run', 'cl', '--help']) == 0")
    heavy = {"torch", "avalanche", "pandas", "matplotlib", "numpy", "scipy", "sklearn", "rich.progress"}
    assert not loaded & heavy


def test_importing_the_package_does_not_import_avalanche() -> None:
    assert not modules_after("import harness; harness.CLRun; harness.run") & {
        "avalanche",
        "pandas.plotting._matplotlib",
    }


# --- run, estimate --------------------------------------------------------------------------------------------------


def test_the_last_line_of_json_is_one_object(out: Path, run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main([*HERDING, "--out", str(out), "--orders", "0-1", "--json"]) == 0
    printed, _ = said.readouterr()
    assert len(printed.splitlines()) == 1
    result = json.loads(printed.splitlines()[-1])
    assert (result["complete"], result["failed"], result["left"]) == (True, {}, 0)
    assert result["directory"] == str(run)
    metrics = [(row["metric"], row["order"]) for row in result["results"]]
    assert metrics == [
        (metric, order) for order in "01" for metric in ("last_accuracy", "average_incremental_accuracy", "forgetting")
    ]
    rows = rowfiles.read(run)
    expected = rows[rows["metric"].isin(["last_accuracy", "average_incremental_accuracy", "forgetting"])]["value"]
    assert [row["value"] for row in result["results"]] == pytest.approx(list(expected))


def test_a_part_that_is_done_is_not_the_whole(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "2", "--memory", "random", "--engine", "serial", "--out", str(tmp_path)]
    assert main([*command, "--json", "--shard", "1/2"]) == 0
    printed, errors = said.readouterr()
    part = json.loads(printed.splitlines()[-1])
    assert (part["complete"], part["failed"], part["left"]) == (False, {}, 1)
    assert errors.endswith("this part is done; left to others: 1 unit\n")
    assert main([*command, "--json", "--shard", "2/2"]) == 0
    whole = json.loads(said.readouterr().out.splitlines()[-1])
    assert (whole["complete"], whole["left"]) == (True, 0)


def test_a_run_says_what_it_does_and_what_came_of_it(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "2", "--memory", "random", "--engine", "serial", "--out", str(tmp_path)]
    assert main(command) == 0
    printed, errors = said.readouterr()
    (directory,) = tmp_path.glob("cl-*")
    assert "digits, 2 steps, memory random (2 per class), order 0, 1 network\n" in errors
    assert "form: eager (preset smoke), float32 where no gradient passes, training in float32; device cpu\n" in errors
    assert "3 units, 0 of them done already\n" in errors
    assert "[3/3] random network 0, order 0, " in errors
    assert errors.endswith(f"rows: {directory / 'rows.csv'}\n")
    assert "last accuracy" in printed
    assert main(command) == 0
    again, errors = said.readouterr()
    assert "3 units, 3 of them done already\n" in errors
    assert again == printed  # the same table


def test_a_dry_run_shows_every_field_and_does_nothing(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "cl", *SMOKE, "--steps", "2", "--out", str(tmp_path), "--dry-run", "--set", "ipc=3"]) == 0
    printed, errors = said.readouterr()
    assert printed == ""
    for line in ("ipc = 3", "preset = smoke", "memory.iterations = 3", "recipe.epochs = 3", "orders = (0,)"):
        assert line in errors.splitlines()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_estimate_says_how_long_and_does_nothing(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "cl", *SMOKE, "--steps", "2", "--out", str(tmp_path)]) == 0
    errors = said.readouterr().err
    assert "3 units, 0 of them done already" in errors
    assert "about " in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("track", [["cl", "--steps", "2"], ["condense"]], ids=["cl", "condense"])
def test_a_long_run_names_the_quick_command(track: list[str], tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    name, *steps = track
    command = ["estimate", name, "--dataset", "digits", *steps, "--model", "convnet-d1-w8"]
    command += ["--set", "compute=eager", "--set", "recipe.epochs=10000000", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    words = " ".join([name, "--dataset digits --memory dm", *steps, "--preset quick"])
    assert said.readouterr().err.endswith(f"for an answer in minutes: harness run {words}\n")


@pytest.mark.parametrize("logger", ["text", "tensorboard"])
def test_an_avalanche_logger_is_passed_through(logger: str, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "1", "--memory", "random", "--engine", "serial", "--out", str(tmp_path)]
    assert main([*command, "--avalanche-logger", logger, "--quiet"]) == 0
    errors = said.readouterr().err
    (directory,) = tmp_path.glob("cl-*")
    assert ("Top1_Acc_Stream/eval_phase/test_stream/Task000" in errors) == (logger == "text")
    assert bool(list(directory.rglob("events.out.tfevents.*"))) == (logger == "tensorboard")


# --- table, plot, data ------------------------------------------------------------------------------------------------


def test_the_table_has_means_intervals_and_n(run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "--format", "csv"]) == 0
    text = said.readouterr().out
    (run.parent / "table.csv").write_text(text)
    (line,) = pd.read_csv(run.parent / "table.csv").to_dict("records")
    rows = rowfiles.read(run)
    last = rows[rows["metric"] == "last_accuracy"]["value"]
    assert line["last_accuracy"] == pytest.approx(last.mean(), abs=0.05)
    assert (line["memory"], line["n"]) == ("herding", "2 orders x 1 net")
    assert "smoke: not a result" in text


@pytest.mark.parametrize(("format", "sign"), [("md", "|"), ("latex", "&"), ("terminal", "herding")])
def test_the_table_in_other_formats(format: str, sign: str, run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(run), "--format", format]) == 0
    assert sign in said.readouterr().out


def test_plot_writes_the_figure_and_its_numbers(run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figure.png"
    assert main(["plot", str(run), "--figure", "cl-accuracy", "-o", str(target)]) == 0
    assert said.readouterr().out.split() == [str(target), str(target.with_suffix(".csv"))]
    with Image.open(target) as image:
        assert min(image.size) > 200
    numbers = pd.read_csv(target.with_suffix(".csv"))
    assert set(numbers["memory"]) == {"herding"}
    assert len(numbers) == 5  # a point a step


def test_a_figure_that_cannot_be_written_gets_one_line(
    run: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for target, words in (
        ("file/figure.png", "File exists"),
        ("figure.xyz", "a figure is written as .pdf, .png, .svg"),
    ):
        assert main(["plot", str(run), "--figure", "cl-accuracy", "-o", str(tmp_path / target)]) == 2
        (line,) = said.readouterr().err.splitlines()
        assert line.startswith("harness: ")
        assert words in line


def test_plot_without_output_writes_beside_the_run(run: Path, said: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(run), "--figure", "cl-accuracy"]) == 0
    assert (run / "figures" / "cl-accuracy.png").is_file()
    assert (run / "figures" / "cl-accuracy.csv").is_file()


@pytest.mark.parametrize("of_file", [False, True])
def test_memory_images_shows_a_runs_memory(of_file: bool, run: Path, tmp_path: Path) -> None:
    shown = run / "memories" / "order-1.safetensors" if of_file else run
    target = tmp_path / "memory.png"
    assert main(["plot", str(shown), "--figure", "memory-images", "-o", str(target)]) == 0
    with Image.open(target) as image:
        assert min(image.size) > 100


def test_it_says_its_version(said: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert said.readouterr().out == f"condensation-harness {version('condensation-harness')}\n"


def test_data_list_and_check(said: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    found = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.readouterr().out.splitlines()}
    assert found["digits"] == "scikit-learn"
    assert found["cifar100"] == "a download"
    assert main(["data", "check", "digits", "--official"]) == 0
    assert said.readouterr().out.startswith("digits: official\n  1442 train and 355 test images, 10 classes, 1 x 8 x 8")


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    harness = Path(sys.executable).with_name("harness")
    listing = subprocess.Popen([harness, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    assert listing.wait() in (0, 141)
    assert listing.stderr.read() == b""
    listing.stderr.close()


def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text('dataset = "digits"\nsteps = 5\n', encoding="utf-8-sig")
    assert main(["run", "cl", "--config", str(file), "--preset", "smoke", "--dry-run"]) == 0
    assert "steps = 5\n" in capsys.readouterr().err


def test_streams_say_that_they_need_avalanche(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["run", "cl", "--dataset", "digits", "--preset", "smoke", "--dry-run"]) == 2
    assert "streams need Avalanche, which is not installed here: pip install avalanche-lib" in capsys.readouterr().err
