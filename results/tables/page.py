"""A table as text: the cells of its columns, what all lines share, and which cells are the best."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas import DataFrame

from harness.results.tables.columns import Column, Table, is_last_of_run, write_number
from harness.results.wording import memory_label

BOLD = "bold: the best of its setting, its interval over sets or orders apart from those of all others"
BOLD_SENTENCE = "Bold is the best mean of its setting, if its interval over sets or orders is apart from all others."


@dataclass(frozen=True)
class Page:
    """A table as it is shown: text only, without line breaks or control characters."""

    shared: list[str]  # what all lines share
    has_best: bool  # whether any cell is bold
    headings: list[str]
    is_number: list[bool]
    lines: list[list[str]]
    is_best: list[list[bool]]  # of each cell
    ends_block: list[bool]  # whether a line is the last of its data set, split, preset and league

    @property
    def caption(self) -> str:
        """What all lines share, and what bold means, as a list."""
        return ", ".join([*self.shared, *([BOLD] if self.has_best else [])])

    @property
    def sentences(self) -> str:
        """What all lines share, and what bold means, in whole sentences."""
        shared = [f"All lines share {', '.join(self.shared)}."] if self.shared else []
        return " ".join([*shared, *([BOLD_SENTENCE] if self.has_best else [])])


def lay_out(table: Table) -> Page:
    """All columns that have a value; those that are shared and in which all lines agree stand in the caption."""
    frame, layout = table.frame, table.layout
    shared: list[str] = []
    shown: list[tuple[Column, list[str]]] = []
    for column in columns_with_values(table):
        cells = cells_of(frame, column)
        if column.is_shared and (value := shared_value(cells, column)):
            shared.append(f"{column.heading or column.name} {value}")
        else:
            shown.append((column, cells))
    best = [find_best(table, column) for column, _ in shown]
    blocks = frame[[name for name in layout.block if name in frame]].astype(object).to_numpy().tolist()
    return Page(
        shared=shared,
        has_best=any(map(any, best)),
        headings=[plain(column.title) for column, _ in shown],
        is_number=[pd.api.types.is_numeric_dtype(frame[column.name]) for column, _ in shown],
        lines=[list(line) for line in zip(*(cells for _, cells in shown), strict=True)],
        is_best=[list(line) for line in zip(*best, strict=True)],
        ends_block=[this != following for this, following in pairwise([*blocks, None])],
    )


def columns_with_values(table: Table) -> list[Column]:
    """The declared columns that the frame has with any value.

    The digest is left out where each data set has one.
    """
    frame = table.frame
    columns = [column for column in table.layout.columns if column.name in frame]
    if {"dataset", "dataset_digest"} <= set(frame) and (frame.groupby("dataset")["dataset_digest"].nunique() < 2).all():
        columns = [column for column in columns if column.name != "dataset_digest"]
    return [column for column in columns if any(cells_of(frame, column))]


def shared_value(cells: list[str], column: Column) -> str:
    """The value that all lines have; "" if they differ."""
    values = set(cells) - ({""} if column.is_optional else set())
    return values.pop() if len(values) == 1 else ""


def cells_of(frame: DataFrame, column: Column) -> list[str]:
    """The cells of a column as text, with the interval, the standard deviation or the note that belongs to each."""
    name = column.name
    cells = [write_number(value, column.format) if isinstance(value, float) else plain(value) for value in frame[name]]
    if f"{name}_low" in frame and f"{name}_high" in frame:
        low, high = ([write_number(end, column.format) for end in frame[f"{name}_{side}"]] for side in ("low", "high"))
        ends = zip(cells, low, high, strict=True)
        cells = [f"{cell} [{lower}, {upper}]" if lower and upper else cell for cell, lower, upper in ends]
    if column.std in frame:
        stds = [write_number(std, column.format) for std in frame[column.std]]
        cells = [f"{cell} (std {std})" if std else cell for cell, std in zip(cells, stds, strict=True)]
    if column.note in frame:
        cells = [f"{cell} {plain(note)}".strip() for cell, note in zip(cells, frame[column.note], strict=True)]
    elif name == "memory":
        cells = [memory_label(cell) for cell in cells]
    return cells


def find_best(table: Table, column: Column) -> list[bool]:
    """Which lines hold the best mean of a metric among their rivals, by an interval apart from all other intervals.

    A run's lines before its last iteration are no rivals. An interval over the networks of one set or order says
    nothing of other sets or orders: where one of the rivals has no other interval, there is no best.
    """
    frame, name = table.frame, column.name
    is_best = [False] * len(frame)
    if not column.is_ranked or not {f"{name}_low", f"{name}_high"} <= set(frame):
        return is_best
    mean, low, high = (frame[each].to_numpy() for each in (name, f"{name}_low", f"{name}_high"))
    is_ranked = is_last_of_run(frame, table.layout.settings) & ~np.isnan(mean)
    ranked = frame.assign(place=range(len(frame)))[is_ranked]
    for _, part in ranked.groupby([each for each in table.layout.rivals if each in frame], dropna=False):
        first, *others = sorted(part["place"], key=lambda place: -mean[place])
        has_intervals = "varies" not in part or part["varies"].isin(("sets", "orders")).all()
        is_best[first] = bool(others) and has_intervals and all(high[other] < low[first] for other in others)
    return is_best


def plain(value: object) -> str:
    """A value as text on one line; "" for a missing one."""
    if value is None or value is pd.NA or value != value:
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()
