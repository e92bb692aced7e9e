"""What a process does with memory that it has freed."""

import ctypes
import sys

from harness.core.compute.tuning import KEPT_BYTES

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next batch, where glibc allocates; elsewhere nothing is changed.

    Training is faster so: see `tuning.KEPT_BYTES`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, KEPT_BYTES)
