"""Comparisons of the proxies of a search with each other, and their ranks given one axis of the space."""

from functools import cache
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.statistics import ranking
from harness.results.statistics.comparisons import AXES, LINE, TOGETHER, Comparison, compare, label_proxies, parse_axes
from harness.results.statistics.means import BLOCK
from harness.results.statistics.ranking import Draws, Statistic
from harness.results.tables.columns import (
    SETTINGS,
    Column,
    Layout,
    Question,
    signed_two_decimals,
    three_decimals,
    two_decimals,
)
from harness.results.tables.search import DRAWS, STATISTICS
from harness.results.wording import memory_note

COMPARED = ("spearman_rho", "spearman_rho_best_20_percent", "regret_at_1")
GIVEN = {"nothing": [], **{axis: [place] for place, axis in enumerate(AXES)}, "all axes": list(range(len(AXES)))}
PAIRS = Layout(
    "Architecture search, one proxy against another",
    (
        *SETTINGS,
        Column("statistic", is_shared=True),
        Column("first"),
        Column("second"),
        Column("advantage", format=signed_two_decimals),
        Column("p", format=three_decimals),
        Column("p_holm", format=three_decimals),
        Column("architectures", "n"),
    ),
    (Question("Advantage of the first proxy over the second", ("advantage", "p", "p_holm", "architectures")),),
    settings=(*TOGETHER, "statistic", "first", "second"),
    block=(*BLOCK, "statistic"),
    is_detail=True,
)
PARTIAL = Layout(
    "Architecture search, given an axis",
    (*SETTINGS, Column("given"), Column("partial_rho", "rho given that", two_decimals), Column("architectures", "n")),
    (Question("Spearman's rho given an axis", ("partial_rho", "architectures")),),
    settings=(*LINE, "given"),
    block=BLOCK,
    is_detail=True,
)


def nas_pairs(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """The advantage of one proxy over another in each of `COMPARED`, for every two of a data set, preset and space.

    Returns:
        What both share; statistic; first and second, the better proxy first; advantage, how much higher its rho or
        lower its regret is, with the ends of its 95 % interval in _low and _high; p (`ranking.paired_difference`:
        two-sided, for this one comparison) and p_holm, the same among all that the statistic compares; architectures,
        the number in the statistic of those that both and the truth have. Two proxies that share none have no line.
    Raises:
        ValueError: as `compare`.
    """
    by_block: dict[tuple[object, ...], list[Comparison]] = {}
    for each in compare(rows):
        if each.archs and not each.is_truth:
            by_block.setdefault(tuple(each.setting[name] for name in TOGETHER), []).append(each)
    lines: list[dict[str, object]] = []
    for block, proxies in by_block.items():
        names, drawn = label_proxies(proxies), _bootstrap_pairs(proxies, draws)
        for statistic, (first, second) in product(COMPARED, combinations(range(len(proxies)), 2)):
            if (first, second) not in drawn:
                continue
            of_both = [found[statistic] for found in drawn[first, second]]
            fewer_is_better = statistic.startswith("regret")
            if (of_both[0].value < of_both[1].value) != fewer_is_better:
                first, second = second, first
                of_both.reverse()
            found = ranking.paired_difference(*(reversed(of_both) if fewer_is_better else of_both))
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
    """Adjust the p of several comparisons by Holm (1979), so that the error of any of them stays below it."""
    ascending = p.dropna().sort_values(kind="stable")
    return (ascending * np.arange(len(ascending), 0, -1)).cummax().clip(upper=1.0).reindex(p.index)


def nas_partial(rows: DataFrame, draws: int = DRAWS // 5) -> DataFrame:
    """How well each proxy ranks the architectures given one axis of the space, for each axis and for all together.

    A rho that falls far below the plain one given, say, the norm comes from the differences between norms.

    Returns:
        The setting; given, the axis ("nothing" first, "all axes" last); partial_rho (`ranking.partial_rho`) with its
        95 % interval in _low and _high; architectures.
    Raises:
        ValueError: as `compare` and `parse_axes`.
    """
    lines = []
    for each in compare(rows):
        if each.is_truth:
            continue
        axes = parse_axes(each.models)
        codes = np.stack([pd.factorize(axes[name])[0] for name in AXES], axis=1)
        given = {axis: _rho_given(codes[:, columns]) for axis, columns in GIVEN.items()}
        for axis, drawn in ranking.bootstrap(given, each.proxy, each.truth, default_rng(0), draws).items():
            found = ranking.estimate(drawn)
            lines.append(
                each.columns
                | {"given": axis, "partial_rho": found.value, "partial_rho_low": found.low}
                | {"partial_rho_high": found.high, "architectures": len(each.archs)}
            )
    table = DataFrame(lines, columns=[*LINE, "given", "partial_rho", "partial_rho_low", "partial_rho_high",
                                      "architectures"])  # fmt: skip
    table["ipc"] = table["ipc"].astype("Int64")
    table["note"] = [memory_note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
    return table


def _bootstrap_pairs(
    proxies: list[Comparison], draws: int
) -> dict[tuple[int, int], tuple[dict[str, Draws], dict[str, Draws]]]:
    """Draw `COMPARED` for each two proxies, on the architectures that they share.

    Both have the same draws of architectures and of the truth's networks, and each draws its own networks.
    """
    statistics = {name: STATISTICS[name] for name in COMPARED}

    @cache
    def draw(proxy: int, archs: tuple[str, ...]) -> dict[str, Draws]:
        each = proxies[proxy].select(archs)
        return ranking.bootstrap(statistics, each.proxy, each.truth, default_rng(0), draws, default_rng([1, proxy]))

    found = {}
    for first, second in combinations(range(len(proxies)), 2):
        archs = tuple(arch for arch in proxies[first].archs if arch in set(proxies[second].archs))
        if archs:
            found[first, second] = draw(first, archs), draw(second, archs)
    return found


def _rho_given(codes: ranking.Places) -> Statistic:
    """The statistic of the partial rho given the categories (A, J) of all architectures."""

    def of(sample: ranking.Sample) -> ranking.Array:
        if not codes.shape[1]:
            return ranking.spearman_rho(sample.proxy.validation, sample.truth.test)
        return ranking.partial_rho(sample.proxy.validation, sample.truth.test, codes[sample.archs])

    return Statistic(of, redraws=False)
