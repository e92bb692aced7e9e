import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import compute
from harness.core.compute import hardware

OURS = f"cache/inductor/{hardware.instructions()} 1"
THEIR_OWN = {"TORCHINDUCTOR_CACHE_DIR": "theirs", "TORCHINDUCTOR_COMPILE_THREADS": "3"}
WHERE_INDUCTOR_COMPILES = """
import torch
from harness.core import compute

compute.resolve("auto", torch.device("cpu"), smoke=False)
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir(), config.compile_threads)
"""


@pytest.mark.parametrize(("given", "found"), [({}, OURS), (THEIR_OWN, "theirs 3")])
def test_inductor_compiles_alone_and_where_it_lasts(given: dict[str, str], found: str, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")}
    places = {name: str(tmp_path / place) if "DIR" in name else place for name, place in given.items()}
    environment = {**inherited, "HARNESS_CACHE": str(tmp_path / "cache"), **places}
    command = [sys.executable, "-c", WHERE_INDUCTOR_COMPILES]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == f"{tmp_path}/{found}"


def test_a_library_that_a_kill_cut_short_is_removed(tmp_path: Path) -> None:
    library = tmp_path / "a.main.so"
    library.touch()
    error = RuntimeError(f"ImportError: {library}: file too short")
    assert compute.remove_damaged_library(error)
    assert not library.exists()
    assert not compute.remove_damaged_library(error)  # not there: removing mends nothing
    assert not compute.remove_damaged_library(RuntimeError("another"))


def test_compiling_is_retried_after_a_cut_short_library(tmp_path: Path) -> None:
    libraries = [tmp_path / "forward.so", tmp_path / "backward.so"]
    for library in libraries:
        library.touch()

    def load() -> None:
        for library in libraries:
            if library.exists():
                raise ImportError(f"{library}: file too short")

    compute.retry_without_damaged_libraries(load)
    assert not any(library.exists() for library in libraries)
    with pytest.raises(ZeroDivisionError):
        compute.retry_without_damaged_libraries(lambda: 1 / 0)
