import math
from collections.abc import Callable
from itertools import pairwise, permutations

import numpy as np
import pytest
from numpy.random import default_rng

from harness.results.statistics import ranking
from harness.results.statistics.ranking import Array

INF = math.inf


def scores(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


# Places 0 to 4; the proxy's order is 3, then 0 and 1 alike, 4 2; the truth's 1 4 2 0 3.
PROXY, TRUTH = scores(7, 7, 1, 9, 5), scores(60, 90, 70, 50, 80)


def orders_of(proxy: Array) -> list[list[int]]:
    """The places best first, in every order of equal scores."""
    return [list(order) for order in permutations(range(len(proxy)))
            if all(proxy[a] >= proxy[b] for a, b in pairwise(order))]  # fmt: skip


def test_equals_are_picked_with_the_same_chance() -> None:
    assert ranking.selection_chances(PROXY, 2).tolist() == [0.5, 0.5, 0, 1, 0]
    assert ranking.selection_chances(np.stack([PROXY, TRUTH]), 3).tolist() == [[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]]
    assert ranking.selection_chances(scores(-INF, -INF, 3, -INF), 3).tolist() == [2 / 3, 2 / 3, 1, 2 / 3]


def test_picks_by_hand() -> None:
    # Two are 3 and 0, whose truths are 50 and 60, or 3 and 1, the best: regret 30 or 0, best rank 4 or 1.
    assert [float(ranking.regret(PROXY, TRUTH, k)) for k in (1, 2, 3, 5)] == [40, 15, 0, 0]
    assert ranking.regret_curve(PROXY, TRUTH).tolist() == [40, 15, 0, 0, 0]
    assert [float(ranking.best_rank(PROXY, TRUTH, k)) for k in (1, 2, 3)] == [5, 2.5, 1]
    # Of the truth's best two, 1 and 4, the proxy has 1 in one of two orders; of its best three it has 1 for sure.
    found = [float(ranking.top_k_agreement(PROXY, TRUTH, k)) for k in (1, 2, 3, 5)]
    assert found == pytest.approx([0, 0.25, 1 / 3, 1])


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_picks_are_the_mean_over_every_order_of_the_tied(k: int) -> None:
    proxy, truth = scores(5, 5, 3, 3, 3, 3), scores(40, 20, 60, 10, 60, 50)
    picks = [order[:k] for order in orders_of(proxy)]
    true_picks = [set(order[:k]) for order in orders_of(truth)]
    best = [max(truth[pick]) for pick in picks]
    assert ranking.regret(proxy, truth, k) == pytest.approx(np.mean([60 - value for value in best]))
    assert ranking.best_rank(proxy, truth, k) == pytest.approx(np.mean([1 + (truth > value).sum() for value in best]))
    shared = [len(set(pick) & right) / k for pick in picks for right in true_picks]
    assert ranking.top_k_agreement(proxy, truth, k) == pytest.approx(np.mean(shared))


def test_no_order_of_the_architectures_matters() -> None:
    proxy, truth = default_rng(7).integers(0, 4, (2, 12)).astype(float)
    order = default_rng(8).permutation(12)
    for k in (1, 3, 7):
        for statistic in (ranking.regret, ranking.best_rank, ranking.top_k_agreement):
            assert statistic(proxy, truth, k) == pytest.approx(statistic(proxy[order], truth[order], k))
        rho, again = (
            ranking.rho_of_selected(a, b, ranking.selection_chances(a, k))
            for a, b in ((proxy, truth), (proxy[order], truth[order]))
        )
        assert rho == pytest.approx(again, nan_ok=True)


def test_rho_of_the_picked_by_hand() -> None:
    # Places 2 and 3 are tied for the last of three: each counts a half. Weighted ranks of the truth (what lies below,
    # and half of itself) of 0 1 2 3: 2.5 1.5 0.25 0.75; of the proxy 2.5 1.5 0.5 0.5; both means are 1.5.
    # Products 1 + 0 + (1.25 + 0.75) / 2 = 2; squares 1 + (1.5625 + 0.5625) / 2 = 2.0625, and 1 + 1 = 2.
    proxy, truth = scores(9, 8, 5, 5, 1), scores(90, 80, 10, 20, 99)
    found = ranking.rho_of_selected(proxy, truth, ranking.selection_chances(proxy, 3))
    assert found == pytest.approx(2 / math.sqrt(2.0625 * 2))
    # Without ties for the last place it is the rho of the picked.
    plain = ranking.rho_of_selected(proxy, truth, ranking.selection_chances(proxy, 4))
    assert plain == pytest.approx(ranking.spearman_rho(proxy[:4], truth[:4]))
    assert math.isnan(ranking.rho_of_selected(proxy, truth, ranking.selection_chances(proxy, 2)))  # fewer than three
    assert math.isnan(ranking.rho_of_selected(np.ones(5), truth, ranking.selection_chances(np.ones(5), 3)))  # constant


def test_equal_truths_share_the_best_rank() -> None:
    assert ranking.best_rank(scores(1, 2, 3), scores(8, 8, 8), 1) == 1
    assert ranking.best_rank(scores(1, 2, 3), scores(9, 8, 8), 1) == 2


def test_regret_where_networks_diverged() -> None:
    assert ranking.regret_curve(scores(3, 2, 1), scores(-INF, 50, 60)).tolist() == [INF, 10, 0]
    assert np.isnan(ranking.regret_curve(scores(3, 2), scores(-INF, -INF))).all()


def test_regret_of_picking_at_random_by_hand() -> None:
    # Of 0 3 9: one pick is on average 4, two are 3, 9 or 9, three are 9.
    assert ranking.regret_at_random(scores(9, 0, 3)) == pytest.approx([5, 2, 0])
    assert ranking.regret_at_random(scores(-INF, 3, 9)).tolist() == [INF, pytest.approx(2), 0]
    many = ranking.regret_at_random(np.arange(720.0))
    assert many[0] == pytest.approx(719 / 2)
    # The best of k of 1 .. A is on average k (A + 1) / (k + 1).
    assert many[35] == pytest.approx(720 - 36 * 721 / 37)


@pytest.mark.parametrize("k", [0, 6, -1])
@pytest.mark.parametrize("statistic", [ranking.regret, ranking.best_rank, ranking.top_k_agreement])
def test_more_than_there_are_cannot_be_picked(statistic: Callable[[Array, Array, int], Array], k: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 5, the number of architectures, got {k}"):
        statistic(PROXY, TRUTH, k)


@pytest.mark.parametrize(
    ("archs", "fraction", "n"), [(720, 0.05, 36), (720, 0.2, 144), (72, 0.05, 4), (35, 0.2, 7), (3, 0.05, 1)]
)
def test_a_share_is_rounded_up(archs: int, fraction: float, n: int) -> None:
    assert ranking.count_fraction(archs, fraction) == n


def test_ties_and_networks_at_chance_are_counted() -> None:
    values = scores(10, 10, 50, 60, 60, 60, -INF, -INF)
    assert ranking.count_tied(values) == 5
    assert ranking.count_at_chance(values, 10.9) == 2
    assert ranking.count_at_chance(scores(10.9, 10.91), 10.9) == 1


def test_the_bound_of_chance() -> None:
    # Two guesses at a coin: both right with probability 1/4, so one of two, 50 %, is passed by no more than 1/4.
    assert ranking.chance_bound(2, 2, level=0.25) == 50
    assert ranking.chance_bound(2, 2, level=0.2) == 100
    # 10,000 images, 10 classes: std 0.3 %, the normal quantile of 0.001 is 3.09.
    assert ranking.chance_bound(10, 10_000) == pytest.approx(10 + 3.09 * 0.3, abs=0.02)
