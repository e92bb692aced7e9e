"""Runs that are killed or interrupted lose next to nothing, and leave nothing behind."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.execution.engines import Outcome, local, run
from harness.execution.engines.attempt import Limits
from harness.execution.units import Store
from tests.execution.engines.walks import SECONDS, WORK, litter, results, rounds, toy, undisturbed_results, wait_until

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for orphans in /proc")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return undisturbed_results(tmp_path_factory.mktemp("undisturbed"))


class Parents:
    """Processes that run the chain on one folder, each marked so that its descendants can be found."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, f"TOY_MARK={folder}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, engine: str, jobs: int, **context: Any) -> "subprocess.Popen[bytes]":
        """A new parent, once it is up; it works when `go`."""
        path = os.pathsep.join([str(WORK.parents[1]), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "TOY_MARK": str(self.folder)}
        command = [
            sys.executable,
            str(WORK / "toy_work.py"),
            str(self.folder),
            engine,
            str(jobs),
            json.dumps(context),
        ]
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        self.processes.append(process)
        assert wait_until(self.folder.joinpath(f"up-{process.pid}").exists)
        return process

    def go(self) -> None:
        self.folder.joinpath("go").touch()

    def outcome(self, process: "subprocess.Popen[bytes]") -> Outcome:
        assert process.wait(SECONDS) == 0
        fields = json.loads(self.folder.joinpath(f"outcome-{process.pid}.json").read_text())
        return Outcome(tuple(fields["done"]), fields["failed"], tuple(fields["left"]), fields["stopped"])

    def alive(self) -> list[int]:
        """Every living process that descends from these parents, and the parents."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:  # ended meanwhile, or not ours
                continue
        return found


@pytest.fixture
def parents(tmp_path: Path) -> Iterator[Parents]:
    parents = Parents(tmp_path)
    yield parents
    for process in parents.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_of_the_end_are_reasons_to_stop(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with Limits(math.inf) as limits:
            assert limits.reason_to_stop() is None
            os.kill(os.getpid(), number)
            assert limits.reason_to_stop() == "interrupted"
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


@needs_proc
@pytest.mark.parametrize(("engine", "number"), [("serial", signal.SIGTERM), ("local", signal.SIGUSR1)])
def test_a_signal_to_the_group_loses_no_round(
    engine: str, number: signal.Signals, tmp_path: Path, store: Store, parents: Parents, undisturbed: dict[str, str]
) -> None:
    parents.go()
    parent = parents.start(engine, 1, pause=0.1)
    assert wait_until(lambda: len(rounds(tmp_path)) >= 4)
    begun = time.monotonic()
    os.killpg(parent.pid, number)
    outcome = parents.outcome(parent)
    assert time.monotonic() - begun < local.GRACE_SECONDS  # not killed at its end
    assert outcome.stopped == "interrupted"
    assert outcome.left
    assert wait_until(lambda: not parents.alive(), 2)
    units = toy.chain(tmp_path)
    assert run(units, store, toy.walk, engine="serial").left == ()
    assert Counter(line[0] for line in rounds(tmp_path)) == dict.fromkeys(undisturbed, toy.ROUNDS)
    assert results(store, units) == undisturbed
    assert litter(store) == []


@needs_proc
def test_two_parents_on_one_store_divide_the_work(
    tmp_path: Path, store: Store, parents: Parents, undisturbed: dict[str, str]
) -> None:
    other = parents.start("serial", 1, pause=0.01)
    parents.go()
    whole = Outcome(tuple(undisturbed), {}, (), None)
    assert run(toy.chain(tmp_path, pause=0.01), store, toy.walk, engine="serial") == whole
    assert parents.outcome(other) == whole
    log = rounds(tmp_path)
    assert Counter(line[0] for line in log) == dict.fromkeys(undisturbed, toy.ROUNDS)  # each exactly once
    assert {int(line[2]) for line in log} == {other.pid, os.getpid()}
    assert results(store, toy.chain(tmp_path)) == undisturbed
    assert litter(store) == []


@needs_proc
def test_killed_parents_leave_no_orphans(
    tmp_path: Path, store: Store, parents: Parents, undisturbed: dict[str, str]
) -> None:
    parents.go()
    parent = parents.start("local", 2, pause=0.03, checkpoint_seconds=0.0)
    assert wait_until(lambda: len(rounds(tmp_path)) > 0)
    time.sleep(random.uniform(0.0, 0.6))
    assert parent.poll() is None
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not parents.alive(), 3)
    units = toy.chain(tmp_path)
    assert run(units, store, toy.walk, engine="serial").done == tuple(undisturbed)
    assert results(store, units) == undisturbed
    assert len(rounds(tmp_path)) <= toy.ROUNDS * len(undisturbed) + 2  # each killed worker lost the round in hand
    assert [name for name in litter(store) if name.startswith(".") or "damaged" in name] == []
