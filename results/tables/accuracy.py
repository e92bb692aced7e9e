"""Rows to the tables of each track: means with their intervals, n, costs, and the published values beside them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame

from harness.results.published.values import accuracies_for, end_points_for, published_end_points
from harness.results.statistics.means import BLOCK, each_n_in_words, summary, within_std, without_group
from harness.results.statistics.searches import has_results, tell_axes
from harness.results.tables.search import nas_pairs, nas_partial, nas_table
from harness.results.tables.text import to_console, to_rich, to_text
from harness.results.wording import memory_note

__all__ = [
    "cl_table",
    "condense_table",
    "last_of_each_run",
    "published_end_points",
    "tables_of",
    "to_console",
    "to_rich",
    "to_text",
]

STREAM = (*BLOCK, "steps", "memory", "changes", "ipc", "recipe", "memory_model", "model")
CONDENSED = (*BLOCK, "ipc", "memory", "changes", "recipe", "memory_model", "model", "iterations")
MEMORY = (*BLOCK, "ipc", "memory", "changes", "memory_model", "iterations")  # what a memory's own rows tell of it
ENDS = ("", "_low", "_high")
READ = "file:"  # the names of memories that others condensed begin so


def tables_of(rows: DataFrame) -> list[DataFrame]:
    """The tables of each track the rows have results of: `cl_table`, `condense_table`, then those of track nas.

    Raises:
        ValueError: none of the rows is a result, or those of track nas have no truth.
    """
    is_nas = (rows["track"] == "nas") & rows["metric"].isin(("test_accuracy", "score"))
    is_stream = (rows["track"] == "cl") & (rows["metric"] == "last_accuracy")
    is_condensed = (rows["track"] == "condense") & (rows["metric"] == "test_accuracy")
    tables = [make(rows) for make, found in ((cl_table, is_stream), (condense_table, is_condensed)) if found.any()]
    if has_results(rows) or (is_nas.any() and not tables):
        tables.append(nas_table(rows))
        tables += [nas_pairs(rows), nas_partial(rows)] if tell_axes(rows) else [nas_pairs(rows)]
    if not tables:
        raise ValueError(
            f"none of the {len(rows)} rows is a last_accuracy of track cl or a test_accuracy of track condense or nas: "
            "nothing is finished"
        )
    return [table for table in tables if len(table)]


def cl_table(rows: DataFrame) -> DataFrame:
    """One line per data set, split, preset, league, memory, budget, recipe, networks and number of steps.

    Lines of one data set, split, preset and league stand together, ordered by steps, then by last accuracy, best
    first. Unfinished streams, which have no last accuracy yet, are left out.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored.
    Returns:
        The setting; last_accuracy, average_incremental_accuracy and forgetting, each the mean with `_low` and
        `_high` beside it (`estimates.summary`); n in words and varies, of the last accuracy, and `_n` of another metric
        where they are others; stored_kib_per_class at the last experience;
        published and difference (ours minus theirs) where an end point was published for exactly that setting;
        note, which marks rows that are no result.
    Raises:
        ValueError: no stream of track cl is finished.
    """
    streams = rows[rows["track"] == "cl"]
    finished = streams[streams["metric"] == "last_accuracy"]
    if finished.empty:
        raise ValueError(f"none of the {len(rows)} rows is a last_accuracy of track cl: no stream is finished")
    table = _means(streams, "last_accuracy", STREAM, "order")
    for metric in ("average_incremental_accuracy", "forgetting"):
        table = _beside(table, streams, metric, STREAM, "order")
    table = table.merge(_stored_kib_per_class(finished, STREAM), on=list(STREAM), how="left")
    table["published"] = end_points_for(table)
    table["difference"] = table["last_accuracy"] - table["published"]
    table["note"] = _notes(table)
    order = [*BLOCK, "steps", "last_accuracy", "memory", "ipc", "recipe", "memory_model", "model"]
    table = table.sort_values(order, ascending=[name != "last_accuracy" for name in order], ignore_index=True)
    metrics = ("last_accuracy", "average_incremental_accuracy", "forgetting")
    measured = [f"{name}{end}" for name in metrics for end in ENDS]
    counts = ["n", "varies", *(f"{name}_n" for name in metrics[1:])]
    return table[[*STREAM, *measured, *counts, "stored_kib_per_class", "published", "difference", "note"]]


def condense_table(rows: DataFrame) -> DataFrame:
    """One line per data set, split, preset, league, budget, memory, recipe, networks and number of iterations.

    Lines of one data set, split, preset and league stand together, ordered by ipc, model and iterations (selected
    images, which have none, before the others), then by accuracy, best first.

    What a memory holds and costs comes from its own rows, those without a `repeat`: the mean over sets, of a set in
    parts the sum of the parts. Costs are those up to the line's iterations, and missing where no row tells them.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored. `classes_seen` is the number of classes.
    Returns:
        The setting; test_accuracy with `_low` and `_high` beside it (`estimates.summary` over sets); std_between_sets
        (ddof 1, of the means of the sets) and std_within_sets (of the networks of one set, pooled over the sets); n
        in words; varies ("sets", "nets" or "nothing"); test_accuracy_uint8, `_low`, `_high`: the same of the
        memory rounded to 8 bits, and `_n` where that is another; images_per_class, scalars_per_class,
        stored_kib_per_class; condensing_seconds, missing where they passed on several devices, and condensing_device;
        condensing_flop and peak_mib, the most any set took; published, published_std and difference (ours minus
        theirs); note. The published value holds for the line's data set, split, preset, memory, ipc, recipe and
        networks, and stands beside the end of a run only. It is also given where `changes` is not empty,
        as a reader's reference: what was set otherwise than they had it stands in the note.
    Raises:
        ValueError: no row is a test_accuracy of track condense, or they mix what must not be.
    """
    track = rows[rows["track"] == "condense"]
    tested = track[track["metric"] == "test_accuracy"]
    if tested.empty:
        raise ValueError(f"none of the {len(rows)} rows is a test_accuracy of track condense: no network is tested")
    keys = list(CONDENSED)
    table = _means(track, "test_accuracy", CONDENSED, "set")
    table["std_between_sets"] = table["std"].where(table["varies"] == "sets")
    in_sets = tested.assign(set=tested["set"].mask(without_group(tested, "test_accuracy", "set"), 0))
    within = [(*setting, within_std(part, "set")) for setting, part in in_sets.groupby(keys, dropna=False)]
    within_of = DataFrame(within, columns=[*keys, "std_within_sets"]).astype(dict(tested[keys].dtypes))
    table = table.merge(within_of, on=keys, how="left")
    table = _beside(table, track, "test_accuracy_uint8", CONDENSED, "set")
    table = table.merge(_stored_kib_per_class(tested, CONDENSED), on=keys, how="left")
    classes = tested.groupby(keys, dropna=False)["classes_seen"].max().astype("float64")
    table = table.merge(classes.reset_index(), on=keys, how="left")
    table["images_per_class"] = _of_memory(table, track, "memory_images", "value", "sum") / table["classes_seen"]
    table["scalars_per_class"] = _of_memory(table, track, "memory_scalars", "value", "sum") / table["classes_seen"]
    table["condensing_device"] = _devices(table, track)
    seconds = _of_memory(table, track, "memory_images", "wall_seconds", "sum")
    table["condensing_seconds"] = seconds.mask(table["condensing_device"].str.contains(" and "))
    others = table["memory"].str.startswith(READ)  # their rows tell the cost of reading a file, not of condensing
    table["condensing_device"] = table["condensing_device"].mask(others, "")
    table["condensing_flop"] = _of_memory(table, track, "condensing_flop", "value", "sum")
    table["peak_mib"] = _of_memory(table, track, "memory_images", "peak_bytes", "max") / 2**20
    for cost in ("condensing_seconds", "peak_mib"):
        table[cost] = table[cost].mask(others)
    table = table.merge(_asked_for(tested, keys), on=keys, how="left")
    is_end = last_of_each_run(table) & ~(table["iterations"] < table["asked"]).fillna(False).astype(bool)
    published = accuracies_for(table).where(is_end)
    table["published"], table["published_std"] = published["value"], published["std"]
    table["difference"] = table["test_accuracy"] - table["published"]
    table["note"] = _notes(table)
    order = [*BLOCK, "ipc", "model", "iterations", "test_accuracy", "memory", "recipe", "memory_model", "changes"]
    ascending = [name != "test_accuracy" for name in order]
    table = table.sort_values(order, ascending=ascending, na_position="first", ignore_index=True)
    return table[
        [*CONDENSED, *(f"test_accuracy{end}" for end in ENDS), "std_between_sets", "std_within_sets", "n", "varies",
         *(f"test_accuracy_uint8{end}" for end in (*ENDS, "_n")), "images_per_class", "scalars_per_class",
         "stored_kib_per_class", "condensing_seconds", "condensing_device", "condensing_flop", "peak_mib", "published",
         "published_std", "difference", "note"]
    ]  # fmt: skip


def _asked_for(tested: DataFrame, keys: Sequence[str]) -> DataFrame:
    """How many updates a setting's configuration asks for in all, in `asked`; missing where rows tell none."""
    asked = {spec: updates_in_all(json.loads(spec).get("memory", {}) if spec else {}) for spec in set(tested["spec"])}
    return tested.assign(asked=tested["spec"].map(asked)).groupby(list(keys), dropna=False)["asked"].max().reset_index()


def updates_in_all(memory: Mapping[str, Any]) -> float:
    """The updates of its images that a memory's configuration, as rows and runs tell it, asks for; nan for none."""
    own = memory.get("host", memory)
    return float(own.get("iterations", math.nan) * (own.get("updates") or 1))


def last_of_each_run(table: DataFrame) -> "pd.Series[bool]":
    """Which lines of a condense table have the most iterations among those that differ in nothing else."""
    run = [name for name in CONDENSED if name != "iterations"]
    last = table.groupby(run, dropna=False)["iterations"].transform("max")
    return (last.isna() | (table["iterations"] == last)).fillna(False).astype(bool)


def _means(rows: DataFrame, metric: str, setting: Sequence[str], group: str) -> DataFrame:
    """`summary` with the mean and its ends under the metric's name, and n in words."""
    table = summary(rows, metric, setting, group)
    table["n"] = each_n_in_words(table, group)
    return table.rename(columns={"mean": metric, "low": f"{metric}_low", "high": f"{metric}_high"})


def _beside(table: DataFrame, rows: DataFrame, metric: str, setting: Sequence[str], group: str) -> DataFrame:
    """The table with the means of another metric and their ends, missing where there is none, and where its n or what
    its interval is over is another than the table's, these in `_n`."""
    names, own = [f"{metric}{end}" for end in ENDS], f"{metric}_n"
    if not (rows["metric"] == metric).any():
        return table.assign(**dict.fromkeys(names, math.nan), **{own: ""})
    means = _means(rows, metric, setting, group)
    means[own] = means["n"].where(means["varies"] == "nothing", means["n"] + ", over " + means["varies"])
    usual = table["n"].where(table["varies"] == "nothing", table["n"] + ", over " + table["varies"])
    found = table.merge(means[[*setting, *names, own]], on=list(setting), how="left")
    return found.assign(**{own: found[own].fillna("").mask((found[own] == usual) | found[metric].isna(), "")})


def _stored_kib_per_class(rows: DataFrame, setting: Sequence[str]) -> DataFrame:
    kib = (rows["stored_bytes"] / rows["classes_seen"] / 1024).astype("float64")
    stored = rows.assign(stored_kib_per_class=kib).groupby(list(setting), dropna=False)["stored_kib_per_class"].mean()
    return stored.reset_index()


def _of_memory(table: DataFrame, rows: DataFrame, metric: str, column: str, join: str) -> "pd.Series[float]":
    """What each line's memory holds or cost, from its own rows of a metric: "sum" of a set's parts, mean over sets; or
    "max" of all. Missing where a part does not tell it. Parts are told apart by their keys: runs may share a memory."""
    own = rows.loc[rows["metric"] == metric, [*MEMORY, "set", "key", column]].astype({column: "float64"})
    own = own.drop_duplicates([*MEMORY, "set", "key"])
    of_set = own.groupby([*MEMORY, "set"], dropna=False)[column].agg(lambda parts: getattr(parts, join)(skipna=False))
    of_memory = of_set.groupby(list(MEMORY), dropna=False).agg("mean" if join == "sum" else "max")
    return table[list(MEMORY)].merge(of_memory.reset_index(), on=list(MEMORY), how="left")[column]


def _devices(table: DataFrame, rows: DataFrame) -> "pd.Series[str]":
    """Where each line's memory was condensed: "A and B" where its sets or their parts were on two devices."""
    is_timed = (rows["metric"] == "memory_images") & rows["wall_seconds"].notna()
    own = rows.loc[is_timed & (rows["device"] != ""), [*MEMORY, "device"]]
    told = own.groupby(list(MEMORY), dropna=False)["device"].agg(lambda of: " and ".join(sorted(set(of))))
    return table[list(MEMORY)].merge(told.reset_index(), on=list(MEMORY), how="left")["device"].fillna("").astype(str)


def _notes(table: DataFrame) -> list[str]:
    return [memory_note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
