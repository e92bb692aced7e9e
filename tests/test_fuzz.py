"""A short run of the fuzz of what users give to the commands; `python -m scripts.fuzz` goes on for longer."""

import importlib
import warnings
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("scripts.fuzz.cases")


def test_odd_input_gets_a_line_and_no_traceback(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` shows warnings its own way, for good
    count, failures = cases.fuzz(seconds=30, seed=1, cases=20)
    assert not failures
    assert count > 9


def test_what_does_not_end_well_is_told(cases: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(arguments: list[str]) -> int:
        raise TypeError("no such thing")

    monkeypatch.setattr(cases, "main", fail)
    assert "TypeError: no such thing" in str(cases.check(1, tmp_path))
    for number, code in enumerate((1, 2, 3)):  # 2 without a line on stderr
        monkeypatch.setattr(cases, "main", lambda arguments, code=code: code)
        (tmp_path / str(number)).mkdir()
        assert f"exit code {code}, 0 lines" in str(cases.check(1, tmp_path / str(number)))
