import hashlib
import importlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.execution import engines
from harness.execution.engines import ENGINES, Event, Outcome, run
from harness.execution.units import Store, Unit

HERE = Path(__file__).parent
if str(HERE / "work") not in sys.path:
    sys.path.insert(0, str(HERE / "work"))  # holds the toy work alone; worker processes inherit it, and so find it
toy = importlib.import_module("toy_work")
SECONDS = 30.0  # more than anything here takes on a busy machine

both_engines = pytest.mark.parametrize("engine", ["serial", "local"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def wait_until(there: Callable[[], bool], seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.01)
    return there()


def rounds(folder: Path) -> list[list[str]]:
    """The log of the walks: name, round, pid, torch threads, OMP_NUM_THREADS."""
    path = folder / "log.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def results(store: Store, units: list[Unit]) -> dict[str, str]:
    """The digest of each result's tensors and card (of both, not of the file: safetensors shuffles its metadata)."""
    digests = {}
    for unit in units:
        result = store.load(unit.key)
        assert result is not None
        content = result[0]["place"].numpy().tobytes() + json.dumps(result[1]).encode()
        digests[unit.label] = hashlib.sha256(content).hexdigest()
    return digests


def litter(store: Store) -> list[str]:
    """What lies in the store beside results."""
    return [path.name for path in store.root.rglob("*.*") if path.suffix != ".safetensors" or "checkpoint" in path.name]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The chain's results from the oracle, never stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    units, store = toy.chain(folder), Store(folder / "store")
    run(units, store, toy.walk, engine="serial")
    return results(store, units)


class Parents:
    """Processes that run the chain on one folder, each marked so that its descendants can be found."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, f"TOY_MARK={folder}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, engine: str, jobs: int, **context: Any) -> "subprocess.Popen[bytes]":
        """A new parent, once it is up; it works when `go`."""
        path = os.pathsep.join([str(HERE.parent), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "TOY_MARK": str(self.folder)}
        command = [
            sys.executable,
            str(HERE / "work" / "toy_work.py"),
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


@both_engines
def test_both_engines_give_the_bytes_of_the_oracle_on_one_thread(
    engine: str, tmp_path: Path, store: Store, undisturbed: dict[str, str]
) -> None:
    units = toy.chain(tmp_path)
    events: list[Event] = []
    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(2)
    try:
        outcome = run(units, store, toy.walk, engine=engine, jobs=2, report=events.append)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert outcome == Outcome(done=tuple(unit.label for unit in units), failed={}, left=(), stopped=None)
    assert results(store, units) == undisturbed
    assert litter(store) == []
    assert dict(os.environ) == environment
    log = rounds(tmp_path)
    assert Counter(line[0] for line in log) == {unit.label: toy.ROUNDS for unit in units}
    assert {line[3] for line in log} == {"1"}
    pids = {int(line[2]) for line in log}
    if engine == "serial":
        assert pids == {os.getpid()}
    else:
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert {line[4] for line in log} == {"1"}
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    for unit in units:
        mine = [event for event in events if event.key == unit.key]
        assert [event.kind for event in mine] == ["started", "progress", "done"]
        assert (mine[1].label, mine[1].done, mine[1].total) == (unit.label, 1, toy.ROUNDS)
        assert mine[2].seconds > 0


def test_needs_come_first_and_then_the_longest(tmp_path: Path, store: Store) -> None:
    short = toy.walk_unit("short", tmp_path, cost=1.0)
    long = toy.walk_unit("long", tmp_path, cost=9.0)
    needing = toy.walk_unit("needing", tmp_path, cost=99.0, needs=(short,))
    middle = toy.walk_unit("middle", tmp_path, cost=5.0)
    outcome = run([needing, short, middle, long], store, toy.walk, engine="serial")
    assert outcome.done == ("needing", "short", "middle", "long")  # in the order given
    order = list(dict.fromkeys(line[0] for line in rounds(tmp_path)))
    assert order == ["long", "middle", "short", "needing"]


def test_a_result_in_the_store_is_not_made_again_and_a_damaged_one_is(tmp_path: Path, store: Store) -> None:
    units = toy.chain(tmp_path)
    run(units, store, toy.walk, engine="serial")
    before = results(store, units)
    store.path(units[2].key).write_bytes(b"not a result")
    events: list[Event] = []
    with pytest.warns(UserWarning, match="set aside"):
        outcome = run([*units, units[0]], store, toy.walk, engine="serial", report=events.append)
    assert len(outcome.done) == len(units)
    assert results(store, units) == before
    assert Counter(line[0] for line in rounds(tmp_path)) == {
        unit.label: toy.ROUNDS * (2 if unit is units[2] else 1) for unit in units
    }
    assert [event.label for event in events if event.kind == "found"] == ["w0", "w1", "w3", "sum0", "sum1"]


@both_engines
def test_a_failure_is_named_and_only_its_dependents_are_left(engine: str, tmp_path: Path, store: Store) -> None:
    bad = toy.walk_unit("bad", tmp_path, fault="raise")
    second = toy.walk_unit("second", tmp_path, needs=(bad,))
    third = toy.walk_unit("third", tmp_path, needs=(second,))
    good = toy.walk_unit("good", tmp_path)
    lonely = Unit("walk", {}, "lonely", needs=("abc",))
    events: list[Event] = []
    outcome = run([third, second, bad, good, lonely], store, toy.walk, engine=engine, jobs=1, report=events.append)
    assert outcome.done == ("good",)
    assert outcome.failed == {"bad": "ArithmeticError: two lines"}
    assert outcome.left == (
        "third (needs bad, which failed)",
        "second (needs bad, which failed)",
        "lonely (needs unit abc, which is not in the store)",
    )
    assert outcome.stopped is None
    assert "commit_fault" in store.path(bad.key, ".error.txt").read_text()
    assert [event.reason for event in events if event.kind == "failed"] == ["ArithmeticError: two lines"]
    mended = toy.walk_unit("bad", tmp_path)
    assert run([mended, second, third], store, toy.walk, engine="serial").done == ("bad", "second", "third")
    assert not store.path(bad.key, ".error.txt").exists()


def test_work_that_saves_nothing_has_failed(tmp_path: Path, store: Store) -> None:
    outcome = run([toy.walk_unit("idle", tmp_path)], store, toy.idle, engine="serial")
    assert outcome.failed == {"idle": "RuntimeError: the work ended without saving a result"}


def test_what_cannot_be_run_is_refused(tmp_path: Path, store: Store) -> None:
    unit = toy.walk_unit("one", tmp_path)
    with pytest.raises(ValueError, match=r"engine: 'seral' is unknown \(did you mean 'serial'\?\); choose from "):
        run([unit], store, toy.walk, engine="seral")
    with pytest.raises(ValueError, match="jobs: at least 1, got 0"):
        run([unit], store, toy.walk, jobs=0)
    circle = [Unit("walk", {"n": n}, f"c{n}", needs=(Unit("walk", {"n": 1 - n}, "").key,)) for n in (0, 1)]
    with pytest.raises(ValueError, match="cycle"):
        run(circle, store, toy.walk)
    assert sorted(ENGINES) == ["local", "serial"]


def test_a_worker_that_dies_is_replaced_and_its_unit_tried_once_more(tmp_path: Path, store: Store) -> None:
    once = toy.walk_unit("once", tmp_path, fault="die once", cost=2.0)
    always = toy.walk_unit("always", tmp_path, fault="die", cost=1.0)
    units = [once, always, toy.walk_unit("fine", tmp_path)]
    events: list[Event] = []
    outcome = run(units, store, toy.walk, jobs=1, report=events.append)
    assert outcome == Outcome(("once", "fine"), {"always": "worker died (exit code -9)"}, (), None)
    assert [event.label for event in events if event.kind == "started"] == ["once", "once", "always", "always", "fine"]
    assert [event.label for event in events if event.kind == "failed"] == ["always"]


@pytest.mark.parametrize(("fault", "processes"), [("raise", 1), ("raise on a GPU", 3)])
def test_a_worker_that_failed_on_a_gpu_is_replaced(fault: str, processes: int, tmp_path: Path, store: Store) -> None:
    units = [toy.walk_unit("first", tmp_path, cost=9)]
    units += [toy.walk_unit(f"bad {n}", tmp_path, fault=fault, cost=n) for n in (8, 7)]
    units += [toy.walk_unit("middle", tmp_path, cost=7.5), toy.walk_unit("last", tmp_path)]
    outcome = run(units, store, toy.walk, jobs=1)
    assert outcome.done == ("first", "middle", "last")
    assert set(outcome.failed) == {"bad 8", "bad 7"}
    assert (outcome.left, outcome.stopped) == ((), None)
    assert len({line[2] for line in rounds(tmp_path)}) == processes


@pytest.mark.parametrize("is_lost", [False, True])
def test_without_workers_a_lost_gpu_ends_the_run(
    is_lost: bool, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def synchronize(device: str | None) -> None:
        assert device == "cuda:1"
        if is_lost:
            raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    bad = toy.walk_unit("bad", tmp_path, fault="raise", device="cuda:1", cost=2)
    units = [bad, toy.walk_unit("good", tmp_path)]
    outcome = run(units, store, toy.walk, engine="serial")
    left, stopped = (("good",), "the GPU is lost to this process") if is_lost else ((), None)
    assert (set(outcome.failed), outcome.left, outcome.stopped) == ({"bad"}, left, stopped)


def test_workers_that_cannot_start_end_the_run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.walk, "__module__", "nowhere_to_be_found")  # found here, not by those who unpickle it
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", toy)
    monkeypatch.setattr(engines, "FALSE_STARTS", 1)
    with pytest.raises(RuntimeError, match="worker processes do not start: exit code 1"):
        run([toy.walk_unit("one", tmp_path)], store, toy.walk)


def test_a_unit_that_another_has_in_hand_is_waited_for(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(engines, "TURN_SECONDS", 0.01)
    finished, lost, mine = (toy.walk_unit(name, tmp_path, cost=cost) for name, cost in (("f", 9), ("l", 8), ("m", 0)))
    for unit in (finished, lost):  # two claims of another host, the heart of one still
        store.path(unit.key).parent.mkdir(parents=True, exist_ok=True)
        store.path(unit.key, ".claim").write_text('{"host": "another", "pid": 1, "start": "1"}')

    def others(event: Event) -> None:
        if (event.kind, event.label) == ("done", "m"):
            os.utime(store.path(lost.key, ".claim"), (0, 0))
        if (event.kind, event.label) == ("done", "l"):
            store.save(finished.key, {"place": torch.zeros(1)}, {})
            store.path(finished.key, ".claim").unlink()
        events.append((event.kind, event.label))

    events: list[tuple[str, str]] = []
    outcome = run([finished, lost, mine], store, toy.walk, engine="serial", report=others)
    assert outcome.done == ("f", "l", "m")
    assert [event for event in events if event[0] in ("done", "found")] == [
        ("done", "m"),
        ("done", "l"),
        ("found", "f"),
    ]
    assert "f" not in {line[0] for line in rounds(tmp_path)}


@both_engines
def test_a_time_limit_leaves_work_that_the_next_run_resumes(
    engine: str, tmp_path: Path, store: Store, undisturbed: dict[str, str]
) -> None:
    events: list[Event] = []
    seconds = 1.0
    while not rounds(tmp_path):  # on a busy machine, workers may take longer than that to start
        seconds *= 2
        limit = time.monotonic() + seconds
        units = toy.chain(tmp_path, pause=seconds / 20)  # one unit takes 1.5 times the limit
        outcome = run(units, store, toy.walk, engine=engine, jobs=1, deadline=limit, report=events.append)
        assert outcome.stopped == "time limit"
        assert time.monotonic() < limit + 5
    assert set(outcome.done) | set(outcome.left) == set(undisturbed)
    assert [event.reason for event in events if event.kind == "stopped"] == ["time limit"]
    assert len(rounds(tmp_path)) < 180
    units = toy.chain(tmp_path)
    assert run(units, store, toy.walk, engine="serial").left == ()
    assert Counter(line[0] for line in rounds(tmp_path)) == dict.fromkeys(undisturbed, toy.ROUNDS)  # none done twice
    assert results(store, units) == undisturbed
    assert litter(store) == []


def test_nothing_starts_past_the_deadline(tmp_path: Path, store: Store) -> None:
    units = toy.chain(tmp_path)
    outcome = run(units, store, toy.walk, engine="serial", deadline=time.monotonic())
    assert outcome == Outcome((), {}, ("w0", "w1", "w2", "w3", "sum0", "sum1"), "time limit")
    run(units, store, toy.walk, engine="serial")
    assert run(units, store, toy.walk, deadline=time.monotonic()).stopped is None  # all is there


@pytest.mark.parametrize(("presses", "grace"), [(1, 0.2), (2, 60.0)])
def test_a_worker_that_does_not_heed_is_killed_after_a_while_or_at_the_second_ctrl_c(
    presses: int, grace: float, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "GRACE_SECONDS", grace)

    def press(event: Event) -> None:
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        begun = time.monotonic()
        outcome = run([toy.walk_unit("hanging", tmp_path, fault="hang")], store, toy.walk, report=press)
        assert time.monotonic() - begun < 30  # it hangs for 60 s
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome == Outcome((), {}, ("hanging",), "interrupted")
    assert multiprocessing.active_children() == []


def test_workers_are_spread_evenly_over_places(store: Store, tmp_path: Path) -> None:
    units = [toy.walk_unit(f"walk {number}", tmp_path, seed=number, companions=4) for number in range(4)]
    places = [{"TOY_PLACE": "first"}, {"TOY_PLACE": "second"}]
    outcome = run(units, store, toy.meet, jobs=4, places=places)
    assert len(outcome.done) == 4
    cards = [result[1] for unit in units if (result := store.load(unit.key)) is not None]
    assert Counter(card["place"] for card in cards) == {"first": 2, "second": 2}
    assert "TOY_PLACE" not in os.environ


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for orphans in /proc")


@needs_proc
@pytest.mark.parametrize(("engine", "number"), [("serial", signal.SIGTERM), ("local", signal.SIGINT)])
def test_a_signal_to_the_whole_group_stops_the_run_and_loses_no_round(
    engine: str, number: signal.Signals, tmp_path: Path, store: Store, parents: Parents, undisturbed: dict[str, str]
) -> None:
    parents.go()
    parent = parents.start(engine, 1, pause=0.1)
    assert wait_until(lambda: len(rounds(tmp_path)) >= 4)
    begun = time.monotonic()
    os.killpg(parent.pid, number)
    outcome = parents.outcome(parent)
    assert time.monotonic() - begun < engines.GRACE_SECONDS  # not killed at its end
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
    both = [parents.start("serial", 1, pause=0.01) for _ in range(2)]
    parents.go()
    for parent in both:
        assert parents.outcome(parent) == Outcome(tuple(undisturbed), {}, (), None)
    log = rounds(tmp_path)
    assert Counter(line[0] for line in log) == dict.fromkeys(undisturbed, toy.ROUNDS)  # each exactly once
    assert {int(line[2]) for line in log} == {parent.pid for parent in both}
    assert results(store, toy.chain(tmp_path)) == undisturbed
    assert litter(store) == []


@needs_proc
def test_parents_killed_again_and_again_leave_no_orphans_and_the_same_bytes(
    tmp_path: Path, store: Store, parents: Parents, undisturbed: dict[str, str]
) -> None:
    moments = random.Random(0)
    parents.go()
    for jobs in (2, 1, 1):
        before = len(rounds(tmp_path))
        parent = parents.start("local", jobs, pause=0.03, checkpoint_seconds=0.0)
        assert wait_until(lambda: len(rounds(tmp_path)) > before)  # noqa: B023
        time.sleep(moments.uniform(0.0, 0.6))
        assert parent.poll() is None
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not parents.alive(), 3)
    units = toy.chain(tmp_path)
    assert run(units, store, toy.walk, engine="serial").done == tuple(undisturbed)
    assert results(store, units) == undisturbed
    assert len(rounds(tmp_path)) <= toy.ROUNDS * len(undisturbed) + 4  # each killed worker lost the round in hand
    assert [name for name in litter(store) if name.startswith(".") or "damaged" in name] == []
