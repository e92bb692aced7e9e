"""Both engines do every unit once, in order, and stop and resume."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from harness.execution import schedule
from harness.execution.engines import ENGINES, Event, Outcome, run
from harness.execution.units import Store, Unit
from tests.execution.engines.walks import litter, results, rounds, toy, undisturbed_results

both_engines = pytest.mark.parametrize("engine", ["serial", "local"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return undisturbed_results(tmp_path_factory.mktemp("undisturbed"))


@both_engines
def test_engines_give_the_same_bytes_on_one_thread(
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


def test_only_missing_and_damaged_results_are_made(tmp_path: Path, store: Store) -> None:
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


def test_a_failure_leaves_only_its_dependents(tmp_path: Path, store: Store) -> None:
    bad = toy.walk_unit("bad", tmp_path, fault="raise")
    second = toy.walk_unit("second", tmp_path, needs=(bad,))
    third = toy.walk_unit("third", tmp_path, needs=(second,))
    good = toy.walk_unit("good", tmp_path)
    lonely = Unit("walk", {}, "lonely", needs=("abc",))
    events: list[Event] = []
    outcome = run([third, second, bad, good, lonely], store, toy.walk, engine="serial", report=events.append)
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


def test_wrong_engines_jobs_and_cycles_are_refused(tmp_path: Path, store: Store) -> None:
    unit = toy.walk_unit("one", tmp_path)
    with pytest.raises(ValueError, match=r"engine: 'seral' is unknown \(did you mean 'serial'\?\); choose from "):
        run([unit], store, toy.walk, engine="seral")
    with pytest.raises(ValueError, match="jobs: at least 1 is needed, got 0"):
        run([unit], store, toy.walk, jobs=0)
    circle = [Unit("walk", {"n": n}, f"c{n}", needs=(Unit("walk", {"n": 1 - n}, "").key,)) for n in (0, 1)]
    with pytest.raises(ValueError, match="cycle"):
        run(circle, store, toy.walk)
    assert sorted(ENGINES) == ["local", "serial"]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_lost_gpu_ends_a_serial_run(
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


def test_a_unit_that_another_host_claimed_is_waited_for(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "POLL_SECONDS", 0.02)
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
def test_the_next_run_resumes_after_a_time_limit(
    engine: str, tmp_path: Path, store: Store, undisturbed: dict[str, str]
) -> None:
    events: list[Event] = []
    seconds = {"serial": 0.3, "local": 3.0}[engine]
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
