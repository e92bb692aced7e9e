"""A compiler is tried before it is relied on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.core.compute.compiler import find_compiler, library_dir, try_compiler

CXX = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def script(path: Path, body: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return (str(path),)


def test_a_compiler_that_fails_is_named_with_what_it_says(tmp_path: Path) -> None:
    bodies = {"exit 3": "exit code 3", "echo out of order >&2; exit 1": "out of order", "exit 0": "exit code 0"}
    for number, (body, said) in enumerate(bodies.items()):
        command = script(tmp_path / f"cc{number}", body)  # another name each: a compiler is tried once
        found = try_compiler(command, "c++", tmp_path / "cache")
        assert found.startswith(f"{command[0]} is there, but does not work (")
        assert said in found


def test_a_compiler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.core.compute.compiler.TRIAL_SECONDS", 0.05)
    command = script(tmp_path / "cc", "exec sleep 60")
    assert try_compiler(command, "c++", tmp_path) == f"{command[0]} is there, but does not finish"


def test_a_cache_from_which_nothing_loads_is_named(tmp_path: Path) -> None:
    command = script(tmp_path / "cc", 'while [ "$1" != -o ]; do shift; done; echo no library > "$2"')
    found = try_compiler(command, "c++", tmp_path / "cache")
    assert (
        found == f"{tmp_path / 'cache'} lets no library be loaded (mounted noexec?): set HARNESS_CACHE to another place"
    )


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = try_compiler(("g++",), "c++", tmp_path / "file")
    assert found == f"{tmp_path / 'file'} cannot be written (File exists): set HARNESS_CACHE to a writable place"


@pytest.mark.skipif(not shutil.which(CXX.split()[0]), reason=f"there is no {CXX}")
def test_the_compiler_of_this_machine_works() -> None:
    compiler, problem = find_compiler(torch.device("cpu"))
    assert problem == ""
    assert list(library_dir().glob("trial-*")) == []
    assert subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
