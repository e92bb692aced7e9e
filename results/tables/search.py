"""The table of a search: how well each proxy ranks the architectures, beside the published values.

`statistics.comparisons` compares proxies with their truth, and `statistics.ranking` makes the intervals.
"""

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.published.values import searches_for
from harness.results.statistics import ranking
from harness.results.statistics.comparisons import LINE, TOGETHER, Comparison, compare
from harness.results.statistics.means import BLOCK, t_interval
from harness.results.statistics.ranking import AccuracyMatrix, Estimate, Statistic
from harness.results.tables.columns import SETTINGS, Column, Layout, Question, rounded, two_decimals
from harness.results.tables.search_notes import search_note

LAST = ("full", "")  # leagues of no proxy set, below the others
DRAWS = 1000

# Images in the test split of the named data sets, for the bound of an accuracy at chance.
TEST_IMAGES = {
    "mnist": 10_000, "fashionmnist": 10_000, "svhn": 26_032, "cifar10": 10_000, "cifar100": 10_000,
    "tinyimagenet": 10_000, "imagenet64": 50_000, "digits": 355,
}  # fmt: skip

PICKED = "spearman_rho_picked_5_percent"  # the paper's number
STATISTICS: Mapping[str, Statistic] = {
    PICKED: ranking.rho_among_selected(0.05),
    "spearman_rho": ranking.rank_statistic(ranking.spearman_rho),
    "spearman_rho_best_20_percent": ranking.rho_among_best(0.2),
    "spearman_rho_best_5_percent": ranking.rho_among_best(0.05),
    "kendall_tau_b": ranking.rank_statistic(ranking.kendall_tau_b),
    "regret_at_1": ranking.selection_statistic(ranking.regret, 1),
    "regret_at_5_percent": ranking.selection_statistic(ranking.regret, 0.05),
    "top_k_agreement_at_5_percent": ranking.selection_statistic(ranking.top_k_agreement, 0.05),
    "top_k_agreement_at_20_percent": ranking.selection_statistic(ranking.top_k_agreement, 0.2),
    "best_rank_at_5_percent": ranking.selection_statistic(ranking.best_rank, 0.05),
}
SEARCHES = Layout(
    "Architecture search",
    (
        *SETTINGS,
        Column("architectures", "n"),
        Column("performance", "accuracy of the selected (%)"),
        Column(PICKED, "rho, own top 5 %", two_decimals),
        Column("minutes", format=rounded),
        Column("minutes_device", "minutes on", is_shared=True, is_optional=True),
        Column("condensing_minutes", "condensing (min)", rounded),
        Column("condensing_device", "condensed on", is_shared=True, is_optional=True),
        Column("images", format=rounded),
        Column("published_performance", "published accuracy"),
        Column("published_rho", format=two_decimals),
        Column("published_minutes"),
        Column("selected"),
        Column("spearman_rho", "rho", two_decimals),
        Column("spearman_rho_best_20_percent", "rho, best 20 %", two_decimals),
        Column("spearman_rho_best_5_percent", "rho, best 5 %", two_decimals),
        Column("kendall_tau_b", "tau-b", two_decimals),
        Column("regret_at_1", "regret@1 (points)"),
        Column("regret_at_5_percent", "regret@5 % (points)"),
        Column("top_k_agreement_at_5_percent", "agreement@5 %", two_decimals),
        Column("top_k_agreement_at_20_percent", "agreement@20 %", two_decimals),
        Column("best_rank_at_5_percent", "best rank@5 %", rounded),
        Column("weighted_tau", format=two_decimals),
        Column("noise_ceiling", "noise ceiling: rho of half of the truth's trainings with the others", two_decimals),
        Column("noise_ceiling_of_mean", "noise ceiling of both halves' mean: sqrt(2 rho / (1 + rho))", two_decimals),
        Column("noise_ceiling_best_20_percent", "noise ceiling, best 20 %", two_decimals),
        Column("halves", "trainings of the truth in the noise ceiling", is_shared=True),
        Column("n_5_percent", "n of 5 %", rounded),
        Column("n_20_percent", "n of 20 %", rounded),
        Column("repeats", format=rounded),
        Column("true_repeats", "repeats of the truth", rounded),
        Column("not_shared", format=rounded),
        Column("diverged", format=rounded),
        Column("true_diverged", "of the truth diverged", rounded),
        Column("at_chance", format=rounded),
        Column("tied", format=rounded),
        Column("true_tied", "of the truth tied", rounded),
    ),
    (
        Question(
            "Which architecture the proxy selects",
            ("architectures", "performance", "regret_at_1", "published_performance"),
        ),
        Question(
            "How well the proxy ranks the architectures",
            ("spearman_rho", "spearman_rho_best_20_percent", "kendall_tau_b"),
        ),
        Question(
            "What the proxy costs",
            ("minutes", "minutes_device", "condensing_minutes", "condensing_device", "images", "published_minutes"),
        ),
        Question("Names of the selected architectures", ("selected",), is_detail=True),
        Question(
            "Ranks among the best architectures, and weighted ranks",
            (PICKED, "published_rho", "spearman_rho_best_5_percent", "weighted_tau"),
            is_detail=True,
        ),
        Question(
            "What the proxy picks",
            ("regret_at_5_percent", "top_k_agreement_at_5_percent", "top_k_agreement_at_20_percent",
             "best_rank_at_5_percent"),
            is_detail=True,
        ),
        Question(
            "How noisy the truth is",
            ("noise_ceiling", "noise_ceiling_of_mean", "noise_ceiling_best_20_percent", "halves"),
            is_detail=True,
        ),
        Question(
            "Counts",
            ("n_5_percent", "n_20_percent", "repeats", "true_repeats", "not_shared", "diverged", "true_diverged",
             "at_chance", "tied", "true_tied"),
            is_detail=True,
        ),
    ),
    settings=LINE,
    block=BLOCK,
)  # fmt: skip


def nas_table(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """One line per data set, preset, space, league, proxy and its setting: its selection and its ranking.

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

        the honest ones: `STATISTICS` with their 95 % intervals in _low and _high (`ranking.estimate`); weighted_tau;
        noise_ceiling, noise_ceiling_of_mean, noise_ceiling_best_20_percent and halves (`noise_ceilings`);

        and counts: repeats and true_repeats (most networks of an architecture), not_shared (architectures that only
        proxy or truth has), diverged and true_diverged (networks), at_chance (architectures whose true accuracy is
        not above `ranking.chance_bound`; missing if the size of the test set is not known), tied and true_tied
        (architectures whose score another has too); note (`search_note`).

        The truth has a line of its own, without the statistics that compare it with itself; its regret_at_1 is what
        selecting by validation accuracy loses. Lines of a league stand together, proxy sets before what needs none,
        inside it the highest rho first.
    Raises:
        ValueError: as `compare`.
    """
    comparisons = compare(rows)
    lines = [_line(each, draws) for each in comparisons]
    table = DataFrame(lines)
    table["ipc"] = table["ipc"].astype("Int64")
    costs = [_costs(rows, line) for line in lines]
    table["images"], table["condensing_minutes"], table["condensing_device"] = zip(*costs, strict=True)
    table = table.join(searches_for(table))
    table["note"] = [search_note(rows, each) for each in comparisons]
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
         "noise_ceiling_of_mean", "noise_ceiling_best_20_percent", "halves", "n_5_percent", "n_20_percent", "repeats",
         "true_repeats", "not_shared", "diverged", "true_diverged", "at_chance", "tied", "true_tied", "note"]
    ]  # fmt: skip


def _line(each: Comparison, draws: int) -> dict[str, object]:
    archs = len(each.archs)
    line = each.columns | {
        "architectures": archs,
        "minutes": each.seconds / 60,
        "minutes_device": " and ".join(sorted(each.devices)),
        "weighted_tau": _weighted_tau(each),
        **noise_ceilings(each),
        "n_5_percent": ranking.count_fraction(archs, 0.05) if archs else 0,
        "n_20_percent": ranking.count_fraction(archs, 0.2) if archs else 0,
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


class NoiseCeilings(TypedDict):
    """The highest rho that the noise of the truth allows."""

    noise_ceiling: float
    noise_ceiling_of_mean: float
    noise_ceiling_best_20_percent: float
    halves: str


def noise_ceilings(each: Comparison) -> NoiseCeilings:
    """The noise ceilings of the truth of a comparison.

    Returns:
        noise_ceiling is the rho of one half of the truth's trainings with the other half, and
        noise_ceiling_best_20_percent the same among the best; halves says how many trainings of each architecture the
        two halves have, such as "1 against 1". noise_ceiling_of_mean is what the mean of both halves, with which
        proxies are compared, allows (`ranking.ceiling_of_mean`).
    """
    repeats = _repeats(each.truth)
    over_all, best = (
        ranking.noise_ceiling(each.truth.test, default_rng(0), fraction) if each.archs else math.nan
        for fraction in (1.0, 0.2)
    )
    return {
        "noise_ceiling": over_all,
        "noise_ceiling_of_mean": ranking.ceiling_of_mean(over_all),
        "noise_ceiling_best_20_percent": best,
        "halves": " against ".join(map(str, ranking.split_sizes(repeats))) if repeats > 1 else "",
    }


def _estimates(each: Comparison, draws: int) -> dict[str, Estimate]:
    """Estimate each of `STATISTICS`; of the truth, which is compared with itself, only regret@1."""
    if each.archs and not each.is_truth:
        found = ranking.bootstrap(STATISTICS, each.proxy, each.truth, default_rng(0), draws)
        return {name: ranking.estimate(drawn) for name, drawn in found.items()}
    missing = dict.fromkeys(STATISTICS, Estimate(math.nan, math.nan, math.nan, 0))
    if not each.archs:
        return missing
    of_truth = float(STATISTICS["regret_at_1"].compute(ranking.full_sample(each.proxy, each.truth)))
    return missing | {"regret_at_1": Estimate(of_truth, math.nan, math.nan, len(each.archs))}


def _weighted_tau(each: Comparison) -> float:
    if not each.archs or each.is_truth:
        return math.nan
    return float(ranking.weighted_tau(each.proxy.scores().validation, each.truth.scores().test))


def _repeats(networks: AccuracyMatrix) -> int:
    return int((~np.isnan(networks.test)).sum(1).max()) if len(networks) else 0


def _diverged(networks: AccuracyMatrix) -> int:
    return int(np.isneginf(networks.test).sum())


def _counts(each: Comparison) -> dict[str, float]:
    if not each.archs:
        return {"at_chance": math.nan, "tied": math.nan, "true_tied": math.nan}
    true = each.truth.scores().test
    images = TEST_IMAGES.get(each.setting["dataset"])
    at_chance = math.nan
    if images is not None and each.classes > 1:
        at_chance = ranking.count_at_chance(true, ranking.chance_bound(each.classes, images))
    return {
        "at_chance": at_chance,
        "tied": ranking.count_tied(each.proxy.scores().validation),
        "true_tied": ranking.count_tied(true),
    }


def _performance(each: Comparison) -> dict[str, object]:
    if not each.archs:
        return {"performance": math.nan, "performance_low": math.nan, "performance_high": math.nan, "selected": ""}
    places = np.flatnonzero(ranking.selection_chances(each.proxy.scores().validation, 1))
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


def _costs(rows: DataFrame, line: Mapping[str, object]) -> tuple[float, float, str]:
    """The images of the memory of a line, the minutes of condensing it and the device, summed over its parts.

    They are missing if no row has them, and minutes also if they passed on several devices.
    """
    own = rows[(rows["track"] == "nas") & (rows["metric"] == "memory_images")]
    for name in (*TOGETHER[:4], "memory", "changes", "memory_model"):
        own = own[own[name] == line[name]]
    own = own[own["ipc"].isna() if line["ipc"] is None else (own["ipc"] == line["ipc"]).fillna(False)]
    own = own.drop_duplicates("key")
    if own.empty:
        return math.nan, math.nan, ""
    devices = sorted(set(own["device"]) - {""})
    minutes = float(own["wall_seconds"].sum(skipna=False)) / 60 if len(devices) < 2 else math.nan
    return float(own["value"].sum(skipna=False)), minutes, " and ".join(devices)
