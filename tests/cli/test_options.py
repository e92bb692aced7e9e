"""Options as dataclasses, and the readers of options written as text."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.cli.options import (
    CondenseOptions,
    ExecutionOptions,
    PlaceOptions,
    SettingOptions,
    StreamOptions,
    parse_seconds,
    parse_shard,
    run_options,
)
from harness.cli.reproducing import TableOptions
from harness.cli.running import read_configuration
from harness.config import to_dotted


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5 m", 90),
        ("30min", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d 2h", 93600),
        ("30:00", 1800),
        ("01:30:00", 5400),
        ("1-12:00:00", 129600),
    ],
)
def test_times_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "9x", "-5", "1h 30", "1:2:3:4", "1-30", "5 minutes"])
def test_a_time_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--time-limit: expected a time such as 90s"):
        parse_seconds(text)


def test_options_of_a_command_become_those_of_a_run() -> None:
    place = PlaceOptions(out=Path("there"), device="cpu", jobs=3)
    options = run_options(place, ExecutionOptions(shard="2/3", time_limit="2m"), name="mine")
    assert (options.out, options.device, options.jobs, options.name) == (Path("there"), "cpu", 3, "mine")
    assert (options.shard, options.time_limit, options.engine) == (parse_shard("2/3"), 120.0, "local")


def test_several_runs_follow_the_option_rows() -> None:
    a, b = Path("a"), Path("b")
    assert TableOptions(table="table1", rows=[a], more_rows=[b]).row_files == [a, b]
    assert TableOptions(table="table1").row_files == []


FILE = """
preset = "smoke"
dataset = "digits"
ipc = 4
[memory]
name = "dm"
iterations = 7
[recipe]
epochs = 8
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A TOML file of settings."""
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    return path


def test_a_file_gives_settings(file: Path) -> None:
    file.write_text("steps = 5\norders = [0, 2]\n" + FILE)
    run = to_dotted(read_configuration("cl", StreamOptions(), SettingOptions(config=file)))
    assert (run["preset"], run["dataset"], run["steps"], run["ipc"], run["orders"]) == ("smoke", "digits", 5, 4, (0, 2))
    assert (run["nets"], run["memory"], run["memory.iterations"], run["memory.real_batch"]) == (1, "dm", 7, 16)
    assert run["recipe.epochs"] == 8


def test_options_beat_the_file_and_set_beats_both(file: Path) -> None:
    own = StreamOptions(ipc="5", steps="2", model="convnet-d1-w8")
    others = SettingOptions(config=file, preset="quick", pairs=["steps=10"])
    run = to_dotted(read_configuration("cl", own, others))
    assert (run["preset"], run["steps"], run["ipc"], run["memory.iterations"]) == ("quick", 10, 5, 7)


def test_a_file_gives_settings_of_sets(file: Path) -> None:
    file.write_text('sets = 3\neval_models = ["mlp"]\nat = [1]\nnetworks = "trained:20-40"\n' + FILE)
    run = to_dotted(read_configuration("condense", CondenseOptions(), SettingOptions(config=file)))
    assert (run["sets"], run["eval_models"], run["at"]) == (3, ("mlp",), (1,))
    assert run["memory.networks"] == "trained:20-40"
    own = CondenseOptions(networks="random", at="2", sets="1")
    run = to_dotted(read_configuration("condense", own, SettingOptions(config=file)))
    assert (run["sets"], run["at"], run["memory.networks"]) == (1, (2,), "random")


def test_a_preset_may_be_set_like_any_field() -> None:
    run = read_configuration("cl", StreamOptions(dataset="digits"), SettingOptions(pairs=["preset=smoke"]))
    assert (run.preset, run.model) == ("smoke", "convnet-d2-w8")
