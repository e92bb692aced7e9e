"""The schedule of a run's units: which units are to do, ready, claimed by other processes, done or failed."""

import graphlib
import math
import time
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from harness.execution.units import Store, Unit

POLL_SECONDS = 1.0  # between two attempts at a unit that another process has claimed


@dataclass(frozen=True)
class Event:
    """An event of a unit.

    Attributes:
        kind: the kind of the event. "found": an earlier run or another process made the result. "busy": another process
            has claimed the unit. "missing": a result that the unit needs is no longer in the store. Engines do not
            report "busy" and "missing".
        key, label: key and label of the unit.
        done, total: finished rounds and all rounds, for "progress".
        seconds: seconds of work in this run, for "done".
        reason: the reason in one line, for "failed" and "stopped".
        need: key of the missing result, for "missing".
        is_spoilt: whether the process must not do another unit, for "failed".
    """

    kind: Literal["started", "progress", "done", "found", "failed", "stopped", "busy", "missing"]
    key: str
    label: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    reason: str = ""
    need: str = ""
    is_spoilt: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: labels of units, in the order in which the units were given.

    Attributes:
        done: units whose results are in the store, including results of other processes.
        failed: label -> reason, in one line; the store has the traceback in `<key>.error.txt`.
        left: units that are not done; "(needs ..., which failed)" follows the label of a unit that could not be done.
        stopped: "time limit", "interrupted", "the GPU is lost to this process", or None.
    """

    done: tuple[str, ...]
    failed: dict[str, str]
    left: tuple[str, ...]
    stopped: str | None


class Schedule:
    """The units of a run in the order of work: each unit after the units that it needs, and long units first.

    Args:
        units: the units to do; a unit that occurs twice is done once.
        store: the store of results; a unit whose result is in the store is done.
        report: called with each event.
    Raises:
        ValueError: units need each other.
    """

    def __init__(self, units: Iterable[Unit], store: Store, report: Callable[[Event], None]) -> None:
        self.units: dict[str, Unit] = {}
        for unit in units:
            self.units.setdefault(unit.key, unit)
        needs = {unit.key: unit.needs for unit in self.units.values()}
        self._needs_first = [*graphlib.TopologicalSorter(needs).static_order()]
        self.store, self.report = store, report
        self.todo: list[Unit] = []  # longest first
        self._retry_at: dict[str, float] = {}  # key of a unit that another process has claimed -> when to try again
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        self._missed: set[tuple[str, str]] = set()  # key of a unit, key of a result that it did not find
        for unit in self.units.values():
            if store.has(unit.key):
                self.record(unit, Event("found", unit.key, unit.label))
            else:
                self.put_back(unit)

    def take(self) -> Unit | None:
        """Remove and return the longest unit that is ready, or None.

        After the attempt at the unit, call `record` or `put_back`.
        """
        now = time.monotonic()
        for place, unit in enumerate(self.todo):
            if now >= self._retry_at.get(unit.key, -math.inf) and self._is_ready(unit):
                return self.todo.pop(place)
        return None

    def has_work(self) -> bool:
        """Return whether any unit is ready, including units that another process has claimed."""
        return any(map(self._is_ready, self.todo))

    def put_back(self, unit: Unit) -> None:
        """Add a unit to those to do."""
        insort(self.todo, unit, key=lambda unit: -unit.cost)

    def record(self, unit: Unit, event: Event) -> None:
        """Record the event that ended an attempt at a unit, and report the event unless the unit has to wait.

        A unit waits if another process has claimed it, or if a result that it needs is missing, which is then made
        again. If a unit misses the same result a second time, the unit has failed.
        """
        self._retry_at.pop(unit.key, None)
        if event.kind == "missing":
            if event.need in self.units and (unit.key, event.need) not in self._missed:
                self._missed.add((unit.key, event.need))
                if event.need in self._done:  # otherwise the needed unit is already scheduled again
                    self._done.remove(event.need)
                    self.put_back(self.units[event.need])
                self.put_back(unit)
                return
            event = replace(event, kind="failed", reason=f"the result {event.need}, which it needs, is missing again")
        if event.kind in ("done", "found"):
            self._done.add(unit.key)
        elif event.kind == "failed":
            self._failed[unit.key] = event.reason
        else:
            self.put_back(unit)
            if event.kind == "busy":
                self._retry_at[unit.key] = time.monotonic() + POLL_SECONDS
                return
        self.report(event)

    def make_outcome(self, stopped: str | None) -> Outcome:
        """Return the outcome of the run; `stopped` is the reason why the run ended early, or None."""
        missing = self._find_missing_needs()
        left = [unit for unit in self.units.values() if unit.key not in self._done and unit.key not in self._failed]
        return Outcome(
            done=tuple(unit.label for unit in self.units.values() if unit.key in self._done),
            failed={unit.label: self._failed[unit.key] for unit in self.units.values() if unit.key in self._failed},
            left=tuple(u.label + (f" (needs {missing[u.key]})" if u.key in missing else "") for u in left),
            stopped=stopped if left else None,
        )

    def _find_missing_needs(self) -> dict[str, str]:
        """Return key of a unit -> description of the failed or unknown unit because of which it cannot be done."""
        missing: dict[str, str] = {}
        for key in self._needs_first:
            if key in self._failed:
                missing[key] = f"{self.units[key].label}, which failed"
            elif key not in self.units and not self._is_done(key):
                missing[key] = f"unit {key}, which is not in the store"
            elif key in self.units and key not in self._done:
                reason = next((missing[need] for need in self.units[key].needs if need in missing), None)
                if reason is not None:
                    missing[key] = reason
        return missing

    def _is_ready(self, unit: Unit) -> bool:
        return all(map(self._is_done, unit.needs))

    def _is_done(self, key: str) -> bool:
        return key in self._done or (key not in self.units and self.store.has(key))
