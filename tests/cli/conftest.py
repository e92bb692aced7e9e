"""What the tests of the command line share."""

import warnings

import pytest


@pytest.fixture(autouse=True)
def warnings_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what `main` does for good: it shows warnings in a form of its own."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
