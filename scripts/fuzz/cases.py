"""The cases of the fuzz, each made again by its seed."""

import contextlib
import io
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.cli import main
from scripts.fuzz.commands import fuzz_command, fuzz_run, fuzz_toml
from scripts.fuzz.folders import fuzz_archive, fuzz_folder
from scripts.fuzz.sets import fuzz_memory_folder, fuzz_pt

# What makes an input in the working directory, and returns the command line for it -> how often it is chosen.
KINDS: Mapping[Callable[[random.Random], list[str]], int] = {
    fuzz_folder: 2,
    fuzz_archive: 2,
    fuzz_pt: 3,
    fuzz_memory_folder: 1,
    fuzz_run: 3,
    fuzz_command: 2,
    fuzz_toml: 2,
}


def check(seed: int, work: Path) -> str | None:
    """Run the case of a seed in an empty directory; what is wrong with it, or None."""
    rng = random.Random(seed)
    (make,) = rng.choices(list(KINDS), list(KINDS.values()))
    with contextlib.chdir(work):
        arguments = make(rng)
        printed, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            try:
                code = main(arguments)
            except BaseException:  # a traceback is what this looks for
                return f"{make.__name__} {arguments}: {traceback.format_exc()}"
        errors.seek(0)
        lines = errors.read().splitlines()
    if code == 2 and lines and len(lines) <= 3 and not any("Traceback" in line for line in lines):
        return None
    if code == 0:
        return None
    return f"{make.__name__} {arguments}: exit code {code}, {len(lines)} lines: {lines[:5]}"


def fuzz(seconds: float, seed: int, cases: int | None = None) -> tuple[int, list[str]]:
    """Run cases from `seed` on until the time is over or all are run; their number, and a text for each that fails."""
    end, number = time.monotonic() + seconds, 0
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        cache = os.environ.get("HARNESS_CACHE")
        os.environ["HARNESS_CACHE"] = str(Path(directory, "cache"))
        try:
            while time.monotonic() < end and (cases is None or number < cases):
                work = Path(directory, "work")
                work.mkdir()
                if failure := check(seed + number, work):
                    failures.append(f"seed {seed + number}: {failure}")
                shutil.rmtree(work)
                number += 1
        finally:
            if cache is None:
                del os.environ["HARNESS_CACHE"]
            else:
                os.environ["HARNESS_CACHE"] = cache
    return number, failures
