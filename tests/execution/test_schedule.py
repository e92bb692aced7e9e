"""The schedule makes a result again that went missing, for every unit that misses it."""

from pathlib import Path

from harness.execution.schedule import Event, Schedule
from harness.execution.units import Store, Unit

NEED = Unit("toy", {"name": "need"}, "need")
BOTH = [Unit("toy", {"name": name}, name, needs=(NEED.key,)) for name in ("a", "b")]


def missing(unit: Unit) -> Event:
    return Event("missing", unit.key, unit.label, need=NEED.key)


def finish(schedule: Schedule) -> str:
    """Do the next unit; its label."""
    unit = schedule.take()
    assert unit is not None
    schedule.record(unit, Event("done", unit.key, unit.label))
    return unit.label


def test_two_units_that_miss_one_result_both_wait_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(NEED.key, {}, {})
    schedule = Schedule([NEED, *BOTH], store, lambda event: None)
    under_way = [schedule.take(), schedule.take()]
    assert under_way == BOTH
    store.path(NEED.key).unlink()
    for unit in BOTH:
        schedule.record(unit, missing(unit))
    assert [finish(schedule) for _ in range(3)] == ["need", "a", "b"]
    assert schedule.make_outcome(None).left == ()


def test_missing_a_result_after_it_was_made_again_waits_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(NEED.key, {}, {})
    schedule = Schedule([NEED, *BOTH], store, lambda event: None)
    first, second = schedule.take(), schedule.take()
    assert first is not None
    assert second is not None
    schedule.record(first, missing(first))
    assert [finish(schedule) for _ in range(2)] == ["need", "a"]
    schedule.record(second, missing(second))  # it had looked before
    assert [finish(schedule) for _ in range(2)] == ["need", "b"]
    assert schedule.make_outcome(None).failed == {}


def test_a_result_that_is_missing_time_and_again_fails_the_unit(tmp_path: Path) -> None:
    schedule = Schedule([NEED, BOTH[0]], Store(tmp_path), lambda event: None)
    for _ in range(2):
        assert finish(schedule) == "need"
        unit = schedule.take()
        assert unit is not None
        schedule.record(unit, missing(unit))
    assert schedule.make_outcome(None).failed == {"a": f"the result {NEED.key}, which it needs, is missing again"}
