"""Class orders, and a data set as a class-incremental stream of Avalanche."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from harness.core.data import DataSet

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.deprecated.new_classes.nc_scenario import NCExperience as NCExperience
    from avalanche.benchmarks.scenarios.deprecated.new_classes.nc_scenario import NCScenario as NCScenario


def class_order(num_classes: int, seed: int) -> list[int]:
    """Return the published class order of run `seed` (0 to 4 in the DM paper): NumPy's legacy permutation."""
    return [int(c) for c in np.random.RandomState(seed).permutation(num_classes)]


def split(order: Sequence[int], steps: int) -> list[list[int]]:
    """Return the classes of each experience: consecutive slices of the order, of equal size.

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
    """uint8 images (N, C, H, W), each normalised when it is read."""

    def __init__(self, images: Tensor, labels: Tensor, dataset: DataSet) -> None:
        self.images, self.dataset = images, dataset
        self.targets = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.dataset.normalise(self.images[row]), self.targets[row]


def class_incremental(dataset: DataSet, order: Sequence[int], steps: int) -> "NCScenario":
    """Return the stream of `steps` experiences: original class ids, one task, no augmentation.

    Args:
        dataset: train and test images.
        order: the class order, with every class of the data set once.
        steps: the number of experiences.
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
