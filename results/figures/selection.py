"""The choice of rows for a figure, which are of one metric, one setting, and one configuration of each memory."""

from collections.abc import Collection

from pandas import DataFrame

from harness.results.wording import quantity

ONE_OF = ("dataset", "dataset_digest", "preset", "split", "recipe", "model")
ONE_BUDGET = ("ipc", "league")
CONFIGURATION = ("changes", "memory_model")  # of a memory


def choose_rows(rows: DataFrame, track: str, metric: str, needs: Collection[str] = ()) -> DataFrame:
    """Choose the rows of one metric of a track.

    Raises:
        ValueError: there are none, or one has no value in a column of `needs`.
    """
    chosen = rows[(rows["track"] == track) & (rows["metric"] == metric)]
    if chosen.empty:
        raise ValueError(f"none of the {len(rows)} rows is a {metric} of track {track}")
    for column in needs:
        if lacking := int(chosen[column].isna().sum()):
            raise ValueError(
                f"{lacking} of {quantity(len(chosen), 'row')} of {metric}, track {track}, have no {column}"
            )
    return chosen


def require_one_setting(chosen: DataFrame, but: Collection[str] = ()) -> DataFrame:
    """Return the rows if they are of one setting and show each memory in one configuration.

    Args:
        chosen: rows of a track and metric.
        but: columns in which the figure may have several values.
    Raises:
        ValueError: several values of another column, with what to select from.
    """
    for column in (*ONE_OF, *ONE_BUDGET):
        if column not in but:
            refuse_several(chosen, column)
    for (memory, *_), part in chosen.groupby(["memory", *but], dropna=False):
        for column in CONFIGURATION:
            if column not in but and part[column].nunique() > 1:
                variants = " and ".join(repr(text) for text in sorted(part[column].unique()))
                raise ValueError(f"a figure shows {memory} in one configuration; the rows mix {variants}: select one")
    return chosen


def refuse_several(rows: DataFrame, column: str, of: str = "") -> None:
    """Raise a ValueError if the rows have several values in a column; `full` has no budget and no league of its own."""
    if len(found := _values(rows, column)) > 1:
        raise ValueError(f"a figure shows one {column}{of}; the rows mix {' and '.join(found)}: select one")


def _values(rows: DataFrame, column: str) -> list[str]:
    if column in ONE_BUDGET:
        rows = rows[rows["memory"] != "full"]
    return [str(value) for value in sorted(rows[column].dropna().unique()) if value != ""]


def setting_of(rows: DataFrame, but: Collection[str] = ()) -> dict[str, str]:
    """The value of each column in which a figure has one value; "" if there is none or the column is in `but`."""
    columns = (*ONE_OF, *ONE_BUDGET, "exactness")
    return {column: "" if column in but else next(iter(_values(rows, column)), "") for column in columns}
