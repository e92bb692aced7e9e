"""Data sets of the tests: none is named by the environment, cached or downloaded."""

from pathlib import Path

import pytest

from harness.core.data.known import KNOWN
from tests.core.data.small_set import SMALL


@pytest.fixture(autouse=True)
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no data named by the environment, no network, and a cifar10 small enough to write."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setitem(KNOWN, "cifar10", SMALL)
