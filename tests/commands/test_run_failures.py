"""Runs whose units fail, and directories that are damaged or of another run."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor

import harness
from harness import memory
from harness.cli import main
from harness.commands import run as runs
from harness.commands.run import Finished, Options
from harness.config import CLRun, assemble
from harness.core import atomic
from harness.core.memory import Budget, Memory
from harness.execution.engines import Event
from harness.memory import random_real
from harness.memory.method import from_function
from harness.results import rows as rowfiles

CPU = torch.device("cpu")
# Five memories of two classes each and five networks, of which the first and the last thing takes milliseconds.
SMALL = {"dataset": "digits", "memory": "random", "steps": "5", "model": "convnet-d1-w8", "classes_per_unit": "2"}
SECONDS = 60.0  # more than anything here takes on a busy machine


def run_of(**settings: Any) -> CLRun:
    return assemble(CLRun, "smoke", {**SMALL, **settings})


def carry_out(run: CLRun, out: Path, **options: Any) -> tuple[Finished, Counter[str]]:
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


def arguments(out: Path, *more: str) -> list[str]:
    """A command line for the run of `run_of`."""
    pairs = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return ["run", "cl", "--preset", "smoke", *pairs, "--out", str(out), *more]


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


def copy_of(units: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(units, to))


def test_a_damaged_unit_is_set_aside_and_done_again(
    oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path
) -> None:
    copy_of(oracle[0] / "units", tmp_path / "units")
    victim = unit_files(tmp_path)[3]
    victim.write_bytes(victim.read_bytes()[:-7])
    with pytest.warns(UserWarning, match=rf"set aside as {victim.name}\.damaged-0, to be done again"):
        finished, events = carry_out(run_of(), tmp_path)
    assert (events["done"], events["found"]) == (1, 9)
    assert victim.with_name(f"{victim.name}.damaged-0").is_file()
    assert without_cost(finished.directory) == without_cost(oracle[1].directory)


def test_a_memory_that_does_not_decode_is_made_again(
    oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path
) -> None:
    copy_of(oracle[0] / "units", tmp_path / "units")
    memories = [path for path in unit_files(tmp_path) if atomic.load(path)[1]["kind"] == "memory"]
    for path in unit_files(tmp_path):
        if path not in memories:
            path.unlink()
    tensors, card = atomic.load(memories[0])
    atomic.save(memories[0], {**tensors, "labels": tensors["labels"].int()}, card)
    with pytest.warns(UserWarning, match=rf"expected int64 labels.*; set aside as {memories[0].name}\.damaged-0"):
        finished, events = carry_out(run_of(), tmp_path)
    assert not finished.outcome.failed
    assert (events["done"], events["found"]) == (10 - len(memories) + 1, len(memories))
    assert without_cost(finished.directory) == without_cost(oracle[1].directory)


def test_a_damaged_configuration_is_written_anew(oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path) -> None:
    copy_of(oracle[0], tmp_path / "there")
    file = tmp_path / "there" / oracle[1].directory.name / "config.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:20])
    finished, events = carry_out(run_of(), tmp_path / "there")
    assert events["done"] == 0
    assert finished.directory == file.parent
    assert file.read_bytes() == whole


def test_rows_hold_what_others_finish_while_they_are_written(
    oracle: tuple[Path, Finished, Counter[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = runs.prepare(run_of(), Options(out=tmp_path, engine="serial"))
    made, to_csv = [], rowfiles.to_csv

    def write_as_others_finish(rows: list[Any]) -> bytes:
        made.append(len(rows))
        if len(made) == 1:
            copy_of(oracle[0] / "units", tmp_path / "units")
        return to_csv(rows)

    monkeypatch.setattr(runs, "to_csv", write_as_others_finish)
    runs.write_rows(prepared)
    assert made == [0, len(oracle[1].rows)]
    assert without_cost(prepared.directory) == without_cost(oracle[1].directory)


@dataclass(frozen=True)
class BrokenConfig:
    """Nothing to choose."""

    per_class: ClassVar[bool] = True


def broken(
    images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: BrokenConfig = BrokenConfig()
) -> Memory:
    """Random real images, but those of class 9 are not a number."""
    made = random_real.build(images, labels, budget, rng)
    where = (made.labels == 9).view(-1, 1, 1, 1)
    return Memory(made.images.masked_fill(where, float("nan")), made.labels)


def test_a_condensing_that_gives_nan_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(memory.BUILDERS, "broken", from_function(broken))
    finished, events = carry_out(run_of(memory="broken"), tmp_path)
    name = "broken memory, order 0, classes 4 .. 9"
    assert finished.outcome.failed == {name: "FloatingPointError: broken memory: an image is not finite"}
    assert (events["done"], events["failed"]) == (4 + 1, 1)  # the network of the first two classes
    assert all(label.endswith(f"(needs {name}, which failed)") for label in finished.outcome.left)
    assert Counter(finished.rows["metric"])["seen_accuracy"] == 1
    assert main(arguments(tmp_path, "--set", "memory=broken", "--engine", "serial", "--quiet")) == 3
    errors = capsys.readouterr().err
    assert f"harness: failed: {name}: FloatingPointError: broken memory: an image is not finite\n" in errors
    assert "harness: 1 unit failed, 4 units left; the same command tries them again\n" in errors
    assert "Traceback" not in errors


def test_a_builder_that_leaves_a_class_out_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Any = BrokenConfig()) -> Memory:
        made = random_real.build(images, labels, budget, rng)
        return Memory(made.images[1:], made.labels[1:])

    monkeypatch.setitem(memory.BUILDERS, "short", from_function(short))
    finished, _ = carry_out(run_of(memory="short"), tmp_path)
    assert len(finished.outcome.failed) == 5
    reason = "ValueError: short: the builder's memory does not have equally many images of each of its 2 classes"
    assert set(finished.outcome.failed.values()) == {reason}
    with pytest.raises(RuntimeError, match=r"the run is not complete; short memory, order 0, classes 2 \.\. 8"):
        harness.run(run_of(memory="short"), Options(out=tmp_path, engine="serial"))


def test_a_dm_that_diverges_fails_by_name(tmp_path: Path) -> None:
    settings = {"memory": "dm", "memory.lr": "1e38", "memory.iterations": "5", "classes_per_unit": "10", "steps": "1"}
    finished, _ = carry_out(run_of(**settings), tmp_path)
    ((label, reason),) = finished.outcome.failed.items()
    assert label == "dm memory, order 0, classes 2 .. 5"
    assert reason.startswith("FloatingPointError: ")


def test_a_training_that_diverges_leaves_the_memories(tmp_path: Path) -> None:
    finished, events = carry_out(run_of(**{"recipe.lr": "1e30"}), tmp_path)
    assert (events["done"], events["failed"]) == (5, 5)
    assert all("training: the loss is nan" in reason for reason in finished.outcome.failed.values())
    _, events = carry_out(run_of(), tmp_path)
    assert (events["done"], events["found"]) == (5, 5)  # another recipe takes the memories up


def test_a_directory_of_a_different_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], oracle: tuple[Path, Finished, Counter[str]]
) -> None:
    (tmp_path / "mine").mkdir()
    config = (oracle[1].directory / "config.json").read_bytes()
    (tmp_path / "mine" / "config.json").write_bytes(config)
    assert main(arguments(tmp_path, "--name", "mine", "--ipc", "3", "--set", "nets=2")) == 2
    assert capsys.readouterr().err == (
        f"harness: {tmp_path / 'mine'}: holds a different run (ipc, nets differ); use another --name\n"
    )
    assert (tmp_path / "mine" / "config.json").read_bytes() == config
    assert not (tmp_path / "units").exists()
