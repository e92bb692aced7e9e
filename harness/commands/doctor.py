"""`harness doctor`: what this machine has for a run, and what is in the way of one."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.core import compute, data
from harness.core.compute import hardware
from harness.execution.resources import usable_cpus

PACKAGES = ("condensation-harness", "torch", "torchvision", "avalanche-lib", "pandas", "scipy", "matplotlib")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what of it there is here, and whether a run can do without more."""

    name: str
    found: str
    is_fine: bool = True


def examine(out: Path, data_dir: Path | None = None) -> Iterator[Finding]:
    """All that a run depends on here: versions, devices, the form of computing, data sets, and room in `out`."""
    yield Finding("python", f"{platform.python_version()}, {platform.platform()}")
    yield from map(_package, PACKAGES)
    yield Finding("processors", f"{hardware.processor()}; {usable_cpus()} usable, {_memory()}")
    yield _cuda()
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        form, why = compute.resolve("auto", torch.device(device), smoke=False)
        dtype = compute.resolve_dtype("auto", form, torch.device(device))
        yield Finding(f"computing, {device}", f"{form} ({why}), {dtype} where no gradient passes")
    yield Finding("decoded data", str(data.cache_dir()))
    for listing in data.describe(data_dir):
        yield Finding(f"data, {listing.name}", listing.found or _absent(listing))
    yield _room(out)


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "is not installed: pip install it", is_fine=False)


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return "memory unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        return Finding("cuda", "none: runs use the CPU")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("cuda", f"{', '.join(names)}; CUDA {torch.version.cuda}")


def _absent(listing: data.Listing) -> str:
    if not listing.downloadable:
        return "not here: supply it by --data"
    return "not here" + (", and HARNESS_OFFLINE=1" if os.environ.get("HARNESS_OFFLINE") == "1" else ": a download")


def _room(out: Path) -> Finding:
    """Whether files can be written where runs are kept, and how much room there is."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(f"runs in {out}", f"cannot be written ({error.strerror}); use another --out", is_fine=False)
    return Finding(f"runs in {out}", f"{shutil.disk_usage(there).free / 2**30:.0f} GiB free")
