"""The devices and CPU cores of this machine, the workers that share them, and the memory that a process uses."""

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

SHARED_BY = "HARNESS_GPU_SHARED_BY"  # environment variable of a worker: the number of workers that share its GPU
PEAK_SLACK = 16 * 2**20  # bytes: the kernel counts resident pages for each thread and sums them with a delay


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if this machine has a CUDA device, and the CPU otherwise.

    Raises:
        ValueError: the name is unknown, or it asks for a CUDA device that this machine does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device: {name!r} is unknown; choose from auto, cpu, cuda, cuda:N")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("device: cuda needs a CUDA device, but torch finds none; use --device cpu")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {name} does not exist; there are {torch.cuda.device_count()} CUDA devices, from cuda:0 on"
        )
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def count_usable_cpus() -> int:
    """Return the number of CPU cores that this process may use, by its affinity and the quota of its container."""
    return int(cpu_count())


def count_workers(device: str, engine: str = "local", jobs: int | None = None) -> int:
    """Return the number of workers: `jobs`, or by default one per core or `WORKERS_PER_GPU` per GPU."""
    if engine == "serial":
        return 1
    return jobs or WORKERS_PER_GPU * len(list_gpu_environments(device)) or count_usable_cpus()


def count_full_rate_workers(device: str, workers: int) -> int:
    """Return how many of `workers` workers run without slowing each other down: one for each GPU, or all on a CPU."""
    return min(workers, len(list_gpu_environments(device)) or workers)


def list_worker_environments(device: str, workers: int) -> list[dict[str, str]]:
    """List the environments to spread workers over: the GPU that a worker sees, and the number of workers on it."""
    gpus = list_gpu_environments(device)
    workers_per_gpu = -(-workers // len(gpus)) if gpus else 1
    return [{**gpu, SHARED_BY: str(workers_per_gpu)} for gpu in gpus] or [{}]


def list_gpu_environments(device: str) -> list[dict[str, str]]:
    """List, for each GPU that `device` allows, the variables with which a process sees only this GPU; [] on a CPU."""
    if not device.startswith("cuda"):
        return []
    if device != "cuda":  # the device names its GPU itself
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in visible.split(",")]


def describe_device(device: torch.device) -> str:
    """Return the name of the hardware for rows, with the threads of a CPU, or the workers that share a GPU if several.

    The measured seconds depend on these numbers.
    """
    if device.type == "cuda":
        workers = int(os.environ.get(SHARED_BY, "1"))
        return torch.cuda.get_device_name(device) + (f", shared by {workers} workers" if workers > 1 else "")
    return f"{hardware.processor()}, 1 thread"


@contextmanager
def measure_peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Measure the peak of memory, in bytes, inside the context.

    The dictionary gets `peak_bytes` on exit: the largest device memory allocated on CUDA, or the largest resident
    memory of this process on a CPU. On a CPU it stays empty if the system cannot reset the peak, which then includes
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
    """Reset this process's peak of resident memory to its present size; return whether that worked."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _resident_peak() <= psutil.Process().memory_info().rss + PEAK_SLACK
    return False


def _resident_peak() -> int:
    """Return the peak of this process's resident memory in bytes (VmHWM), which psutil does not report."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: the line VmHWM is missing")
