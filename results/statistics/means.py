"""Means of rows, with their intervals."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from pandas import DataFrame
from scipy import special

from harness.results.wording import quantity

# The columns that make a line of a table. Values that differ in any of them never enter one mean.
BLOCK = ("dataset", "exactness", "dataset_digest", "split", "preset", "league")  # never mixed in one ranking
SETTING = (*BLOCK, "space", "steps", "ipc", "memory", "changes", "recipe", "memory_model", "model", "iterations")
NEVER_POOLED = ("track", *SETTING, "unit", "arch")
WHOLE = "full"  # the memory that is all the data
MISSING = ("", "nan", "<NA>", "None")  # missing values as text


class Summary(NamedTuple):
    """The mean of a metric with its interval and counts; see `summary`."""

    mean: float
    low: float
    high: float
    n: int
    n_groups: int
    n_nets: int
    varies: str
    std: float


def summary(rows: DataFrame, metric: str, by: Sequence[str], group: str = "order") -> DataFrame:
    """Mean of a metric with its 95 % interval, one line per setting.

    The interval is Student's t over the highest unit that varies: the group, an `order` of the classes in track cl, a
    condensed `set` in track condense. With several groups the networks inside each are averaged first, and the
    interval is over the means of the groups, df = groups - 1. Networks of one group share its memory, so they vary
    together: pooling 5 groups x 3 networks as 15 independent values, as the published standard deviations do,
    understates the uncertainty. With a single group the interval is over its networks, and then says nothing of
    other groups. Networks trained on all the data have no group: no set is condensed for them, and at the end of a
    stream no order of the classes matters. They are independent values, each network counted once, by its key.

    Args:
        rows: as `rows.read` gives them. Rows whose value is missing are left out, and not counted in n.
        metric: which metric.
        by: the columns that make a setting.
        group: the column whose values are groups, "order" or "set".
    Returns:
        The columns `by`, then mean, low and high (ends of the interval), n (values), n_orders or n_sets (0 where there
        are none), n_nets (most networks in one group), varies ("orders" or "sets", "nets", or "nothing": what the
        interval is over) and std (sample standard deviation, ddof 1, of those units). With one value low, high and std
        are missing, never 0.
    Raises:
        ValueError: no row has the metric, or a setting would mix what must not be: two data sets, splits, presets,
            leagues, memories ..., or two values of one network.
    """
    by = list(by)
    needed = list(dict.fromkeys((*by, *NEVER_POOLED, group, "experience", "repeat", "key", "value")))
    chosen = rows.loc[rows["metric"] == metric, needed]
    if chosen.empty:
        known = ", ".join(sorted(rows["metric"].unique())) or "none"
        raise ValueError(f"metric: none of the {len(rows)} rows is {metric}; there are: {known}")
    settings = chosen.groupby(by, dropna=False, sort=True)
    _refuse_mixtures(chosen, by, metric)
    _refuse_repetitions(chosen, metric, by, group)
    number = settings.ngroup().rename("setting")
    of_settings = chosen[by].assign(number=number).drop_duplicates("number").sort_values("number")[by]
    alone = without_group(chosen, metric, group)
    again = alone & (chosen["key"] != "") & chosen.assign(number=number).duplicated(["number", "key"])
    chosen, number = chosen[~again], number[~again]
    estimates = DataFrame(
        _summaries(_join_groupless(chosen, alone, group), number, group), columns=list(Summary._fields)
    )
    estimates.loc[sorted(set(number[alone[~again]])), "n_groups"] = 0
    return of_settings.reset_index(drop=True).join(estimates.rename(columns={"n_groups": f"n_{group}s"}))


def without_group(rows: DataFrame, metric: str, group: str) -> "pd.Series[bool]":
    """Which rows of a metric belong to networks without a group, trained on all the data: see `summary`."""
    at_the_end = metric == "last_accuracy" or (
        (rows["experience"] == rows["steps"] - 1).fillna(False) if metric == "seen_accuracy" else group == "set"
    )
    return ((rows["memory"] == WHOLE) & at_the_end).astype(bool)


def t_interval(values: "Sequence[float] | pd.Series[float]") -> tuple[float, float]:
    """The 95 % interval of the mean of independent values by Student's t; (nan, nan) for fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    mean, std = mean_and_std(values)
    half = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return mean - half, mean + half


def mean_and_std(values: "Sequence[float] | pd.Series[float]") -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1); nan for none, and for the deviation of fewer than two."""
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    mean = math.fsum(values) / n
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (n - 1)) if n > 1 else math.nan


def within_std(rows: DataFrame, group: str) -> float:
    """Standard deviation of the values inside their groups, pooled over the groups.

    The root of sum (value - mean of its group)^2 / (n - groups); missing where no group has two values.
    """
    values = rows.dropna(subset=["value"])
    groups = values.groupby(group, dropna=False)["value"]
    freedom = len(values) - groups.ngroups
    return math.sqrt(math.fsum((values["value"] - groups.transform("mean")) ** 2) / freedom) if freedom else math.nan


def n_in_words(n: int, n_groups: int, n_nets: int, group: str = "order") -> str:
    """The number of values in words.

    "2 orders x 2 nets"; "3 nets in 2 sets" where the sets have different numbers of networks; "6 nets" without groups.
    """
    if not n_groups:
        return quantity(n, "net")
    groups = quantity(n_groups, group)
    return f"{groups} x {quantity(n_nets, 'net')}" if n == n_groups * n_nets else f"{quantity(n, 'net')} in {groups}"


def each_n_in_words(table: DataFrame, group: str) -> list[str]:
    """`n_in_words` of every line of a `summary`."""
    counts = table[["n", f"n_{group}s", "n_nets"]]
    return [n_in_words(n, groups, nets, group) for n, groups, nets in counts.itertuples(index=False)]


def _refuse_mixtures(chosen: DataFrame, by: list[str], metric: str) -> None:
    """Raise a ValueError if a setting has several values in a column whose values never enter one mean."""
    settings = chosen.groupby(by, dropna=False, sort=True)
    for column in NEVER_POOLED:
        if chosen[column].nunique(dropna=False) < 2:
            continue
        mixed = settings[column].transform("nunique", dropna=False) > 1
        if mixed.any():
            found = chosen.loc[settings.ngroup() == settings.ngroup()[mixed].iloc[0], column].unique()
            raise ValueError(
                f"{metric}: a mean over {column} {_join_values(found)}; select one, or put {column} in `by`"
            )


def _refuse_repetitions(chosen: DataFrame, metric: str, by: list[str], group: str) -> None:
    if (twice := chosen.duplicated([*by, group, "repeat"])).any():
        of, repeat = chosen.loc[twice, [group, "repeat"]].iloc[0]
        raise ValueError(
            f"{metric}: {group} {of}, repeat {repeat} has several values that no column tells apart, as of two "
            "versions; leave the rows of one out"
        )


def _join_groupless(chosen: DataFrame, alone: "pd.Series[bool]", group: str) -> DataFrame:
    """Put the rows without a group into the first group."""
    return chosen.assign(**{group: chosen[group].mask(alone, chosen[group].iloc[0])})


def _summaries(chosen: DataFrame, number: "pd.Series[int]", group: str) -> Iterator[Summary]:
    """The summary of each setting, in the order of the settings.

    Values are lists of floats: a frame for each setting would take seconds.
    """
    present = chosen.dropna(subset=["value"])
    values: list[list[float]] = [[] for _ in range(int(number.max()) + 1)]
    for setting, value in zip(number[present.index], present["value"], strict=True):
        values[setting].append(value)
    groups: list[list[tuple[float, int]]] = [[] for _ in values]
    in_groups = present["value"].groupby([number[present.index], present[group]], dropna=False).agg(["mean", "size"])
    of = in_groups.index.get_level_values(0)
    for setting, mean, size in zip(of, in_groups["mean"], in_groups["size"], strict=True):
        groups[setting].append((mean, size))
    return (_summarise(own, of_groups, group) for own, of_groups in zip(values, groups, strict=True))


def _summarise(values: Sequence[float], groups: Sequence[tuple[float, int]], group: str) -> Summary:
    """The summary of one setting, from its values and the (mean, number of values) of each of its groups."""
    several = len(groups) > 1
    units = [mean for mean, _ in groups] if several else values
    varies = f"{group}s" if several else "nets" if len(values) > 1 else "nothing"
    mean, std = mean_and_std(units)
    n_nets = max((size for _, size in groups), default=0)
    return Summary(mean, *t_interval(units), len(values), len(groups), n_nets, varies, std)


def _join_values(values: Iterable[object]) -> str:
    return " and ".join(sorted("(missing)" if str(value) in MISSING else str(value) for value in values))
