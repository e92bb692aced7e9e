"""Which classes come when, and a labelled set as an Avalanche class-incremental stream."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from harness.core.data import DataSet

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.deprecated.new_classes.nc_scenario import NCScenario


def class_order(num_classes: int, seed: int) -> list[int]:
    """The published order of run `seed` (0 - 4 in the DM paper): NumPy's legacy permutation."""
    return [int(c) for c in np.random.RandomState(seed).permutation(num_classes)]


def split(order: Sequence[int], steps: int) -> list[list[int]]:
    """The classes of each experience: consecutive, equal slices of the order.

    Raises:
        ValueError: steps does not divide the number of classes.
    """
    if steps < 1 or len(order) % steps:
        divisors = [n for n in range(1, len(order) + 1) if len(order) % n == 0]
        raise ValueError(
            f"steps: {steps} does not divide the {len(order)} classes; choose from {', '.join(map(str, divisors))}"
        )
    size = len(order) // steps
    return [list(order[first : first + size]) for first in range(0, len(order), size)]


class NormalisedImages(Dataset[tuple[Tensor, int]]):
    """uint8 images (N, C, H, W) read one by one, normalised: nothing is copied until it is asked for."""

    def __init__(self, images: Tensor, labels: Tensor, dataset: DataSet) -> None:
        self.images, self.dataset = images, dataset
        self.targets = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.dataset.normalise(self.images[row]), self.targets[row]


def class_incremental(dataset: DataSet, order: Sequence[int], steps: int) -> "NCScenario":
    """The stream of `steps` experiences in class order `order`: original class ids, one task, nothing augmented.

    Args:
        order: every class of the data set once.
    Raises:
        ValueError: order is no permutation of the classes, or steps does not divide them.
    """
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils import as_classification_dataset

    if sorted(order) != list(range(dataset.num_classes)):
        raise ValueError(f"class order: expected each of 0 .. {dataset.num_classes - 1} once, got {list(order)}")
    split(order, steps)
    train: Any = as_classification_dataset(NormalisedImages(dataset.train_images, dataset.train_labels, dataset))
    test: Any = as_classification_dataset(NormalisedImages(dataset.test_images, dataset.test_labels, dataset))
    return nc_benchmark(train, test, n_experiences=steps, task_labels=False, fixed_class_order=list(order))
