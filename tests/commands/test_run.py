import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import harness
from harness.cli import main
from harness.commands import run as runs
from harness.commands.run import Finished, Options
from harness.config import CLRun, CondenseRun, Run, assemble, configure, resolve_form
from harness.core import data, memory_file
from harness.execution.engines import Event
from harness.results import rows as rowfiles

CPU = torch.device("cpu")
# Five memories of two classes each and five networks, of which the first and the last thing takes milliseconds.
SMALL = {"dataset": "digits", "memory": "random", "steps": "5", "model": "convnet-d1-w8", "classes_per_unit": "2"}
# Three sets and three networks on each. It imports no Avalanche, of which a process of its own takes 5 s.
STATIC = {"dataset": "digits", "memory": "random", "model": "convnet-d1-w8", "sets": "3", "nets": "3"}
SECONDS = 180.0  # more than anything here takes on a busy machine


def run_of(**settings: Any) -> CLRun:
    return assemble(CLRun, "smoke", {**SMALL, **settings})


def carry_out(run: Run, out: Path, **options: Any) -> tuple[Finished, Counter[str]]:
    """The finished run, and how often each kind of event was told."""
    chosen = Options(**{"out": out, "engine": "serial", **options})
    events: list[Event] = []
    finished = runs.carry_out(runs.prepare(run, chosen), chosen, events.append)
    return finished, Counter(event.kind for event in events)


def without_cost(directory: Path) -> str:
    """The rows of a run as text, but for the time and the memory that the work took."""
    table = list(csv.reader(io.StringIO((directory / "rows.csv").read_text())))
    costs = {table[0].index(name) for name in ("wall_seconds", "peak_bytes")}
    return "\n".join(",".join(cell for number, cell in enumerate(line) if number not in costs) for line in table)


def unit_files(out: Path) -> list[Path]:
    return sorted(path for path in (out / "units").rglob("*.safetensors") if "checkpoint" not in path.name)


def arguments(track: str, settings: dict[str, str], out: Path, *more: str) -> list[str]:
    """A command line for a run with these settings."""
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return ["run", track, "--preset", "smoke", *pairs, "--out", str(out), *more]


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` shows warnings its own way, for good."""
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished, Counter[str]]:
    """The small run, undisturbed, by the serial engine: where its units are, and what came of it."""
    out = tmp_path_factory.mktemp("oracle")
    return out, *carry_out(run_of(), out)


@pytest.fixture(scope="module")
def static_oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the run of `STATIC`, undisturbed, by the serial engine."""
    finished, events = carry_out(assemble(CondenseRun, "smoke", STATIC), tmp_path_factory.mktemp("static"))
    assert events["done"] == 12
    return finished.directory


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_tensorboard_shows_a_stream_as_one_curve(tmp_path: Path) -> None:
    finished, _ = carry_out(run_of(steps="2"), tmp_path, logger="tensorboard")
    (directory,) = {path.parent for path in finished.directory.rglob("events.out.tfevents.*")}
    assert directory.relative_to(finished.directory) == Path("tensorboard/order-0/network-0")
    logged = EventAccumulator(str(directory)).Reload().Scalars("Top1_Acc_Stream/eval_phase/test_stream/Task000")
    # Two images of each of 5 and then of 10 classes are one batch, seen in three epochs and the last one, number 3.
    assert [event.step for event in logged] == [4, 8]


def test_a_run_leaves_rows_for_every_measurement(oracle: tuple[Path, Finished, Counter[str]]) -> None:
    _, finished, events = oracle
    rows = finished.rows
    assert list(rows.columns) == list(rowfiles.COLUMNS)
    assert Counter(rows["metric"]) == {
        "memory_images": 5,
        "seen_accuracy": 5,
        "experience_accuracy": 15,  # 1 + 2 + 3 + 4 + 5
        "last_accuracy": 1,
        "average_incremental_accuracy": 1,
        "forgetting": 1,
    }
    assert events["done"] == 10
    assert (set(rows["preset"]), set(rows["track"]), set(rows["exactness"])) == ({"smoke"}, {"cl"}, {"official"})
    assert set(rows["split"]) == {"test"}
    networks = rows[rows["metric"] != "memory_images"]
    assert (set(networks["steps"]), set(networks["order"]), set(networks["repeat"])) == ({5}, {"0"}, {0})
    assert set(networks["compute"]) == {"eager, float32"}
    assert networks["value"].between(-100, 100).all()
    assert (rows["wall_seconds"] > 0).all()
    assert (rows["peak_bytes"] > 50 * 2**20).all()  # with torch loaded, whatever is done


def test_the_matrix_and_the_sums_agree(oracle: tuple[Path, Finished, Counter[str]]) -> None:
    rows, digits = oracle[1].rows, data.load("digits")
    order = [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]  # numpy.random.RandomState(0).permutation(10)
    images = [int(torch.isin(digits.test_labels, torch.tensor(order[s : s + 2])).sum()) for s in range(0, 10, 2)]
    seen = rows[rows["metric"] == "seen_accuracy"].set_index("experience")
    single = rows[rows["metric"] == "experience_accuracy"].set_index(["experience", "tested_experience"])["value"]
    for t in range(5):
        expected = sum(single[t, s] * images[s] for s in range(t + 1)) / sum(images[: t + 1])
        assert seen["value"][t] == pytest.approx(expected)
        assert seen["classes_seen"][t] == 2 * t + 2
        assert seen["stored_bytes"][t] == (2 * t + 2) * 2 * 64  # classes x ipc x pixels

    def sum_of(metric: str) -> float:
        return float(rows[rows["metric"] == metric]["value"].iloc[0])

    assert sum_of("last_accuracy") == pytest.approx(seen["value"][4])
    assert sum_of("average_incremental_accuracy") == pytest.approx(seen["value"].mean())
    drops = [max(single[t, s] for t in range(s, 4)) - single[4, s] for s in range(4)]
    assert sum_of("forgetting") == pytest.approx(sum(drops) / 4)


def test_a_run_directory_holds_what_it_made(oracle: tuple[Path, Finished, Counter[str]]) -> None:
    directory = oracle[1].directory
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert found == {"config.json", "environment.json", "rows.csv", "units.json", "memories/order-0.safetensors"}
    memory_of_all, card = memory_file.load(directory / "memories" / "order-0.safetensors", data.load("digits"))
    assert Counter(memory_of_all.labels.tolist()) == dict.fromkeys(range(10), 2)
    assert (card["builder"], card["ipc"]) == ("random", 2)
    assert rowfiles.read(directory).equals(oracle[1].rows)


def test_a_rerun_does_nothing_and_gives_the_same_bytes(oracle: tuple[Path, Finished, Counter[str]]) -> None:
    out, finished, _ = oracle
    before = (finished.directory / "rows.csv").read_bytes()
    _, events = carry_out(run_of(), out)
    assert events == {"found": 10}
    assert (finished.directory / "rows.csv").read_bytes() == before


def test_the_python_form_gives_the_same_rows(oracle: tuple[Path, Finished, Counter[str]]) -> None:
    rows = harness.run(run_of(), harness.Options(out=oracle[0], engine="serial"))
    assert rows.equals(oracle[1].rows)


@pytest.mark.parametrize(
    ("more", "new"),
    [
        ({"steps": "2"}, 1),  # 5 classes; the memories and the network of all 10 are there
        ({"steps": "10"}, 5),  # 1, 3, 5, 7 and 9 classes
        ({"nets": "2"}, 5),
        ({"memory": "full"}, 5),
    ],
)
def test_a_related_run_reuses_what_is_there(
    more: dict[str, str], new: int, oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path
) -> None:
    (tmp_path / "units").symlink_to(copy_of(oracle[0] / "units", tmp_path / "copy"))
    _, events = carry_out(run_of(**more), tmp_path)
    assert events["done"] == new


def copy_of(units: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(units, to))


def test_more_orders_reuse_the_first(oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path) -> None:
    (tmp_path / "units").symlink_to(copy_of(oracle[0] / "units", tmp_path / "copy"))
    finished, events = carry_out(run_of(orders="0-1"), tmp_path)
    assert events["found"] == events["done"] == 10
    assert set(finished.rows["order"]) == {"0", "1"}


def test_equal_units_give_equal_numbers_in_5_and_2_steps(
    oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path
) -> None:
    two, _ = carry_out(run_of(steps="2"), tmp_path)  # nothing reused

    def last(finished: Finished) -> float:
        return float(finished.rows.query("metric == 'last_accuracy'")["value"].iloc[0])

    assert last(two) == last(oracle[1])


# --- engines, shards, kills -----------------------------------------------------------------------------------------


def test_the_local_engine_gives_the_serial_ones_rows(static_oracle: Path, tmp_path: Path) -> None:
    finished, events = carry_out(assemble(CondenseRun, "smoke", STATIC), tmp_path, engine="local", jobs=1)
    assert events["done"] == 12
    assert without_cost(finished.directory) == without_cost(static_oracle)


def test_two_shards_make_the_whole(oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path) -> None:
    first, events = carry_out(run_of(), tmp_path, shard=(1, 2))
    assert events["done"] == 5 + 3  # the last network of this part needs every memory
    assert "last_accuracy" not in set(first.rows["metric"])
    second, events = carry_out(run_of(), tmp_path, shard=(2, 2))
    assert (events["done"], events["found"]) == (2, 4)
    assert without_cost(second.directory) == without_cost(oracle[1].directory)


def test_a_time_limit_stops_and_the_same_command_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = {**SMALL, "recipe.epochs": "60"}
    quiet = ("--engine", "serial", "--quiet", "--time-limit")
    assert main(arguments("cl", longer, tmp_path / "cut", *quiet, "0.3s")) == 3
    assert capsys.readouterr().err.rstrip().endswith("units left (time limit); the same command continues")
    for name in ("cut", "whole"):
        assert main(arguments("cl", longer, tmp_path / name, *quiet, "1h")) == 0
    (cut,), (whole,) = (list((tmp_path / name).glob("cl-*")) for name in ("cut", "whole"))
    assert without_cost(cut) == without_cost(whole)


def wait_until(there: Callable[[], bool]) -> bool:
    end = time.monotonic() + SECONDS
    while not there() and time.monotonic() < end:
        time.sleep(0.05)
    return there()


def test_a_kill_at_a_random_moment_changes_nothing(static_oracle: Path, tmp_path: Path) -> None:
    command = arguments("condense", STATIC, tmp_path, "--engine", "serial")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *command], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        # The memories, and the first network.
        assert wait_until(lambda: len(unit_files(tmp_path)) >= 4 or process.poll() is not None)
        time.sleep(random.uniform(0.0, 0.3))
        process.kill()
    finished = unit_files(tmp_path)
    _, events = carry_out(assemble(CondenseRun, "smoke", STATIC), tmp_path)
    assert events["found"] == len(finished)  # nothing finished is lost
    (directory,) = tmp_path.glob("condense-*")
    assert without_cost(directory) == without_cost(static_oracle)
    # A kill between a result and the end of its claim leaves the claim, which nobody waits for.
    litter = [*(tmp_path / "units").rglob("*.claim*"), *(tmp_path / "units").rglob("*checkpoint*")]
    assert len(litter) <= 1
    assert {path.with_suffix(".safetensors") for path in litter} <= set(finished)


def test_ctrl_c_stops_within_seconds_and_keeps_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[float] = []
    undisturbed = runs.carry_out

    def disturbed(prepared: runs.Prepared, options: Options, told: Callable[[Event], None]) -> Finished:
        def press(event: Event) -> None:
            told(event)
            if event.kind == "progress" and not pressed:  # the network is in training
                pressed.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

        return undisturbed(prepared, options, press)

    monkeypatch.setattr(runs, "carry_out", disturbed)
    settings = {**STATIC, "memory": "full", "sets": "1", "nets": "1", "recipe.epochs": "1000000"}  # one unit
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert main(arguments("condense", settings, tmp_path, "--jobs", "1")) == 3
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - pressed[0] < 15
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "harness: 1 unit left (interrupted); the same command continues"
    assert len(list((tmp_path / "units").rglob("*.checkpoint.safetensors"))) == 1
    assert "Traceback" not in "\n".join(lines)


def test_changes_name_what_sets_a_run_off_its_preset() -> None:
    assert runs.find_changes(resolve_form(assemble(CLRun, "smoke", {"dataset": "digits"}), CPU)[0], CPU) == ""
    run = assemble(CLRun, "smoke", {"dataset": "digits", "memory.iterations": "7", "recipe.epochs": "9"})
    assert set(runs.find_changes(resolve_form(run, CPU)[0], CPU).split(", ")) == {
        "memory.iterations=7",
        "recipe.epochs=9",
    }


def test_what_has_a_column_of_its_own_is_no_change() -> None:
    run = assemble(CLRun, "smoke", {"dataset": "digits", "ipc": "9", "model": "convnet-d1-w4", "steps": "2"})
    assert runs.find_changes(resolve_form(run, CPU)[0], CPU) == ""


def test_different_runs_have_different_names() -> None:
    usual = configure(run_of())
    others = [replace(usual, ipc=3), configure(run_of(memory="dm")), configure(run_of(**{"recipe.epochs": "4"}))]
    names = [runs.make_name(run) for run in (usual, *others)]
    assert len(set(names)) == 4
    assert names[0].startswith("cl-digits-random-5steps-smoke-")
    assert "/" not in runs.make_name(replace(usual, dataset="folder:/a/b"))


def test_places_may_be_given_as_text() -> None:
    assert Options(out="there", data="here") == Options(out=Path("there"), data=Path("here"))  # type: ignore[arg-type]
