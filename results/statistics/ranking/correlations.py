"""Rank correlations of scores (..., A) along the last axis, one number for each of the leading axes."""

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from harness.results.statistics.ranking.scores import Array, Places, check_scores, find_runs

FEWEST = 3  # fewer architectures have no correlation


def spearman_rho(first: Array, second: Array) -> Array:
    """Spearman's rho of scores (..., A): Pearson's correlation of their ranks, equal scores sharing the mean rank.

    Missing for fewer than three architectures, and where either side is constant.
    """
    first, second = check_scores(first, second)
    return _correlation(_centred_ranks(first), _centred_ranks(second))


def rho_of_selected(first: Array, second: Array, chances: Array) -> Array:
    """Spearman's rho of scores (..., A) among those picked with chances (..., A), as `selection_chances` gives them.

    Without ties for the last places it is `spearman_rho` of the picked. Those tied count in ranks and in sums by their
    chance of being picked: a number that no order of them changes. (The mean over the orders has no closed form.)
    Missing for fewer than three picked, and where either side is constant among them.
    """
    first, second = check_scores(first, second)
    number = chances.sum(-1, keepdims=True)

    def centred(scores: Array) -> Array:
        ranks = _weighted_ranks(scores, chances)
        rest: Array = ranks - (ranks * chances).sum(-1, keepdims=True) / number
        return rest

    one, other = centred(first), centred(second)
    return _correlation(one, other, chances, number[..., 0])


def kendall_tau_b(first: Array, second: Array) -> Array:
    """Kendall's tau-b of scores (..., A): concordant less discordant pairs, over the pairs without ties.

    Missing for fewer than three architectures, and where either side is constant.
    """
    return _each(lambda a, b: stats.kendalltau(a, b, variant="b", method="asymptotic").statistic, first, second)


def weighted_tau(first: Array, second: Array) -> Array:
    """Vigna's weighted tau of scores (..., A): a pair counts 1 / (1 + r) + 1 / (1 + s), r and s its ranks from 0.

    The best have rank 0, so that the top counts most. It is the mean of two values: ranks by the first scores, equal
    ones ordered by the second, and the other way round. Pairs tied on either side count as in tau-b (Vigna, WWW 2015;
    `scipy.stats.weightedtau`). Missing for fewer than three architectures, and where either side is constant.
    """

    def tau(a: Array, b: Array) -> float:
        return float(stats.weightedtau(stats.rankdata(a), stats.rankdata(b)).statistic)  # ranks, for -inf is no number

    return _each(tau, first, second)


def partial_rho(first: Array, second: Array, given: Places) -> Array:
    """Spearman's rho of scores (..., A) given categories (..., A, J): of the residuals of their ranks.

    Both sides' ranks are regressed on the one-hot categories, all J together and without interactions; the result is
    the correlation of what is left. Missing for fewer than three architectures, and where nothing is left on a side.
    """
    first, second = check_scores(first, second)
    levels = [given[..., j, np.newaxis] == np.unique(given[..., j]) for j in range(given.shape[-1])]
    design = np.concatenate(levels, axis=-1).astype(np.float64)  # (..., A, K)
    solved = np.linalg.pinv(np.swapaxes(design, -1, -2) @ design, hermitian=True)  # columns of two axes depend

    def left(scores: Array) -> Array:
        ranks = _centred_ranks(scores)
        fitted = design @ (solved @ (np.swapaxes(design, -1, -2) @ ranks[..., np.newaxis]))
        rest: Array = ranks - fitted[..., 0]
        is_rounding = (rest**2).sum(-1, keepdims=True) <= 1e-12 * (ranks**2).sum(-1, keepdims=True)
        return np.where(is_rounding, 0.0, rest)

    return _correlation(left(first), left(second))


def _centred_ranks(scores: Array) -> Array:
    ranked: Array = stats.rankdata(scores, axis=-1) - (scores.shape[-1] + 1) / 2
    return ranked


def _weighted_ranks(scores: Array, weights: Array) -> Array:
    """How much weight lies below each of scores (..., A), and half of that at it."""
    order = np.argsort(scores, axis=-1, kind="stable")
    ordered, heavy = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(weights, order, axis=-1)
    first, end = find_runs(ordered)
    through = np.concatenate([np.zeros((*heavy.shape[:-1], 1)), np.cumsum(heavy, axis=-1)], axis=-1)
    ranks = (np.take_along_axis(through, first, axis=-1) + np.take_along_axis(through, end, axis=-1)) / 2
    found: Array = np.empty_like(ranks)
    np.put_along_axis(found, order, ranks, axis=-1)
    return found


def _correlation(first: Array, second: Array, weights: Array | float = 1.0, number: Array | None = None) -> Array:
    """Pearson's correlation of centred values (..., A) with weights that sum to `number`; missing if undefined."""
    squares = [(weights * side**2).sum(-1) for side in (first, second)]
    # Sums of weights: what is constant differs by rounding.
    is_constant = (squares[0] < 1e-20) | (squares[1] < 1e-20)
    number = np.asarray(float(first.shape[-1])) if number is None else number
    is_defined = ~is_constant & (number > FEWEST - 0.5)
    spread = np.sqrt(squares[0] * squares[1])
    products = (weights * first * second).sum(-1)
    found: Array = np.where(is_defined, products / np.where(is_defined, spread, 1.0), math.nan)
    return np.clip(found, -1.0, 1.0)


def _each(correlation: Callable[[Array, Array], float], first: Array, second: Array) -> Array:
    first, second = check_scores(first, second)
    leading, archs = first.shape[:-1], first.shape[-1]
    if archs < FEWEST:
        return np.full(leading, math.nan)
    pairs = zip(first.reshape(-1, archs), second.reshape(-1, archs), strict=True)
    return np.array([correlation(a, b) for a, b in pairs], dtype=np.float64).reshape(leading)
