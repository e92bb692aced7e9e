"""What the tests of engines share: the toy work, and what it leaves behind."""

import hashlib
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.execution.engines import run
from harness.execution.units import Store, Unit

WORK = Path(__file__).parents[1] / "work"
if str(WORK) not in sys.path:
    sys.path.insert(0, str(WORK))  # this folder holds the toy work alone; worker processes inherit the path
toy = importlib.import_module("toy_work")
SECONDS = 30.0  # more than anything here takes on a busy machine


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def rounds(folder: Path) -> list[list[str]]:
    """The log of the walks: name, round, pid, torch threads, OMP_NUM_THREADS."""
    path = folder / "log.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def results(store: Store, units: list[Unit]) -> dict[str, str]:
    """The digest of each result's tensors and card (of both, not of the file: safetensors shuffles its metadata)."""
    digests = {}
    for unit in units:
        result = store.load(unit.key)
        assert result is not None
        content = result[0]["place"].numpy().tobytes() + json.dumps(result[1]).encode()
        digests[unit.label] = hashlib.sha256(content).hexdigest()
    return digests


def litter(store: Store) -> list[str]:
    """What lies in the store beside results."""
    return [path.name for path in store.root.rglob("*.*") if path.suffix != ".safetensors" or "checkpoint" in path.name]


def undisturbed_results(folder: Path) -> dict[str, str]:
    """The results of the chain from the serial engine, never stopped."""
    units, store = toy.chain(folder), Store(folder / "store")
    run(units, store, toy.walk, engine="serial")
    return results(store, units)
