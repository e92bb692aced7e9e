"""What `harness doctor` finds on a machine."""

from importlib.metadata import version
from pathlib import Path

import pytest

from harness.commands import doctor
from harness.core import data


def test_doctor_finds_versions_data_and_forms(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in doctor.examine(tmp_path / "runs")}
    assert all(finding.is_fine for finding in findings.values())
    assert findings["torch"].found == version("torch")
    assert findings["data, digits"].found == "scikit-learn"
    assert findings["computing, cpu"].found.startswith(("compiled (", "eager ("))
    assert not (tmp_path / "runs").exists()


def test_doctor_names_what_prevents_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.commands.doctor.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("harness.commands.doctor.PACKAGES", ("torch", "no-such-package"))
    problems = {finding.name: finding.found for finding in doctor.examine(tmp_path) if not finding.is_fine}
    assert problems == {
        "no-such-package": "is not installed: pip install it",
        f"cache in {data.cache_dir()}": "cannot be written (Permission denied); set HARNESS_CACHE to a writable place",
        f"runs in {tmp_path}": "cannot be written (Permission denied); use another --out",
    }


def test_doctor_names_a_compiler_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho no such language >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    findings = {finding.name: finding for finding in doctor.examine(tmp_path)}
    assert findings["computing, cpu"].found.startswith(
        f"eager ({broken} is there, but does not work (no such language); several times slower than compiled)"
    )
    assert not findings["computing, cpu"].is_fine


def test_doctor_says_where_a_cache_can_be_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    problems = {finding.name: finding.found for finding in doctor.examine(tmp_path) if not finding.is_fine}
    assert problems["cache"] == "there is no home directory for decoded data: set HARNESS_CACHE to a writable place"
