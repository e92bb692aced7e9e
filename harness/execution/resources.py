"""Devices, GPUs and processor cores of this machine, how many workers share them, and the memory a process takes."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from joblib.externals.loky import cpu_count

from harness.core.compute import hardware
from harness.core.compute.tuning import WORKERS_PER_GPU

SHARED_BY = "HARNESS_GPU_SHARED_BY"  # environment variable of a worker: how many workers share its GPU
PEAK_SLACK = 16 * 2**20  # bytes: the kernel counts resident pages for each thread and sums them with a delay


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if this machine has a CUDA device, and the CPU otherwise.

    Raises:
        ValueError: the name is unknown, or it asks for a CUDA device that this machine does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device: {name!r} is unknown; choose from auto, cpu, cuda, cuda:N")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("device: cuda is asked for, but torch finds no CUDA device here; use --device cpu")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise ValueError(f"device: {name} is asked for, but there are {torch.cuda.device_count()} here, from cuda:0 on")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def count_usable_cpus() -> int:
    """Return the number of processor cores that this process may use, by its affinity and its container's quota."""
    return int(cpu_count())


def count_workers(device: str, engine: str = "local", jobs: int | None = None) -> int:
    """Return how many units are worked on at a time: `jobs`; by default one per core or `WORKERS_PER_GPU` per GPU."""
    if engine == "serial":
        return 1
    return jobs or WORKERS_PER_GPU * len(list_gpu_environments(device)) or count_usable_cpus()


def count_full_rate_workers(device: str, workers: int) -> int:
    """Return how many of so many workers run without slowing each other down: one for each GPU, or all on a CPU."""
    return min(workers, len(list_gpu_environments(device)) or workers)


def list_worker_environments(device: str, workers: int) -> list[dict[str, str]]:
    """Return the environment variables to spread workers over: the GPU each one sees, and how many share that GPU."""
    gpus = list_gpu_environments(device)
    workers_per_gpu = -(-workers // len(gpus)) if gpus else 1
    return [{**gpu, SHARED_BY: str(workers_per_gpu)} for gpu in gpus] or [{}]


def list_gpu_environments(device: str) -> list[dict[str, str]]:
    """Return, for each GPU that `device` allows, the variables that let a process see this GPU alone; [] on a CPU."""
    if not device.startswith("cuda"):
        return []
    if device != "cuda":  # the device names its GPU itself
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in visible.split(",")]


def describe_device(device: torch.device) -> str:
    """Return the name of the hardware as rows give it, with what its seconds depend on.

    This is the number of threads of a CPU, and the number of workers that share a GPU.
    """
    if device.type == "cuda":
        workers = int(os.environ.get(SHARED_BY, "1"))
        return torch.cuda.get_device_name(device) + (f", shared by {workers} workers" if workers > 1 else "")
    return f"{hardware.processor()}, 1 thread"


@contextmanager
def measure_peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Measure the peak of memory, in bytes, while the context is open.

    The dictionary gets `peak_bytes` at the end: the most device memory allocated on CUDA, or the most resident memory
    of this process on a CPU. On a CPU it stays empty if the system cannot reset the peak, which may then be that of
    earlier work.
    """
    peak: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak["peak_bytes"] = torch.cuda.max_memory_allocated(device)
        return
    is_reset = reset_resident_peak()
    yield peak
    if is_reset:
        peak["peak_bytes"] = _resident_peak()


def reset_resident_peak() -> bool:
    """Reset this process's peak of resident memory to its present size; return whether the system did so."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _resident_peak() <= psutil.Process().memory_info().rss + PEAK_SLACK
    return False


def _resident_peak() -> int:
    """Return the peak of this process's resident memory in bytes (VmHWM), which psutil does not give."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: the line VmHWM is missing")
