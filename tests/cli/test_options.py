"""Options as dataclasses, and the readers of options written as text."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.cli.options import ExecutionOptions, PlaceOptions, parse_seconds, parse_shard, run_options
from harness.cli.reproducing import TableOptions


@pytest.mark.parametrize("module", ["harness", "harness.cli"])
def test_the_package_runs_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: harness [OPTIONS] COMMAND" in done.stdout


def test_help_names_the_types_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "cl", "--help"]) == 0
    types = {line.split()[1]: line.split()[2] for line in capsys.readouterr().out.splitlines() if " --" in line}
    assert (types["--ipc"], types["--orders"], types["--dataset"], types["--jobs"]) == (
        "<int>", "<int,...>", "<str>", "<int>",
    )  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("90", 90.0), ("1.5 m", 90.0), ("2h", 7200.0)])
def test_times_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


def test_options_of_a_command_become_those_of_a_run() -> None:
    place = PlaceOptions(out=Path("there"), device="cpu", jobs=3)
    options = run_options(place, ExecutionOptions(shard="2/3", time_limit="2m"), name="mine")
    assert (options.out, options.device, options.jobs, options.name) == (Path("there"), "cpu", 3, "mine")
    assert (options.shard, options.time_limit, options.engine) == (parse_shard("2/3"), 120.0, "local")


def test_several_runs_follow_the_option_rows() -> None:
    a, b = Path("a"), Path("b")
    assert TableOptions(table="table1", rows=[a], more_rows=[b]).row_files == [a, b]
    assert TableOptions(table="table1").row_files == []
