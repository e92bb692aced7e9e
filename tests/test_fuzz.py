"""A short run of the fuzz of foreign files; `python scripts/fuzz_files.py` goes on for longer."""

import importlib.util
import warnings
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz_files.py"
spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
assert spec is not None
assert spec.loader is not None
fuzz_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_files)


def test_foreign_files_get_one_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` shows warnings its own way, for good
    count, failures = fuzz_files.fuzz(seconds=30, seed=1, cases=10)
    assert not failures
    assert count > 5


def test_what_does_not_end_well_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(arguments: list[str]) -> int:
        raise TypeError("no such thing")

    monkeypatch.setattr(fuzz_files, "main", fail)
    assert "TypeError: no such thing" in fuzz_files.check(1, tmp_path)
    for number, code in enumerate((1, 2, 3)):  # 2 without a line on stderr
        monkeypatch.setattr(fuzz_files, "main", lambda arguments, code=code: code)
        (tmp_path / str(number)).mkdir()
        assert f"exit code {code}, 0 lines" in fuzz_files.check(1, tmp_path / str(number))
