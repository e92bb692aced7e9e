"""Track nas: rows to tables of how well each proxy ranks the architectures, beside the published values.

`results.searches` puts proxies beside their truth; `nas.ranking` says how intervals are made.
"""

import math
from collections.abc import Mapping
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.published.values import searches_for
from harness.results.statistics import ranking
from harness.results.statistics.means import t_interval
from harness.results.statistics.ranking import Drawn, Estimate, Networks, Statistic
from harness.results.statistics.searches import AXES, LINE, TOGETHER, Compared, axes_of, compared, labels
from harness.results.wording import memory_note

LAST = ("full", "")  # leagues of no proxy set, below the others
DRAWS = 1000

# Images in the test split of the named data sets: what an accuracy at chance is told by.
TEST_IMAGES = {
    "mnist": 10_000, "fashionmnist": 10_000, "svhn": 26_032, "cifar10": 10_000, "cifar100": 10_000,
    "tinyimagenet": 10_000, "imagenet64": 50_000, "digits": 355,
}  # fmt: skip

PICKED = "spearman_rho_picked_5_percent"  # the paper's number
STATISTICS: Mapping[str, Statistic] = {
    PICKED: ranking.ranks_of_picked(0.05),
    "spearman_rho": ranking.ranks(ranking.spearman_rho),
    "spearman_rho_best_20_percent": ranking.ranks_of_best(0.2),
    "spearman_rho_best_5_percent": ranking.ranks_of_best(0.05),
    "kendall_tau_b": ranking.ranks(ranking.kendall_tau_b),
    "regret_at_1": ranking.picks(ranking.regret, 1),
    "regret_at_5_percent": ranking.picks(ranking.regret, 0.05),
    "top_k_agreement_at_5_percent": ranking.picks(ranking.top_k_agreement, 0.05),
    "top_k_agreement_at_20_percent": ranking.picks(ranking.top_k_agreement, 0.2),
    "best_rank_at_5_percent": ranking.picks(ranking.best_rank, 0.05),
}
COMPARED = ("spearman_rho", "spearman_rho_best_20_percent", "regret_at_1")
GIVEN = {"nothing": [], **{axis: [place] for place, axis in enumerate(AXES)}, "all axes": list(range(len(AXES)))}


def nas_table(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """One line per data set, preset, space, league, proxy and its setting: what it picks, how well it ranks.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored.
        draws: bootstrap draws of every interval, from a generator seeded 0 for each number.
    Returns:
        The setting; architectures, that proxy and truth share and every number rests on, 5 % and 20 % of them rounded
        up in n_5_percent and n_20_percent;

        the paper's columns: performance (true accuracy of the architecture that the proxy's validation accuracy puts
        first, the mean over its networks with their Student's t interval in _low and _high; of several it puts first
        alike their mean, without an interval) and its name in selected; the rho of test accuracies within the proxy's
        own top 5 %; minutes to train the proxy's networks of these architectures and the device they passed on,
        condensing_minutes and theirs, missing where they passed on several; images; the published values where preset,
        data set and number of architectures are the paper's;

        the honest ones: `STATISTICS` with their 95 % intervals in _low and _high (`ranking.interval`); weighted_tau;
        noise_ceiling (`ranking.noise_ceiling`: one half of the truth's trainings against the other), the same within
        the best 20 %, and in halves how many trainings of each architecture that is: "1 against 1";

        and counts: repeats and true_repeats (most networks of an architecture), not_shared (architectures that only
        proxy or truth has), diverged and true_diverged (networks), at_chance (architectures whose true accuracy is
        not above `ranking.chance_bound`; missing where the size of the test set is not known), tied and true_tied
        (architectures whose score another has too); note.

        The truth has a line of its own, without the statistics that compare it with itself; its regret_at_1 is what
        selecting by validation accuracy loses. Lines of a league stand together, proxy sets before what needs none,
        inside it the highest rho first.
    Raises:
        ValueError: as `compared`.
    """
    lines = [_line(each, draws) for each in compared(rows)]
    table = DataFrame(lines)
    table["ipc"] = table["ipc"].astype("Int64")
    costs = [_costs(rows, line) for line in lines]
    table["images"], table["condensing_minutes"], table["condensing_device"] = zip(*costs, strict=True)
    table = table.join(searches_for(table))
    table["note"] = [memory_note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
    table["place"] = [LAST.index(league) + 1 if league in LAST else 0 for league in table["league"]]
    order = [*TOGETHER, "place", "league", "spearman_rho", "memory", "ipc", "changes"]
    ascending = [name != "spearman_rho" for name in order]
    table = table.sort_values(order, ascending=ascending, ignore_index=True)
    estimated = {name: [f"{name}{end}" for end in ("", "_low", "_high")] for name in STATISTICS}
    others = [column for name, columns in estimated.items() if name != PICKED for column in columns]
    return table[
        [*LINE, "architectures", "performance", "performance_low", "performance_high", *estimated[PICKED], "minutes",
         "minutes_device", "condensing_minutes", "condensing_device", "images", "published_performance",
         "published_rho", "published_minutes", "selected", *others, "weighted_tau", "noise_ceiling",
         "noise_ceiling_best_20_percent", "halves", "n_5_percent", "n_20_percent", "repeats", "true_repeats",
         "not_shared", "diverged", "true_diverged", "at_chance", "tied", "true_tied", "note"]
    ]  # fmt: skip


def nas_pairs(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """What one proxy has over another, for every two of a data set, preset and space, and each of `COMPARED`.

    Returns:
        What both share; statistic; first and second, the better proxy first; advantage, how much higher its rho or
        lower its regret is, with the ends of its 95 % interval in _low and _high, p (`ranking.paired`: two-sided, for
        this one comparison) and p_holm, of this one among all that the statistic compares; architectures, of those
        that both and the truth have the number in the statistic. No line where no two proxies share any.
    Raises:
        ValueError: as `compared`.
    """
    by_block: dict[tuple[Any, ...], list[Compared]] = {}
    for each in compared(rows):
        if each.archs and not each.is_truth:
            by_block.setdefault(tuple(each.setting[name] for name in TOGETHER), []).append(each)
    lines: list[dict[str, Any]] = []
    for block, proxies in by_block.items():
        names, drawn = labels(proxies), _on_shared(proxies, draws)
        for statistic, (first, second) in product(COMPARED, combinations(range(len(proxies)), 2)):
            if (first, second) not in drawn:
                continue
            of_both = [found[statistic] for found in drawn[first, second]]
            fewer_is_better = statistic.startswith("regret")
            if (of_both[0].value < of_both[1].value) != fewer_is_better:
                first, second = second, first
                of_both.reverse()
            found = ranking.paired(*(reversed(of_both) if fewer_is_better else of_both))
            lines.append(
                dict(zip(TOGETHER, block, strict=True))
                | {"statistic": statistic, "first": names[first], "second": names[second]}
                | {"advantage": found.value, "advantage_low": found.low, "advantage_high": found.high, "p": found.p}
                | {"architectures": found.n}
            )
    columns = [*TOGETHER, "statistic", "first", "second", "advantage", "advantage_low", "advantage_high", "p", "p_holm"]
    table = DataFrame(lines, columns=[*columns, "architectures"])
    table["p_holm"] = table.groupby([*TOGETHER, "statistic"], dropna=False)["p"].transform(holm)
    return table


def holm(p: "pd.Series[float]") -> "pd.Series[float]":
    """Several comparisons' p, each made to hold among all of them (Holm 1979): the error of any one stays below it."""
    ascending = p.dropna().sort_values(kind="stable")
    return (ascending * np.arange(len(ascending), 0, -1)).cummax().clip(upper=1.0).reindex(p.index)


def nas_partial(rows: DataFrame, draws: int = DRAWS // 5) -> DataFrame:
    """How well each proxy ranks beyond what one axis of the space tells, for each axis and for all of them together.

    A rho that falls far below the plain one given, say, the norm comes from telling the norms apart.

    Returns:
        The setting; given, the axis ("nothing" first, "all axes" last); partial_rho (`ranking.partial_rho`) with its
        95 % interval in _low and _high; architectures.
    Raises:
        ValueError: as `compared` and `axes_of`.
    """
    lines = []
    for each in compared(rows):
        if each.is_truth:
            continue
        axes = axes_of(each.models)
        codes = np.stack([pd.factorize(axes[name])[0] for name in AXES], axis=1)
        given = {axis: _given(codes[:, columns]) for axis, columns in GIVEN.items()}
        for axis, drawn in ranking.bootstrap(given, each.proxy, each.truth, default_rng(0), draws).items():
            found = ranking.interval(drawn)
            lines.append(
                {name: each.setting[name] for name in LINE}
                | {"given": axis, "partial_rho": found.value, "partial_rho_low": found.low}
                | {"partial_rho_high": found.high, "architectures": len(each.archs)}
            )
    table = DataFrame(lines, columns=[*LINE, "given", "partial_rho", "partial_rho_low", "partial_rho_high",
                                      "architectures"])  # fmt: skip
    table["ipc"] = table["ipc"].astype("Int64")
    table["note"] = [memory_note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
    return table


def _line(each: Compared, draws: int) -> dict[str, Any]:
    archs = len(each.archs)
    line = {name: each.setting[name] for name in LINE} | {
        "architectures": archs,
        "minutes": each.seconds / 60,
        "minutes_device": " and ".join(sorted(each.devices)),
        "weighted_tau": _weighted_tau(each),
        **_ceilings(each),
        "n_5_percent": ranking.share(archs, 0.05) if archs else 0,
        "n_20_percent": ranking.share(archs, 0.2) if archs else 0,
        "repeats": _repeats(each.proxy),
        "true_repeats": _repeats(each.truth),
        "not_shared": each.not_shared,
        "diverged": _diverged(each.proxy),
        "true_diverged": _diverged(each.truth),
        **_counts(each),
        **_performance(each),
    }
    for name, found in _estimates(each, draws).items():
        line |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return line


def _ceilings(each: Compared) -> dict[str, Any]:
    repeats = _repeats(each.truth)
    told = " against ".join(map(str, ranking.halves(repeats))) if repeats > 1 else ""
    all_of, best = (
        ranking.noise_ceiling(each.truth.test, default_rng(0), fraction) if each.archs else math.nan
        for fraction in (1.0, 0.2)
    )
    return {"noise_ceiling": all_of, "noise_ceiling_best_20_percent": best, "halves": told}


def _estimates(each: Compared, draws: int) -> dict[str, Estimate]:
    """Every one of `STATISTICS`; of the truth beside itself, whose accuracies are those of the same networks, few."""
    if each.archs and not each.is_truth:
        found = ranking.bootstrap(STATISTICS, each.proxy, each.truth, default_rng(0), draws)
        return {name: ranking.interval(drawn) for name, drawn in found.items()}
    missing = dict.fromkeys(STATISTICS, Estimate(math.nan, math.nan, math.nan, 0))
    if not each.archs:
        return missing
    of_truth = float(STATISTICS["regret_at_1"].of(ranking.whole(each.proxy, each.truth)))
    return missing | {"regret_at_1": Estimate(of_truth, math.nan, math.nan, len(each.archs))}


def _weighted_tau(each: Compared) -> float:
    if not each.archs or each.is_truth:
        return math.nan
    return float(ranking.weighted_tau(each.proxy.scores().validation, each.truth.scores().test))


def _repeats(networks: Networks) -> int:
    return int((~np.isnan(networks.test)).sum(1).max()) if len(networks) else 0


def _diverged(networks: Networks) -> int:
    return int(np.isneginf(networks.test).sum())


def _counts(each: Compared) -> dict[str, float]:
    if not each.archs:
        return {"at_chance": math.nan, "tied": math.nan, "true_tied": math.nan}
    true = each.truth.scores().test
    images = TEST_IMAGES.get(each.setting["dataset"])
    at_chance = math.nan
    if images is not None and each.classes > 1:
        at_chance = ranking.at_chance(true, ranking.chance_bound(each.classes, images))
    return {
        "at_chance": at_chance,
        "tied": ranking.tied(each.proxy.scores().validation),
        "true_tied": ranking.tied(true),
    }


def _performance(each: Compared) -> dict[str, Any]:
    if not each.archs:
        return {"performance": math.nan, "performance_low": math.nan, "performance_high": math.nan, "selected": ""}
    places = np.flatnonzero(ranking.picked(each.proxy.scores().validation, 1))
    mean = float(each.truth.scores().test[places].mean())
    first = places[0]
    accuracies = each.truth.test[first]
    is_one = len(places) == 1 and not math.isinf(mean)
    low, high = t_interval(accuracies[~np.isnan(accuracies)].tolist()) if is_one else (math.nan, math.nan)
    return {
        "performance": math.nan if math.isinf(mean) else mean,
        "performance_low": low,
        "performance_high": high,
        "selected": (each.models[first] or each.archs[first]) if len(places) == 1 else f"{len(places)} tied",
    }


def _costs(rows: DataFrame, line: Mapping[str, Any]) -> tuple[float, float, str]:
    """Images of a line's memory, the minutes of condensing it and the device; sums over its parts.

    Missing where no row tells them, minutes also where they passed on several devices.
    """
    own = rows[(rows["track"] == "nas") & (rows["metric"] == "memory_images")]
    for name in (*TOGETHER[:4], "memory", "changes", "memory_model"):
        own = own[own[name] == line[name]]
    own = own[own["ipc"].isna() if pd.isna(line["ipc"]) else (own["ipc"] == line["ipc"]).fillna(False)]
    own = own.drop_duplicates("key")
    if own.empty:
        return math.nan, math.nan, ""
    devices = sorted(set(own["device"]) - {""})
    minutes = float(own["wall_seconds"].sum(skipna=False)) / 60 if len(devices) < 2 else math.nan
    return float(own["value"].sum(skipna=False)), minutes, " and ".join(devices)


def _on_shared(proxies: list[Compared], draws: int) -> dict[tuple[int, int], tuple[dict[str, Drawn], dict[str, Drawn]]]:
    """For each two proxies that share architectures, `COMPARED` on those they share.

    The draws of these and of the truth's networks are the same, those of each proxy's own networks its own.
    """
    statistics = {name: STATISTICS[name] for name in COMPARED}

    @cache
    def drawn(proxy: int, archs: tuple[str, ...]) -> dict[str, Drawn]:
        each = proxies[proxy].of(archs)
        return ranking.bootstrap(statistics, each.proxy, each.truth, default_rng(0), draws, default_rng([1, proxy]))

    found = {}
    for first, second in combinations(range(len(proxies)), 2):
        archs = tuple(arch for arch in proxies[first].archs if arch in set(proxies[second].archs))
        if archs:
            found[first, second] = drawn(first, archs), drawn(second, archs)
    return found


def _given(codes: "np.ndarray[Any, np.dtype[np.integer[Any]]]") -> Statistic:
    """Partial rho given the categories (A, J) of all architectures."""

    def of(sample: ranking.Sample) -> ranking.Array:
        if not codes.shape[1]:
            return ranking.spearman_rho(sample.proxy.validation, sample.truth.test)
        return ranking.partial_rho(sample.proxy.validation, sample.truth.test, codes[sample.archs])

    return Statistic(of, redraws=False)
