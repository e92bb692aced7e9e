"""The serial engine: units one after another in this process."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch

from harness.core.compute import heap
from harness.execution.engines.attempt import TURN_SECONDS, Limits, Work, attempt, use_one_thread
from harness.execution.schedule import Schedule


def run_serial(
    schedule: Schedule, work: Work, jobs: int, limits: Limits, environments: Sequence[Mapping[str, str]]
) -> str | None:
    """Do the scheduled units in this process; return why it stopped early, or None.

    `jobs` and `environments` are ignored.
    """
    heap.keep_freed_memory()
    with suppress(KeyboardInterrupt), use_one_thread():
        while limits.reason_to_stop() is None:
            if unit := schedule.take():
                event = attempt(unit, schedule.store, work, limits.deadline, limits.is_interrupted, schedule.report)
                schedule.record(unit, event)
                if event.is_spoilt and _is_gpu_lost(unit.context.get("device")):
                    return "the GPU is lost to this process"
            elif schedule.has_work():
                time.sleep(TURN_SECONDS)
            else:
                return None
    return limits.reason_to_stop()


def _is_gpu_lost(device: str | None) -> bool:
    """Return whether calls to the GPU keep raising the error of an earlier kernel; only a new process can recover."""
    try:
        torch.cuda.synchronize(None if device == "cpu" else device)
    except RuntimeError:
        return True
    return False
