"""Claims: files that give one process the right to work on one unit, among processes and hosts that share a directory.

A claim file names the host, the process and its start time. A heartbeat renews the file's modification time. A claim is
stale when its process has ended, or when its heartbeat is missing for `STALE_SECONDS`; a stale claim may be taken over.
"""

import functools
import json
import os
import socket
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

HEARTBEAT_SECONDS = 10.0  # between two heartbeats of a claim
STALE_SECONDS = 60.0  # without a heartbeat, after which a claim is stale


class Claim:
    """The right to work on one unit, kept by a heartbeat until it is released; a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor  # stays open: the heartbeat reaches this very file, even when it is renamed
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    @classmethod
    def create(cls, path: Path) -> Self | None:
        """Create the claim file at `path` for this process; return None if the file exists already."""
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        owner = {"host": get_host_identity(), "pid": os.getpid(), "start": get_start_ticks(os.getpid())}
        try:
            os.write(descriptor, json.dumps(owner).encode())
        except OSError:  # a full disk: leave no claim without an owner
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def is_at(self, path: Path) -> bool:
        """Return whether the file at `path` is this claim's file."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give up the right and remove the claim file, unless the file belongs to another claim by now."""
        if self._released.is_set():
            return
        self._released.set()
        self._heart.join()
        for path in (self._path, *self._path.parent.glob(f"{self._path.name}.aside-*")):
            if self.is_at(path):
                path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a shared directory may be away for a moment
                os.utime(self._descriptor)


def acquire(path: Path) -> Claim | None:
    """Return the claim at `path` for this process, or None while another claim holds.

    Only one process can create the claim file. A stale file is first renamed. The renamed file may turn out to be a
    live claim, if its owner took over the same stale claim a moment earlier. Its heartbeat continues in the renamed
    file, so the live claim still holds, and the process that renamed the file withdraws.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = Claim.create(path)
    if claim is None and is_stale(path):
        with suppress(FileNotFoundError):
            path.rename(path.with_name(f"{path.name}.aside-{uuid.uuid4().hex[:8]}"))
        claim = Claim.create(path)
    if claim is None:
        return None
    for renamed in path.parent.glob(f"{path.name}.aside-*"):
        if claim.is_at(renamed):
            continue
        if not is_stale(renamed):
            claim.release()
            return None
        for leftover in (renamed, *path.parent.glob(f".{path.stem}.*")):  # temporary files of a killed owner
            leftover.unlink(missing_ok=True)
    return claim


def is_stale(path: Path) -> bool:
    """Return whether the claim at `path` has lost its owner."""
    try:
        with path.open("rb") as file:  # opened anew: network file systems may give an old time for a name
            text, beat = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return False
    if _file_system_time(path.parent) - beat > STALE_SECONDS:
        return True
    try:
        owner = json.loads(text)
    except ValueError:  # the owner is still writing the file
        return False
    return owner["host"] == get_host_identity() and not is_alive(owner["pid"], owner["start"])


def _file_system_time(directory: Path) -> float:
    """Return the time by the clock of the file system, which its hosts share; their own clocks may differ."""
    with tempfile.TemporaryFile(dir=directory) as probe:
        return os.fstat(probe.fileno()).st_mtime


@functools.cache
def get_host_identity() -> str:
    """Return a name for this machine and its process IDs: containers and cloned machines may share a host name."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def is_alive(pid: int, start: str | None) -> bool:
    """Return whether the process `pid` that started at `start` (see `get_start_ticks`) still runs."""
    try:
        if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # a process of another user
        pass
    return get_start_ticks(pid) in (start, None)


def get_start_ticks(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if the system does not tell.

    Claim files have held ticks since version 0.3.0. psutil gives seconds since 1970, which move with the clock.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # field 22, counted from field 3
    except OSError:
        return None
