"""What `harness doctor` finds on a machine."""

from importlib.metadata import version
from pathlib import Path

import pytest

from harness.commands import doctor


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
        f"runs in {tmp_path}": "cannot be written (Permission denied); use another --out",
    }
