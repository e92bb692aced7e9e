import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import default_rng

from harness.results.statistics import ranking
from harness.results.statistics.ranking import Array

INF = math.inf
CORRELATIONS = [ranking.spearman_rho, ranking.kendall_tau_b, ranking.weighted_tau]
each_correlation = pytest.mark.parametrize("correlation", CORRELATIONS)
Correlation = Callable[[Array, Array], Array]


def scores(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


@each_correlation
def test_the_same_order_is_1_and_the_opposite_minus_1(correlation: Correlation) -> None:
    assert correlation(scores(1, 2, 3, 4), scores(10, 20, 30, 99)) == pytest.approx(1)
    assert correlation(scores(1, 2, 3, 4), scores(9, 7, 5, 3)) == pytest.approx(-1)


def test_rankings_by_hand() -> None:
    first, second = scores(1, 2, 3, 4), scores(1, 3, 2, 4)
    # One swap of neighbours: 1 - 6 (0 + 1 + 1 + 0) / (4 x 15) = 0.8; 5 of 6 pairs agree, one does not.
    assert ranking.spearman_rho(first, second) == pytest.approx(0.8)
    assert ranking.kendall_tau_b(first, second) == pytest.approx(4 / 6)
    # Ranks from 0, best first: 3 2 1 0 and 3 1 2 0. By the first side's ranks r the weights 1 / (1 + r) are 1/4 1/3
    # 1/2 1; each stands in three pairs, so all pairs weigh 3 (25/12) = 25/4, and the swapped pair 1/3 + 1/2 = 5/6,
    # which is also its weight by the second side's ranks: (25/4 - 2 x 5/6) / (25/4) = 11/15.
    assert ranking.weighted_tau(first, second) == pytest.approx(11 / 15)


def test_a_swap_at_the_top_weighs_more() -> None:
    truth = scores(1, 2, 3, 4)
    at_the_top, at_the_bottom = scores(1, 2, 4, 3), scores(2, 1, 3, 4)
    assert ranking.weighted_tau(at_the_top, truth) < ranking.weighted_tau(at_the_bottom, truth)
    assert ranking.kendall_tau_b(at_the_top, truth) == ranking.kendall_tau_b(at_the_bottom, truth)


def test_ties_share_the_mean_rank() -> None:
    first, second = scores(1, 2, 2, 3), scores(1, 2, 3, 4)
    # Centred ranks -1.5 0 0 1.5 and -1.5 -0.5 0.5 1.5: 4.5 / sqrt(4.5 x 5). Five pairs agree, one is tied on one side:
    # 5 / sqrt(5 x 6).
    assert ranking.spearman_rho(first, second) == pytest.approx(4.5 / math.sqrt(22.5))
    assert ranking.kendall_tau_b(first, second) == pytest.approx(5 / math.sqrt(30))


@each_correlation
def test_no_increasing_rescaling_matters(correlation: Correlation) -> None:
    first, second = default_rng(0).standard_normal((2, 30))
    assert correlation(np.exp(first), second**3) == pytest.approx(correlation(first, second), abs=1e-12)
    order = default_rng(1).permutation(30)
    assert correlation(first[order], second[order]) == pytest.approx(correlation(first, second), abs=1e-12)


@each_correlation
def test_what_is_undefined_is_missing(correlation: Correlation) -> None:
    for first, second in ((scores(5, 5, 5), scores(1, 2, 3)), (scores(1, 2, 3), scores(5, 5, 5))):
        assert math.isnan(correlation(first, second))
    assert math.isnan(correlation(scores(1, 2), scores(1, 2)))
    assert math.isnan(correlation(scores(-INF, -INF, -INF), scores(1, 2, 3)))
    assert math.isnan(correlation(scores(), scores()))


@each_correlation
def test_a_diverged_network_is_ranked_last(correlation: Correlation) -> None:
    truth = scores(3, 1, 4, 2)
    assert correlation(scores(30, -INF, 40, 20), truth) == pytest.approx(1)
    assert correlation(scores(30, -INF, 40, 20), truth) == correlation(scores(30, -5, 40, 20), truth)


@each_correlation
def test_many_samples_at_once_are_those_one_by_one(correlation: Correlation) -> None:
    first, second = default_rng(2).integers(0, 5, (2, 3, 4, 6)).astype(float)  # with ties
    first[0, 0] = 1  # constant
    found = correlation(first, second)
    assert found.shape == (3, 4)
    assert np.isnan(found[0, 0])
    expected = np.array([[float(correlation(first[i, j], second[i, j])) for j in range(4)] for i in range(3)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("first", "second", "message"), [
    (scores(1, math.nan), scores(1, 2), "scores: nan is none"),
    (scores(1, 2, 3), scores(1, 2), r"one shape \(\.\.\., architectures\), got \(3,\), \(2,\)"),
])  # fmt: skip
def test_what_is_no_score_is_refused(first: Array, second: Array, message: str) -> None:
    for statistic in (*CORRELATIONS, ranking.regret_curve):
        with pytest.raises(ValueError, match=message):
            statistic(first, second)


def test_partial_rho_by_hand() -> None:
    first, second = scores(1, 2, 3, 4), scores(2, 1, 4, 3)
    group = np.array([[0], [0], [1], [1]])
    # Two pairs, low and high: rho over all 1 - 6 x 4 / 60 = 0.6. Inside each pair the order is the opposite: -1.
    assert ranking.spearman_rho(first, second) == pytest.approx(0.6)
    assert ranking.partial_rho(first, second, group) == pytest.approx(-1)
    # One category for all takes nothing away but the mean; one for each leaves nothing.
    assert ranking.partial_rho(first, second, np.zeros((4, 1), dtype=int)) == pytest.approx(0.6)
    assert math.isnan(ranking.partial_rho(first, second, np.arange(4)[:, np.newaxis]))


def test_partial_rho_given_two_axes_is_that_of_what_both_leave() -> None:
    rng = default_rng(3)
    axes = np.stack([rng.integers(0, 3, 60), rng.integers(0, 2, 60)], axis=1)
    own = rng.standard_normal(60)
    first, second = own + 2 * axes[:, 0] - axes[:, 1], own + 3 * axes[:, 1]
    both, reverse = ranking.partial_rho(first, second, axes), ranking.partial_rho(first, second, axes[:, ::-1])
    assert both == pytest.approx(reverse, abs=1e-12)
    # The same by least squares on the ranks, the textbook way.
    design = np.concatenate([axes[:, :1] == np.arange(3), axes[:, 1:] == np.arange(2)], axis=1).astype(float)

    def rest(values: Array) -> Array:
        ranked = values.argsort().argsort().astype(float)
        left: Array = ranked - design @ np.linalg.lstsq(design, ranked, rcond=None)[0]
        return left

    assert both == pytest.approx(np.corrcoef(rest(first), rest(second))[0, 1], abs=1e-12)
    many = ranking.partial_rho(np.stack([first, second]), np.stack([second, second]), np.stack([axes, axes]))
    np.testing.assert_allclose(many, np.array([float(both), 1.0]), atol=1e-12)
