"""Scores of architectures: their shape, their check, and runs of equal ones."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]


def check_scores(first: Array, second: Array) -> tuple[Array, Array]:
    """Both scores as float64.

    Raises:
        ValueError: the shapes differ, or a score is nan.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim == 0:
        raise ValueError(f"scores: expected two of one shape (..., architectures), got {first.shape}, {second.shape}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("scores: nan is none; leave the architecture out, or give -inf for one that diverged")
    return first, second


def find_runs(ordered: Array) -> tuple[Places, Places]:
    """Find the run of equal values around each of ordered scores (..., A): its first place and its end (exclusive)."""
    places, archs = np.arange(ordered.shape[-1]), ordered.shape[-1]
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first: Places = np.maximum.accumulate(np.where(is_new, places, 0), axis=-1)
    is_last = np.ones(ordered.shape, dtype=bool)
    is_last[..., :-1] = is_new[..., 1:]
    ends = np.where(is_last, places + 1, archs)[..., ::-1]
    end: Places = np.minimum.accumulate(ends, axis=-1)[..., ::-1]
    return first, end
