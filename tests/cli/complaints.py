"""The one line that bad input gets."""

from pathlib import Path

import pytest

from harness.cli import main


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `arguments` get; exit code 2, and every file in the working directory stays as it was."""
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    code = main(arguments)
    printed, errors = capsys.readouterr()
    assert code == 2, errors
    assert printed == ""
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("harness: ")
    after = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    assert after == before
    return lines[0].removeprefix("harness: ")
