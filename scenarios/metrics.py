"""Metrics of a class-incremental run."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def seen_accuracy(right: Matrix, total: Matrix) -> NDArray[np.float64]:
    """Return the accuracy on all classes seen so far, after each experience, in %, (T,).

    Args:
        right: (T, T), after experience t, the number of correctly classified test images of experience s <= t.
        total: (T, T), the number of all test images of experience s.
    """
    seen = np.tril(np.ones_like(right))
    accuracy: Matrix = 100 * (right * seen).sum(1) / (total * seen).sum(1)
    return accuracy


def average_incremental_accuracy(seen: NDArray[np.float64]) -> float:
    """Return the mean over experiences of the accuracy on the classes seen so far, in %."""
    return float(seen.mean())


def forgetting(accuracy: Matrix) -> float:
    """Return the mean drop of old experiences from their best accuracy, in percentage points; nan for one experience.

    Chaudhry et al., ECCV 2018 (arXiv:1801.10112): mean over experiences s before the last of
    max over t < T of accuracy[t, s] minus accuracy[T, s].

    Args:
        accuracy: (T, T) in %; entries with s > t are ignored.
    """
    last = len(accuracy) - 1
    if last == 0:
        return float("nan")
    drops = [accuracy[s:last, s].max() - accuracy[last, s] for s in range(last)]
    return float(np.mean(drops))
