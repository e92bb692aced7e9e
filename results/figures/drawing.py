"""The parts that figures share: styles of memories, lines with intervals, grids of panels, axes, legends, titles."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from pandas import DataFrame, Series

ABREAST = 4  # small panels in a row
NARROWEST = 5.4  # inches of a figure: its title and legend need them
BEHIND = "0.82"  # the grey of the other lines in them
CHARACTERS = 13  # of a title's size, to the inch
Dashes = Literal["-", "--", "-.", ":"] | tuple[float, Sequence[float]]  # a line style of matplotlib


class Style(NamedTuple):
    """The look of a memory. Marker and dashes alone tell the lines apart, so that print in black and white works."""

    colour: str
    marker: str
    dashes: Dashes


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
    """The style of each memory: that of `STYLES` if it is listed there, otherwise the next spare one by name."""
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
Sharing = bool | Literal["row", "col"]
Ends = tuple[str, str, str]  # columns of a mean and of both ends of its interval
FILLS: dict[str, Fill] = {"storage": "bottom", "soft": "left"}  # how a mark says its league; the others are full


def draw_line(
    axes: Axes, x: "Series[float]", data: DataFrame, mean: str, low: str, high: str, style: Style, fill: Fill = "full"
) -> None:
    """Draw column `mean` of `data` over `x`, with a bar from `low` to `high` for each point with an interval."""
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
    """Draw the hollow mark of a published value."""
    axes.plot(
        x, y, color=style.colour, marker=style.marker, markerfacecolor="none", linestyle="none", markersize=11,
        clip_on=False, zorder=3,
    )  # fmt: skip


def draw_level(axes: Axes, line: DataFrame, mean: str, low: str, high: str, style: Style) -> None:
    """Draw the only line of `data` as a level across the axes, with its interval as a band: it has no place on x."""
    level, bottom, top = line[[mean, low, high]].iloc[0]
    axes.axhline(level, color=style.colour, linestyle=style.dashes, linewidth=1.4)
    if not math.isnan(bottom):
        axes.axhspan(bottom, top, color=style.colour, alpha=0.12, linewidth=0)


def scale_logarithmic(
    axes: Axes, marks: Sequence[float], which: Literal["x", "y"] = "x", room: int = 8, linear: float | None = None
) -> None:
    """Make an axis logarithmic, with ticks at `marks` in plain numbers.

    Args:
        axes: the panel.
        marks: where ticks may stand, ascending, such as the places of the points or `round_marks`. With 0 among them
            the axis is linear near 0.
        which: the axis.
        room: the most ticks, counted from the last mark down.
        linear: up to where an axis with 0 is linear; by default up to its first positive mark.
    """
    axis, set_scale = (axes.xaxis, axes.set_xscale) if which == "x" else (axes.yaxis, axes.set_yscale)
    positive = [mark for mark in marks if mark > 0] or [1]
    if 0 in marks:
        set_scale("symlog", linthresh=linear or positive[0])
    else:
        set_scale("log")
    apart = math.log10(positive[-1] / positive[0]) / room
    ticks: list[float] = []
    for mark in reversed(positive):
        if not ticks or math.log10(ticks[-1] / mark) >= apart:
            ticks.append(mark)
    ticks += [0] if 0 in marks else []
    # Not by `set_ticks`, which would move the limits of the axis.
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def round_marks(low: float, high: float) -> list[float]:
    """Round numbers for `scale_logarithmic`, from `low` / 1.3 to `high` * 1.3.

    They are the powers of ten and, over at most three of these, their multiples by 2 and 5.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [mark for mark in marks if low / 1.3 <= mark <= high * 1.3] or [low]


def side_by_side(number: int, of: int, places: Sequence[float]) -> float:
    """The factor that moves one of `of` lines aside on a logarithmic axis, so that their bars can be told apart.

    All lines of one place stand within a twentieth of the axis, from the first to the last of its `places`.
    """
    span = 0.05 * math.log10(places[-1] / places[0]) or 0.05
    return 10 ** (span * (number / max(of - 1, 1) - 0.5)) if of > 1 else 1.0


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis cut to those of an accuracy, which an interval over two groups may far exceed."""
    return max(low, 0), min(high, 102)


def limit_to_percent(panels: Iterable[Axes]) -> None:
    """Cut the y axes of panels to those of an accuracy, after all is drawn, because panels may share an axis."""
    for axes in panels:
        axes.set_ylim(within_percent(*axes.get_ylim()))


def make_grid(
    count: int,
    across: int,
    panel: tuple[float, float],
    margin: tuple[float, float] = (0.4, 1.5),
    heights: Sequence[float] = (),
    sharex: Sharing = False,
    sharey: Sharing = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, row by row, and its panels.

    Args:
        count: the number of panels.
        across: the most panels in a row.
        panel: width and height of a panel, in inches.
        margin: what the figure is wider and higher than its panels, in inches.
        heights: the height of each row, in inches; by default that of `panel`.
        sharex, sharey: which panels share an axis, as `matplotlib.figure.Figure.subplots` takes it.
    """
    columns = min(count, across)
    rows = -(-count // columns)
    heights = heights or [panel[1]] * rows
    size = (max(margin[0] + panel[0] * columns, NARROWEST), margin[1] + sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    ratios = {"height_ratios": heights}
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey, gridspec_kw=ratios)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def make_small_grid(count: int) -> tuple[Figure, list[Axes]]:
    """Small panels that share their axes, for a crowd of lines of which each panel shows one in colour."""
    return make_grid(count, ABREAST, (2.4, 1.9), (0.0, 1.4), sharex=True, sharey=True)


def label_outside(figure: Figure, x: str, y: str) -> None:
    """Name the axes that all panels share: below the lowest panel of each column, and left of each row."""
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


def legend_handle(style: Style, fill: Fill = "full") -> Line2D:
    """The entry of a memory in a legend."""
    return Line2D(
        [], [], color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=_size(fill), fillstyle=fill,
        markerfacecoloralt="white",
    )  # fmt: skip


def _size(fill: Fill) -> float:
    return 5 if fill == "full" else 7


def hollow_handle() -> Line2D:
    """The entry of published values in a legend."""
    return Line2D([], [], color="0.3", marker="o", markerfacecolor="none", linestyle="none", markersize=9)


def add_legend(figure: Figure, entries: list[tuple[str, Line2D]]) -> None:
    """Add a legend below the panels."""
    # Names are set afterwards, because matplotlib leaves out labels that begin with an underscore.
    handles = [line for _, line in entries]
    ncols = max(n for n in (1, 2, 4) if n == 1 or _width([label for label, _ in entries], n) < figure.get_figwidth())
    box = figure.legend(
        handles, ["-"] * len(handles), loc="outside lower center", frameon=False, handlelength=3.5, ncols=ncols
    )
    for text, (label, _) in zip(box.get_texts(), entries, strict=True):
        set_text(text, label)


def _width(labels: list[str], ncols: int) -> float:
    """The approximate width in inches of a legend with so many columns, which is filled column by column."""
    columns = np.array_split(np.array([max(map(len, label.split("\n"))) for label in labels]), ncols)
    return sum(0.95 + 0.085 * max(column, default=0) for column in columns)


def add_title(figure: Figure, content: str) -> None:
    """Add a title above the panels, with lines that are no longer than the figure is wide."""
    width = int(CHARACTERS * figure.get_figwidth())
    lines = [part for line in content.split("\n") for part in textwrap.wrap(line, width, break_on_hyphens=False)]
    set_text(figure.suptitle("", fontsize="medium"), "\n".join(lines))


def set_text(text: Text, content: str) -> None:
    """Set the content of a text without reading it as mathematics: a name may hold dollar signs."""
    text.set(text=printable(content), parse_math=False)


def name_ticks(
    axis: Axis, places: Sequence[float], names: Iterable[str], fontsize: str | None = None, is_slanted: bool = False
) -> None:
    """Write names at places of an axis, without reading them as mathematics."""
    axis.set_ticks(places, [printable(name) for name in names])
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
        if fontsize is not None:
            label.set_fontsize(fontsize)
        if is_slanted:
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def printable(content: str) -> str:
    """The content with a space in the place of each character that no font draws; line breaks stay."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in content)
