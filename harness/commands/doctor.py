"""`harness doctor`: examine what this machine offers to a run, and what prevents one."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from harness.core import compute, data
from harness.core.compute import hardware
from harness.core.compute.compiler import find_compiler
from harness.execution.resources import count_usable_cpus

LEAST_BYTES = 2**30  # free: decoded CIFAR takes 180 MB, and a run of a paper's size some hundred
PACKAGES = ("condensation-harness", "torch", "torchvision", "avalanche-lib", "pandas", "scipy", "matplotlib")


@dataclass(frozen=True)
class Finding:
    """One thing that was examined: its name, what was found, and whether a run can work with it."""

    name: str
    found: str
    is_fine: bool = True


def examine(out: Path, data_dir: Path | None = None) -> Iterator[Finding]:
    """Examine everything that a run depends on: versions, devices, forms of computing, data sets, disk space.

    Args:
        out: the directory where runs are kept.
        data_dir: a directory that holds data sets.
    """
    yield Finding("python", f"{platform.python_version()}, {platform.platform()}")
    yield from map(_version, PACKAGES)
    yield Finding("processors", f"{hardware.processor()}; {count_usable_cpus()} usable, {_memory()}")
    yield _cuda()
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield _computing(torch.device(device))
    try:
        cache = data.cache_dir()
    except ValueError as error:
        yield Finding("cache", str(error), is_fine=False)
    else:
        yield _disk_space("cache", cache, "set HARNESS_CACHE to a writable place")
        for listing in data.describe(data_dir):
            yield Finding(f"data, {listing.name}", listing.found or _absent(listing))
    yield _disk_space("runs", out, "use another --out")


def _version(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "is not installed: pip install it", is_fine=False)


def _memory() -> str:
    return f"{psutil.virtual_memory().total / 2**30:.0f} GiB"


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        return Finding("cuda", "none: runs use the CPU")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("cuda", f"{', '.join(names)}; CUDA {torch.version.cuda}")


def _absent(listing: data.Listing) -> str:
    if not listing.downloadable:
        return "not here: supply it by --data"
    return "not here" + (", and HARNESS_OFFLINE=1" if os.environ.get("HARNESS_OFFLINE") == "1" else ": a download")


def _computing(device: torch.device) -> Finding:
    """Return the form of computing; a compiler that is there and cannot be used is a problem."""
    form, why = compute.resolve("auto", device, smoke=False)
    dtype = compute.resolve_dtype("auto", form, device)
    compiler, problem = find_compiler(device)
    found = f"{form} ({why}), {dtype} where no gradient passes"
    return Finding(f"computing, {device}", found, is_fine=not (compiler and problem))


def _disk_space(name: str, folder: Path, advice: str) -> Finding:
    """Check that files can be written in a folder that may not be there yet; return how much space is free."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(f"{name} in {folder}", f"cannot be written ({error.strerror}); {advice}", is_fine=False)
    free = shutil.disk_usage(existing).free
    if free < LEAST_BYTES:
        return Finding(f"{name} in {folder}", f"{free / 2**20:.0f} MiB free are too few; {advice}", is_fine=False)
    return Finding(f"{name} in {folder}", f"{free / 2**30:.0f} GiB free")
