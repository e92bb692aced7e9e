"""The noise ceiling: how well one half of the truth's own networks ranks architectures as the other half does."""

import math
from itertools import combinations, islice

import numpy as np

from harness.results.statistics.ranking.correlations import rho_of_selected
from harness.results.statistics.ranking.scores import Array
from harness.results.statistics.ranking.selection import count_fraction, selection_chances


def noise_ceiling(truth: Array, rng: np.random.Generator, fraction: float = 1.0, splits: int = 100) -> float:
    """Spearman's rho of one half of the truth's own networks (A, R) with the other, the mean over splits of 1 .. R.

    With two networks of each it is that of one against another. With an odd R one half has a network more
    (`split_sizes`). All splits are taken if there are at most `splits`, otherwise as many random ones. Architectures
    without a network in one half are left out of that split. It is the rho of a proxy as good, and as noisy, as half
    of the truth. Proxies are compared with the mean of all networks, which is less noisy, so that a proxy without noise
    can lie above (`ceiling_of_mean`). Missing with one network of each.

    Args:
        fraction: among the best of them alone, by the mean of all their networks (`rho_of_selected`).
    """
    repeats = truth.shape[1]
    if repeats < 2:
        return math.nan
    half = repeats // 2
    number = math.comb(repeats, half) // (2 if repeats == 2 * half else 1)  # a half and its other half: one split
    if number <= splits:
        chosen = [list(first) for first in islice(combinations(range(repeats), half), number)]
    else:
        chosen = [list(rng.permutation(repeats)[:half]) for _ in range(splits)]
    rhos = []
    for first in chosen:
        second = [repeat for repeat in range(repeats) if repeat not in first]
        is_in = ~(np.isnan(truth[:, first]).all(1) | np.isnan(truth[:, second]).all(1))
        if not is_in.any():
            continue
        one, other, both = (np.nanmean(truth[is_in][:, part], axis=1) for part in (first, second, range(repeats)))
        rhos.append(float(rho_of_selected(one, other, selection_chances(both, count_fraction(len(both), fraction)))))
    defined = [rho for rho in rhos if not math.isnan(rho)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def ceiling_of_mean(half: float) -> float:
    """The highest expected rho with the mean of both halves, if the halves have rho `half` with each other.

    It is sqrt(2r / (1 + r)): by the Spearman-Brown formula the mean of two halves has the reliability 2r / (1 + r), and
    scores without noise correlate with it by the root of that. Missing if r is missing or negative.
    """
    return math.sqrt(2 * half / (1 + half)) if half >= 0 else math.nan


def split_sizes(repeats: int) -> tuple[int, int]:
    """How many networks of each architecture the two halves of `noise_ceiling` have."""
    return repeats // 2, repeats - repeats // 2
