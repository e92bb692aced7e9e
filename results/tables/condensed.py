"""The table of condensed memories: accuracies of networks trained on them, costs, and the published accuracies."""

import json
import math
from collections.abc import Mapping, Sequence

import pandas as pd
from pandas import DataFrame

from harness.results.published.values import accuracies_for
from harness.results.statistics.means import BLOCK, within_std, without_group
from harness.results.tables.columns import (
    SETTINGS,
    Column,
    Layout,
    Question,
    is_last_of_run,
    rounded,
    rounded_if_small,
    scientific,
    signed,
)
from harness.results.tables.means import ENDS, join_metric, memory_notes, metric_means, stored_kib_per_class

CONDENSED = (*BLOCK, "ipc", "memory", "changes", "recipe", "memory_model", "model", "iterations")
MEMORY = (*BLOCK, "ipc", "memory", "changes", "memory_model", "iterations")  # the settings of a memory's own rows
READ = "file:"  # the names of memories that others condensed begin so
MEMORIES = Layout(
    "Condensed sets",
    (
        *SETTINGS,
        Column("test_accuracy", "accuracy (%)", is_ranked=True),
        Column("std_between_sets", "std of sets"),
        Column("std_within_sets", "std of nets"),
        Column("n", is_shared=True),
        Column("varies", "95 % interval over", is_shared=True),
        Column("test_accuracy_uint8", "at 8 bits (%)", is_ranked=True),
        Column("test_accuracy_uint8_n", "n at 8 bits", is_shared=True),
        Column("images_per_class", "images / class", rounded),
        Column("scalars_per_class", "scalars / class", rounded),
        Column("stored_kib_per_class", "KiB / class", rounded_if_small),
        Column("condensing_seconds", "condensing (s)", rounded),
        Column("condensing_device", "condensed on", is_shared=True, is_optional=True),
        Column("condensing_flop", "FLOP", scientific),
        Column("peak_mib", "peak MiB", rounded),
        Column("published", std="published_std"),
        Column("difference", "gap", signed),
    ),
    (
        Question(
            "Accuracy of networks trained on the memory",
            ("test_accuracy", "n", "varies", "published", "difference"),
        ),
        Question(
            "Cost of the memory",
            ("stored_kib_per_class", "condensing_seconds", "condensing_device", "peak_mib"),
            ignores=("recipe", "model"),
        ),
        Question(
            "Spread of the accuracy, and the memory rounded to 8 bits",
            ("std_between_sets", "std_within_sets", "test_accuracy_uint8", "test_accuracy_uint8_n"),
            is_detail=True,
        ),
        Question(
            "Size of the memory and work of condensing",
            ("images_per_class", "scalars_per_class", "condensing_flop"),
            is_detail=True,
            ignores=("recipe", "model"),
        ),
    ),
    settings=CONDENSED,
    block=BLOCK,
    rivals=(*BLOCK, "ipc", "recipe", "model"),
)


def condense_table(rows: DataFrame) -> DataFrame:
    """One line per data set, split, preset, league, budget, memory, recipe, networks and number of iterations.

    Lines of one data set, split, preset and league stand together, ordered by ipc, model and iterations (selected
    images, which have none, before the others), then by accuracy, best first.

    What a memory holds and costs comes from its own rows, those without a `repeat`: the mean over sets, of a set in
    parts the sum of the parts. Costs are those up to the line's iterations, and missing if no row has them.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored. `classes_seen` is the number of classes.
    Returns:
        The setting; test_accuracy with `_low` and `_high` beside it (`means.summary` over sets); std_between_sets
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
    table = metric_means(track, "test_accuracy", CONDENSED, "set")
    table["std_between_sets"] = table["std"].where(table["varies"] == "sets")
    in_sets = tested.assign(set=tested["set"].mask(without_group(tested, "test_accuracy", "set"), 0))
    within = [(*setting, within_std(part, "set")) for setting, part in in_sets.groupby(keys, dropna=False)]
    within_of = DataFrame(within, columns=[*keys, "std_within_sets"]).astype(dict(tested[keys].dtypes))
    table = table.merge(within_of, on=keys, how="left")
    table = join_metric(table, track, "test_accuracy_uint8", CONDENSED, "set")
    table = table.merge(stored_kib_per_class(tested, CONDENSED), on=keys, how="left")
    classes = tested.groupby(keys, dropna=False)["classes_seen"].max().astype("float64")
    table = table.merge(classes.reset_index(), on=keys, how="left")
    table = _add_costs(table, track)
    table = table.merge(_updates_of_settings(tested, keys), on=keys, how="left")
    is_end = is_last_of_run(table, CONDENSED) & ~(table["iterations"] < table["asked"]).fillna(False).astype(bool)
    published = accuracies_for(table).where(is_end)
    table["published"], table["published_std"] = published["value"], published["std"]
    table["difference"] = table["test_accuracy"] - table["published"]
    table["note"] = memory_notes(table)
    order = [*BLOCK, "ipc", "model", "iterations", "test_accuracy", "memory", "recipe", "memory_model", "changes"]
    ascending = [name != "test_accuracy" for name in order]
    table = table.sort_values(order, ascending=ascending, na_position="first", ignore_index=True)
    return table[
        [*CONDENSED, *(f"test_accuracy{end}" for end in ENDS), "std_between_sets", "std_within_sets", "n", "varies",
         *(f"test_accuracy_uint8{end}" for end in (*ENDS, "_n")), "images_per_class", "scalars_per_class",
         "stored_kib_per_class", "condensing_seconds", "condensing_device", "condensing_flop", "peak_mib", "published",
         "published_std", "difference", "note"]
    ]  # fmt: skip


def _add_costs(table: DataFrame, track: DataFrame) -> DataFrame:
    """Add the size of each memory and the cost of condensing it to a table."""
    table = table.copy()
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
    return table


def _updates_of_settings(tested: DataFrame, keys: Sequence[str]) -> DataFrame:
    """The number of updates that the configuration of each setting asks for, in a column `asked`."""
    asked = {spec: updates_in_all(json.loads(spec).get("memory", {}) if spec else {}) for spec in set(tested["spec"])}
    return tested.assign(asked=tested["spec"].map(asked)).groupby(list(keys), dropna=False)["asked"].max().reset_index()


def updates_in_all(memory: Mapping[str, object]) -> float:
    """The updates of images that the configuration of a memory asks for; nan if it updates none."""
    own = memory.get("host", memory)
    if not isinstance(own, Mapping):
        return math.nan
    return float(own.get("iterations", math.nan) * (own.get("updates") or 1))


def _of_memory(table: DataFrame, rows: DataFrame, metric: str, column: str, join: str) -> "pd.Series[float]":
    """What the memory of each line holds or cost, from its own rows of a metric.

    With join "sum" it is the sum over the parts of a set, and the mean of these over sets; with "max" it is the largest
    of all. It is missing if a part lacks it. Parts have different keys, as several runs may share a memory.
    """
    own = rows.loc[rows["metric"] == metric, [*MEMORY, "set", "key", column]].astype({column: "float64"})
    own = own.drop_duplicates([*MEMORY, "set", "key"])
    of_set = own.groupby([*MEMORY, "set"], dropna=False)[column].agg(lambda parts: getattr(parts, join)(skipna=False))
    of_memory = of_set.groupby(list(MEMORY), dropna=False).agg("mean" if join == "sum" else "max")
    return table[list(MEMORY)].merge(of_memory.reset_index(), on=list(MEMORY), how="left")[column]


def _devices(table: DataFrame, rows: DataFrame) -> "pd.Series[str]":
    """The device that condensed the memory of each line: "A and B" if its sets or their parts were on two."""
    is_timed = (rows["metric"] == "memory_images") & rows["wall_seconds"].notna()
    own = rows.loc[is_timed & (rows["device"] != ""), [*MEMORY, "device"]]
    devices = own.groupby(list(MEMORY), dropna=False)["device"].agg(lambda names: " and ".join(sorted(set(names))))
    return (
        table[list(MEMORY)].merge(devices.reset_index(), on=list(MEMORY), how="left")["device"].fillna("").astype(str)
    )
