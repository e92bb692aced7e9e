"""Engines do units, so that each is done once and a kill, a crash or a deadline loses next to nothing.

`serial` works in this process and is the oracle; `local` keeps worker processes, one thread each, that live as long
as the run. Either lets the process that works keep what memory it frees, and may share its store with other runs, here
or on other hosts: what those have in hand is waited for. A worker claims a unit itself, so that a claim names the
process that works; it ends at once when its parent does. One that fails on a GPU is replaced: the error of a kernel
comes back from every later call of its process.
"""

import graphlib
import math
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, Literal

from harness.core import atomic as files
from harness.core import compute
from harness.core.compute import heap
from harness.core.progress import Progress
from harness.core.registry import known
from harness.execution.resources import usable_cpus
from harness.execution.units import Stopped, Store, Unit, UnitProgress

POLL_SECONDS = 1.0  # between looks at a unit that someone else has in hand
TURN_SECONDS = 0.2  # between looks at signals and at workers that say nothing
WATCH_SECONDS = 1.0  # between a worker's looks at whether its parent lives
GRACE_SECONDS = 20.0  # for workers to keep a checkpoint when told to stop
LEAVE_SECONDS = 5.0  # for an idle worker to leave in its own way
LEAVE = b"leave"
FALSE_STARTS = 3  # workers in a row that end before they are up, after which the run gives up
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Work = Callable[[Unit, Store, Progress], None]  # a module-level function that does a unit and saves its result


@dataclass(frozen=True)
class Event:
    """Something that happened to a unit; `found` is a result that an earlier or another run has made."""

    kind: Literal["started", "progress", "done", "found", "failed", "stopped", "busy"]  # "busy" is not reported
    key: str
    label: str
    done: int = 0  # rounds, of a progress
    total: int = 0
    seconds: float = 0.0  # of work in this run, of a done
    reason: str = ""  # of a failed or stopped
    is_spoilt: bool = False  # of a failed: its process is not to be trusted with another unit


@dataclass(frozen=True)
class Outcome:
    """What a run did, by label, in the order the units were given."""

    done: tuple[str, ...]  # their results are in the store, whoever made them
    failed: dict[str, str]  # label -> reason, one line; the traceback is in the store, `<key>.error.txt`
    left: tuple[str, ...]  # not done; one that could not be done says "(needs ..., which failed)"
    stopped: str | None  # "time limit", "interrupted", "the GPU is lost to this process", or None


def run(
    units: Sequence[Unit],
    store: Store,
    work: Work,
    *,
    engine: str = "local",
    jobs: int | None = None,
    deadline: float | None = None,
    report: Callable[[Event], None] = lambda event: None,
    places: Sequence[Mapping[str, str]] = ({},),
) -> Outcome:
    """Do the units whose results are not in the store, each after those it needs, longest first.

    SIGINT and SIGTERM stop the run: units in hand keep a checkpoint, the same call continues them. A second signal
    ends it at once. (Called outside the main thread, it leaves signals alone.)

    Args:
        units: what to do; a needed unit that is not among them must be in the store, or its dependents are left.
        store: where results are kept, perhaps shared with other runs.
        work: does one unit and saves its result; for `local` a module-level function.
        engine: a name in `ENGINES`.
        jobs: worker processes of `local`; by default as many as the CPUs this process may use.
        deadline: `time.monotonic()` past which the run stops; None for never.
        report: called in this process with what happens.
        places: among which workers of `local` are spread evenly, such as GPUs: each what a worker there has in its
            environment beside that of this process.
    Raises:
        ValueError: unknown engine, jobs below 1, or units that need each other.
        RuntimeError: worker processes do not start.
    """
    known(engine, ENGINES, "engine")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: at least 1, got {jobs}")
    plan = _Plan(units, store, report)
    with _Limits(math.inf if deadline is None else deadline) as limits:
        stopped = ENGINES[engine](plan, work, jobs or usable_cpus(), limits, places) if plan.todo else None
    return plan.outcome(stopped)


class _Plan:
    """Which units are done, failed, in hand or still to do."""

    def __init__(self, units: Iterable[Unit], store: Store, report: Callable[[Event], None]) -> None:
        self.units: dict[str, Unit] = {}
        for unit in units:
            self.units.setdefault(unit.key, unit)
        self.needs_first = [*graphlib.TopologicalSorter({u.key: u.needs for u in self.units.values()}).static_order()]
        self.store, self.report = store, report
        self.todo: list[Unit] = []  # longest first
        self.elsewhere: dict[str, float] = {}  # key of a unit someone else has in hand -> when to look again
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        for unit in self.units.values():
            if store.has(unit.key):
                self.settle(unit, Event("found", unit.key, unit.label))
            else:
                self.put_back(unit)

    def take(self) -> Unit | None:
        """The longest unit that can be worked on now, or None; it is handed back to `settle` or `put_back`."""
        now = time.monotonic()
        for place, unit in enumerate(self.todo):
            if now >= self.elsewhere.get(unit.key, -math.inf) and self._is_ready(unit):
                return self.todo.pop(place)
        return None

    def has_work(self) -> bool:
        """Whether there is a unit to `take`, now or once someone else has let go of it."""
        return any(map(self._is_ready, self.todo))

    def put_back(self, unit: Unit) -> None:
        insort(self.todo, unit, key=lambda unit: -unit.cost)

    def settle(self, unit: Unit, event: Event) -> None:
        """Note how an attempt at `unit` ended."""
        self.elsewhere.pop(unit.key, None)
        if event.kind in ("done", "found"):
            self.done.add(unit.key)
        elif event.kind == "failed":
            self.failed[unit.key] = event.reason
        else:
            self.put_back(unit)
            if event.kind == "busy":
                self.elsewhere[unit.key] = time.monotonic() + POLL_SECONDS
                return
        self.report(event)

    def outcome(self, stopped: str | None) -> Outcome:
        blocked: dict[str, str] = {}  # key -> what its result would need
        for key in self.needs_first:
            if key in self.failed:
                blocked[key] = f"{self.units[key].label}, which failed"
            elif key not in self.units and not self._is_there(key):
                blocked[key] = f"unit {key}, which is not in the store"
            elif key in self.units and key not in self.done:
                reason = next((blocked[need] for need in self.units[key].needs if need in blocked), None)
                if reason is not None:
                    blocked[key] = reason
        left = [unit for unit in self.units.values() if unit.key not in self.done and unit.key not in self.failed]
        return Outcome(
            done=tuple(unit.label for unit in self.units.values() if unit.key in self.done),
            failed={unit.label: self.failed[unit.key] for unit in self.units.values() if unit.key in self.failed},
            left=tuple(u.label + (f" (needs {blocked[u.key]})" if u.key in blocked else "") for u in left),
            stopped=stopped if left else None,
        )

    def _is_ready(self, unit: Unit) -> bool:
        return all(map(self._is_there, unit.needs))

    def _is_there(self, need: str) -> bool:
        return need in self.done or (need not in self.units and self.store.has(need))


class _Limits:
    """What may end a run early: its deadline, and the signals that ask it to stop, noted while inside `with`."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.signals = 0
        self._old: dict[int, Any] = {}

    def interrupted(self) -> bool:
        return self.signals > 0

    def reason(self) -> str | None:
        if self.interrupted():
            return "interrupted"
        return "time limit" if time.monotonic() >= self.deadline else None

    def __enter__(self) -> "_Limits":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # ignored on purpose: nohup, a job in the background
                    self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old or signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals == 2:
            raise KeyboardInterrupt


def _attempt(
    unit: Unit, store: Store, work: Work, deadline: float, stop: Callable[[], bool], tell: Callable[[Event], None]
) -> Event:
    """Do one unit if nobody else has it in hand; how that ended."""

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
            began = time.monotonic()
            try:
                compute.despite_cut_short(
                    lambda: work(unit, store, UnitProgress(unit, store, deadline=deadline, stop=stop, report=report))
                )
                if not store.has(unit.key):
                    raise RuntimeError("the work ended without saving a result")
            except Exception:
                with suppress(OSError):  # a full disk may be the very reason
                    files.write_bytes(store.path(unit.key, ".error.txt"), traceback.format_exc().encode())
                raise
            return Event("done", unit.key, unit.label, seconds=time.monotonic() - began)
    except Stopped as stopped:
        return Event("stopped", unit.key, unit.label, reason=str(stopped))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Event("failed", unit.key, unit.label, reason=reason, is_spoilt=_holds_a_gpu())


def _serial(plan: _Plan, work: Work, jobs: int, limits: _Limits, places: Sequence[Mapping[str, str]]) -> str | None:
    heap.keep_freed_memory()
    with suppress(KeyboardInterrupt), _one_thread():
        while limits.reason() is None:
            if unit := plan.take():
                event = _attempt(unit, plan.store, work, limits.deadline, limits.interrupted, plan.report)
                plan.settle(unit, event)
                if event.is_spoilt and _is_lost(unit.context.get("device")):
                    return "the GPU is lost to this process"
            elif plan.has_work():
                time.sleep(TURN_SECONDS)
            else:
                return None
    return limits.reason()


def _local(plan: _Plan, work: Work, jobs: int, limits: _Limits, places: Sequence[Mapping[str, str]]) -> str | None:
    workers: list[_Worker] = []
    retried: set[str] = set()
    false_starts, reason, end = 0, None, math.inf
    try:
        while time.monotonic() < end:
            if reason is None and (reason := limits.reason()):
                end = time.monotonic() + GRACE_SECONDS
                for worker in workers:
                    worker.send(b"")
            for worker in workers:
                if reason is None and worker.is_up and worker.unit is None and (unit := plan.take()):
                    worker.unit = unit
                    worker.send(pickle.dumps((unit, limits.deadline - time.monotonic())))
            busy = sum(worker.unit is not None for worker in workers)
            if busy == 0 and (reason or not plan.has_work()):
                break
            while reason is None and len(workers) < min(jobs, busy + len(plan.todo)):
                fewest = min(places, key=lambda place: sum(worker.place is place for worker in workers))
                workers.append(_Worker(plan.store, work, fewest))
            wait([worker.connection for worker in workers], TURN_SECONDS)
            for worker in list(workers):
                ended = not worker.process.is_alive()  # asked before its last words are read
                for event in worker.events():
                    if event.kind in ("started", "progress"):
                        plan.report(event)
                    elif worker.unit is not None:
                        plan.settle(worker.unit, event)
                        worker.unit = None
                        worker.is_spoilt = event.is_spoilt
                false_starts = 0 if worker.is_up else false_starts + ended
                if false_starts == FALSE_STARTS:
                    raise RuntimeError(f"worker processes do not start: exit code {worker.process.exitcode}, see above")
                if ended or worker.is_spoilt:
                    workers.remove(worker)
                    if (unit := worker.unit) is not None:
                        died = f"worker died (exit code {worker.process.exitcode})"  # -9: killed, perhaps out of memory
                        if reason is None and unit.key in retried:
                            plan.settle(unit, Event("failed", unit.key, unit.label, reason=died))
                        else:
                            retried.add(unit.key)
                            plan.put_back(unit)
                    worker.kill()
    except KeyboardInterrupt:
        reason = "interrupted"
    finally:
        for worker in workers:
            worker.end()
    return reason


class _Worker:
    """A worker process as its parent sees it, and the unit it has in hand."""

    def __init__(self, store: Store, work: Work, place: Mapping[str, str]) -> None:
        self.place = place
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, os.getpid(), store, work), name="harness worker")
        with _as_a_worker_starts(place):
            self.process.start()
        theirs.close()
        self.is_up = self.is_spoilt = False
        self.unit: Unit | None = None

    def send(self, message: bytes) -> None:
        with suppress(OSError):  # it has ended, which the next look finds
            self.connection.send_bytes(message)

    def events(self) -> Iterator[Event]:
        """What it has told since the last look."""
        with suppress(EOFError, OSError):
            while self.connection.poll():
                event: Event | None = self.connection.recv()
                self.is_up = True
                if event is not None:
                    yield event

    def end(self) -> None:
        """Let an idle worker leave in its own way, so that it puts away what libraries share; end any other."""
        if self.unit is None and self.is_up:
            self.send(LEAVE)
            self.process.join(LEAVE_SECONDS)
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


def _serve(connection: Connection, parent: int, store: Store, work: Work) -> None:
    """What a worker process does: units as they come, until it is killed or its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to whole process groups; the parent says what to do
        signal.signal(number, signal.SIG_IGN)
    heap.keep_freed_memory()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(connection, parent, inbox, stop), name="watchdog", daemon=True).start()

    def tell(event: Event | None) -> None:
        try:
            connection.send(event)
        except OSError:  # the parent is gone
            os._exit(1)

    tell(None)  # up
    with _one_thread():
        while (message := inbox.get()) != LEAVE:
            unit, seconds = pickle.loads(message)
            tell(_attempt(unit, store, work, time.monotonic() + seconds, stop.is_set, tell))


def _listen(connection: Connection, parent: int, inbox: queue.SimpleQueue[bytes], stop: threading.Event) -> None:
    """Pass on what the parent sends; end this process when the parent is gone."""
    while True:
        try:
            if connection.poll(WATCH_SECONDS):
                if message := connection.recv_bytes():
                    inbox.put(message)
                else:
                    stop.set()
            elif os.getppid() != parent:
                os._exit(1)
        except (EOFError, OSError):
            os._exit(1)


@contextmanager
def _as_a_worker_starts(place: Mapping[str, str]) -> Iterator[None]:
    """What a process inherits: one thread for each numeric library, which read this when they are first imported,
    its place, and deaf ears for Ctrl-C, which reaches the whole process group."""
    environment = {**ONE_THREAD, **place}
    old = {name: os.environ.get(name) for name in environment}
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread, as in every engine: the number of threads changes the last bits of a sum."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _holds_a_gpu() -> bool:
    """Whether this process has begun to use CUDA: a failure may have left that unusable, or its memory taken."""
    import torch

    return bool(torch.cuda.is_initialized())


def _is_lost(device: str | None) -> bool:
    """Whether a GPU answers everything with the error of an earlier kernel: only another process gets on with it."""
    import torch

    try:
        torch.cuda.synchronize(None if device == "cpu" else device)
    except RuntimeError:
        return True
    return False


# Does what the plan holds; why it stopped early, if it did.
Engine = Callable[[_Plan, Work, int, _Limits, Sequence[Mapping[str, str]]], str | None]
ENGINES: dict[str, Engine] = {"serial": _serial, "local": _local}
