"""The figures of a report, each as an SVG element with its numbers."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from harness.results.figures import registry
from harness.results.figures.registry import Plot
from harness.results.figures.registry import about as describe

# The columns by whose values a figure is drawn apart if the rows may not stand in one, in this order.
APART = (
    "preset", "split", "dataset", "dataset_digest", "space", "recipe", "model", "league", "ipc", "memory_model",
    "changes", "steps",
)  # fmt: skip
MOST_FIGURES = 6  # of one name; more are named, not drawn


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page."""

    name: str
    of: str  # the part of the rows that it shows; "" for all
    about: str  # what it shows, a whole sentence
    svg: Markup
    csv: str  # the numbers in it

    @property
    def caption(self) -> str:
        """What the figure shows, as a sentence."""
        name = f"{self.name}, {self.of}" if self.of else self.name
        return f"This figure ({name}) shows {self.about[:1].lower()}{self.about[1:]}"

    @property
    def csv_uri(self) -> str:
        return f"data:text/csv;base64,{base64.b64encode(self.csv.encode()).decode()}"


@dataclass(frozen=True)
class Omission:
    """A figure that could not be drawn."""

    name: str
    of: str
    reason: str


def draw_figures(rows: DataFrame) -> tuple[list[PageFigure], list[Omission]]:
    """Draw every figure that the rows allow: of all rows, or of each part of them if one figure may not show all."""
    drawn: list[PageFigure] = []
    left_out: dict[tuple[str, str], Omission] = {}
    for key, plot in registry.FIGURES.items():
        name = key.replace("_", "-")
        own: list[PageFigure] = []
        failed: list[Omission] = []
        for of, numbers in _split_rows(plot, rows):
            if isinstance(numbers, ValueError):
                failed.append(Omission(name, of, str(numbers)))
            elif len(own) == MOST_FIGURES:
                failed.append(Omission(name, of, f"there are {MOST_FIGURES} of it already; report fewer runs at once"))
            else:
                element = to_svg(plot.draw(numbers), f"{name}-{len(own)}-")
                own.append(PageFigure(name, of, describe(plot.draw), element, numbers.to_csv(index=False)))
        drawn += own
        for each in failed if own else failed[:1]:  # if no part can be drawn, one reason is enough
            left_out.setdefault((name, each.reason), each)
    return drawn, list(left_out.values())


def _split_rows(plot: Plot, rows: DataFrame, of: str = "") -> Iterator[tuple[str, DataFrame | ValueError]]:
    """The numbers of a figure of the rows or, if it refuses them, of each part.

    Parts differ in the first column of `APART` that has several values.
    """
    try:
        yield of, plot.data(rows)
        return
    except ValueError as error:
        refused = error
    for column in APART:
        anywhere = _belongs_anywhere(rows, column)
        values = sorted(rows.loc[~anywhere & (rows["recipe"] != ""), column].dropna().unique())
        if len(values) > 1:
            tried = [
                each
                for value in values
                for each in _split_rows(plot, rows[anywhere | (rows[column] == value)], _join_parts(of, column, value))
            ]
            if all(isinstance(numbers, ValueError) for _, numbers in tried):
                yield of, refused  # the parts are refused for another reason than their difference
            else:
                yield from tried
            return
    yield of, refused


def _join_parts(of: str, column: str, value: object) -> str:
    """The description of a part of the rows, with one more column and its value."""
    text = str(value)[:12] if column == "dataset_digest" else str(value)
    return ", ".join(filter(None, (of, f"{column.replace('_', ' ')} {text or 'none'}")))


def _belongs_anywhere(rows: DataFrame, column: str) -> "Series[bool]":
    """Which rows belong to every part, whatever the value of a column.

    They are those of `full`, which has no budget, and those without a value: of images that were selected without a
    network, and of memories, on which any network is trained.
    """
    if column in ("ipc", "league"):
        return rows["memory"] == "full"
    if column in ("recipe", "model", "memory_model", "steps", "space"):
        return rows[column].isna() | (rows[column] == "")
    return Series(False, index=rows.index)


def to_svg(figure: Figure, prefix: str) -> Markup:
    """Convert a figure to an SVG element of a page with others: its ids begin with `prefix`, and text is paths."""
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": "results", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata=nothing)
    element = content.getvalue().partition("<svg")[2]
    element = re.sub(r"<!--.*?-->", "", element, flags=re.DOTALL)  # they repeat the texts that the paths draw
    for before in (' id="', 'href="#', "url(#"):
        element = element.replace(before, before + prefix)
    return Markup(f'<svg role="img"{element}')
