"""What a process does with memory that it has freed."""

import ctypes
import sys

KEPT = 2**30  # bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next batch, where glibc allocates; elsewhere nothing is changed.

    Else glibc gives every freed batch back to the system, which zeroes its pages anew for the next. On two cores of an
    AMD EPYC a ConvNet trains 1.4 times as fast so eagerly, at widths 32 and 128, and 1.0 to 1.3 times compiled.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, KEPT)
