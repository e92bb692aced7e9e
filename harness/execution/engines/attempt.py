"""What all engines share: one attempt at a unit, and the limits that may end a run early."""

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from harness.core import atomic, compute
from harness.core.progress import Progress
from harness.execution.schedule import Event
from harness.execution.units import MissingResultError, Stopped, Store, Unit, UnitProgress

TURN_SECONDS = 0.2  # between two checks for signals and for messages of workers

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP") if hasattr(signal, name)
)

Work = Callable[[Unit, Store, Progress], None]  # a module-level function that does a unit and saves its result


class Limits:
    """The deadline of a run, and the signals that ask it to stop, which are counted while the context is open.

    They are SIGINT, SIGTERM, and those by which schedulers announce the end of a job: SIGUSR1, SIGUSR2 and SIGHUP (none
    of the three on Windows). A second signal raises KeyboardInterrupt. Outside the main thread, signals are left alone.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.signals = 0
        self._handlers: dict[int, Any] = {}

    def is_interrupted(self) -> bool:
        """Return whether a signal has asked the run to stop."""
        return self.signals > 0

    def reason_to_stop(self) -> str | None:
        """Return "interrupted" or "time limit", or None if the run may go on."""
        if self.is_interrupted():
            return "interrupted"
        return "time limit" if time.monotonic() >= self.deadline else None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs ignore signals
                    self._handlers[number] = signal.signal(number, self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals == 2:
            raise KeyboardInterrupt


def attempt(
    unit: Unit, store: Store, work: Work, deadline: float, stop: Callable[[], bool], tell: Callable[[Event], None]
) -> Event:
    """Claim a unit and do it; return the event that ended the attempt.

    Args:
        unit: the unit to do.
        store: the store for its result, and for the traceback of a failure.
        work: does the unit.
        deadline: value of `time.monotonic()` after which the work stops.
        stop: returns whether the work is to stop.
        tell: called with the events before the end: "started" and "progress".
    """

    def report(label: str, done: int, total: int) -> None:
        tell(Event("progress", unit.key, label, done=done, total=total))

    try:
        claim = store.claim(unit.key)
        if claim is None:
            return Event("busy", unit.key, unit.label)
        with claim:
            if store.has(unit.key):
                return Event("found", unit.key, unit.label)
            tell(Event("started", unit.key, unit.label))
            start = time.monotonic()
            try:
                compute.retry_without_damaged_libraries(
                    lambda: work(unit, store, UnitProgress(unit, store, deadline=deadline, stop=stop, report=report))
                )
                if not store.has(unit.key):
                    raise RuntimeError("the work ended without saving a result")
            except MissingResultError as missing:
                return Event("missing", unit.key, unit.label, need=missing.key)
            except Exception:
                with suppress(OSError):  # a full disk may be the cause of the failure
                    atomic.write_bytes(store.path(unit.key, ".error.txt"), traceback.format_exc().encode())
                raise
            return Event("done", unit.key, unit.label, seconds=time.monotonic() - start)
    except Stopped as stopped:
        return Event("stopped", unit.key, unit.label, reason=str(stopped))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        # A failure may leave CUDA unusable in this process, or GPU memory allocated.
        return Event("failed", unit.key, unit.label, reason=reason, is_spoilt=bool(torch.cuda.is_initialized()))


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Limit torch to one thread inside the context: the number of threads changes the rounding of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
