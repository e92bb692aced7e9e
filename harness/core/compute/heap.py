"""Whether a process returns freed memory to the system."""

import ctypes
import sys

from harness.core.compute.tuning import KEPT_BYTES

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next batch, which makes training faster; see `tuning.KEPT_BYTES`.

    Has no effect where another library allocates memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, KEPT_BYTES)
