"""Units and their keys, the store of results, and the progress of a unit."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from harness.core import atomic
from harness.core.progress import State
from harness.execution import units
from harness.execution.units import Stopped, Store, Unit, UnitProgress

UNIT = Unit("memory", {"method": "dm", "classes": (0, 1), "ipc": 10}, "dm memory, classes 0-1")
KEY = UNIT.key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


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
def test_specs_that_are_not_plain_json_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"unit 'x': its spec is not plain JSON"):
        _ = Unit("memory", {"value": value}, "x").key


def test_saving_a_result_removes_its_checkpoint(store: Store) -> None:
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


def test_has_reads_a_file_again_only_when_it_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(KEY, {"a": torch.zeros(3)}, {})
    reads: list[Path] = []
    load = atomic.load

    def counting_load(path: Path) -> tuple[State, atomic.Card]:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(atomic, "load", counting_load)
    assert [store.has(KEY), store.has(KEY)] == [True, True]
    assert len(reads) == 1
    store.save(KEY, {"a": torch.zeros(4)}, {})
    assert store.has(KEY)
    assert len(reads) == 2


def test_damaged_files_are_renamed_with_a_warning(store: Store) -> None:
    for number in range(2):
        store.save(KEY, {"a": torch.zeros(100)}, {})
        assert store.has(KEY)
        content = store.path(KEY).read_bytes()
        store.path(KEY).write_bytes(content[:-50])  # cut short
        with pytest.warns(UserWarning, match=rf"set aside as .*\.damaged-{number}, to be done again"):
            assert not store.has(KEY)
        assert store.path(KEY, f".safetensors.damaged-{number}").read_bytes() == content[:-50]
        assert store.load(KEY) is None


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


def test_a_checkpoint_is_saved_every_30_seconds(store: Store, clock: Clock) -> None:
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


def test_damaged_checkpoints_are_ignored_with_a_warning(store: Store, clock: Clock) -> None:
    progress = UnitProgress(UNIT, store)
    clock.now += 30
    progress.tick(1, 9, state(1.0))
    path = store.path(KEY, ".checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"dm memory, classes 0-1 starts afresh"):
        assert UnitProgress(UNIT, store).resume() is None


def test_checkpoints_of_other_device_types_are_ignored(store: Store, clock: Clock) -> None:
    on_cuda = UnitProgress(replace(UNIT, context={"device": "cuda:1"}), store)
    clock.now += 30
    on_cuda.tick(1, 9, state(1.0))
    with pytest.warns(UserWarning, match=r"^dm memory, classes 0-1: begun on cuda, starts afresh on cpu$"):
        assert UnitProgress(replace(UNIT, context={"device": "cpu"}), store).resume() is None
    other_gpu = UnitProgress(replace(UNIT, context={"device": "cuda:0"}), store)
    assert other_gpu.resume() == {"value": torch.tensor(1.0)}


def test_parts_are_made_once_and_removed_with_the_checkpoint(store: Store) -> None:
    made: list[float] = []

    def part(value: float) -> State:
        made.append(value)
        return {"value": torch.tensor(value)}

    for _ in range(2):  # the second time in another process, after a kill
        progress = UnitProgress(UNIT, store)
        for number in (1.0, 2.0):
            assert progress.cache(f"network-{number:g}", partial(part, number)) == {"value": number}
    assert made == [1.0, 2.0]
    on_cuda = UnitProgress(replace(UNIT, context={"device": "cuda:1"}), store)
    with pytest.warns(UserWarning, match="begun on cpu, starts afresh on cuda"):
        on_cuda.cache("network-1", lambda: part(3.0))
    assert made[2:] == [3.0]
    assert not store.has(KEY)
    store.save(KEY, {"value": torch.tensor(0.0)}, {})
    assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.safetensors"]


def test_reports_come_at_most_twice_a_second(store: Store, clock: Clock) -> None:
    reports: list[tuple[str, int, int]] = []
    progress = UnitProgress(UNIT, store, report=lambda *report: reports.append(report))
    for number in range(1, 11):
        progress.tick(number, 10, never)
        clock.now += 0.125
    assert reports == [(UNIT.label, 1, 10), (UNIT.label, 5, 10), (UNIT.label, 9, 10)]


def test_stopping_saves_the_state_first(store: Store, clock: Clock) -> None:
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


def test_except_exception_does_not_catch_stopped() -> None:
    assert not issubclass(Stopped, Exception)
