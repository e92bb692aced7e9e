"""Engines do units, so that each is done once, and a kill, a crash or a deadline loses next to nothing.

`serial` works in this process and is the reference; `local` keeps worker processes, one thread each, that live as long
as the run. In both, the process that works keeps the memory that it frees. The store may be shared with other runs, on
this host or on others; units that those have claimed are waited for. A worker claims a unit itself, so that a claim
names the process that works. A worker ends as soon as its parent has ended. A worker that fails on a GPU is replaced,
because every later call of its process to the GPU would give the same error.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from harness.core.registry import known
from harness.execution.engines.attempt import Limits, Work
from harness.execution.engines.local import run_local
from harness.execution.engines.serial import run_serial
from harness.execution.resources import count_usable_cpus
from harness.execution.schedule import Event, Outcome, Schedule
from harness.execution.units import Store, Unit

__all__ = ["ENGINES", "Event", "Outcome", "Work", "run"]

# (schedule, work, jobs, limits, environments) -> why the engine stopped early, or None.
Engine = Callable[[Schedule, Work, int, Limits, Sequence[Mapping[str, str]]], str | None]
ENGINES: Mapping[str, Engine] = {"serial": run_serial, "local": run_local}


def run(
    units: Sequence[Unit],
    store: Store,
    work: Work,
    *,
    engine: str = "local",
    jobs: int | None = None,
    deadline: float | None = None,
    report: Callable[[Event], None] = lambda event: None,
    environments: Sequence[Mapping[str, str]] = ({},),
) -> Outcome:
    """Do the units whose results are not in the store, each after the units it needs, the longest first.

    SIGINT and SIGTERM stop the run: units in work save a checkpoint, and the same call continues them. A second signal
    ends the run at once. Outside the main thread, signals are left alone.

    Args:
        units: what to do; a needed unit that is not among them must be in the store, or its dependents are left.
        store: where results are kept, perhaps shared with other runs.
        work: does one unit and saves its result; for `local` a module-level function.
        engine: a name in `ENGINES`.
        jobs: worker processes of `local`; by default as many as the cores this process may use.
        deadline: value of `time.monotonic()` after which the run stops; None for no limit.
        report: called in this process with each event.
        environments: environment variables for workers of `local`, which are spread evenly over them; one for each
            GPU, for instance.
    Returns:
        What was done, what failed and what is left.
    Raises:
        ValueError: an unknown engine, jobs below 1, or units that need each other.
        RuntimeError: worker processes do not start.
    """
    known(engine, ENGINES, "engine")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: at least 1, got {jobs}")
    schedule = Schedule(units, store, report)
    with Limits(math.inf if deadline is None else deadline) as limits:
        stopped = None
        if schedule.todo:
            stopped = ENGINES[engine](schedule, work, jobs or count_usable_cpus(), limits, environments)
    return schedule.outcome(stopped)
