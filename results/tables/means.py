"""Means of several metrics side by side, as tables of streams and of condensed memories show them."""

import math
from collections.abc import Sequence

from pandas import DataFrame

from harness.results.statistics.means import each_n_in_words, summary
from harness.results.wording import memory_note

ENDS = ("", "_low", "_high")


def metric_means(rows: DataFrame, metric: str, setting: Sequence[str], group: str) -> DataFrame:
    """`summary` with the mean and its ends under the metric's name, and n in words."""
    table = summary(rows, metric, setting, group)
    table["n"] = each_n_in_words(table, group)
    return table.rename(columns={"mean": metric, "low": f"{metric}_low", "high": f"{metric}_high"})


def join_metric(table: DataFrame, rows: DataFrame, metric: str, setting: Sequence[str], group: str) -> DataFrame:
    """Add the means of another metric and their ends to a table, missing for lines without it.

    If its n or the groups of its interval differ from those of the table, they are in a column `_n`.
    """
    names, own = [f"{metric}{end}" for end in ENDS], f"{metric}_n"
    if not (rows["metric"] == metric).any():
        return table.assign(**dict.fromkeys(names, math.nan), **{own: ""})
    means = metric_means(rows, metric, setting, group)
    means[own] = means["n"].where(means["varies"] == "nothing", means["n"] + ", over " + means["varies"])
    usual = table["n"].where(table["varies"] == "nothing", table["n"] + ", over " + table["varies"])
    found = table.merge(means[[*setting, *names, own]], on=list(setting), how="left")
    return found.assign(**{own: found[own].fillna("").mask((found[own] == usual) | found[metric].isna(), "")})


def stored_kib_per_class(rows: DataFrame, setting: Sequence[str]) -> DataFrame:
    kib = (rows["stored_bytes"] / rows["classes_seen"] / 1024).astype("float64")
    stored = rows.assign(stored_kib_per_class=kib).groupby(list(setting), dropna=False)["stored_kib_per_class"].mean()
    return stored.reset_index()


def memory_notes(table: DataFrame) -> list[str]:
    return [memory_note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
