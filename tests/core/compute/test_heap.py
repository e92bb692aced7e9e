import platform
import subprocess
import sys

import pytest

from harness.core.compute.heap import keep_freed_memory

# How many pages the system had to give while batches of 64 MiB came and went, but for the first, by default and then
# with memory kept.
FAULTS = """
import resource
from harness.core.compute.heap import keep_freed_memory

def faults():
    for number in range(5):
        batch = bytearray(2**26)
        del batch
        if number == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_freed_batch_is_used_again() -> None:
    pages = 4 * 2**26 // 4096 // 16  # of four batches; a sixteenth, should the system's pages be larger
    script = [sys.executable, "-c", FAULTS]
    usual, kept = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
    assert int(usual) > pages
    assert int(kept) < pages // 16


def test_a_system_without_the_option_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr("harness.core.compute.heap.ctypes.CDLL", asked.append)  # None, which has no mallopt, as in musl
    monkeypatch.setattr(sys, "platform", "linux")
    keep_freed_memory()
    assert asked == [None]
    monkeypatch.setattr(sys, "platform", "win32")  # where the process itself cannot be asked
    keep_freed_memory()
    assert asked == [None]
