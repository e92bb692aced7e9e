"""The script for a GPU that is lent for a while: the commands it runs, their time limits, and the files it leaves."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_slice.sh"
STUB = """#!/bin/sh
if [ "$1" = -c ]; then exec {python} "$@"; fi
echo "$*" >> {log}
case "$*" in
    *"bench nas"*) echo '{{"bench": "nas", "device": "cpu", "jobs": 4}}' ;;
    *"run broken"*) exit 2 ;;
    *"--out"*)
        while [ "$1" != --out ]; do shift; done
        mkdir -p "$2/units/ab" && echo new > "$2/units/ab/$$.safetensors"
        exit 3 ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the timeout and split of GNU")


class Slice:
    """A slice whose Python interpreter is a stub that logs its arguments."""

    def __init__(self, folder: Path) -> None:
        self.log, self.out, self.stub = folder / "log.txt", folder / "out", folder / "python"
        self.stub.write_text(STUB.format(python=sys.executable, log=self.log))
        self.stub.chmod(0o755)

    def run(self, minutes: int, **settings: str) -> int:
        given = {"PYTHON": str(self.stub), "OUT": str(self.out), "DEVICE": "cpu", **settings}
        done = subprocess.run(["sh", SCRIPT, str(minutes)], env={**os.environ, **given}, capture_output=True)
        return done.returncode

    def calls(self, what: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if what in line]


def test_a_slice_runs_tests_benches_and_work(tmp_path: Path) -> None:
    one = Slice(tmp_path)
    assert one.run(10, WORK="reproduce nas-table;reproduce table1;run cl --memory dm") == 0
    assert one.calls("pytest") == ["-m pytest -m gpu tests/test_gpu.py"]
    named = [line.split("bench ")[1].split()[0] for line in one.calls(" bench ")]
    assert sorted(named) == ["dc", "dcc", "dm", "dsa", "fit", "idc", "nas"]  # each once
    done = one.calls("--time-limit")
    assert [line.split("harness.cli ")[1].split(" --out")[0] for line in done] == [
        "reproduce nas-table", "reproduce table1", "run cl --memory dm"
    ]  # fmt: skip
    assert all(line.endswith("--jobs 4") for line in done)  # as many as the bench found to be best
    limits = [int(match[1]) for line in done if (match := re.search(r"--time-limit (\d+)s", line))]
    # Nothing took any time: a third of 590 s, then half, then all, each less 45 s to stop in.
    assert limits == pytest.approx([590 / 3 - 45, 590 / 2 - 45, 590 - 45], abs=8)
    (archive,) = one.out.glob("runs.tar.*")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert len(names) == 3
    assert all(name.startswith("./units/ab/") for name in names)
    assert {path.name for path in one.out.iterdir()} == {"bench.jsonl", "runs.tar.00", "slice.log", "tests.log"}


def test_a_failed_command_does_not_stop_the_others(tmp_path: Path) -> None:
    one = Slice(tmp_path)
    assert one.run(3, TESTS="", BENCHES="", WORK="run broken;run cl") == 1
    assert len(one.calls("--time-limit")) == 2
    assert not any("--jobs" in line for line in one.calls("--time-limit"))  # nothing was measured


def test_a_slice_ends_in_time(tmp_path: Path) -> None:
    one = Slice(tmp_path)
    assert one.run(0, WORK="run cl") == 124  # the exit code of the tests, for which there was no time
    assert not one.log.exists()
