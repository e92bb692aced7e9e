"""How well a proxy ranks architectures: rank statistics and their bootstrap intervals. Numbers in, numbers out.

Shapes: A architectures, R networks of each, B bootstrap draws. Scores are (..., A): a statistic works along the last
axis and gives one number for each of the leading ones, so that all draws are one call.

    nan    there is no such network (or, in a result, no such number); never a score
    -inf   a network that diverged. An architecture any of whose networks diverged scores -inf: it is ranked last,
           tied with the others that did, and counted by whoever prints the result

Architectures stand in the order of their ids. Of equal scores the lower id is picked first.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Places = NDArray[np.intp]
FEWEST = 3  # of fewer architectures no correlation is told
AT_A_TIME = 1 << 21  # numbers drawn together
DEFINED = 0.9  # of the draws a statistic must be defined in, to have an interval


# --- rank correlations ----------------------------------------------------------------------------------------------


def spearman_rho(first: Array, second: Array) -> Array:
    """Spearman's rho of scores (..., A): Pearson's correlation of their ranks, equal scores sharing the mean rank.

    Missing for fewer than three architectures, and where either side is constant.
    """
    first, second = _checked(first, second)
    return _correlation(_centred_ranks(first), _centred_ranks(second))


def kendall_tau_b(first: Array, second: Array) -> Array:
    """Kendall's tau-b of scores (..., A): concordant less discordant pairs, over what ties leave of all pairs.

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


def partial_rho(first: Array, second: Array, given: NDArray[np.integer[Any]]) -> Array:
    """Spearman's rho of scores (..., A) given categories (..., A, J): of what J categories do not tell of the ranks.

    Both sides' ranks are regressed on the one-hot categories, all J together and without interactions; the result is
    the correlation of what is left. Missing for fewer than three architectures, and where nothing is left on a side.
    """
    first, second = _checked(first, second)
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


# --- what is picked -------------------------------------------------------------------------------------------------


def top(scores: Array, k: int) -> Places:
    """Places (..., k) of the k best of scores (..., A), best first; of equal scores, the lower place first.

    Raises:
        ValueError: k is not from 1 to A.
    """
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"k: expected 1 to {scores.shape[-1]}, the number of architectures, got {k}")
    order: Places = np.argsort(-scores, axis=-1, kind="stable")
    return order[..., :k]


def share(archs: int, fraction: float) -> int:
    """How many architectures a fraction of them is: rounded up, so at least one. 5 % of 720 are 36."""
    return max(1, math.ceil(round(fraction * archs, 9)))  # 0.2 * 35 is a little more than 7


def top_k_agreement(proxy: Array, truth: Array, k: int) -> Array:
    """How many of the proxy's k best are among the truth's k best, over k: 0 to 1; by chance k / A.

    Known as precision@k and as overlap@k: as both sets have k members, the two are the same number.
    """
    proxy, truth = _checked(proxy, truth)
    picked, right = np.zeros(proxy.shape, dtype=bool), np.zeros(truth.shape, dtype=bool)
    np.put_along_axis(picked, top(proxy, k), True, axis=-1)
    np.put_along_axis(right, top(truth, k), True, axis=-1)
    agreement: Array = (picked & right).sum(-1) / k
    return agreement


def best_rank(proxy: Array, truth: Array, k: int) -> Array:
    """The true rank, from 1, of the truly best among the proxy's k best; equals share the best rank of theirs."""
    proxy, truth = _checked(proxy, truth)
    best = _picked(truth, top(proxy, k)).max(-1, keepdims=True)
    rank: Array = 1.0 + (truth > best).sum(-1)
    return rank


def regret(proxy: Array, truth: Array, k: int) -> Array:
    """What the truly best of all has over the truly best of the proxy's k best, in points of the truth; at least 0.

    inf where all k diverged, missing where all architectures did.
    """
    curve: Array = regret_curve(proxy, truth)
    if not 1 <= k <= curve.shape[-1]:
        raise ValueError(f"k: expected 1 to {curve.shape[-1]}, the number of architectures, got {k}")
    return curve[..., k - 1]


def regret_curve(proxy: Array, truth: Array) -> Array:
    """`regret` for every k: (..., A), falling to 0 at k = A."""
    proxy, truth = _checked(proxy, truth)
    found = np.maximum.accumulate(_picked(truth, top(proxy, proxy.shape[-1])), axis=-1)
    with np.errstate(invalid="ignore"):  # -inf less -inf
        curve: Array = truth.max(-1, keepdims=True) - found
    return curve


def regret_at_random(truth: Array) -> Array:
    """What `regret_curve` of scores (A,) is on average where architectures are picked at random: (A,), for every k.

    Of k picks without replacement the best is the i-th worst of A with probability C(i - 1, k - 1) / C(A, k).
    """
    truth = np.sort(np.asarray(truth, dtype=np.float64))
    archs = len(truth)
    place, k = np.arange(1, archs + 1), np.arange(1, archs + 1)[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):  # of fewer than k none can be the best
        logarithm = _log_choose(place - 1, k - 1) - _log_choose(archs, k)
        chance = np.where(place >= k, np.exp(logarithm), 0.0)  # (k, place)
        losses = np.where(chance > 0, chance * (truth[-1] - truth), 0.0)
    regrets: Array = losses.sum(1)
    return regrets


# --- counts ---------------------------------------------------------------------------------------------------------


def tied(scores: Array) -> int:
    """How many of scores (A,) are shared with another architecture; those that diverged are counted elsewhere."""
    _, counts = np.unique(scores[np.isfinite(scores)], return_counts=True)
    return int(counts[counts > 1].sum())


def chance_bound(classes: int, images: int, level: float = 0.001) -> float:
    """The accuracy (%) that guessing passes with a probability of at most `level`.

    Guesses among K classes are right Binomial(images, 1 / K) times; the bound is the upper quantile of that. The level
    is low because a space has many networks: of 720 that guess, 0.1 % leaves less than one to be mistaken.
    """
    return float(100 * stats.binom.isf(level, images, 1 / classes) / images)


def at_chance(scores: Array, bound: float) -> int:
    """How many of scores (A,) are not above `bound`; those that diverged are counted elsewhere."""
    return int((scores[np.isfinite(scores)] <= bound).sum())


# --- samples of architectures and their networks --------------------------------------------------------------------


class Scores(NamedTuple):
    """The mean over an architecture's networks, of each of some architectures."""

    validation: Array  # (..., A), what is ranked and selected by
    test: Array  # (..., A), what is reported


@dataclass(frozen=True)
class Networks:
    """Every network of A architectures, up to R of each. A number that is no accuracy stands on both sides, R = 1."""

    validation: Array  # (A, R)
    test: Array  # (A, R)

    def __post_init__(self) -> None:
        if self.validation.ndim != 2 or self.validation.shape != self.test.shape:
            raise ValueError(
                f"networks: expected two arrays (architectures, repeats), got {self.validation.shape} "
                f"and {self.test.shape}"
            )
        if (np.isnan(self.validation) != np.isnan(self.test)).any():
            raise ValueError("networks: each needs both a validation and a test accuracy, or neither")
        if np.isnan(self.test).all(1).any():
            raise ValueError(f"networks: architecture {int(np.isnan(self.test).all(1).argmax())} has none")

    def __len__(self) -> int:
        return len(self.test)

    def scores(self) -> Scores:
        """The mean of each architecture, -inf where a network diverged."""
        return Scores(np.nanmean(self.validation, axis=1), np.nanmean(self.test, axis=1))

    def drawn(self, archs: Places, rng: np.random.Generator) -> Scores:
        """Scores (..., A) of architectures, each the mean of as many networks as it has, drawn with replacement."""
        is_there = ~np.isnan(self.test)
        first = np.argsort(~is_there, axis=1, kind="stable")  # (A, R), those there are before those there are not
        counts = is_there.sum(1)[archs][..., np.newaxis]  # (..., A, 1)
        repeats = self.test.shape[1]
        places = (rng.random((*archs.shape, repeats)) * counts).astype(np.intp)
        places += archs[..., np.newaxis] * repeats
        is_in = np.arange(repeats) < counts

        def mean(values: Array) -> Array:
            chosen = np.take_along_axis(values, first, axis=1).ravel().take(places)
            of_each: Array = chosen.sum(-1, where=is_in) / counts[..., 0]
            return of_each

        return Scores(mean(self.validation), mean(self.test))


class Sample(NamedTuple):
    """The scores of a proxy and of the truth on the same architectures: all of them, some, or draws of them."""

    proxy: Scores
    truth: Scores
    archs: Places  # (..., A), which; ascending


class Statistic(NamedTuple):
    """A number that says how well the proxy ranks the architectures of a sample, and how its interval is made."""

    of: Callable[[Sample], Array]  # samples (..., A) -> (...), or (..., more)
    redraws: bool  # whether a draw of architectures draws their networks too; see `bootstrap`
    fraction: float = 1.0  # of the architectures, that enter it


class Drawn(NamedTuple):
    """A statistic, its values on bootstrap samples, and the number of architectures in it."""

    value: Array  # (), or (more,) where it is more than a number
    draws: Array  # (B,) or (B, more)
    n: int


class Estimate(NamedTuple):
    """A statistic, the ends of its 95 % interval, and the number of architectures in it."""

    value: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """What a statistic of one proxy has over that of another on the same architectures."""

    value: float
    low: float
    high: float
    p: float  # two-sided
    n: int


def whole(proxy: Networks, truth: Networks) -> Sample:
    """All architectures.

    Raises:
        ValueError: the two have not the same number of them.
    """
    if len(proxy) != len(truth):
        raise ValueError(f"proxy: expected the {len(truth)} architectures of the truth, got {len(proxy)}")
    return Sample(proxy.scores(), truth.scores(), np.arange(len(proxy)))


def best_by_truth(sample: Sample, fraction: float) -> Sample:
    """The best fraction by the truth's test accuracy, ids ascending."""
    return _subset(sample, sample.truth.test, fraction)


def best_by_proxy(sample: Sample, fraction: float) -> Sample:
    """The best fraction by the proxy's validation accuracy, ids ascending."""
    return _subset(sample, sample.proxy.validation, fraction)


def ranks(correlation: Callable[[Array, Array], Array]) -> Statistic:
    """Over all architectures: the proxy's validation against the truth's test accuracy."""
    return Statistic(lambda sample: correlation(sample.proxy.validation, sample.truth.test), redraws=False)


def ranks_of_best(correlation: Callable[[Array, Array], Array], fraction: float) -> Statistic:
    """The same over the best fraction by truth."""
    over_all = ranks(correlation).of
    return Statistic(lambda sample: over_all(best_by_truth(sample, fraction)), redraws=False, fraction=fraction)


def ranks_of_picked(correlation: Callable[[Array, Array], Array], fraction: float) -> Statistic:
    """Over the best fraction by the proxy itself: test against test accuracy, as the DM paper has it (fraction 5 %)."""

    def of(sample: Sample) -> Array:
        picked = best_by_proxy(sample, fraction)
        return correlation(picked.proxy.test, picked.truth.test)

    return Statistic(of, redraws=False, fraction=fraction)


def picks(of: Callable[[Array, Array, int], Array], k: int | float) -> Statistic:
    """`regret`, `best_rank` or `top_k_agreement` of the proxy's k best, or of its best fraction where k is a float."""

    def value(sample: Sample) -> Array:
        archs = sample.archs.shape[-1]
        return of(sample.proxy.validation, sample.truth.test, share(archs, k) if isinstance(k, float) else k)

    return Statistic(value, redraws=True)


def bootstrap(
    statistics: Mapping[str, Statistic], proxy: Networks, truth: Networks, rng: np.random.Generator, draws: int = 1000
) -> dict[str, Drawn]:
    """Each statistic on the architectures, and on `draws` bootstrap samples: as many architectures, with replacement.

    An architecture brings its networks, so that their noise is in the draws. Where what the proxy picks is asked for
    (`redraws`), networks are drawn too, with replacement among those of each architecture drawn, for the proxy and for
    the truth; with one network of each, only the architectures vary. Correlations are not redrawn: the networks' noise
    would count twice and the intervals lie too low. Simulated (720 architectures of 5 networks, these with half the
    spread of the architectures, true rho 0.68; 300 samples, 200 draws), nominal 95 % intervals held the expected rho in
    97 % of samples, redrawn in 83 %; the expected regret@1 in 99 % redrawn, and in 87 % not.

    The same generator makes the same draws for every proxy of these architectures and this truth: what is drawn does
    not depend on the scores.
    """
    everything, found = whole(proxy, truth), {}
    for redraws in (False, True):
        chosen = {name: statistic for name, statistic in statistics.items() if statistic.redraws is redraws}
        values: dict[str, list[Array]] = {name: [] for name in chosen}
        for sample in _samples(proxy, truth, redraws, rng, draws) if chosen else ():
            for name, statistic in chosen.items():
                values[name].append(statistic.of(sample))
        for name, statistic in chosen.items():
            n = share(len(truth), statistic.fraction)
            found[name] = Drawn(statistic.of(everything), np.concatenate(values[name]), n)
    return {name: found[name] for name in statistics}


def interval(drawn: Drawn) -> Estimate:
    """A number with the 2.5 and 97.5 percentiles of its draws (`percentiles`); none where it is itself undefined."""
    value = float(drawn.value)
    ends = (math.nan, math.nan) if math.isnan(value) else percentiles(drawn.draws)
    return Estimate(value, *ends, drawn.n)


def paired(first: Drawn, second: Drawn) -> Difference:
    """What one proxy's number has over another's, both from `bootstrap` by generators of one seed.

    So each pair of draws is of the same architectures and, where networks are redrawn, the same of the truth. p is
    two-sided: twice the share of draws on the rarer side of 0, draws at 0 on both sides, one draw added to each so
    that it is never 0. It is for one comparison, not corrected for several.
    """
    with np.errstate(invalid="ignore"):  # inf less inf
        value, differences = float(first.value - second.value), first.draws - second.draws
    low, high = percentiles(differences)
    if math.isnan(value) or math.isnan(low):
        return Difference(value, math.nan, math.nan, math.nan, first.n)
    defined = differences[~np.isnan(differences)]
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    return Difference(value, low, high, min(1.0, 2 * (float(rarer) + 1) / (len(defined) + 1)), first.n)


def percentiles(values: Array) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of draws (B,), values that occurred.

    Draws in which the number is undefined are left out; where these are more than a tenth, both ends are missing.
    """
    defined = values[~np.isnan(values)]
    if not len(defined) or len(defined) < DEFINED * len(values):
        return math.nan, math.nan
    low, high = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def noise_ceiling(truth: Array, rng: np.random.Generator, splits: int = 100) -> float:
    """Spearman's rho between two halves of the truth's own networks (A, R), the mean over the splits of 1 .. R in two.

    With an odd R one half has a network more. All splits where there are at most `splits`, else as many random ones.
    Architectures without a network in either half are left out of that split. It is the rho of a proxy as good, and as
    noisy, as half of the truth; a proxy without noise can lie a little above. Missing with one network of each.
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
        one, other = np.nanmean(truth[is_in][:, first], axis=1), np.nanmean(truth[is_in][:, second], axis=1)
        rhos.append(float(spearman_rho(one, other)))
    defined = [rho for rho in rhos if not math.isnan(rho)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _samples(proxy: Networks, truth: Networks, redraws: bool, rng: np.random.Generator, draws: int) -> Iterator[Sample]:
    """`draws` bootstrap samples, as many at a time as memory allows."""
    archs = len(truth)
    repeats = max(proxy.test.shape[1], truth.test.shape[1]) if redraws else 1
    step = max(1, AT_A_TIME // max(archs * repeats, 1))
    of_proxy, of_truth = proxy.scores(), truth.scores()
    for start in range(0, draws, step):
        drawn = rng.integers(0, archs, (min(step, draws - start), archs)).astype(np.intp)
        drawn.sort(axis=1)  # ids ascending, for ties
        if redraws:
            true = truth.drawn(drawn, rng)
            yield Sample(proxy.drawn(drawn, rng), true, drawn)
        else:
            both = [Scores(each.validation[drawn], each.test[drawn]) for each in (of_proxy, of_truth)]
            yield Sample(both[0], both[1], drawn)


def _subset(sample: Sample, by: Array, fraction: float) -> Sample:
    places = np.sort(top(by, share(by.shape[-1], fraction)), axis=-1)

    def of(scores: Scores) -> Scores:
        return Scores(_picked(scores.validation, places), _picked(scores.test, places))

    return Sample(of(sample.proxy), of(sample.truth), np.take_along_axis(sample.archs, places, axis=-1))


def _log_choose(n: Any, k: Any) -> Any:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _picked(scores: Array, places: Places) -> Array:
    return np.take_along_axis(scores, places, axis=-1)


def _checked(first: Array, second: Array) -> tuple[Array, Array]:
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim == 0:
        raise ValueError(f"scores: expected two of one shape (..., architectures), got {first.shape}, {second.shape}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("scores: nan is none; leave the architecture out, or give -inf for one that diverged")
    return first, second


def _centred_ranks(scores: Array) -> Array:
    ranked: Array = stats.rankdata(scores, axis=-1) - (scores.shape[-1] + 1) / 2
    return ranked


def _correlation(first: Array, second: Array) -> Array:
    """Pearson's, of centred values (..., A); missing where it is undefined."""
    spread = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    is_defined = (spread > 0) & (first.shape[-1] >= FEWEST)
    found: Array = np.where(is_defined, (first * second).sum(-1) / np.where(is_defined, spread, 1.0), math.nan)
    return np.clip(found, -1.0, 1.0)


def _each(correlation: Callable[[Array, Array], float], first: Array, second: Array) -> Array:
    first, second = _checked(first, second)
    leading, archs = first.shape[:-1], first.shape[-1]
    if archs < FEWEST:
        return np.full(leading, math.nan)
    pairs = zip(first.reshape(-1, archs), second.reshape(-1, archs), strict=True)
    return np.array([correlation(a, b) for a, b in pairs], dtype=np.float64).reshape(leading)
