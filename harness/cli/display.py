"""What a run shows while it works: bars with an ETA on a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.execution.engines import Event
from harness.execution.units import Unit
from harness.results.wording import duration, quantity

LINE_SECONDS = 15.0  # between lines in a pipe


class Watch:
    """Follow the events of a run, and compute how much of the work is done, weighted by the cost of each unit.

    A unit that goes on from a checkpoint, or from the end of another, has only what is left of it to do.
    """

    def __init__(self, units: list[Unit]) -> None:
        self.weights = {unit.key: max(unit.cost, 0.1) for unit in units}
        self.parts = {unit.key: unit.context.get("share", 1.0) for unit in units}  # of its rounds that the cost is of
        self.first: dict[str, float] = {}  # unit -> part of it that was done when this run took it up
        self.shares: dict[str, float] = {}  # unit -> part of what was left of it then that is done
        self.found: set[str] = set()
        self.began: float | None = None  # of the first work, not of what was found

    def note(self, event: Event) -> None:
        if event.kind == "found":
            self.found.add(event.key)
        elif event.kind == "progress":
            if event.key not in self.first:  # told of its first round here
                self.first[event.key] = first = (event.done - 1) / event.total
                self.weights[event.key] *= min((1 - first) / self.parts[event.key], 1.0)
            first = self.first[event.key]
            self.shares[event.key] = (event.done / event.total - first) / (1 - first)
        elif event.kind in ("done", "failed"):
            self.shares[event.key] = 1.0
        if event.kind == "started" and self.began is None:
            self.began = time.monotonic()

    @property
    def share(self) -> float:
        """Return the part of the work of this run that is done."""
        mine = {key: weight for key, weight in self.weights.items() if key not in self.found}
        total = sum(mine.values())
        return sum(weight * self.shares.get(key, 0.0) for key, weight in mine.items()) / total if total else 1.0

    def eta(self) -> str:
        """Return the time left, estimated from the pace so far."""
        if self.began is None or self.share < 0.01:
            return "..."
        elapsed = time.monotonic() - self.began
        return duration(elapsed * (1 - self.share) / self.share)

    @property
    def finished(self) -> int:
        return len(self.found) + sum(share == 1.0 for share in self.shares.values())


@contextmanager
def watching(units: list[Unit], quiet: bool) -> Iterator["Lines | Bars"]:
    """Report the events of `engines.run` on stderr."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Lines(units, quiet)
        return
    with Bars(units, console) as bars:
        yield bars


class Lines:
    """Print a line for each unit that is done or has failed, and from time to time one for the whole run."""

    def __init__(self, units: list[Unit], quiet: bool) -> None:
        self.watch, self.quiet, self.last = Watch(units), quiet, 0.0

    def __call__(self, event: Event) -> None:
        self.watch.note(event)
        count = f"[{self.watch.finished}/{len(self.watch.weights)}]"
        if event.kind == "failed":
            _say(f"{count} FAILED {event.label}: {event.reason}")
        elif self.quiet:
            return
        elif event.kind == "done":
            _say(f"{count} {event.label}: {duration(event.seconds)}; {self.watch.eta()} left")
        elif event.kind == "progress" and time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            _say(f"{count} {event.label}: {event.done} of {event.total}; {self.watch.eta()} left")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Bars:
    """Draw a bar for the whole run and one for each unit in work."""

    def __init__(self, units: list[Unit], console: Console) -> None:
        self.watch, self.tasks = Watch(units), dict[str, TaskID]()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[eta]}"), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, transient=True)
        self.whole = self.progress.add_task("all units", total=1.0, eta="...")

    def __enter__(self) -> "Bars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        self.watch.note(event)
        done = f"{self.watch.finished} of {quantity(len(self.watch.weights), 'unit')}"
        self.progress.update(self.whole, description=done, completed=self.watch.share, eta=f"{self.watch.eta()} left")
        if event.kind == "started":
            self.tasks[event.key] = self.progress.add_task(event.label, total=None, eta="")
        elif event.kind == "progress" and event.key in self.tasks:
            self.progress.update(self.tasks[event.key], completed=event.done, total=event.total)
        elif event.kind in ("done", "failed", "stopped") and event.key in self.tasks:
            self.progress.remove_task(self.tasks.pop(event.key))
            if event.kind == "failed":
                self.progress.console.print(f"FAILED {event.label}: {event.reason}", markup=False)
