import warnings

import pytest

from harness.results.figures import registry


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn where a test is of them; `main` shows warnings its own way, for good."""
    monkeypatch.setattr(registry, "FIGURES", {})
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
