"""What figures share: how a memory is drawn, lines with their intervals, axes, legends and titles."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import NullLocator
from pandas import DataFrame, Series

# What one figure may show one value of only; `full`, the bound without a memory, has no budget and no league.
ABREAST = 4  # small panels in a row
BEHIND = "0.82"  # the grey of the other lines in them
CHARACTERS = 13  # of a title's size, to the inch


class Style(NamedTuple):
    """How a memory is drawn. Marker and dashes alone tell the lines apart, for print in black and white."""

    colour: str
    marker: str
    dashes: Any  # as matplotlib's linestyle


# Okabe & Ito's palette, which colour-blind readers tell apart (its yellow is too pale for lines).
STYLES = {
    "full": Style("#000000", "*", "-"),
    "dm": Style("#D55E00", "o", "-"),
    "dsa": Style("#0072B2", "s", "--"),
    "dc": Style("#56B4E9", "D", "-."),
    "dcc": Style("#CC79A7", "P", (0, (5, 1, 1, 1, 1, 1))),
    "herding": Style("#009E73", "^", (0, (8, 2))),
    "random": Style("#7F7F7F", "v", ":"),
}  # fmt: skip
# For memories not listed above, in this order; 5 and 7 share no factor, so 35 names differ.
_SPARE_COLOURS = ("#E69F00", "#882255", "#332288", "#117733", "#44AA99")
_SPARE_MARKERS = ("X", "<", ">", "p", "h", "d", "8")
_SPARE_DASHES = ((0, (7, 2)), (0, (1, 2)), (0, (4, 1, 1, 1)), (0, (2, 2)), (0, (8, 1, 2, 1, 2, 1)))


def styles_of(memories: Iterable[str]) -> dict[str, Style]:
    """The style of each memory: its own where it is listed in `STYLES`, else the next free one, by name."""
    names = set(memories)
    styles = {name: style for name, style in STYLES.items() if name in names}
    for i, name in enumerate(sorted(names - set(STYLES))):
        styles[name] = Style(
            _SPARE_COLOURS[i % len(_SPARE_COLOURS)],
            _SPARE_MARKERS[i % len(_SPARE_MARKERS)],
            _SPARE_DASHES[i % len(_SPARE_DASHES)],
        )
    return styles


Fill = Literal["full", "bottom", "left", "none"]
Ends = tuple[str, str, str]  # columns of a mean and of both ends of its interval
FILLS: dict[str, Fill] = {"storage": "bottom", "soft": "left"}  # how a mark says its league; the others are full


def draw_line(
    axes: Axes, x: "Series[float]", data: DataFrame, mean: str, low: str, high: str, style: Style, fill: Fill = "full"
) -> None:
    """Column `mean` of `data` over `x`, with a bar from `low` to `high` where there is an interval."""
    y = data[mean]
    axes.plot(
        x, y, color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=_size(fill), linewidth=1.4,
        fillstyle=fill, markerfacecoloralt="white",
    )  # fmt: skip
    bars = data[low].notna()
    below, above = (y - data[low])[bars], (data[high] - y)[bars]
    axes.errorbar(
        x[bars], y[bars], yerr=[below, above], fmt="none", ecolor=style.colour, elinewidth=1, capsize=2.5, alpha=0.7
    )


def draw_hollow(axes: Axes, x: float, y: float, style: Style) -> None:
    """A published value."""
    axes.plot(
        x, y, color=style.colour, marker=style.marker, markerfacecolor="none", linestyle="none", markersize=11,
        clip_on=False, zorder=3,
    )  # fmt: skip


def draw_level(axes: Axes, line: DataFrame, mean: str, low: str, high: str, style: Style) -> None:
    """The only line of `data`, which has no place on the x axis, across the axes; its interval is a band."""
    level, bottom, top = line[[mean, low, high]].iloc[0]
    axes.axhline(level, color=style.colour, linestyle=style.dashes, linewidth=1.4)
    if not math.isnan(bottom):
        axes.axhspan(bottom, top, color=style.colour, alpha=0.12, linewidth=0)


def mark_logarithmic(axes: Axes, values: Sequence[float], room: int = 8) -> None:
    """A logarithmic x axis marked at `values`, ascending, from the last down: as many as have room.

    With 0 among them it is linear up to the next.
    """
    positive = [value for value in values if value > 0] or [1]
    if 0 in values:
        axes.set_xscale("symlog", linthresh=positive[0])
    else:
        axes.set_xscale("log")
    apart = math.log10(positive[-1] / positive[0]) / room
    marks: list[float] = []
    for value in reversed(positive):
        if not marks or math.log10(marks[-1] / value) >= apart:
            marks.append(value)
    marks += [0] if 0 in values else []
    axes.set_xticks(marks, [f"{value:g}" for value in marks])
    axes.xaxis.set_minor_locator(NullLocator())


def side_by_side(number: int, of: int, values: Sequence[float]) -> float:
    """What to multiply a line's places on a logarithmic axis by, so that the bars of `of` lines at one place are told
    apart: they stand within a twentieth of the axis, whose values are given ascending."""
    span = 0.05 * math.log10(values[-1] / values[0]) or 0.05
    return 10 ** (span * (number / max(of - 1, 1) - 0.5)) if of > 1 else 1.0


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of accuracies: an interval over two groups can reach far beyond what an accuracy can be."""
    return max(low, 0), min(high, 102)


def limit_to_percent(panels: Iterable[Axes]) -> None:
    """Keep panels `within_percent`: once all is drawn, as they may share their axes."""
    for axes in panels:
        axes.set_ylim(within_percent(*axes.get_ylim()))


def small_panels(count: int) -> tuple[Figure, list[Axes]]:
    """Small panels that share their axes, row by row: for a crowd of lines, of which each stands out in one."""
    columns = min(count, ABREAST)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(2.4 * columns, 5.4), 1.9 * rows + 1.4), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def label_outside(figure: Figure, x: str, y: str) -> None:
    """Names of the axes that all panels share: below the lowest panel of each column and left of each row."""
    lowest: dict[int, Axes] = {}
    for axes in figure.axes:  # row by row
        place = axes.get_subplotspec()
        if place is not None:
            lowest[place.colspan.start] = axes
            if place.is_first_col() and y:
                axes.set_ylabel(y)
    for axes in lowest.values():
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(x)


def handle(style: Style, fill: Fill = "full") -> Line2D:
    """A memory's entry in a legend."""
    return Line2D(
        [], [], color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=_size(fill), fillstyle=fill,
        markerfacecoloralt="white",
    )  # fmt: skip


def _size(fill: Fill) -> float:
    return 5 if fill == "full" else 7


def hollow() -> Line2D:
    """The legend's entry for published values drawn as marks."""
    return Line2D([], [], color="0.3", marker="o", markerfacecolor="none", linestyle="none", markersize=9)


def legend(figure: Figure, entries: list[tuple[str, Line2D]]) -> None:
    """A legend below the panels."""
    # Set afterwards, because matplotlib leaves out labels that begin with an underscore.
    handles = [line for _, line in entries]
    ncols = max(n for n in (1, 2, 4) if n == 1 or _width([label for label, _ in entries], n) < figure.get_figwidth())
    made = figure.legend(
        handles, ["-"] * len(handles), loc="outside lower center", frameon=False, handlelength=3.5, ncols=ncols
    )
    for text, (label, _) in zip(made.get_texts(), entries, strict=True):
        put(text, label)


def _width(labels: list[str], ncols: int) -> float:
    """About how wide a legend of so many columns is, in inches; it is filled column by column."""
    columns = np.array_split(np.array([max(map(len, label.split("\n"))) for label in labels]), ncols)
    return sum(0.95 + 0.085 * max(column, default=0) for column in columns)


def title(figure: Figure, content: str) -> None:
    """A title above the panels, its lines no longer than the figure is wide."""
    width = int(CHARACTERS * figure.get_figwidth())
    lines = [part for line in content.split("\n") for part in textwrap.wrap(line, width, break_on_hyphens=False)]
    put(figure.suptitle("", fontsize="medium"), "\n".join(lines))


def put(text: Text, content: str) -> None:
    """The content as it is: a name may hold dollar signs."""
    text.set(text=printable(content), parse_math=False)


def tick_names(axis: Axis, places: Sequence[float], names: Iterable[str], **more: Any) -> None:
    """Names at places of an axis, as they are."""
    axis.set_ticks(places, [printable(name) for name in names], parse_math=False, **more)


def printable(content: str) -> str:
    """The content with a space for each character that no font draws, and that no SVG may hold; lines stay."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in content)
