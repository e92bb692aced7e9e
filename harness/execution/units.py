"""Units of work and the store that keeps their results: a finished unit is never done again, by anyone.

    spec --(canonical JSON, sha256)--> key --> root/<first two of key>/<key>.safetensors

Beside a result may lie `<key>.claim` (somebody works on it), `<key>.checkpoint.safetensors` (how far they came),
`<key>.error.txt` (how it failed last) and `<key>.safetensors.damaged-N` (a result that did not read back whole).
Processes and hosts that share the directory share the work; there is no server and no lock beyond the claims.
"""

import functools
import hashlib
import itertools
import json
import math
import os
import socket
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from harness.core import atomic as files
from harness.core.atomic import Card
from harness.core.progress import Progress, State

SCHEMA = 1  # part of every key; raised when results of old code are no longer to be reused

HEARTBEAT_SECONDS = 10.0  # between signs of life of a claim
STALE_SECONDS = 60.0  # without a sign of life, after which a claim may be taken over
CHECKPOINT_SECONDS = 30.0  # between checkpoints: the most that a kill can lose
REPORT_SECONDS = 0.5  # between reports of progress


@dataclass(frozen=True)
class Unit:
    """One piece of work, small enough to finish in minutes, known by what its result depends on."""

    kind: str  # "memory", "training" ...
    spec: Mapping[str, Any] = field(hash=False)  # JSON-able identity: all its result depends on, the data's digest too
    label: str  # for people: "dm memory, order 0, classes 0-9"
    context: Mapping[str, Any] = field(default_factory=dict, hash=False)  # how to get at it here; picklable, not in key
    needs: tuple[str, ...] = ()  # keys of the units whose results it reads
    cost: float = 0.0  # expected seconds, for the order of work and for estimates

    @functools.cached_property
    def key(self) -> str:
        """The name of its result: 32 hex digits that depend on kind, spec and `SCHEMA` alone.

        Raises:
            ValueError: the spec is not plain JSON.
        """
        identity = {"kind": self.kind, "schema": SCHEMA, "spec": dict(self.spec)}
        try:
            text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"unit {self.label!r}: its spec is not plain JSON ({error})") from error
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Results by key in one directory, shared by processes and hosts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole: dict[str, tuple[int, int]] = {}  # key -> (mtime, size) of the file last seen to be whole

    def path(self, key: str, suffix: str = ".safetensors") -> Path:
        """Where the result of `key` is kept, or what lies beside it under another suffix."""
        return self.root / key[:2] / f"{key}{suffix}"

    def load(self, key: str) -> tuple[dict[str, Tensor], Card] | None:
        """The result of `key`, or None. A damaged file is renamed aside, with a warning, and counts as absent."""
        path = self.path(key)
        try:
            seen = path.stat()
            return files.load(path)
        except FileNotFoundError:
            return None
        except files.DamagedFileError as error:
            with suppress(FileNotFoundError):  # set aside by another process, which may have redone it since
                if _mark(path.stat()) == _mark(seen):
                    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count())
                    aside = next(name for name in names if not name.exists())
                    path.rename(aside)
                    warnings.warn(f"{error}; set aside as {aside.name}, to be done again", stacklevel=2)
            return None

    def has(self, key: str) -> bool:
        """Whether the result of `key` is there and reads back whole; cheap when asked again."""
        try:
            mark = _mark(self.path(key).stat())
        except FileNotFoundError:
            return False
        if self._whole.get(key) != mark:
            if self.load(key) is None:
                return False
            self._whole[key] = mark
        return True

    def save(self, key: str, tensors: dict[str, Tensor], card: Card) -> None:
        """Keep the result of `key` in one step; its checkpoint and the trace of an earlier failure go."""
        files.save(self.path(key), tensors, card)
        self.forget_attempts(key)

    def forget_attempts(self, key: str) -> None:
        """Remove the checkpoint and the trace of a failure that lie beside a result."""
        for suffix in (".checkpoint.safetensors", ".error.txt"):
            self.path(key, suffix).unlink(missing_ok=True)

    def claim(self, key: str) -> "Claim | None":
        """The right to work on `key`, to be used as a context manager; None while someone alive has it.

        Only one process can create the claim file. A stale one is renamed aside first; should what is moved turn
        out to be a live claim (its owner was quicker in taking over the same stale one), it holds there as well:
        its heartbeat goes on in the file, whatever its name, and whoever moved it withdraws.
        """
        path = self.path(key, ".claim")
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = Claim.create(path)
        if claim is None and _is_stale(path):
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"{path.name}.aside-{uuid.uuid4().hex[:8]}"))
            claim = Claim.create(path)
        if claim is None:
            return None
        for aside in path.parent.glob(f"{path.name}.aside-*"):
            if claim.is_at(aside):
                continue
            if not _is_stale(aside):
                claim.release()
                return None
            for leftover in (aside, *path.parent.glob(f".{key}.*")):  # files its owner was killed while writing
                leftover.unlink(missing_ok=True)
        return claim


class Claim:
    """The right to work on one unit, kept alive by a heartbeat until it is released; a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor  # kept open: the heartbeat reaches this very file, even renamed
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    @classmethod
    def create(cls, path: Path) -> "Claim | None":
        """The claim whose file is at `path`, naming this process; None if there is such a file already."""
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        owner = {"host": _host(), "pid": os.getpid(), "start": _start(os.getpid())}
        try:
            os.write(descriptor, json.dumps(owner).encode())
        except OSError:  # a full disk: leave no claim that names nobody
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this claim's."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the right up; the file goes, unless it is another's by now."""
        if self._released.is_set():
            return
        self._released.set()
        self._heart.join()
        for path in (self._path, *self._path.parent.glob(f"{self._path.name}.aside-*")):
            if self.is_at(path):
                path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a shared directory that is away for a moment
                os.utime(self._descriptor)


class Stopped(BaseException):
    """The work was told to stop and has kept its state: not a fault, so not for `except Exception`."""


class UnitProgress(Progress):
    """A unit's progress: reported now and then, kept as a checkpoint, and stopped where it was told to stop.

    Args:
        unit: what is worked on, under a claim.
        store: where its checkpoint is kept.
        deadline: `time.monotonic()` past which the work is stopped.
        stop: asked every tick whether to stop.
        report: called with (label, done, total), at most twice a second.
    """

    def __init__(
        self,
        unit: Unit,
        store: Store,
        *,
        deadline: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[str, int, int], None] = lambda label, done, total: None,
    ) -> None:
        self._unit, self._path = unit, store.path(unit.key, ".checkpoint.safetensors")
        self._device_type = str(unit.context.get("device", "cpu")).partition(":")[0]
        self._deadline, self._stop, self._report = deadline, stop, report
        self._kept, self._reported = time.monotonic(), -math.inf

    def resume(self) -> State | None:
        """The state last kept, or None to start afresh.

        A damaged checkpoint is ignored with a warning, and so is one of another kind of device, whose generators and
        rounding are others.
        """
        try:
            state, card = files.load(self._path)
        except FileNotFoundError:
            return None
        except files.DamagedFileError as error:
            warnings.warn(f"{error}; {self._unit.label} starts afresh", stacklevel=2)
            return None
        if (kept_on := card.get("device_type", "cpu")) != self._device_type:  # which older versions leave out
            warnings.warn(f"{self._unit.label}: begun on {kept_on}, starts afresh on {self._device_type}", stacklevel=2)
            return None
        return state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        """Say that `done` of `total` rounds are finished.

        Raises:
            Stopped: told to stop, or past the deadline, with rounds left; the state has been kept.
        """
        now = time.monotonic()
        late = now >= self._deadline
        stop = done < total and (late or self._stop())
        if stop or now - self._kept >= CHECKPOINT_SECONDS:
            card = {"unit": self._unit.label, "done": done, "total": total, "device_type": self._device_type}
            files.save(self._path, state(), card)
            self._kept = now
        if stop:
            raise Stopped("time limit" if late else "interrupted")
        if now - self._reported >= REPORT_SECONDS:
            self._report(self._unit.label, done, total)
            self._reported = now


def _mark(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


def _is_stale(path: Path) -> bool:
    """Whether nobody stands behind the claim at `path` any more."""
    try:
        with path.open("rb") as file:  # opened anew: network file systems may give an old mtime for a name
            text, beat = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return False
    if _now(path.parent) - beat > STALE_SECONDS:
        return True
    try:
        owner = json.loads(text)
    except ValueError:  # being written
        return False
    return owner["host"] == _host() and not _lives(owner["pid"], owner["start"])


def _now(directory: Path) -> float:
    """The time by the file system's own clock, which its hosts share, unlike theirs."""
    with tempfile.TemporaryFile(dir=directory) as probe:
        return os.fstat(probe.fileno()).st_mtime


@functools.cache
def _host() -> str:
    """This machine and its numbering of processes; a name alone is shared by containers and cloned machines."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _lives(pid: int, start: str | None) -> bool:
    """Whether the process is still the one that started at `start`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return _start(pid) in (start, None)


def _start(pid: int) -> str | None:
    """When a process started, in ticks since boot; "ended" for a zombie; None if the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from field 3, the state, on
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]
