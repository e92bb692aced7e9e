"""Fixtures of the tracks' tests."""

from pathlib import Path

import pytest

from harness.commands.run import Finished
from harness.core import data
from harness.core.data import DataSet
from tests.tracks.static_runs import FULL, complete, run_of


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return data.load("digits")


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A run with everything in it, undisturbed, by the serial engine: where its units are, and what came of it."""
    out = tmp_path_factory.mktemp("oracle")
    return out, complete(run_of(**FULL), out)
