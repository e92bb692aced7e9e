"""A worker process of the local engine: the handle of the parent, and the code that the process runs."""

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import ModuleType

from harness.core.compute import heap
from harness.execution.engines.attempt import STOPPING, Work, attempt, use_one_thread
from harness.execution.schedule import Event
from harness.execution.units import Store, Unit

WATCH_SECONDS = 1.0  # between two checks of a worker whether its parent still runs
LEAVE_SECONDS = 5.0  # for an idle worker to end by itself
STOP, LEAVE = b"", b"leave"  # messages of the parent: stop the unit in work; end the process
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Worker:
    """The parent's handle of a worker process, with the unit that the process works on.

    Attributes:
        environment: the environment variables of the process in addition to those of its parent.
        unit: the unit that the process works on, or None.
        is_up: whether the process has sent its first message.
        is_spoilt: whether the process must not do another unit.
    """

    def __init__(self, store: Store, work: Work, environment: Mapping[str, str]) -> None:
        self.environment = environment
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, os.getpid(), store, work), name="harness worker")
        with _prepare_environment(environment), _without_main(work):
            self.process.start()
        far_end.close()
        self.is_up = self.is_spoilt = False
        self.unit: Unit | None = None

    def assign(self, unit: Unit, deadline: float) -> None:
        """Send a unit to the process; `deadline` is a value of `time.monotonic()`."""
        self.unit = unit
        self._send(pickle.dumps((unit, deadline - time.monotonic())))

    def stop(self) -> None:
        """Ask the process to save the state of its unit and stop."""
        self._send(STOP)

    def read_events(self) -> Iterator[Event]:
        """Yield the events that have arrived since the last call."""
        with suppress(EOFError, OSError):
            while self.connection.poll():
                event: Event | None = self.connection.recv()
                self.is_up = True
                if event is not None:
                    yield event

    def end(self) -> None:
        """End the process. An idle process is asked to leave, so that libraries free shared resources, then killed."""
        if self.unit is None and self.is_up:
            self._send(LEAVE)
            self.process.join(LEAVE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process and free its resources."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # the process has ended; the engine will notice
            self.connection.send_bytes(message)


def _serve(connection: Connection, parent: int, store: Store, work: Work) -> None:
    """Do units as they arrive, until the process is asked to leave, is killed, or its parent has ended."""
    for number in STOPPING:  # the whole process group receives these signals; the parent handles them
        signal.signal(number, signal.SIG_IGN)
    heap.keep_freed_memory()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(connection, parent, inbox, stop), name="watchdog", daemon=True).start()

    def tell(event: Event | None) -> None:
        try:
            connection.send(event)
        except OSError:  # the parent has ended
            os._exit(1)

    tell(None)  # the process is up
    with use_one_thread():
        while (message := inbox.get()) != LEAVE:
            unit, seconds = pickle.loads(message)
            tell(attempt(unit, store, work, time.monotonic() + seconds, stop.is_set, tell))


def _listen(connection: Connection, parent: int, inbox: queue.SimpleQueue[bytes], stop: threading.Event) -> None:
    """Put the parent's messages into `inbox` or `stop`; end this process when the parent has ended."""
    while True:
        try:
            if connection.poll(WATCH_SECONDS):
                message = connection.recv_bytes()
                if message == STOP:
                    stop.set()
                else:
                    inbox.put(message)
            elif os.getppid() != parent:
                os._exit(1)
        except (EOFError, OSError):
            os._exit(1)


@contextmanager
def _without_main(work: Work) -> Iterator[None]:
    """Keep new processes from importing the main script, so that it needs no `if __name__ == "__main__"`.

    They do import it if `work` is defined in it.
    """
    main = sys.modules["__main__"]
    if work.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _prepare_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set the environment that a new process inherits, and restore that of this process on exit.

    The environment has one thread for numeric libraries, which read it when they are imported, and `variables`. SIGINT
    is ignored, because Ctrl-C reaches the whole process group.
    """
    environment = {**ONE_THREAD, **variables}
    before = {name: os.environ.get(name) for name in environment}
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
