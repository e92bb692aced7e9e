import math

import numpy as np
import pytest
from numpy.random import default_rng

from harness.results.statistics import ranking
from harness.results.statistics.ranking import AccuracyMatrix, Array, Difference, Estimate, Statistic, resampling

INF = math.inf
RHO = ranking.rank_statistic(ranking.spearman_rho)


def of_one(values: Array) -> AccuracyMatrix:
    """Architectures of one network each, as good in validation as in test."""
    return AccuracyMatrix(values[:, np.newaxis], values[:, np.newaxis])


def simulated(
    rng: np.random.Generator, archs: int, repeats: int, noise: float
) -> tuple[AccuracyMatrix, AccuracyMatrix]:
    """A proxy and a truth: means that correlate at 0.7, normal, and normal noise of each network."""
    true = rng.standard_normal(archs)
    proxy = 0.7 * true + math.sqrt(1 - 0.7**2) * rng.standard_normal(archs)
    both = [mean[:, np.newaxis] + noise * rng.standard_normal((archs, repeats)) for mean in (proxy, true)]
    return AccuracyMatrix(both[0], both[0]), AccuracyMatrix(both[1], both[1])


def draws_of(
    statistic: Statistic, proxy: AccuracyMatrix, truth: AccuracyMatrix, seed: int = 0, draws: int = 50
) -> Array:
    return ranking.bootstrap({"it": statistic}, proxy, truth, default_rng(seed), draws)["it"].draws


def estimate(
    statistic: Statistic, proxy: AccuracyMatrix, truth: AccuracyMatrix, draws: int = 100, seed: int = 0
) -> Estimate:
    return ranking.estimate(ranking.bootstrap({"it": statistic}, proxy, truth, default_rng(seed), draws)["it"])


def difference(
    statistic: Statistic, first: AccuracyMatrix, second: AccuracyMatrix, truth: AccuracyMatrix, draws: int = 200
) -> Difference:
    both = [ranking.bootstrap({"it": statistic}, each, truth, default_rng(0), draws)["it"] for each in (first, second)]
    return ranking.paired_difference(*both)


def test_a_diverged_network_makes_its_architecture_last() -> None:
    values = np.array([[10.0, 20.0], [30.0, np.nan], [90.0, -INF]])
    assert AccuracyMatrix(values, values).scores().test.tolist() == [15, 30, -INF]


def test_networks_are_drawn_from_those_there_are() -> None:
    values = np.array([[1.0, 3.0, np.nan], [np.nan, 5.0, np.nan], [7.0, 8.0, 9.0], [-INF, 4.0, 4.0]])
    archs = np.tile(np.arange(4), (400, 1))
    drawn = AccuracyMatrix(values, values + 1).resample(archs, default_rng(0))
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
        AccuracyMatrix(validation, test)


def test_statistics_of_parts_by_hand() -> None:
    # Ten architectures; the truth is 0 .. 9. By validation the proxy picks 9 8 7 6 5, whose test accuracies fall.
    truth = of_one(np.arange(10.0))
    validation, test = np.arange(10.0), np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5.0])
    proxy = AccuracyMatrix(validation[:, np.newaxis], test[:, np.newaxis])
    sample = ranking.full_sample(proxy, truth)
    assert RHO.compute(sample) == pytest.approx(1)
    assert ranking.rho_among_best(0.5).compute(sample) == pytest.approx(1)
    assert ranking.rho_among_selected(0.5).compute(sample) == pytest.approx(-1)
    assert ranking.selection_statistic(ranking.regret, 1).compute(sample) == 0
    assert ranking.selection_statistic(ranking.top_k_agreement, 0.2).compute(sample) == 1
    found = estimate(ranking.rho_among_best(0.2), proxy, truth)
    assert found.n == 2  # too few for a correlation
    assert all(math.isnan(value) for value in found[:3])


def test_one_proxy_per_truth() -> None:
    with pytest.raises(ValueError, match="expected the 3 architectures of the truth, got 4"):
        ranking.full_sample(of_one(np.arange(4.0)), of_one(np.arange(3.0)))


def test_the_same_generator_gives_the_same_interval() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    for statistic in (RHO, ranking.selection_statistic(ranking.regret, 1)):
        first, again = (estimate(statistic, proxy, truth, seed=7) for _ in range(2))
        assert estimate(statistic, proxy, truth, seed=8) != first
        assert first == again
        assert first.low <= first.value <= first.high
        assert first.n == 20


def test_draws_do_not_hang_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    at_once = draws_of(RHO, proxy, truth)
    monkeypatch.setattr(resampling, "AT_A_TIME", 100)
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
    noisy, truth = AccuracyMatrix(values, values), of_one(np.arange(12.0))
    assert set(draws_of(RHO, noisy, truth)) == {1.0}
    assert draws_of(Statistic(RHO.compute, redraws=True), noisy, truth).max() < 1
    regret = ranking.selection_statistic(ranking.regret, 1)
    assert draws_of(regret, noisy, truth).max() > 0
    assert draws_of(regret, truth, truth).max() == 0  # with one network of each, only architectures vary


def test_statistics_share_their_draws_and_keep_their_order() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    both = {
        "regret": ranking.selection_statistic(ranking.regret, 1),
        "rho": RHO,
        "tau": ranking.rank_statistic(ranking.kendall_tau_b),
    }
    found = ranking.bootstrap(both, proxy, truth, default_rng(0), draws=50)
    assert list(found) == list(both)
    np.testing.assert_array_equal(found["rho"].draws, draws_of(RHO, proxy, truth))
    np.testing.assert_array_equal(found["tau"].draws, draws_of(both["tau"], proxy, truth))


def test_a_curve_is_drawn_as_well() -> None:
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    curve = Statistic(lambda s: ranking.regret_curve(s.proxy.validation, s.truth.test), redraws=True)
    found = ranking.bootstrap({"curve": curve}, proxy, truth, default_rng(0), draws=50)["curve"]
    assert (found.value.shape, found.draws.shape) == ((20,), (50, 20))
    np.testing.assert_array_equal(
        found.draws[:, 0], draws_of(ranking.selection_statistic(ranking.regret, 1), proxy, truth)
    )
    assert (np.diff(found.draws, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("statistic", "archs", "repeats", "low", "high"),
    [
        (RHO, 60, 3, 0.9, 0.99),
        (RHO, 60, 1, 0.9, 0.99),
        (ranking.selection_statistic(ranking.regret, 1), 60, 3, 0.9, 1.0),
    ],
)
def test_intervals_hold_the_truth_at_about_the_nominal_rate(
    statistic: Statistic, archs: int, repeats: int, low: float, high: float
) -> None:
    rng = default_rng(4)
    # What the statistic of such a sample is on average, from 500 samples.
    target = np.mean([statistic.compute(ranking.full_sample(*simulated(rng, archs, repeats, 0.5))) for _ in range(500)])
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
    rhos = [float(RHO.compute(ranking.full_sample(each, truth))) for each in (proxy, worse)]
    assert better.value == pytest.approx(rhos[0] - rhos[1])
    assert 0 < better.low < better.high
    assert better.p == pytest.approx(2 / 201)  # no draw on the other side: the least that 200 draws can say
    assert (reverse.value, reverse.p) == (-better.value, better.p)
    same = difference(RHO, proxy, proxy, truth)
    assert same == (0, 0, 0, 1, 60)
    constant = difference(RHO, of_one(np.ones(60)), proxy, truth)
    assert all(math.isnan(value) for value in constant[:4])


def test_pairs_are_drawn_from_the_same_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both proxies score every architecture alike, one with a network of each, the other with five equal ones.
    proxy, truth = simulated(default_rng(0), 20, 2, 0.5)
    one = of_one(proxy.test[:, 0])
    five = AccuracyMatrix(np.repeat(one.validation, 5, axis=1), np.repeat(one.test, 5, axis=1))
    monkeypatch.setattr(resampling, "AT_A_TIME", 200)  # several chunks
    for statistic in (RHO, ranking.selection_statistic(ranking.regret, 1)):
        assert difference(statistic, one, five, truth) == (0, 0, 0, 1, 20)


def test_networks_of_two_proxies_are_drawn_apart() -> None:
    # The same numbers, but of different networks: with paired architectures alone, their difference still varies.
    values = np.arange(12.0)[:, np.newaxis] + np.array([[-50.0, 50.0]])
    noisy, truth = AccuracyMatrix(values, values), of_one(np.arange(12.0))
    regret = {"it": ranking.selection_statistic(ranking.regret, 1)}
    both = [ranking.bootstrap(regret, noisy, truth, default_rng(0), 200, default_rng(own))["it"] for own in (1, 2)]
    assert ranking.paired_difference(*both).low < 0 < ranking.paired_difference(*both).high
    again = ranking.bootstrap(regret, noisy, truth, default_rng(0), 200, default_rng(1))["it"]
    assert ranking.paired_difference(both[0], again)[:4] == (0, 0, 0, 1)


def test_p_is_bounded_by_the_number_of_draws() -> None:
    truth = of_one(np.arange(30.0))
    for draws in (50, 1000):
        assert difference(RHO, truth, of_one(-np.arange(30.0)), truth, draws).p == pytest.approx(2 / (draws + 1))


def test_p_of_proxies_that_differ_in_nothing_is_uniform() -> None:
    rng, ps = default_rng(6), []
    for _ in range(100):
        proxy, truth = simulated(rng, 40, 2, 0.5)
        # The truth's noise aside, both are the same proxy trained anew.
        again = AccuracyMatrix(*[proxy.test.mean(1, keepdims=True) + 0.5 * rng.standard_normal((40, 2))] * 2)
        fresh = AccuracyMatrix(*[proxy.test.mean(1, keepdims=True) + 0.5 * rng.standard_normal((40, 2))] * 2)
        ps.append(difference(RHO, again, fresh, truth, draws=100).p)
    assert np.mean(np.array(ps) < 0.05) <= 0.12  # of 100 at 5 %: std 2.2 %
    assert np.mean(ps) == pytest.approx(0.5, abs=0.1)
