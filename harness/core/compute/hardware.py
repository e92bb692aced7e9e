"""The processor: its name, and a digest of the instructions that compiled code may use."""

import hashlib
import platform
from itertools import takewhile
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")  # Linux has it


def processor() -> str:
    """Return the processor's name and the instruction set that torch's kernels use, such as "AMD EPYC, AVX2"."""
    return f"{_read_cpuinfo().get('model name', 'CPU')}, {torch.backends.cpu.get_cpu_capability()}"


def instructions() -> str:
    """Return eight hexadecimal digits that differ between processors whose native compiled code may differ."""
    found = _read_cpuinfo()
    fields = ("cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")  # of x86, and of Arm
    values = [platform.machine(), *(found.get(name, "") for name in fields)] if found else [platform.processor()]
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:8]


def _read_cpuinfo() -> dict[str, str]:
    """Return the fields of /proc/cpuinfo for the first core; an empty dict on systems other than Linux."""
    if not CPUINFO.exists():
        return {}
    with CPUINFO.open() as cores:
        fields = [line.partition(":") for line in takewhile(str.strip, cores)]
    return {name.strip(): value.strip() for name, _, value in fields}
