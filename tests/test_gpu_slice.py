"""The script for a GPU that is lent for minutes: what its calls run, how long, and the files that they leave."""

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
case "$*" in *"$FAILS"*) exit 1 ;; esac
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the timeout and split of GNU")


class Slice:
    """Calls of the script, by default with a Python interpreter that is a stub and logs its arguments."""

    def __init__(self, directory: Path) -> None:
        self.log, self.out, self.kept = directory / "log.txt", directory / "out", directory / "kept"
        self.stub = directory / "python"
        self.stub.write_text(STUB.format(python=sys.executable, log=self.log))
        self.stub.chmod(0o755)

    def call(self, step: str, seconds: int = 540, **settings: str) -> subprocess.CompletedProcess[str]:
        usual = {
            "PYTHON": str(self.stub),
            "OUT": str(self.out),
            "KEPT": str(self.kept),
            "DEVICE": "cpu",
            "FAILS": "none",
        }
        environment = {**os.environ, **usual, **settings}
        command = ["sh", str(SCRIPT), step, str(seconds)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def commands(self) -> list[str]:
        return self.log.read_text().splitlines()


def test_each_call_does_one_thing(tmp_path: Path) -> None:
    calls = Slice(tmp_path)
    for step in ("tests", "bench", "run"):
        assert calls.call(step).returncode == 0
    tests, fit, dm, dsa, run = calls.commands()
    assert tests == "-m pytest -m gpu tests/test_gpu.py"
    assert [re.sub(r" --json.*", "", bench) for bench in (fit, dm, dsa)] == [
        f"-m harness.cli bench {name}" for name in ("fit", "dm", "dsa")
    ]
    assert run.startswith("-m harness.cli run cl --memory dm --orders 0 --nets 1 --out")
    (limit,) = re.findall(r"--time-limit (\d+)s", run)
    assert 540 - 75 - 10 <= int(limit) <= 540 - 75


def test_a_failure_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    calls = Slice(tmp_path)
    failed = calls.call("bench", FAILS="bench dm")
    assert failed.returncode == 1
    assert "bench dm: exit code 1" in failed.stderr
    assert "bench dsa" in calls.commands()[1]
    assert calls.call("tests", FAILS="pytest").returncode == 1
    assert calls.call("other").returncode == 2


def test_a_run_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    calls = Slice(tmp_path)
    work = "run condense --dataset digits --preset smoke --memory random --model convnet-d1-w4 --engine serial"
    done = calls.call("run", PYTHON=sys.executable, RUN=work)
    assert done.returncode == 0, done.stderr
    assert len(list(calls.kept.rglob("units/*/*.safetensors"))) == 2  # a memory and a network, kept for the next call
    (archive,) = calls.out.glob("runs.tar.*")
    with tarfile.open(archive) as tar:
        assert any(Path(name).name == "rows.csv" for name in tar.getnames())
