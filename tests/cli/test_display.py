"""What a run shows while it works."""

import time

import pytest

from harness.cli.display import Watch
from harness.execution.engines import Event
from harness.execution.units import Unit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stands in for time.monotonic; moved by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def units(*costs: float, share: float = 1.0) -> list[Unit]:
    return [Unit("memory", {"number": i}, str(i), {"share": share}, cost=cost) for i, cost in enumerate(costs)]


def told(watch: Watch, unit: Unit, kind: str, done: int = 0, total: int = 0) -> None:
    watch.note(Event(kind, unit.key, unit.label, done, total))  # type: ignore[arg-type]


def test_what_is_left_goes_by_the_pace_so_far(clock: list[float]) -> None:
    first, second = units(30.0, 10.0)
    watch = Watch([first, second])
    assert watch.eta() == "..."
    told(watch, first, "started")
    told(watch, first, "progress", 1, 3)
    clock[0] += 20.0
    told(watch, first, "progress", 2, 3)  # 20 of 40 in 20 seconds
    assert watch.share == pytest.approx(0.5)
    assert watch.eta() == "20 s"
    told(watch, first, "done")
    told(watch, second, "done")
    assert (watch.share, watch.finished, watch.eta()) == (1.0, 2, "0 s")


@pytest.mark.parametrize(("share", "cost"), [(1.0, 40.0), (0.25, 10.0)])
def test_rounds_that_were_done_before_are_no_pace(share: float, cost: float, clock: list[float]) -> None:
    """Of a checkpoint, whose unit's cost is of all rounds, and of an earlier unit, whose is not of them."""
    (unit,) = units(cost, share=share)
    watch = Watch([unit])
    told(watch, unit, "started")
    told(watch, unit, "progress", 76, 100)  # 75 were done
    clock[0] += 5.0
    told(watch, unit, "progress", 80, 100)  # 5 of 25
    assert watch.share == pytest.approx(0.2)
    assert watch.eta() == "20 s"
    assert watch.weights[unit.key] == pytest.approx(10.0)


def test_what_was_found_is_nobodys_pace(clock: list[float]) -> None:
    first, second = units(1000.0, 10.0)
    watch = Watch([first, second])
    told(watch, first, "found")
    told(watch, second, "started")
    clock[0] += 3.0
    told(watch, second, "progress", 1, 4)
    assert watch.finished == 1
    assert watch.share == pytest.approx(0.25)
    assert watch.eta() == "9 s"
