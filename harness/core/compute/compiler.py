"""The compiler that torch.compile calls: whether it exists, and whether a library that it compiles can be loaded."""

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
    """Return the compiler for `device`, or "", and the reason why it cannot be used, or "".

    A CPU needs a C++ compiler. CUDA needs Triton, a C compiler and Python's headers, since Triton launches its kernels
    from C.
    """
    on_cuda = device.type == "cuda"
    names = ("gcc", "clang") if on_cuda else ("clang++",) if sys.platform == "darwin" else ("g++",)
    variable = "CC" if on_cuda else "CXX"
    given = os.environ.get(variable, "").split()  # a command, perhaps with arguments, that replaces the defaults
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
    """Return the directory of Inductor's cache, which is separate for each kind of processor.

    Inductor does not record for which processor it compiled its code, so hosts that share a home directory must not
    share one cache.
    """
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(given) if given else cache_dir() / "inductor" / hardware.instructions()


@cache
def try_compiler(command: tuple[str, ...], language: str, cache: Path) -> str:
    """Compile a function, load it from the directory `cache` and call it; return what went wrong, or "".

    The result is cached, so that a process tries each compiler once.
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
        return f"{command[0]} is there, but does not finish"
    except OSError as error:
        return f"{cache} cannot be written ({error.strerror}): set HARNESS_CACHE to a writable place"
    return ""
