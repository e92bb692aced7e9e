"""What figures share: how a memory is drawn, lines with their intervals, legends and titles."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from pandas import DataFrame, Series

from results.notes import SMOKE

# What one figure may show one value of only; `full`, the bound without a memory, has no budget and no league.
ONE_OF = ("dataset", "dataset_digest", "preset", "split", "recipe", "model")
ONE_BUDGET = ("ipc", "league")


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


def chosen_rows(rows: DataFrame, track: str, metric: str) -> DataFrame:
    """The rows of one metric of a track; a ValueError if there is none."""
    chosen = rows[(rows["track"] == track) & (rows["metric"] == metric)]
    if chosen.empty:
        raise ValueError(f"none of the {len(rows)} rows is a {metric} of track {track}")
    return chosen


def of_one_setting(chosen: DataFrame) -> DataFrame:
    """The rows, if they are of one setting and show each memory in one configuration."""
    for column in (*ONE_OF, *ONE_BUDGET):
        refuse_several(chosen, column)
    for memory, part in chosen.groupby("memory"):
        for column in ("changes", "memory_model"):
            if part[column].nunique() > 1:
                variants = " and ".join(repr(text) for text in sorted(part[column].unique()))
                raise ValueError(f"a figure shows {memory} in one configuration; the rows mix {variants}: select one")
    return chosen


def refuse_several(rows: DataFrame, column: str, of: str = "") -> None:
    """A ValueError if the rows have several values of a column, leaving out what `full` has none of."""
    if len(found := _values(rows, column)) > 1:
        raise ValueError(f"a figure shows one {column}{of}; the rows mix {' and '.join(found)}: select one")


def _values(rows: DataFrame, column: str) -> list[str]:
    if column in ONE_BUDGET:
        rows = rows[rows["memory"] != "full"]
    return [str(value) for value in sorted(rows[column].dropna().unique()) if value != ""]


def setting_of(rows: DataFrame) -> dict[str, str]:
    """The one value of each column of which a figure shows one; "" where there is none."""
    return {column: next(iter(_values(rows, column)), "") for column in (*ONE_OF, *ONE_BUDGET, "exactness")}


def setting_in_words(setting: dict[str, str]) -> str:
    """Two lines for the title of a figure of one setting."""
    ipc = f", {images_in_words(setting['ipc'])}" if setting["ipc"] else ""
    return (
        f"{data_in_words(setting['dataset'], setting['exactness'])}{ipc}, {preset_in_words(setting['preset'])}\n"
        f"recipe {setting['recipe']}, {setting['model']}"
    )


def data_in_words(dataset: str, exactness: str) -> str:
    """The data set's name, and where it is not the official one, what differs."""
    return dataset if exactness in ("", "official") else f"{dataset} ({exactness})"


def images_in_words(ipc: str) -> str:
    """The budget."""
    return f"{ipc} {'image' if ipc == '1' else 'images'} per class"


def preset_in_words(preset: str) -> str:
    """The preset's name, and where it gives no result, that."""
    return f"preset {preset} {SMOKE}" if preset == "smoke" else f"preset {preset}"


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


def draw_line(axes: Axes, x: "Series[float]", data: DataFrame, mean: str, low: str, high: str, style: Style) -> None:
    """Column `mean` of `data` over `x`, with a bar from `low` to `high` where there is an interval."""
    y = data[mean]
    axes.plot(x, y, color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=5, linewidth=1.4)
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


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of accuracies: an interval over two groups can reach far beyond what an accuracy can be."""
    return max(low, 0), min(high, 102)


def intervals_in_words(data: DataFrame) -> str:
    """What the bars of a figure are."""
    over = sorted(set(data["varies"]) - {"nothing"})
    return f"mean, 95 % interval over {' or '.join(over)}" if over else "one value each, no interval"


def handle(style: Style) -> Line2D:
    """A memory's entry in a legend."""
    return Line2D([], [], color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=5)


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
    """A title above the panels."""
    put(figure.suptitle("", fontsize="medium"), content)


def put(text: Text, content: str) -> None:
    """The content as it is: a name may hold dollar signs."""
    text.set(text=content, parse_math=False)
