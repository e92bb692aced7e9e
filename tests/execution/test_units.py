import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from harness.core import atomic as files
from harness.core.progress import State
from harness.execution import units
from harness.execution.units import Claim, Stopped, Store, Unit, UnitProgress

UNIT = Unit("memory", {"method": "dm", "classes": (0, 1), "ipc": 10}, "dm memory, classes 0-1")
KEY = UNIT.key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def claimed(store: Store) -> Claim:
    claim = store.claim(KEY)
    assert claim is not None
    return claim


def wait_until(there: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.01)
    return there()


def test_key_is_the_hash_of_the_canonical_json() -> None:
    # printf '{"kind":"memory","schema":1,"spec":{"classes":[0,1],"ipc":10,"method":"dm"}}' | sha256sum | cut -c-32
    assert KEY == "25210735d947587ab4073383df031f56"


def test_key_depends_on_kind_spec_and_schema_only(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [
        replace(UNIT, label="other", context={"data": "/elsewhere"}, needs=("a",), cost=3.0),
        replace(UNIT, spec={"ipc": 10, "classes": [0, 1], "method": "dm"}),
        replace(UNIT, spec=MappingProxyType(dict(UNIT.spec))),
    ]
    assert {unit.key for unit in same} == {KEY}
    other = [replace(UNIT, kind="training"), replace(UNIT, spec={**UNIT.spec, "ipc": 11})]
    assert KEY not in {unit.key for unit in other}
    monkeypatch.setattr(units, "SCHEMA", 2)
    assert replace(UNIT).key != KEY


@pytest.mark.parametrize("value", [Path("/data"), math.nan, torch.zeros(1)])
def test_a_spec_that_is_not_plain_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"unit 'x': its spec is not plain JSON"):
        _ = Unit("memory", {"value": value}, "x").key


def test_a_result_comes_back_and_its_checkpoint_goes(store: Store) -> None:
    assert store.load(KEY) is None
    assert not store.has(KEY)
    checkpoint, trace = store.path(KEY, ".checkpoint.safetensors"), store.path(KEY, ".error.txt")
    for leftover in (checkpoint, trace):
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.touch()
    store.save(KEY, {"images": torch.arange(6.0)}, {"ipc": 10})
    result = store.load(KEY)
    assert result is not None
    assert result[0]["images"].tolist() == [0, 1, 2, 3, 4, 5]
    assert result[1] == {"ipc": 10}
    assert store.has(KEY)
    assert store.path(KEY) == store.root / KEY[:2] / f"{KEY}.safetensors"
    assert [*store.path(KEY).parent.iterdir()] == [store.path(KEY)]


def test_has_reads_a_file_once_and_again_when_it_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(KEY, {"a": torch.zeros(3)}, {})
    reads: list[Path] = []
    load = files.load

    def counting_load(path: Path) -> tuple[State, files.Card]:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(files, "load", counting_load)
    assert [store.has(KEY), store.has(KEY)] == [True, True]
    assert len(reads) == 1
    store.save(KEY, {"a": torch.zeros(4)}, {})
    assert store.has(KEY)
    assert len(reads) == 2


def test_a_damaged_file_is_set_aside_with_a_warning(store: Store) -> None:
    for number in range(2):
        store.save(KEY, {"a": torch.zeros(100)}, {})
        assert store.has(KEY)
        content = store.path(KEY).read_bytes()
        store.path(KEY).write_bytes(content[:-50])  # cut short
        with pytest.warns(UserWarning, match=rf"set aside as .*\.damaged-{number}, to be done again"):
            assert not store.has(KEY)
        assert store.path(KEY, f".safetensors.damaged-{number}").read_bytes() == content[:-50]
        assert store.load(KEY) is None


def test_a_claim_excludes_others_until_it_is_released(store: Store) -> None:
    with claimed(store) as claim:
        assert claim.is_at(store.path(KEY, ".claim"))
        assert store.claim(KEY) is None
        assert Store(store.root).claim(KEY) is None
    assert [*store.path(KEY).parent.iterdir()] == []
    with claimed(store) as again:
        assert again.is_at(store.path(KEY, ".claim"))


HOLD = """
import sys, time
from pathlib import Path
from harness.execution.units import Store
claim = Store(Path(sys.argv[1])).claim(sys.argv[2])
Path(sys.argv[3]).write_text(str(claim is not None))
time.sleep(60)
"""


def test_a_claim_of_a_process_holds_while_it_lives_and_not_a_moment_longer(store: Store, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root), KEY, str(answer)], env=environment)
    try:
        assert wait_until(lambda: answer.exists() and answer.read_text() != "", 30)
        assert answer.read_text() == "True"
        assert store.claim(KEY) is None
        temporary = store.path(KEY).with_name(f".{KEY}.checkpoint.safetensors.0123abcd")
        temporary.touch()  # killed while writing it
        holder.send_signal(signal.SIGKILL)
        # not yet waited for: a zombie has its number still, and is dead all the same
        assert wait_until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        with claimed(store) as claim:
            assert claim.is_at(store.path(KEY, ".claim"))
            assert not temporary.exists()
            assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.claim"]
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_a_recycled_process_number_is_not_mistaken(store: Store) -> None:
    path = store.path(KEY, ".claim")
    with claimed(store):
        text = path.read_text()
    path.write_text(text)
    assert store.claim(KEY) is None  # this very process, alive
    path.write_text(text.replace(f'"start": "{units._start(os.getpid())}"', '"start": "1"'))
    assert path.read_text() != text
    with claimed(store) as claim:
        assert claim.is_at(path)


def test_a_claim_of_another_host_is_stale_without_heartbeat_by_the_file_systems_clock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.write_text('{"host": "another", "pid": 1, "start": "1"}')
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this host's clock is decades ahead
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 59,) * 2)
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 2,) * 2)
    with claimed(store) as claim:
        assert claim.is_at(path)


def test_a_claim_that_names_nobody_yet_is_left_alone(store: Store) -> None:
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.touch()
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 61,) * 2)
    with claimed(store) as claim:
        assert claim.is_at(path)


def test_the_heartbeat_keeps_a_claim(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(units, "STALE_SECONDS", 0.3)
    path = store.path(KEY, ".claim")
    with claimed(store) as claim:
        os.utime(path, (0, 0))
        assert wait_until(lambda: path.stat().st_mtime > 0)
        assert store.claim(KEY) is None
        assert claim.is_at(path)
    monkeypatch.setattr(units, "HEARTBEAT_SECONDS", 60)
    with claimed(store) as claim:  # a heart that beats too slowly
        os.utime(path, (0, 0))
        with claimed(store) as taken:
            assert taken.is_at(path)
            claim.release()
            assert taken.is_at(path)  # who lost a claim does not take away its successor's


def test_a_live_claim_moved_aside_by_mistake_still_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two see the same stale claim; the slower one moves the quicker one's new claim aside, taking it for the stale one.
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.write_text('{"host": "another", "pid": 1, "start": "1"}')
    os.utime(path, (0, 0))
    quicker: list[Claim] = []
    is_stale = units._is_stale

    def is_stale_but_slow(asked: Path) -> bool:
        verdict = is_stale(asked)
        if not quicker:
            monkeypatch.setattr(units, "_is_stale", is_stale)
            quicker.append(claimed(Store(store.root)))
        return verdict

    monkeypatch.setattr(units, "_is_stale", is_stale_but_slow)
    assert store.claim(KEY) is None
    assert not quicker[0].is_at(path)
    assert store.claim(KEY) is None  # a third
    quicker[0].release()
    assert [*path.parent.iterdir()] == []
    with claimed(store) as claim:
        assert claim.is_at(path)


class Clock:
    """Stands in for time.monotonic; moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def state(value: float) -> Callable[[], State]:
    return lambda: {"value": torch.tensor(value)}


def never() -> State:
    raise AssertionError("no checkpoint is due")


def test_a_checkpoint_is_kept_every_30_seconds(store: Store, clock: Clock) -> None:
    progress = UnitProgress(UNIT, store)
    assert progress.resume() is None
    clock.now += 29.9
    progress.tick(1, 9, never)
    clock.now += 0.1
    progress.tick(2, 9, state(2.0))
    clock.now += 29.9
    progress.tick(3, 9, never)
    resumed = UnitProgress(UNIT, store).resume()
    assert resumed == {"value": torch.tensor(2.0)}
    clock.now += 0.1
    progress.tick(4, 9, state(4.0))
    assert UnitProgress(UNIT, store).resume() == {"value": torch.tensor(4.0)}


def test_a_damaged_checkpoint_is_ignored_with_a_warning(store: Store, clock: Clock) -> None:
    progress = UnitProgress(UNIT, store)
    clock.now += 30
    progress.tick(1, 9, state(1.0))
    path = store.path(KEY, ".checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"dm memory, classes 0-1 starts afresh"):
        assert UnitProgress(UNIT, store).resume() is None


def test_a_checkpoint_of_another_kind_of_device_is_ignored_with_a_warning(store: Store, clock: Clock) -> None:
    on_cuda = UnitProgress(replace(UNIT, context={"device": "cuda:1"}), store)
    clock.now += 30
    on_cuda.tick(1, 9, state(1.0))
    with pytest.warns(UserWarning, match=r"^dm memory, classes 0-1: begun on cuda, starts afresh on cpu$"):
        assert UnitProgress(replace(UNIT, context={"device": "cpu"}), store).resume() is None
    other_gpu = UnitProgress(replace(UNIT, context={"device": "cuda:0"}), store)
    assert other_gpu.resume() == {"value": torch.tensor(1.0)}


def test_reports_come_at_most_twice_a_second(store: Store, clock: Clock) -> None:
    reports: list[tuple[str, int, int]] = []
    progress = UnitProgress(UNIT, store, report=lambda *report: reports.append(report))
    for number in range(1, 11):
        progress.tick(number, 10, never)
        clock.now += 0.125
    assert reports == [(UNIT.label, 1, 10), (UNIT.label, 5, 10), (UNIT.label, 9, 10)]


def test_stopping_keeps_the_state_first(store: Store, clock: Clock) -> None:
    told: list[bool] = []
    progress = UnitProgress(UNIT, store, deadline=110.0, stop=lambda: bool(told))
    progress.tick(1, 9, never)
    told.append(True)
    with pytest.raises(Stopped, match="interrupted"):
        progress.tick(2, 9, state(2.0))
    assert progress.resume() == {"value": torch.tensor(2.0)}
    told.clear()
    clock.now = 110.0
    with pytest.raises(Stopped, match="time limit"):
        progress.tick(3, 9, state(3.0))
    assert progress.resume() == {"value": torch.tensor(3.0)}
    progress.tick(9, 9, never)  # nothing left to stop: the result is about to be saved


def test_stopped_is_not_an_exception_that_work_might_swallow() -> None:
    assert not issubclass(Stopped, Exception)
