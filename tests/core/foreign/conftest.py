"""The data set that the sets of others are condensed from, and where a test writes one."""

from pathlib import Path

import pytest

from harness.core.data import DataSet
from tests.core.foreign.published_sets import make_toy


@pytest.fixture(scope="session")
def dataset() -> DataSet:
    return make_toy()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.pt"
