"""What `harness ls runs` and `harness show RUN` say of runs."""

import json
from pathlib import Path

import pytest

from harness import CondenseRun, Options
from harness.cli import main
from harness.commands import run as runs
from harness.commands import run_directories
from harness.commands.run_directories import Progress
from harness.config import RUNS, assemble
from harness.execution.units import Store

SMALL = {"dataset": "digits", "memory": "random", "model": "convnet-d1-w8", "nets": "2"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished smoke run: a memory and two networks."""
    options = Options(tmp_path_factory.mktemp("runs"), device="cpu", engine="serial")
    prepared = runs.prepare(CondenseRun.of("smoke", **SMALL), options)
    runs.carry_out(prepared, options)
    return prepared.directory


def test_a_run_has_a_state_a_result_and_an_age(run: Path) -> None:
    assert run_directories.find(run.parent) == [run]
    state, result, age = run_directories.summarise(run).split("; ")
    assert state == "complete, 3 units"
    assert result.startswith("test accuracy ")
    assert result.endswith(" %, 1 set x 2 nets")
    assert age.endswith(" s ago")


def test_units_that_are_left_or_failed_are_counted(run: Path, tmp_path: Path) -> None:
    directory, store = tmp_path / "run", Store(tmp_path / "units")
    directory.mkdir()
    assert run_directories.find_progress(directory) is None  # a run of an earlier version lists no units
    (directory / "units.json").write_text(json.dumps({"units": ["aa1", "aa2", "aa3"]}))
    store.save("aa1", {}, {})
    store.path("aa2", ".error.txt").write_text("out of memory")
    assert run_directories.find_progress(directory) == Progress(units=3, done=1, failed=1)
    assert str(Progress(3, 1, 1)) == "1 of 3 units, 1 failed"
    (directory / "config.json").write_text("{}")
    assert run_directories.summarise(directory).startswith("1 of 3 units, 1 failed; ")


def test_a_damaged_run_is_listed_with_its_damage(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    assert "config.json: damaged (" in run_directories.summarise(tmp_path / "run")


def test_ls_and_show_print_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "runs", "--out", str(run.parent)]) == 0
    printed = capsys.readouterr().out
    assert printed.split()[0] == run.name
    assert max(map(len, printed.splitlines())) <= 80
    assert main(["show", str(run)]) == 0
    page = capsys.readouterr().out
    for words in ("complete, 3 units", "  memory = random\n", "  torch: ", "1 set x 2 nets"):
        assert words in page
    assert main(["show", str(run / "memories" / "set-0.safetensors")]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["builder"], card["ipc"], card["dataset"]) == ("random", 2, "digits")


def test_a_long_path_of_data_gives_a_name_that_fits() -> None:
    run = assemble(RUNS["condense"], "smoke", {"dataset": f"folder:{'n' * 200}/{'m' * 200}", "memory": "random"})
    assert len(runs.make_name(run)) < 200
