"""The compiler that torch.compile calls: whether there is one, and whether what it compiles can be loaded here."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from harness.core.compute import hardware
from harness.core.data import cache_dir

TRIAL_SECONDS = 60


def find_compiler(device: torch.device) -> tuple[str, str]:
    """Return the compiler for `device` ("" for none) and what keeps it from being used ("" for nothing).

    For a CPU it is one of C++; on CUDA, Triton's kernels are launched by C that includes Python's headers.
    """
    on_cuda = device.type == "cuda"
    names = ("gcc", "clang") if on_cuda else ("clang++",) if sys.platform == "darwin" else ("g++",)
    variable = "CC" if on_cuda else "CXX"
    given = os.environ.get(variable, "").split()  # may have arguments; it is called in place of the usual ones
    command = given or next(([name] for name in names if shutil.which(name)), [])
    if not command or not shutil.which(command[0]):
        return "", f"there is no C{'' if on_cuda else '++'} compiler ({given[0] if given else names[0]})"
    if on_cuda and importlib.util.find_spec("triton") is None:
        return command[0], "there is no Triton (the package triton)"
    if on_cuda and not Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").exists():
        return command[0], "Python's headers are not there (python3-dev)"
    try:
        cache = library_dir()
    except ValueError as error:
        return command[0], str(error)
    return command[0], try_compiler((*command,), "c" if on_cuda else "c++", cache)


def library_dir() -> Path:
    """Return where Inductor keeps what it has compiled, by the kind of processor.

    It takes code compiled for the instructions of one processor for the same on any other, so that hosts which share a
    home directory need a place for each kind.
    """
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(given) if given else cache_dir() / "inductor" / hardware.instructions()


@cache
def try_compiler(command: tuple[str, ...], language: str, cache: Path) -> str:
    """Compile one function, load it from `cache` and call it; return what went wrong, or "".

    A process tries each compiler once.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="trial-") as folder:
            source, library = Path(folder, "trial.c"), Path(folder, "trial.so")
            source.write_text(
                'extern "C" int answer() { return 42; }' if language == "c++" else "int answer() { return 42; }"
            )
            compiling = subprocess.run(
                [*command, "-x", language, "-shared", "-fPIC", "-o", str(library), str(source)],
                capture_output=True,
                text=True,
                timeout=TRIAL_SECONDS,
                check=False,
            )
            if compiling.returncode or not library.exists():
                said = next(iter(compiling.stderr.strip().splitlines()), f"exit code {compiling.returncode}")
                return f"{command[0]} is there, but does not work ({said})"
            try:
                ctypes.CDLL(str(library)).answer()
            except OSError:
                return f"{cache} lets no library be loaded (mounted noexec?): set HARNESS_CACHE to another place"
    except subprocess.TimeoutExpired:
        return f"{command[0]} is there, but does not come to an end"
    except OSError as error:
        return f"{cache} cannot be written ({error.strerror}): set HARNESS_CACHE to a writable place"
    return ""
