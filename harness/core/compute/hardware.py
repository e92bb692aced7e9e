"""The processor, as far as seconds, and what a compiler makes of it, depend on it."""

import hashlib
import platform
from itertools import takewhile
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")  # Linux has it


def processor() -> str:
    """Its name and what torch's own kernels use of it, such as "AMD EPYC, AVX2"."""
    return f"{_described().get('model name', 'CPU')}, {torch.backends.cpu.get_cpu_capability()}"


def instructions() -> str:
    """Eight letters that differ wherever a compiler that is asked for this processor's own code may differ."""
    found = _described()
    fields = ("cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")  # of x86, and of Arm
    told = [platform.machine(), *(found.get(name, "") for name in fields)] if found else [platform.processor()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def _described() -> dict[str, str]:
    """What Linux says of the first core, asked of that alone; elsewhere nothing."""
    if not CPUINFO.exists():
        return {}
    with CPUINFO.open() as cores:
        fields = [line.partition(":") for line in takewhile(str.strip, cores)]
    return {name.strip(): value.strip() for name, _, value in fields}
