"""Sets as others publish them, for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness.core.data import DataSet
from harness.core.foreign import FileConfig, load

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)
LABELS = torch.tensor([2, 0, 1, 2, 0, 1])
EXPECTED_IMAGES = "expected images (N, 3, 4, 4) of a float type or uint8 for toy"
EXPECTED_LABELS = "expected labels (N,) of an integer type, or probabilities (N, 3)"


def make_toy() -> DataSet:
    images, labels = torch.zeros(6, 3, 4, 4, dtype=torch.uint8), torch.arange(6) % 3
    return DataSet("toy", images, labels, images, labels, ("ape", "bee", "cat"), MEAN, STD, "d" * 64, "official")


def learned(seed: int = 0, size: int = 4) -> Tensor:
    return 2 * torch.randn(len(LABELS), 3, size, size, generator=Generator().manual_seed(seed))


def pixels(seed: int = 0) -> Tensor:
    return torch.rand(len(LABELS), 3, 4, 4, generator=Generator().manual_seed(seed))


def as_published(*sets: list[Any]) -> dict[str, Any]:
    """As DC's script leaves it, accuracies as NumPy's numbers included."""
    return {"data": list(sets), "accs_all_exps": {"ConvNet": [np.float64(0.9), np.float64(0.925)], "MLP": []}}


def refusal(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> str:
    """The one line that says why, less the path it begins with."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(path, dataset, cfg)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert said.count(str(path)) == 1
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")
