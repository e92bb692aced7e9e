"""The selection of architectures by a proxy: chances, agreement with the truth, regret, and counts.

Equal scores do not say which architecture is selected: each order of them is as likely, and a number is its exact mean
over these orders.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.results.statistics.ranking.scores import Array, check_scores, find_runs


def selection_chances(scores: Array, k: int) -> Array:
    """The chance (..., A) that each of scores (..., A) is among the k best.

    It is 1 or 0, except for those that are tied for the last places, which share these equally.

    Raises:
        ValueError: k is not from 1 to A.
    """
    archs = scores.shape[-1]
    _check_number(k, archs)
    last = -np.partition(-scores, k - 1, axis=-1)[..., k - 1 : k]  # the k-th best score
    is_sure, is_tied = scores > last, scores == last
    places = k - is_sure.sum(-1, keepdims=True)
    chances: Array = np.where(is_tied, places / is_tied.sum(-1, keepdims=True), is_sure.astype(np.float64))
    return chances


def count_fraction(archs: int, fraction: float) -> int:
    """The number of architectures in a fraction of them, rounded up: 5 % of 720 are 36."""
    return max(1, math.ceil(round(fraction * archs, 9)))  # 0.2 * 35 is a little more than 7


def top_k_agreement(proxy: Array, truth: Array, k: int) -> Array:
    """The part of the proxy's k best that is among the truth's k best, from 0 to 1; by chance k / A.

    Known as precision@k and as overlap@k: as both sets have k members, the two are the same number.
    """
    proxy, truth = check_scores(proxy, truth)
    agreement: Array = (selection_chances(proxy, k) * selection_chances(truth, k)).sum(-1) / k
    return agreement


def best_rank(proxy: Array, truth: Array, k: int) -> Array:
    """The true rank, from 1, of the best by truth among the proxy's k best; equals share their best rank."""
    proxy, truth = check_scores(proxy, truth)
    rank = stats.rankdata(-truth, method="min", axis=-1)
    return _least_of_selected(proxy, rank, [k])[..., 0]


def regret(proxy: Array, truth: Array, k: int) -> Array:
    """The points of true accuracy by which the best of the proxy's k best is below the best of all; at least 0.

    It is inf if all k may have diverged, and missing if all architectures diverged.
    """
    return _least_of_selected(*_losses(proxy, truth), [k])[..., 0]


def regret_curve(proxy: Array, truth: Array) -> Array:
    """`regret` for every k: (..., A), falling to 0 at k = A."""
    proxy, losses = _losses(proxy, truth)
    return _least_of_selected(proxy, losses, range(1, proxy.shape[-1] + 1))


def regret_at_random(truth: Array) -> Array:
    """`regret_curve` of scores (A,) if the architectures are tried in random order."""
    return regret_curve(np.zeros(len(truth)), truth)


def _losses(proxy: Array, truth: Array) -> tuple[Array, Array]:
    """The scores of the proxy, and how far each architecture's truth is below the best."""
    proxy, truth = check_scores(proxy, truth)
    with np.errstate(invalid="ignore"):  # -inf less -inf
        return proxy, truth.max(-1, keepdims=True, initial=-math.inf) - truth


def _least_of_selected(proxy: Array, losses: Array, numbers: Sequence[int]) -> Array:
    """The least of losses (..., A) among the proxy's k best, for each k of K numbers: (..., K).

    Of m architectures that are tied for the last places, j are selected. With their losses ascending, the first is
    selected with probability j / m and, if the first e are not, the next with j / (m - e). All others are selected.

    Raises:
        ValueError: a k is not from 1 to A.
    """
    archs = proxy.shape[-1]
    for k in numbers:
        _check_number(k, archs)
    order = np.lexsort((losses, -proxy), axis=-1)  # by the proxy, best first; of equals the least loss first
    ranked, losses = np.take_along_axis(proxy, order, axis=-1), np.take_along_axis(losses, order, axis=-1)
    first, end = find_runs(ranked)
    unknown = np.full((*losses.shape[:-1], 1), math.inf)
    before = np.concatenate([unknown, np.minimum.accumulate(losses, axis=-1)], axis=-1)  # the least of those before
    last = np.asarray(numbers) - 1  # the place of the last that is selected
    start, tied = first[..., last], (end - first)[..., last]
    places = last + 1 - start
    sure = np.take_along_axis(before, start, axis=-1)
    found, chance, missed = np.zeros(start.shape), np.ones(start.shape), 0
    while (chance > 0).any():
        own = np.take_along_axis(losses, np.minimum(start + missed, archs - 1), axis=-1)
        left = np.maximum(tied - missed, 1)
        is_selected = chance * np.minimum(places / left, 1)
        found += is_selected * np.where(is_selected > 0, np.minimum(own, sure), 0.0)  # inf: diverged
        chance = np.where(left > places, chance * (left - places) / left, 0.0)
        missed += 1
    return found


def _check_number(k: int, archs: int) -> None:
    if not 1 <= k <= archs:
        raise ValueError(f"k: expected 1 to {archs}, the number of architectures, got {k}")


def count_tied(scores: Array) -> int:
    """Count the scores (A,) that another architecture has too, without those that diverged."""
    _, counts = np.unique(scores[np.isfinite(scores)], return_counts=True)
    return int(counts[counts > 1].sum())


def chance_bound(classes: int, images: int, level: float = 0.001) -> float:
    """The accuracy (%) that guessing passes with a probability of at most `level`.

    Guesses among K classes are right Binomial(images, 1 / K) times; the bound is the upper quantile of that. The level
    is low because a space has many networks: of 720 that guess, 0.1 % leaves less than one to be mistaken.
    """
    return float(100 * stats.binom.isf(level, images, 1 / classes) / images)


def count_at_chance(scores: Array, bound: float) -> int:
    """Count the scores (A,) that are not above `bound`, without those that diverged."""
    return int((scores[np.isfinite(scores)] <= bound).sum())
