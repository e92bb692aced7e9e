"""The table of streams: accuracies and forgetting of each memory, beside the published end points."""

from pandas import DataFrame

from harness.results.published.values import end_points_for
from harness.results.statistics.means import BLOCK
from harness.results.tables.columns import SETTINGS, Column, Layout, Question, rounded_if_small, signed
from harness.results.tables.means import ENDS, join_metric, memory_notes, metric_means, stored_kib_per_class

STREAM = (*BLOCK, "steps", "memory", "changes", "ipc", "recipe", "memory_model", "model")
STREAMS = Layout(
    "Class-incremental streams",
    (
        *SETTINGS,
        Column("last_accuracy", "last accuracy (%)", is_ranked=True),
        Column("average_incremental_accuracy", "average incremental accuracy (%)", is_ranked=True),
        Column("forgetting", "forgetting (points)"),  # not ranked: who learns least has least to forget
        Column("n", is_shared=True),
        Column("varies", "95 % interval over", is_shared=True),
        Column("average_incremental_accuracy_n", "n of average incremental accuracy", is_shared=True),
        Column("forgetting_n", "n of forgetting", is_shared=True),
        Column("stored_kib_per_class", "KiB / class", rounded_if_small),
        Column("published", std="published_std"),
        Column("difference", "gap", signed),
    ),
    (
        Question("Accuracy after the last step", ("last_accuracy", "n", "varies", "published", "difference")),
        Question(
            "Along the stream",
            ("average_incremental_accuracy", "average_incremental_accuracy_n", "forgetting", "forgetting_n"),
        ),
        Question("Size of the memory", ("stored_kib_per_class",), is_detail=True),
    ),
    settings=STREAM,
    block=BLOCK,
    rivals=(*BLOCK, "steps", "ipc", "recipe", "model"),
)


def cl_table(rows: DataFrame) -> DataFrame:
    """One line per data set, split, preset, league, memory, budget, recipe, networks and number of steps.

    Lines of one data set, split, preset and league stand together, ordered by steps, then by last accuracy, best
    first. Unfinished streams, which have no last accuracy yet, are left out.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored.
    Returns:
        The setting; last_accuracy, average_incremental_accuracy and forgetting, each the mean with `_low` and
        `_high` beside it (`means.summary`); n in words and varies, of the last accuracy, and `_n` of another metric
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
    table = metric_means(streams, "last_accuracy", STREAM, "order")
    for metric in ("average_incremental_accuracy", "forgetting"):
        table = join_metric(table, streams, metric, STREAM, "order")
    table = table.merge(stored_kib_per_class(finished, STREAM), on=list(STREAM), how="left")
    table["published"] = end_points_for(table)
    table["difference"] = table["last_accuracy"] - table["published"]
    table["note"] = memory_notes(table)
    order = [*BLOCK, "steps", "last_accuracy", "memory", "ipc", "recipe", "memory_model", "model"]
    table = table.sort_values(order, ascending=[name != "last_accuracy" for name in order], ignore_index=True)
    metrics = ("last_accuracy", "average_incremental_accuracy", "forgetting")
    measured = [f"{name}{end}" for name in metrics for end in ENDS]
    counts = ["n", "varies", *(f"{name}_n" for name in metrics[1:])]
    return table[[*STREAM, *measured, *counts, "stored_kib_per_class", "published", "difference", "note"]]
