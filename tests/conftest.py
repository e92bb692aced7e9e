"""Settings of every test: one thread, no network, an empty cache of data, a lasting one of compiled code."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from harness import (
    memory,  # noqa: F401  # before a test puts tests/ on the path, where tests/memory could be taken for it
    results,  # noqa: F401
    scenarios,  # noqa: F401
)
from harness.core.data import DataSet

_CACHE = tempfile.TemporaryDirectory(prefix="harness-tests-", ignore_cleanup_errors=True)

os.environ["HARNESS_CACHE"] = _CACHE.name
os.environ["HARNESS_OFFLINE"] = "1"
os.environ.pop("HARNESS_DATA", None)  # of whoever runs the tests: real images, on which a test would train for hours
# What is compiled once need not be compiled again by the next run of the tests.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "inductor"))
torch.set_num_threads(1)


def pytest_unconfigure(config: pytest.Config) -> None:
    _CACHE.cleanup()


@pytest.fixture(scope="session")
def toy_set() -> DataSet:
    """Ten classes of 12 train and 4 test images, 1 x 8 x 8: each class has a pattern of its own, under noise."""
    rng = torch.Generator().manual_seed(3)
    patterns = torch.randint(40, 216, (10, 1, 8, 8), generator=rng)

    def images(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(10).repeat(per_class)  # classes take turns, as in shuffled data
        noise = torch.randint(-30, 31, (len(labels), 1, 8, 8), generator=rng)
        return (patterns[labels] + noise).to(torch.uint8), labels

    names = tuple(f"class {c}" for c in range(10))
    return DataSet("toy", *images(12), *images(4), names, (0.5,), (0.25,), "0" * 64, "as listed: made up")


@pytest.fixture(scope="session")
def published() -> Path:
    """The papers' numbers."""
    return Path(__file__).parents[1] / "results" / "published"
