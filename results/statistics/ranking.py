"""How well a proxy ranks architectures: rank statistics and their bootstrap intervals. Numbers in, numbers out.

Shapes: A architectures, R networks of each, B bootstrap draws. Scores are (..., A): a statistic works along the last
axis and gives one number for each of the leading ones, so that all draws are one call.

    nan    there is no such network (or, in a result, no such number); never a score
    -inf   a network that diverged. An architecture any of whose networks diverged scores -inf: it is ranked last,
           tied with the others that did, and counted by whoever prints the result

Architectures stand in any order. What is picked from equal scores is not told by them: every order of the equal is as
likely, and a number is its mean over these orders, worked out, not sampled.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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


def rho_of_picked(first: Array, second: Array, chances: Array) -> Array:
    """Spearman's rho of scores (..., A) among those picked with chances (..., A), as `picked` gives them.

    Without ties for the last places it is `spearman_rho` of the picked. Those tied count in ranks and in sums by their
    chance of being picked: a number that no order of them changes. (The mean over the orders has no closed form.)
    Missing for fewer than three picked, and where either side is constant among them.
    """
    first, second = _checked(first, second)
    number = chances.sum(-1, keepdims=True)

    def centred(scores: Array) -> Array:
        ranks = _weighted_ranks(scores, chances)
        rest: Array = ranks - (ranks * chances).sum(-1, keepdims=True) / number
        return rest

    one, other = centred(first), centred(second)
    return _correlation(one, other, chances, number[..., 0])


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


def picked(scores: Array, k: int) -> Array:
    """The chance (..., A) that each of scores (..., A) is among the k best: 1, 0, or that of those tied for the last
    places, of which all are as likely.

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


def share(archs: int, fraction: float) -> int:
    """How many architectures a fraction of them is: rounded up, so at least one. 5 % of 720 are 36."""
    return max(1, math.ceil(round(fraction * archs, 9)))  # 0.2 * 35 is a little more than 7


def top_k_agreement(proxy: Array, truth: Array, k: int) -> Array:
    """How many of the proxy's k best are among the truth's k best, over k: 0 to 1; by chance k / A.

    Known as precision@k and as overlap@k: as both sets have k members, the two are the same number.
    """
    proxy, truth = _checked(proxy, truth)
    agreement: Array = (picked(proxy, k) * picked(truth, k)).sum(-1) / k
    return agreement


def best_rank(proxy: Array, truth: Array, k: int) -> Array:
    """The true rank, from 1, of the truly best among the proxy's k best; equals share the best rank of theirs."""
    proxy, truth = _checked(proxy, truth)
    rank = stats.rankdata(-truth, method="min", axis=-1)
    return _least_of_picked(proxy, rank, [k])[..., 0]


def regret(proxy: Array, truth: Array, k: int) -> Array:
    """What the truly best of all has over the truly best of the proxy's k best, in points of the truth; at least 0.

    inf where all k may have diverged, missing where all architectures did.
    """
    return _least_of_picked(*_losses(proxy, truth), [k])[..., 0]


def regret_curve(proxy: Array, truth: Array) -> Array:
    """`regret` for every k: (..., A), falling to 0 at k = A."""
    proxy, losses = _losses(proxy, truth)
    return _least_of_picked(proxy, losses, range(1, proxy.shape[-1] + 1))


def regret_at_random(truth: Array) -> Array:
    """`regret_curve` where architectures are tried in any order: of scores (A,) that a proxy does not tell apart."""
    return regret_curve(np.zeros(len(truth)), truth)


def _losses(proxy: Array, truth: Array) -> tuple[Array, Array]:
    """The proxy's scores, and what each architecture's truth lacks to the best."""
    proxy, truth = _checked(proxy, truth)
    with np.errstate(invalid="ignore"):  # -inf less -inf
        return proxy, truth.max(-1, keepdims=True, initial=-math.inf) - truth


def _least_of_picked(proxy: Array, losses: Array, numbers: Sequence[int]) -> Array:
    """The least of losses (..., A) among the proxy's k best, for each k of K numbers: (..., K).

    Of m architectures tied for the last places, j are picked. With their losses ascending, the first is picked with
    probability j / m; where the first e are not, the next is with j / (m - e). The others are picked for sure.

    Raises:
        ValueError: a k is not from 1 to A.
    """
    archs = proxy.shape[-1]
    for k in numbers:
        _check_number(k, archs)
    order = np.lexsort((losses, -proxy), axis=-1)  # by the proxy, best first; of equals the least loss first
    ranked, losses = np.take_along_axis(proxy, order, axis=-1), np.take_along_axis(losses, order, axis=-1)
    first, end = _runs_of_equals(ranked)
    unknown = np.full((*losses.shape[:-1], 1), math.inf)
    before = np.concatenate([unknown, np.minimum.accumulate(losses, axis=-1)], axis=-1)  # the least of those before
    last = np.asarray(numbers) - 1  # the place of the last picked
    start, tied = first[..., last], (end - first)[..., last]
    places = last + 1 - start
    sure = np.take_along_axis(before, start, axis=-1)
    found, chance, missed = np.zeros(start.shape), np.ones(start.shape), 0
    while (chance > 0).any():
        own = np.take_along_axis(losses, np.minimum(start + missed, archs - 1), axis=-1)
        left = np.maximum(tied - missed, 1)
        is_picked = chance * np.minimum(places / left, 1)
        found += is_picked * np.where(is_picked > 0, np.minimum(own, sure), 0.0)  # inf: diverged
        chance = np.where(left > places, chance * (left - places) / left, 0.0)
        missed += 1
    return found


def _runs_of_equals(ordered: Array) -> tuple[Places, Places]:
    """Where the run of equals that each of ordered scores (..., A) stands in begins, and where it ends (exclusive)."""
    places, archs = np.arange(ordered.shape[-1]), ordered.shape[-1]
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first: Places = np.maximum.accumulate(np.where(is_new, places, 0), axis=-1)
    is_last = np.ones(ordered.shape, dtype=bool)
    is_last[..., :-1] = is_new[..., 1:]
    ends = np.where(is_last, places + 1, archs)[..., ::-1]
    end: Places = np.minimum.accumulate(ends, axis=-1)[..., ::-1]
    return first, end


def _check_number(k: int, archs: int) -> None:
    if not 1 <= k <= archs:
        raise ValueError(f"k: expected 1 to {archs}, the number of architectures, got {k}")


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
    archs: Places  # (..., A), which


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


def ranks(correlation: Callable[[Array, Array], Array]) -> Statistic:
    """Over all architectures: the proxy's validation against the truth's test accuracy."""
    return Statistic(lambda sample: correlation(sample.proxy.validation, sample.truth.test), redraws=False)


def ranks_of_best(fraction: float) -> Statistic:
    """Spearman's rho of the same, over the best fraction by the truth's test accuracy (`rho_of_picked`)."""

    def of(sample: Sample) -> Array:
        chances = picked(sample.truth.test, share(sample.archs.shape[-1], fraction))
        return rho_of_picked(sample.proxy.validation, sample.truth.test, chances)

    return Statistic(of, redraws=False, fraction=fraction)


def ranks_of_picked(fraction: float) -> Statistic:
    """Over the best fraction by the proxy's own validation accuracy: rho of test and test accuracy, as the DM paper
    has it (fraction 5 %)."""

    def of(sample: Sample) -> Array:
        chances = picked(sample.proxy.validation, share(sample.archs.shape[-1], fraction))
        return rho_of_picked(sample.proxy.test, sample.truth.test, chances)

    return Statistic(of, redraws=False, fraction=fraction)


def picks(of: Callable[[Array, Array, int], Array], k: int | float) -> Statistic:
    """`regret`, `best_rank` or `top_k_agreement` of the proxy's k best, or of its best fraction where k is a float."""

    def value(sample: Sample) -> Array:
        archs = sample.archs.shape[-1]
        return of(sample.proxy.validation, sample.truth.test, share(archs, k) if isinstance(k, float) else k)

    return Statistic(value, redraws=True)


def bootstrap(
    statistics: Mapping[str, Statistic],
    proxy: Networks,
    truth: Networks,
    rng: np.random.Generator,
    draws: int = 1000,
    own: np.random.Generator | None = None,
) -> dict[str, Drawn]:
    """Each statistic on the architectures, and on `draws` bootstrap samples: as many architectures, with replacement.

    An architecture brings its networks, so that their noise is in the draws. Where what the proxy picks is asked for
    (`redraws`), networks are drawn too, with replacement among those of each architecture drawn, for the proxy and for
    the truth; with one network of each, only the architectures vary. Correlations are not redrawn: the networks' noise
    would count twice and the intervals lie too low. Simulated (720 architectures of 5 networks, these with half the
    spread of the architectures, true rho 0.68; 300 samples, 200 draws), nominal 95 % intervals held the expected rho in
    97 % of samples, redrawn in 83 %; the expected regret@1 in 99 % redrawn, and in 87 % not.

    Args:
        rng: draws the architectures and the truth's networks: a generator of one seed draws the same for every proxy,
            whatever its scores and however many networks it has.
        own: draws the proxy's networks, which it shares with no other; by default another child of `rng`.
    """
    everything = whole(proxy, truth)
    of_truth, spare = rng.spawn(2)
    values: dict[str, list[Array]] = {name: [] for name in statistics}
    for fixed, redrawn in _samples(proxy, truth, rng, of_truth, own or spare, draws):
        for name, statistic in statistics.items():
            values[name].append(statistic.of(redrawn if statistic.redraws else fixed))
    return {
        name: Drawn(statistic.of(everything), np.concatenate(values[name]), share(len(truth), statistic.fraction))
        for name, statistic in statistics.items()
    }


def interval(drawn: Drawn) -> Estimate:
    """A number with the 2.5 and 97.5 percentiles of its draws (`percentiles`); none where it is itself undefined."""
    value = float(drawn.value)
    ends = (math.nan, math.nan) if math.isnan(value) else percentiles(drawn.draws)
    return Estimate(value, *ends, drawn.n)


def paired(first: Drawn, second: Drawn) -> Difference:
    """What one proxy's number has over another's, both from `bootstrap` by generators of one seed.

    So each pair of draws is of the same architectures and, where networks are redrawn, the same of the truth; those of
    the two proxies are each proxy's own, drawn apart. p is two-sided: twice the share of draws on the rarer side of 0,
    draws at 0 on both sides, one draw added to each so that it is never 0 but 2 / (draws + 1) at least. It is for one
    comparison, not corrected for several.
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


def noise_ceiling(truth: Array, rng: np.random.Generator, fraction: float = 1.0, splits: int = 100) -> float:
    """Spearman's rho of one half of the truth's own networks (A, R) with the other, the mean over splits of 1 .. R.

    With two networks of each it is that of one against another, not of their mean with anything; with an odd R one half
    has a network more (`halves`). All splits where there are at most `splits`, else as many random ones. Architectures
    without a network in either half are left out of that split. It is the rho of a proxy as good, and as noisy, as half
    of the truth: proxies are held against the mean of all networks, which is less noisy, so that one without noise can
    lie a little above. Missing with one network of each.

    Args:
        fraction: among the best of them alone, by the mean of all their networks (`rho_of_picked`).
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
        rhos.append(float(rho_of_picked(one, other, picked(both, share(len(both), fraction)))))
    defined = [rho for rho in rhos if not math.isnan(rho)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def halves(repeats: int) -> tuple[int, int]:
    """How many networks of each architecture the two halves of `noise_ceiling` have."""
    return repeats // 2, repeats - repeats // 2


def _samples(
    proxy: Networks,
    truth: Networks,
    rng: np.random.Generator,
    of_truth: np.random.Generator,
    own: np.random.Generator,
    draws: int,
) -> Iterator[tuple[Sample, Sample]]:
    """`draws` bootstrap samples, as many at a time as memory allows: of architectures, and of their networks too.

    How many at a time does not hang on the proxy: all proxies get the same.
    """
    archs = len(truth)
    step = max(1, AT_A_TIME // max(archs * truth.test.shape[1], 1))
    means = proxy.scores(), truth.scores()
    for start in range(0, draws, step):
        drawn = rng.integers(0, archs, (min(step, draws - start), archs)).astype(np.intp)
        of_proxy, true = (Scores(each.validation[drawn], each.test[drawn]) for each in means)
        redrawn = Sample(proxy.drawn(drawn, own), truth.drawn(drawn, of_truth), drawn)
        yield Sample(of_proxy, true, drawn), redrawn


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


def _weighted_ranks(scores: Array, weights: Array) -> Array:
    """How much weight lies below each of scores (..., A), and half of that at it."""
    order = np.argsort(scores, axis=-1, kind="stable")
    ordered, heavy = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(weights, order, axis=-1)
    first, end = _runs_of_equals(ordered)
    through = np.concatenate([np.zeros((*heavy.shape[:-1], 1)), np.cumsum(heavy, axis=-1)], axis=-1)
    ranks = (np.take_along_axis(through, first, axis=-1) + np.take_along_axis(through, end, axis=-1)) / 2
    found: Array = np.empty_like(ranks)
    np.put_along_axis(found, order, ranks, axis=-1)
    return found


def _correlation(first: Array, second: Array, weights: Array | float = 1.0, number: Array | None = None) -> Array:
    """Pearson's, of centred values (..., A) with weights, `number` in all; missing where it is undefined."""
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
    first, second = _checked(first, second)
    leading, archs = first.shape[:-1], first.shape[-1]
    if archs < FEWEST:
        return np.full(leading, math.nan)
    pairs = zip(first.reshape(-1, archs), second.reshape(-1, archs), strict=True)
    return np.array([correlation(a, b) for a, b in pairs], dtype=np.float64).reshape(leading)
