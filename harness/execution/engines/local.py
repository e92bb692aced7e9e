"""The local engine: worker processes on this machine, one thread each, which live as long as the run."""

import math
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait

from harness.execution.engines.attempt import TURN_SECONDS, Limits, Work
from harness.execution.engines.worker import Worker
from harness.execution.schedule import Event, Schedule

GRACE_SECONDS = 20.0  # for workers to save a checkpoint when they are asked to stop
FALSE_STARTS = 3  # number of successive workers that end before they are up, after which the run gives up


def run_local(
    schedule: Schedule, work: Work, jobs: int, limits: Limits, environments: Sequence[Mapping[str, str]]
) -> str | None:
    """Do the scheduled units in up to `jobs` worker processes; return why it stopped early, or None.

    Raises:
        RuntimeError: worker processes do not start.
    """
    return _LocalRun(schedule, work, jobs, limits, environments).run()


class _LocalRun:
    """The state of one run: its workers, the units whose worker died, and why and when the run ends."""

    def __init__(
        self, schedule: Schedule, work: Work, jobs: int, limits: Limits, environments: Sequence[Mapping[str, str]]
    ) -> None:
        self.schedule, self.work, self.jobs, self.limits = schedule, work, jobs, limits
        self.environments = environments
        self.workers: list[Worker] = []
        self.retried: set[str] = set()  # keys of units whose worker died once
        self.false_starts = 0
        self.reason: str | None = None  # why the run ends early
        self.end = math.inf  # value of time.monotonic() after which workers are killed

    def run(self) -> str | None:
        try:
            while time.monotonic() < self.end:
                self.stop()
                self.assign()
                if self.busy == 0 and (self.reason or not self.schedule.has_work()):
                    break
                self.spawn()
                wait([worker.connection for worker in self.workers], TURN_SECONDS)
                self.collect()
        except KeyboardInterrupt:
            self.reason = "interrupted"
        finally:
            for worker in self.workers:
                worker.end()
        return self.reason

    @property
    def busy(self) -> int:
        """The number of workers that work on a unit."""
        return sum(worker.unit is not None for worker in self.workers)

    def stop(self) -> None:
        """Ask all workers to stop if there is a reason to end the run; they are asked once."""
        if self.reason is None and (reason := self.limits.reason_to_stop()):
            self.reason, self.end = reason, time.monotonic() + GRACE_SECONDS
            for worker in self.workers:
                worker.stop()

    def assign(self) -> None:
        """Give a unit to each idle worker, unless the run ends."""
        for worker in self.workers:
            if self.reason is None and worker.is_up and worker.unit is None and (unit := self.schedule.take()):
                worker.assign(unit, self.limits.deadline)

    def spawn(self) -> None:
        """Start as many workers as there are units to do, spread evenly over the environments."""
        while self.reason is None and len(self.workers) < min(self.jobs, self.busy + len(self.schedule.todo)):
            used = [worker.environment for worker in self.workers]
            environment = min(self.environments, key=lambda choice: sum(other is choice for other in used))
            self.workers.append(Worker(self.schedule.store, self.work, environment))

    def collect(self) -> None:
        """Read the events of all workers, and remove workers that have ended or must not continue."""
        for worker in list(self.workers):
            has_ended = not worker.process.is_alive()  # checked before its last events are read
            for event in worker.read_events():
                if event.kind in ("started", "progress"):
                    self.schedule.report(event)
                elif worker.unit is not None:
                    self.schedule.record(worker.unit, event)
                    worker.unit = None
                    worker.is_spoilt = event.is_spoilt
            self.false_starts = 0 if worker.is_up else self.false_starts + has_ended
            if self.false_starts == FALSE_STARTS:
                raise RuntimeError(f"worker processes do not start: exit code {worker.process.exitcode}, see above")
            if has_ended or worker.is_spoilt:
                self.remove(worker)

    def remove(self, worker: Worker) -> None:
        """Remove a worker. Its unit is tried once more; if that worker dies as well, the unit has failed."""
        self.workers.remove(worker)
        if (unit := worker.unit) is not None:
            if self.reason is None and unit.key in self.retried:
                reason = f"worker died (exit code {worker.process.exitcode})"  # -9: killed, perhaps out of memory
                self.schedule.record(unit, Event("failed", unit.key, unit.label, reason=reason))
            else:
                self.retried.add(unit.key)
                self.schedule.put_back(unit)
        worker.kill()
