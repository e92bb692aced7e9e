"""Units of work, the store of their results, and the progress of a unit: a finished unit is never done again.

    spec --(canonical JSON, sha256)--> key --> root/<first two of key>/<key>.safetensors

Other files may lie beside a result: `<key>.claim` (a process works on the unit), `<key>.checkpoint.safetensors` (the
state of unfinished work), `<key>.error.txt` (the traceback of the last failure) and `<key>.safetensors.damaged-N` (a
damaged result). Processes and hosts that share the directory share the work. Claims are the only locks (see
`harness.execution.claims`), and there is no server.
"""

import functools
import hashlib
import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from harness.core import atomic
from harness.core.atomic import Card
from harness.core.progress import Progress, State
from harness.execution.claims import Claim, acquire

Spec: TypeAlias = Mapping[str, Any]  # plain JSON
Decoded = TypeVar("Decoded")

SCHEMA = 1  # part of every key; increased when results of older code must no longer be used

CHECKPOINT = ".checkpoint.safetensors"  # suffix of the names of checkpoints
CHECKPOINT_SECONDS = 30.0  # between two checkpoints: the most work that a kill can lose
REPORT_SECONDS = 0.5  # between two reports of progress


@dataclass(frozen=True)
class Unit:
    """One piece of work that takes minutes, identified by everything that its result depends on.

    Attributes:
        kind: "memory", "training", "network" or "candidate".
        spec: JSON-able identity: everything that the result depends on, the digest of the data included.
        label: a description for people, such as "dm memory, order 0, classes 0 .. 9".
        context: how to do the unit on this machine; picklable, and no part of the key.
        needs: the keys of the units whose results this unit reads.
        cost: expected seconds, for the order of work and for estimates.
    """

    kind: str
    spec: Spec = field(hash=False)
    label: str
    context: Spec = field(default_factory=dict, hash=False)
    needs: tuple[str, ...] = ()
    cost: float = 0.0

    @functools.cached_property
    def key(self) -> str:
        """The name of the result: 32 hex digits that depend on kind, spec and `SCHEMA` alone.

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
    """Results by key in one directory, which processes and hosts may share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int]] = {}  # key -> (mtime, size) of a file that was loaded undamaged

    def path(self, key: str, suffix: str = ".safetensors") -> Path:
        """Return the path of the result of `key`, or of another file beside it by its suffix."""
        return self.root / key[:2] / f"{key}{suffix}"

    def load(self, key: str) -> tuple[dict[str, Tensor], Card] | None:
        """Return the tensors and the card of a result, or None if there is none.

        A damaged file is renamed with a warning, and its result counts as missing.
        """
        return self.read(key, lambda tensors, card: (tensors, card))

    def read(self, key: str, decode: Callable[[dict[str, Tensor], Card], Decoded]) -> Decoded | None:
        """Return `decode(tensors, card)` of a result, or None if there is no result.

        A file that is damaged, or for which `decode` raises a ValueError, is renamed with a warning, and its result
        counts as missing.
        """
        path = self.path(key)
        try:
            status = path.stat()
            return decode(*atomic.load(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            reason = str(error) if isinstance(error, atomic.DamagedFileError) else f"{path}: {error}"
            with suppress(FileNotFoundError):  # another process renamed the file, and may have replaced it since
                if _mark(path.stat()) == _mark(status):
                    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count())
                    aside = next(name for name in names if not name.exists())
                    path.rename(aside)
                    warnings.warn(f"{reason}; set aside as {aside.name}, to be done again", stacklevel=2)
            return None

    def has(self, key: str) -> bool:
        """Return whether the result of `key` exists and is undamaged. A repeated call is cheap."""
        try:
            mark = _mark(self.path(key).stat())
        except FileNotFoundError:
            return False
        if self._verified.get(key) != mark:
            if self.load(key) is None:
                return False
            self._verified[key] = mark
        return True

    def save(self, key: str, tensors: dict[str, Tensor], card: Card) -> None:
        """Write the result of `key` in one step; remove its checkpoint and the traceback of an earlier failure."""
        atomic.save(self.path(key), tensors, card)
        self.forget_attempts(key)

    def forget_attempts(self, key: str) -> None:
        """Remove the checkpoints and the traceback of a failure that lie beside a result."""
        directory = self.path(key).parent
        for path in (*directory.glob(f"{key}*{CHECKPOINT}"), self.path(key, ".error.txt")):
            path.unlink(missing_ok=True)

    def claim(self, key: str) -> Claim | None:
        """Return the claim to work on `key`, a context manager; None while another process holds it."""
        return acquire(self.path(key, ".claim"))


class MissingResultError(FileNotFoundError):
    """A result that a unit needs is missing from the store; the unit can be done after the result is made again."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the result {key} is not in the store any more")
        self.key = key


class Stopped(BaseException):
    """The work was asked to stop and has saved its state. Not an error, so `except Exception` does not catch it."""


class UnitProgress(Progress):
    """The progress of a unit: reports, saves checkpoints, and stops the work on request.

    Args:
        unit: the unit, which this process has claimed.
        store: where the checkpoint is kept.
        deadline: value of `time.monotonic()` after which the work stops.
        stop: called at every tick; True stops the work.
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
        self._unit, self._path = unit, store.path(unit.key, CHECKPOINT)
        self._device_type = str(unit.context.get("device", "cpu")).partition(":")[0]
        self._deadline, self._stop, self._report = deadline, stop, report
        self._saved_at, self._reported_at = time.monotonic(), -math.inf

    def resume(self) -> State | None:
        """Return the state of the last checkpoint, or None to start from the beginning.

        A damaged checkpoint is ignored with a warning. So is a checkpoint of another type of device, where random
        numbers and rounding differ.
        """
        return self._load(self._path)

    def _load(self, path: Path) -> State | None:
        try:
            state, card = atomic.load(path)
        except FileNotFoundError:
            return None
        except atomic.DamagedFileError as error:
            warnings.warn(f"{error}; {self._unit.label} starts afresh", stacklevel=3)
            return None
        device_type = card.get("device_type", "cpu")  # older versions leave it out
        if device_type != self._device_type:
            warnings.warn(
                f"{self._unit.label}: begun on {device_type}, starts afresh on {self._device_type}", stacklevel=3
            )
            return None
        return state

    def cache(self, name: str, make: Callable[[], State]) -> State:
        """Return `make()`, whose value is stored in a file beside the checkpoint and loaded from it later.

        A file that is damaged, or was written on another type of device, is made again.
        """
        path = self._path.with_name(f"{self._unit.key}.{name}{CHECKPOINT}")
        state = self._load(path)
        if state is None:
            state = make()
            atomic.save(path, state, self._card())
        return state

    def _card(self) -> Card:
        return {"unit": self._unit.label, "device_type": self._device_type}

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        """Record that `done` of `total` rounds are finished.

        Raises:
            Stopped: the work was asked to stop, or the deadline has passed, with rounds left. The state is saved.
        """
        now = time.monotonic()
        is_late = now >= self._deadline
        stops = done < total and (is_late or self._stop())
        if stops or now - self._saved_at >= CHECKPOINT_SECONDS:
            atomic.save(self._path, state(), self._card() | {"done": done, "total": total})
            self._saved_at = now
        if stops:
            raise Stopped("time limit" if is_late else "interrupted")
        if now - self._reported_at >= REPORT_SECONDS:
            self._report(self._unit.label, done, total)
            self._reported_at = now


def _mark(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
