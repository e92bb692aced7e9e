"""The README's example of a method, installed as its readers would, works and keeps the contract."""

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import contract
from harness.cli import main

SECTION = (
    (Path(__file__).parents[1] / "README.md").read_text().partition("## Adding a method\n")[2].partition("\n## ")[0]
)
SMOKE = ("--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8", "--memory", "nearest-mean", "--json")


def block(kind: str) -> str:
    """The section's only block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    return str(found)


@dataclass(frozen=True)
class Installed:
    """A directory of packages that Python is to look into, and one to work in."""

    site: Path
    here: Path

    def run(self, module: str, *arguments: str) -> str:
        """What a module's command prints, having succeeded."""
        environment = {**os.environ, "PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1"}
        environment.pop("HARNESS_BUILDERS", None)
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=self.here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` shows warnings its own way, for good."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The example as pip leaves it: the module, and beside it what its pyproject.toml says."""
    site, here = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("here")
    code = block("python")
    name = code.splitlines()[0].removeprefix("# ")
    (site / name).write_text(code)
    groups = tomllib.loads(block("toml"))["project"]["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{k} = {v}" for k, v in entries.items()))
    ]
    info = site / "example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return Installed(site, here)


def test_it_is_listed_and_shown(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = installed.run("harness.cli", "ls", "memories").splitlines()
    assert "nearest-mean         Real images nearest to their class mean, in pixels." in lines
    monkeypatch.syspath_prepend(installed.site)
    assert main(["show", "nearest-mean"]) == 0
    assert "memory.power = 2.0" in capsys.readouterr().out


def test_it_is_judged_and_stands_in_the_table(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = installed.run("harness.cli", "run", "condense", *SMOKE, "--set", "memory.power=1", "--jobs", "1")
    result = json.loads(printed)
    assert (result["complete"], result["failed"]) == (True, {})
    assert {row["memory"] for row in result["results"]} == {"nearest-mean"}
    monkeypatch.chdir(installed.here)
    assert main(["table", result["directory"], "--format", "md"]) == 0
    table = capsys.readouterr().out
    assert table.count("| nearest-mean") == 1
    assert "memory.power=1.0" in table


def test_it_keeps_the_contract(installed: Installed) -> None:  # which judges it in a stream as well
    (command,) = re.findall(r"^pytest (.*?)\s*#", SECTION, re.MULTILINE)
    printed = installed.run("pytest", *command.split(), "-p", "no:cacheprovider")
    assert re.search(rf"\b{len(contract.CHECKS) + len(contract.RUNS)} passed\b", printed), printed
    assert not re.search("skipped|failed|warning", printed), printed
