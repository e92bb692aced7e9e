"""The stream of the toy set."""

from typing import Any

import pytest

from harness.core.data import DataSet
from harness.scenarios.stream import class_incremental
from tests.scenarios.small_streams import ORDER, STEPS


@pytest.fixture(scope="module")
def stream(toy_set: DataSet) -> Any:
    return class_incremental(toy_set, ORDER, STEPS)
