"""Every table that some rows allow."""

from pandas import DataFrame

from harness.results.statistics.comparisons import has_axes, has_results
from harness.results.tables.columns import Layout, Table
from harness.results.tables.condensed import MEMORIES, condense_table
from harness.results.tables.pairs import PAIRS, PARTIAL, nas_pairs, nas_partial
from harness.results.tables.search import SEARCHES, nas_table
from harness.results.tables.streams import STREAMS, cl_table


def tables_of(rows: DataFrame) -> list[Table]:
    """The tables of each track that the rows have results of.

    Streams come first, then condensed memories, then the tables of a search: proxies, pairs of proxies and, where the
    names of the architectures tell the axes of the space, ranks given an axis. Tables without a line are left out.

    Raises:
        ValueError: none of the rows is a result, or those of track nas have no truth.
    """
    is_nas = (rows["track"] == "nas") & rows["metric"].isin(("test_accuracy", "score"))
    found: list[tuple[DataFrame, Layout]] = []
    if ((rows["track"] == "cl") & (rows["metric"] == "last_accuracy")).any():
        found.append((cl_table(rows), STREAMS))
    if ((rows["track"] == "condense") & (rows["metric"] == "test_accuracy")).any():
        found.append((condense_table(rows), MEMORIES))
    if has_results(rows) or (is_nas.any() and not found):
        found += [(nas_table(rows), SEARCHES), (nas_pairs(rows), PAIRS)]
        if has_axes(rows):
            found.append((nas_partial(rows), PARTIAL))
    if not found:
        raise ValueError(
            f"none of the {len(rows)} rows is a last_accuracy of track cl or a test_accuracy of track condense or nas: "
            "nothing is finished"
        )
    return [Table(frame, layout) for frame, layout in found if len(frame)]
