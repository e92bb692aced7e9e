import math
from collections.abc import Callable
from itertools import pairwise, permutations

import numpy as np
import pytest
from numpy.random import default_rng

from harness.results.statistics import ranking
from harness.results.statistics.ranking import Array, Difference, Estimate, Networks, Statistic

INF = math.inf
CORRELATIONS = [ranking.spearman_rho, ranking.kendall_tau_b, ranking.weighted_tau]
RHO = ranking.ranks(ranking.spearman_rho)
each_correlation = pytest.mark.parametrize("correlation", CORRELATIONS)
Correlation = Callable[[Array, Array], Array]


def scores(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


def of_one(values: Array) -> Networks:
    """Architectures of one network each, as good in validation as in test."""
    return Networks(values[:, np.newaxis], values[:, np.newaxis])


def simulated(rng: np.random.Generator, archs: int, repeats: int, noise: float) -> tuple[Networks, Networks]:
    """A proxy and a truth: means that correlate at 0.7, normal, and normal noise of each network."""
    true = rng.standard_normal(archs)
    proxy = 0.7 * true + math.sqrt(1 - 0.7**2) * rng.standard_normal(archs)
    both = [mean[:, np.newaxis] + noise * rng.standard_normal((archs, repeats)) for mean in (proxy, true)]
    return Networks(both[0], both[0]), Networks(both[1], both[1])


def draws_of(statistic: Statistic, proxy: Networks, truth: Networks, seed: int = 0, draws: int = 50) -> Array:
    return ranking.bootstrap({"it": statistic}, proxy, truth, default_rng(seed), draws)["it"].draws


def estimate(statistic: Statistic, proxy: Networks, truth: Networks, draws: int = 100, seed: int = 0) -> Estimate:
    return ranking.interval(ranking.bootstrap({"it": statistic}, proxy, truth, default_rng(seed), draws)["it"])


def difference(
    statistic: Statistic, first: Networks, second: Networks, truth: Networks, draws: int = 200
) -> Difference:
    both = [ranking.bootstrap({"it": statistic}, each, truth, default_rng(0), draws)["it"] for each in (first, second)]
    return ranking.paired(*both)


# --- correlations ---------------------------------------------------------------------------------------------------


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


# --- what is picked -------------------------------------------------------------------------------------------------

# Places 0 to 4; the proxy's order is 3, then 0 and 1 alike, 4 2; the truth's 1 4 2 0 3.
PROXY, TRUTH = scores(7, 7, 1, 9, 5), scores(60, 90, 70, 50, 80)


def orders_of(proxy: Array) -> list[list[int]]:
    """The places best first, in every order of equal scores."""
    return [list(order) for order in permutations(range(len(proxy)))
            if all(proxy[a] >= proxy[b] for a, b in pairwise(order))]  # fmt: skip


def test_equals_are_picked_with_the_same_chance() -> None:
    assert ranking.picked(PROXY, 2).tolist() == [0.5, 0.5, 0, 1, 0]
    assert ranking.picked(np.stack([PROXY, TRUTH]), 3).tolist() == [[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]]
    assert ranking.picked(scores(-INF, -INF, 3, -INF), 3).tolist() == [2 / 3, 2 / 3, 1, 2 / 3]


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
            ranking.rho_of_picked(a, b, ranking.picked(a, k)) for a, b in ((proxy, truth), (proxy[order], truth[order]))
        )
        assert rho == pytest.approx(again, nan_ok=True)


def test_rho_of_the_picked_by_hand() -> None:
    # Places 2 and 3 are tied for the last of three: each counts a half. Weighted ranks of the truth (what lies below,
    # and half of itself) of 0 1 2 3: 2.5 1.5 0.25 0.75; of the proxy 2.5 1.5 0.5 0.5; both means are 1.5.
    # Products 1 + 0 + (1.25 + 0.75) / 2 = 2; squares 1 + (1.5625 + 0.5625) / 2 = 2.0625, and 1 + 1 = 2.
    proxy, truth = scores(9, 8, 5, 5, 1), scores(90, 80, 10, 20, 99)
    found = ranking.rho_of_picked(proxy, truth, ranking.picked(proxy, 3))
    assert found == pytest.approx(2 / math.sqrt(2.0625 * 2))
    # Without ties for the last place it is the rho of the picked.
    plain = ranking.rho_of_picked(proxy, truth, ranking.picked(proxy, 4))
    assert plain == pytest.approx(ranking.spearman_rho(proxy[:4], truth[:4]))
    assert math.isnan(ranking.rho_of_picked(proxy, truth, ranking.picked(proxy, 2)))  # fewer than three
    assert math.isnan(ranking.rho_of_picked(np.ones(5), truth, ranking.picked(np.ones(5), 3)))  # constant


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
    assert ranking.share(archs, fraction) == n


# --- counts ---------------------------------------------------------------------------------------------------------


def test_ties_and_networks_at_chance_are_counted() -> None:
    values = scores(10, 10, 50, 60, 60, 60, -INF, -INF)
    assert ranking.tied(values) == 5
    assert ranking.at_chance(values, 10.9) == 2
    assert ranking.at_chance(scores(10.9, 10.91), 10.9) == 1


def test_the_bound_of_chance() -> None:
    # Two guesses at a coin: both right with probability 1/4, so one of two, 50 %, is passed by no more than 1/4.
    assert ranking.chance_bound(2, 2, level=0.25) == 50
    assert ranking.chance_bound(2, 2, level=0.2) == 100
    # 10,000 images, 10 classes: std 0.3 %, the normal quantile of 0.001 is 3.09.
    assert ranking.chance_bound(10, 10_000) == pytest.approx(10 + 3.09 * 0.3, abs=0.02)


# --- samples --------------------------------------------------------------------------------------------------------


def test_scores_are_means_and_a_diverged_network_makes_its_architecture_last() -> None:
    values = np.array([[10.0, 20.0], [30.0, np.nan], [90.0, -INF]])
    assert Networks(values, values).scores().test.tolist() == [15, 30, -INF]


def test_networks_are_drawn_from_those_there_are() -> None:
    values = np.array([[1.0, 3.0, np.nan], [np.nan, 5.0, np.nan], [7.0, 8.0, 9.0], [-INF, 4.0, 4.0]])
    archs = np.tile(np.arange(4), (400, 1))
    drawn = Networks(values, values + 1).drawn(archs, default_rng(0))
    assert set(drawn.validation[:, 0]) == {1, 2, 3}
    assert set(drawn.validation[:, 1]) == {5}
    assert drawn.validation[:, 2].mean() == pytest.approx(8, abs=0.1)
    # Three draws from three avoid the one that diverged with probability (2/3)^3 = 0.296.
    assert np.isneginf(drawn.validation[:, 3]).mean() == pytest.approx(1 - 0.296, abs=0.06)
    np.testing.assert_allclose(drawn.test, drawn.validation + 1)  # the same networks on both sides


@pytest.mark.parametrize(("validation", "test", "message"), [
    (np.ones((2, 3)), np.ones((2, 2)), r"got \(2, 3\) and \(2, 2\)"),
    (np.array([[1.0, np.nan]]), np.array([[1.0, 1.0]]), "needs both a validation and a test accuracy"),
    (np.array([[1.0], [np.nan]]), np.array([[1.0], [np.nan]]), "architecture 1 has none"),
])  # fmt: skip
def test_networks_that_are_none_are_refused(validation: Array, test: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Networks(validation, test)


def test_statistics_of_parts_by_hand() -> None:
    # Ten architectures; the truth is 0 .. 9. By validation the proxy picks 9 8 7 6 5, whose test accuracies fall.
    truth = of_one(np.arange(10.0))
    validation, test = np.arange(10.0), np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5.0])
    proxy = Networks(validation[:, np.newaxis], test[:, np.newaxis])
    sample = ranking.whole(proxy, truth)
    assert RHO.of(sample) == pytest.approx(1)
    assert ranking.ranks_of_best(0.5).of(sample) == pytest.approx(1)
    assert ranking.ranks_of_picked(0.5).of(sample) == pytest.approx(-1)
    assert ranking.picks(ranking.regret, 1).of(sample) == 0
    assert ranking.picks(ranking.top_k_agreement, 0.2).of(sample) == 1
    found = estimate(ranking.ranks_of_best(0.2), proxy, truth)
    assert found.n == 2  # too few for a correlation
    assert all(math.isnan(value) for value in found[:3])


def test_one_proxy_per_truth() -> None:
    with pytest.raises(ValueError, match="expected the 3 architectures of the truth, got 4"):
        ranking.whole(of_one(np.arange(4.0)), of_one(np.arange(3.0)))


# --- intervals ------------------------------------------------------------------------------------------------------


def test_the_same_generator_gives_the_same_interval() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    for statistic in (RHO, ranking.picks(ranking.regret, 1)):
        first, again = (estimate(statistic, proxy, truth, seed=7) for _ in range(2))
        assert estimate(statistic, proxy, truth, seed=8) != first
        assert first == again
        assert first.low <= first.value <= first.high
        assert first.n == 20


def test_draws_do_not_hang_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    at_once = draws_of(RHO, proxy, truth)
    monkeypatch.setattr(ranking, "AT_A_TIME", 100)
    np.testing.assert_array_equal(draws_of(RHO, proxy, truth), at_once)


def test_what_is_certain_has_an_interval_of_no_width() -> None:
    truth = of_one(np.arange(12.0))
    assert estimate(RHO, truth, truth) == pytest.approx((1, 1, 1, 12))


def test_an_interval_of_mostly_undefined_draws_is_missing() -> None:
    # One of 12 scores differs: draws without it, (11/12)^12 = 0.35 of them, are constant.
    found = estimate(RHO, of_one(np.eye(12)[0]), of_one(np.arange(12.0)))
    assert not math.isnan(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_only_what_is_picked_draws_networks_anew() -> None:
    # Two networks of every architecture lie far apart, their means in order.
    values = np.arange(12.0)[:, np.newaxis] + np.array([[-50.0, 50.0]])
    noisy, truth = Networks(values, values), of_one(np.arange(12.0))
    assert set(draws_of(RHO, noisy, truth)) == {1.0}
    assert draws_of(Statistic(RHO.of, redraws=True), noisy, truth).max() < 1
    regret = ranking.picks(ranking.regret, 1)
    assert draws_of(regret, noisy, truth).max() > 0
    assert draws_of(regret, truth, truth).max() == 0  # with one network of each, only architectures vary


def test_statistics_share_their_draws_and_keep_their_order() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    both = {"regret": ranking.picks(ranking.regret, 1), "rho": RHO, "tau": ranking.ranks(ranking.kendall_tau_b)}
    found = ranking.bootstrap(both, proxy, truth, default_rng(0), draws=50)
    assert list(found) == list(both)
    np.testing.assert_array_equal(found["rho"].draws, draws_of(RHO, proxy, truth))
    np.testing.assert_array_equal(found["tau"].draws, draws_of(both["tau"], proxy, truth))


def test_a_curve_is_drawn_as_well() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    curve = Statistic(lambda s: ranking.regret_curve(s.proxy.validation, s.truth.test), redraws=True)
    found = ranking.bootstrap({"curve": curve}, proxy, truth, default_rng(0), draws=50)["curve"]
    assert (found.value.shape, found.draws.shape) == ((20,), (50, 20))
    np.testing.assert_array_equal(found.draws[:, 0], draws_of(ranking.picks(ranking.regret, 1), proxy, truth))
    assert (np.diff(found.draws, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("statistic", "archs", "repeats", "low", "high"),
    [(RHO, 60, 3, 0.9, 0.99), (RHO, 60, 1, 0.9, 0.99), (ranking.picks(ranking.regret, 1), 60, 3, 0.9, 1.0)],
)
def test_intervals_hold_the_truth_at_about_the_nominal_rate(
    statistic: Statistic, archs: int, repeats: int, low: float, high: float
) -> None:
    rng = default_rng(4)
    # What the statistic of such a sample is on average, from 500 samples.
    target = np.mean([statistic.of(ranking.whole(*simulated(rng, archs, repeats, 0.5))) for _ in range(500)])
    held: list[bool] = []
    for _ in range(150):
        found = estimate(statistic, *simulated(rng, archs, repeats, 0.5), draws=150, seed=len(held))
        held.append(bool(found.low <= target <= found.high))
    assert low <= np.mean(held) <= high  # of 150 samples at 95 %: std 1.8 %


def test_two_proxies_are_compared_on_the_same_draws() -> None:
    rng = default_rng(5)
    proxy, truth = simulated(rng, 60, 3, 0.1)
    worse = of_one(rng.standard_normal(60))
    better = difference(RHO, proxy, worse, truth)
    reverse = difference(RHO, worse, proxy, truth)
    rhos = [float(RHO.of(ranking.whole(each, truth))) for each in (proxy, worse)]
    assert better.value == pytest.approx(rhos[0] - rhos[1])
    assert 0 < better.low < better.high
    assert better.p == pytest.approx(2 / 201)  # no draw on the other side: the least that 200 draws can say
    assert (reverse.value, reverse.p) == (-better.value, better.p)
    same = difference(RHO, proxy, proxy, truth)
    assert same == (0, 0, 0, 1, 60)
    constant = difference(RHO, of_one(np.ones(60)), proxy, truth)
    assert all(math.isnan(value) for value in constant[:4])


def test_pairs_are_of_the_same_architectures_however_many_networks_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both proxies score every architecture alike, one with a network of each, the other with five equal ones.
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    one = of_one(proxy.test[:, 0])
    five = Networks(np.repeat(one.validation, 5, axis=1), np.repeat(one.test, 5, axis=1))
    monkeypatch.setattr(ranking, "AT_A_TIME", 200)  # several chunks
    for statistic in (RHO, ranking.picks(ranking.regret, 1)):
        assert difference(statistic, one, five, truth) == (0, 0, 0, 1, 20)


def test_networks_of_two_proxies_are_drawn_apart() -> None:
    # The same numbers, but of different networks: with paired architectures alone, their difference still varies.
    values = np.arange(12.0)[:, np.newaxis] + np.array([[-50.0, 50.0]])
    noisy, truth = Networks(values, values), of_one(np.arange(12.0))
    regret = {"it": ranking.picks(ranking.regret, 1)}
    both = [ranking.bootstrap(regret, noisy, truth, default_rng(0), 200, default_rng(own))["it"] for own in (1, 2)]
    assert ranking.paired(*both).low < 0 < ranking.paired(*both).high
    again = ranking.bootstrap(regret, noisy, truth, default_rng(0), 200, default_rng(1))["it"]
    assert ranking.paired(both[0], again)[:4] == (0, 0, 0, 1)


def test_p_is_bounded_by_the_number_of_draws() -> None:
    truth = of_one(np.arange(30.0))
    for draws in (50, 1000):
        assert difference(RHO, truth, of_one(-np.arange(30.0)), truth, draws).p == pytest.approx(2 / (draws + 1))


def test_p_of_proxies_that_differ_in_nothing_is_uniform() -> None:
    rng, ps = default_rng(6), []
    for _ in range(100):
        proxy, truth = simulated(rng, 40, 2, 0.5)
        # The truth's noise aside, both are the same proxy trained anew.
        again = Networks(*[proxy.test.mean(1, keepdims=True) + 0.5 * rng.standard_normal((40, 2))] * 2)
        fresh = Networks(*[proxy.test.mean(1, keepdims=True) + 0.5 * rng.standard_normal((40, 2))] * 2)
        ps.append(difference(RHO, again, fresh, truth, draws=100).p)
    assert np.mean(np.array(ps) < 0.05) <= 0.12  # of 100 at 5 %: std 2.2 %
    assert np.mean(ps) == pytest.approx(0.5, abs=0.1)


# --- the noise ceiling ----------------------------------------------------------------------------------------------


def test_the_ceiling_by_hand() -> None:
    truth = np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0], [4.0, 4.0]])
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(0.8)  # one swap, as above
    assert math.isnan(ranking.noise_ceiling(truth[:, :1], default_rng(0)))


def test_the_ceiling_is_the_mean_over_all_splits() -> None:
    truth = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 2.0], [3.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    # {0} and {1, 2}: 1 2 3 4 and 1 2.5 2.5 4; {1}: 1 3 2 4 and 1 2 3 4; {2}: as {0}.
    expected = (4.5 / math.sqrt(22.5) + 0.8 + 4.5 / math.sqrt(22.5)) / 3
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(expected)


def test_the_ceiling_of_the_best_by_hand() -> None:
    # The best four by the mean of both are 2 3 4 5, of which one half has 2 3 4 5 and the other 3 2 4 5: one swap.
    truth = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0], [3.0, 2.0], [4.0, 4.0], [5.0, 5.0]])
    assert ranking.noise_ceiling(truth, default_rng(0), 4 / 6) == pytest.approx(0.8)
    assert [ranking.halves(repeats) for repeats in (2, 5)] == [(1, 1), (2, 3)]


def test_many_networks_are_split_at_random() -> None:
    truth = default_rng(0).standard_normal((30, 1)) + 0.5 * default_rng(1).standard_normal((30, 12))
    exact = ranking.noise_ceiling(truth, default_rng(0), splits=462)  # 12 over 6, halved
    assert ranking.noise_ceiling(truth, default_rng(0), splits=60) == pytest.approx(exact, abs=0.02)


def test_the_ceiling_leaves_out_what_cannot_be_split() -> None:
    truth = np.array([[1.0, 1.0], [2.0, 3.0], [9.0, np.nan], [3.0, 2.0], [4.0, 4.0]])
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(0.8)
    assert math.isnan(ranking.noise_ceiling(np.ones((5, 2)), default_rng(0)))
