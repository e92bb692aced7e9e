"""Figures as functions of their data. Nothing global is touched and nothing is written, save by `save`."""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray
from pandas import DataFrame

from results import tables
from results.rows import write_bytes


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

# What one figure may show one value of only; `full`, the bound without a memory, has no budget and no league.
_ONE_OF = ("dataset", "dataset_digest", "preset", "split", "recipe", "model")
_ONE_BUDGET = ("ipc", "league")


def cl_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers `cl_accuracy` draws: one line per memory, steps and classes_seen, as `tables.summary`.

    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    return tables.summary(_chosen(rows), "seen_accuracy", by=["memory", "steps", "classes_seen"])


def cl_accuracy(rows: DataFrame) -> Figure:
    """Accuracy on the classes seen so far along the stream: a panel per number of steps, a line per memory.

    Bars are the 95 % intervals of `tables.summary`; a point without a bar has n = 1. Hollow marks are the published
    end points, drawn for CIFAR-100's test split; they hold for 20 images per class.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, league, ipc, recipe and model.
    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    chosen = _chosen(rows)
    data = cl_accuracy_data(rows)
    styles = styles_of(data["memory"])
    setting = {column: _only(chosen, column) for column in (*_ONE_OF, *_ONE_BUDGET)}
    panels = [(int(steps), data[data["steps"] == steps]) for steps in sorted(data["steps"].unique())]
    figure = Figure(figsize=(max(0.6 + 3.8 * len(panels), 5.4), 4.6), layout="constrained")
    published_is_drawn = False
    for axes, (steps, panel) in zip(_panels(figure, len(panels)), panels, strict=True):
        for memory, style in styles.items():
            _draw_line(axes, panel[panel["memory"] == memory], style)
        if setting["dataset"] == "cifar100" and setting["split"] == "test":
            here = {memory: style for memory, style in styles.items() if memory in set(panel["memory"])}
            published_is_drawn |= _draw_published(axes, steps, here)
        axes.set_title(f"{steps} steps, n = {_n_of(panel)}", fontsize="medium")
        axes.set_xlabel("classes seen")
        counts = sorted(panel["classes_seen"].astype(int).unique(), reverse=True)
        axes.set_xticks(counts[:: 1 + len(counts) // 11])  # from the last one down, no more than fit
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"{setting['split']} accuracy on seen classes (%)")
    _keep_within_percent(figure.axes[0])

    entries = [(memory, _handle(style)) for memory, style in styles.items()]
    if published_is_drawn:
        ours_is_theirs = setting["ipc"] == "20" and setting["preset"] == "paper"
        hollow = Line2D([], [], color="0.3", marker="o", markerfacecolor="none", linestyle="none", markersize=9)
        entries.append(("published" if ours_is_theirs else "published (20 per class)", hollow))
    _legend(figure, entries)
    data_set = setting["dataset"]
    if (exactness := _only(chosen, "exactness")) not in ("", "official"):
        data_set += f" ({exactness})"
    smoke = f" {tables.SMOKE}" if setting["preset"] == "smoke" else ""
    ipc = f", {setting['ipc']} images per class" if setting["ipc"] else ""
    _title(
        figure,
        f"{data_set}{ipc}, preset {setting['preset']}{smoke}\n"
        f"recipe {setting['recipe']}, {setting['model']}\n{_bars(data)}",
    )
    return figure


def memory_images(
    images: NDArray[np.floating[Any]], labels: Sequence[int] | NDArray[np.integer[Any]], class_names: Sequence[str],
    title: str,
) -> Figure:  # fmt: skip
    """The images of a memory: a row per class, labels ascending, at most 10 classes and 10 images of each.

    Args:
        images: (N, H, W) or (N, H, W, C) with C 1 or 3, in [0, 1].
        labels: their classes, (N,), global ids.
        class_names: name of each global id.
        title: stands above the grid.
    Raises:
        ValueError: no image, another shape or range, or a label without a name.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f"images: expected (N, H, W) or (N, H, W, C) with C 1 or 3, N > 0; got {images.shape}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels: expected shape ({len(images)},) to match images, got {labels.shape}")
    if not (images.min() >= 0 and images.max() <= 1):  # so asked, NaN is refused too
        raise ValueError(f"images: expected values in [0, 1], got {images.min():g} to {images.max():g}")
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(f"labels: {labels.min()} to {labels.max()}, but {len(class_names)} class names")

    shown = [(int(c), images[labels == c][:10]) for c in np.unique(labels)[:10]]
    columns = max(len(part) for _, part in shown)
    _, height, width, _ = images.shape
    gap = max(1, height // 16)
    canvas = np.ones((len(shown) * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for row, (_, part) in enumerate(shown):
        for column, image in enumerate(part):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = image  # one channel spreads over three

    names = [class_names[c] for c, _ in shown]
    width_inches = 0.5 * columns + 0.09 * max(map(len, names)) + 0.4
    lines = textwrap.wrap(title, int(11 * width_inches))
    figure = Figure(figsize=(width_inches, 0.5 * len(shown) + 0.2 * len(lines) + 0.3), layout="compressed")
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks([])
    middles = [row * (height + gap) + (height - 1) / 2 for row in range(len(shown))]
    axes.set_yticks(middles, names, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _title(figure, "\n".join(lines))
    return figure


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


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as .pdf, .png or .svg, in one step; the same drawing gives the same bytes.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    # Dates, and the programs' versions, would make the bytes differ from day to day.
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}, ".svg": {"Date": None}}
    if path.suffix not in metadata:
        raise ValueError(f"{path}: a figure is written as {', '.join(metadata)}, not {path.suffix or 'without suffix'}")
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "results", "pdf.fonttype": 42}):
        figure.savefig(content, format=path.suffix[1:], dpi=200, metadata=metadata[path.suffix])
    write_bytes(path, content.getvalue())


class Plot(NamedTuple):
    """A figure of rows, and the numbers in it, for the CSV that is kept beside it."""

    draw: Callable[[DataFrame], Figure]
    data: Callable[[DataFrame], DataFrame]


FIGURES = {"cl_accuracy": Plot(cl_accuracy, cl_accuracy_data)}


def _chosen(rows: DataFrame) -> DataFrame:
    chosen = rows[(rows["track"] == "cl") & (rows["metric"] == "seen_accuracy")]
    if chosen.empty:
        raise ValueError(f"none of the {len(rows)} rows is a seen_accuracy of track cl")
    for column in (*_ONE_OF, *_ONE_BUDGET):
        if len(found := _values(chosen, column)) > 1:
            raise ValueError(f"a figure shows one {column}; the rows mix {' and '.join(found)}: select one")
    for memory, part in chosen.groupby("memory"):
        if part["changes"].nunique() > 1:
            variants = " and ".join(repr(text) for text in sorted(part["changes"].unique()))
            raise ValueError(f"a figure shows {memory} in one configuration; the rows mix {variants}: select one")
    return chosen


def _values(rows: DataFrame, column: str) -> list[str]:
    if column in _ONE_BUDGET:
        rows = rows[rows["memory"] != "full"]
    return [str(value) for value in sorted(rows[column].dropna().unique()) if value != ""]


def _only(rows: DataFrame, column: str) -> str:
    return next(iter(_values(rows, column)), "")


def _panels(figure: Figure, number: int) -> list[Axes]:
    return list(figure.subplots(1, number, sharey=True, squeeze=False)[0])


def _draw_line(axes: Axes, data: DataFrame, style: Style) -> None:
    x, mean = data["classes_seen"].astype(float), data["mean"]
    axes.plot(
        x, mean, color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=5, linewidth=1.4
    )  # fmt: skip
    bars = data["low"].notna()
    below, above = (mean - data["low"])[bars], (data["high"] - mean)[bars]
    axes.errorbar(
        x[bars], mean[bars], yerr=[below, above], fmt="none", ecolor=style.colour, elinewidth=1, capsize=2.5, alpha=0.7
    )


def _draw_published(axes: Axes, steps: int, styles: dict[str, Style]) -> bool:
    points = tables.published_end_points()
    points = points[(points["steps"] == steps) & points["memory"].isin(list(styles))]
    for memory, value in zip(points["memory"], points["value"], strict=True):
        style = styles[memory]
        axes.plot(
            100, value, color=style.colour, marker=style.marker, markerfacecolor="none", linestyle="none",
            markersize=11, clip_on=False, zorder=3,
        )  # fmt: skip
    return not points.empty


def _keep_within_percent(axes: Axes) -> None:
    # An interval over two orders can reach far beyond what an accuracy can be.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 102))


def _n_of(panel: DataFrame) -> str:
    words = sorted({tables.n_in_words(n, orders, nets) for n, orders, nets in
                    panel[["n", "n_orders", "n_nets"]].itertuples(index=False)})  # fmt: skip
    return words[0] if len(words) == 1 else f"{panel['n'].min()} to {panel['n'].max()} nets"


def _bars(data: DataFrame) -> str:
    over = sorted(set(data["varies"]) - {"nothing"})
    return f"mean, 95 % interval over {' or '.join(over)}" if over else "one value each, no interval"


def _handle(style: Style) -> Line2D:
    return Line2D([], [], color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=5)


def _legend(figure: Figure, entries: list[tuple[str, Line2D]]) -> None:
    # Set afterwards, because matplotlib leaves out labels that begin with an underscore.
    handles = [handle for _, handle in entries]
    ncols = 4 if figure.get_figwidth() > 6 else 2
    legend = figure.legend(
        handles, ["-"] * len(handles), loc="outside lower center", frameon=False, handlelength=3.5, ncols=ncols
    )
    for text, (label, _) in zip(legend.get_texts(), entries, strict=True):
        _set(text, label)


def _title(figure: Figure, title: str) -> None:
    _set(figure.suptitle("", fontsize="medium"), title)


def _set(text: Text, content: str) -> None:
    text.set(text=content, parse_math=False)  # a name may hold dollar signs
