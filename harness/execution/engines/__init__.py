"""Engines do units. Each unit is done once, and a kill, crash or deadline loses at most the work since a checkpoint.

`serial` works in this process and is the reference; `local` starts worker processes of one thread each, which live as
long as the run. In both, the C library keeps freed memory for reuse. The store may be shared with other runs on this
host or on others; an engine waits for units that other runs have claimed. A worker claims a unit itself, so that the
claim names the process that works on it. A worker ends as soon as its parent has ended. A worker that fails on a GPU is
replaced, because all later calls of its process to the GPU may raise the same error.
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
        units: the units to do. A unit that needs a unit which is neither among them nor in the store is left.
        store: the store of results, which other runs may share.
        work: does one unit and saves its result; for `local`, a module-level function.
        engine: a name in `ENGINES`.
        jobs: number of worker processes of `local`; by default the number of cores that this process may use.
        deadline: value of `time.monotonic()` after which the run stops; None for no limit.
        report: called in this process with each event.
        environments: sets of environment variables, for example one for each GPU. The workers of `local` are spread
            evenly over them.
    Returns:
        The units that are done, that failed and that are left.
    Raises:
        ValueError: an unknown engine, jobs below 1, or units that need each other.
        RuntimeError: worker processes do not start.
    """
    known(engine, ENGINES, "engine")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: at least 1 is needed, got {jobs}")
    schedule = Schedule(units, store, report)
    with Limits(math.inf if deadline is None else deadline) as limits:
        stopped = None
        if schedule.todo:
            stopped = ENGINES[engine](schedule, work, jobs or count_usable_cpus(), limits, environments)
    return schedule.make_outcome(stopped)
