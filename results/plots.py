"""Figures as functions of their data. Nothing global is touched and nothing is written, save by `save`."""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from results import drawing
from results.condense_plots import (
    condense_accuracy,
    condense_accuracy_data,
    condense_iterations,
    condense_iterations_data,
)
from results.drawing import Style
from results.estimates import each_n_in_words, summary
from results.notes import marked
from results.published import published_end_points
from results.rows import write_bytes


def cl_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers `cl_accuracy` draws: one line per memory, steps and classes_seen, as `estimates.summary`.

    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    chosen = drawing.of_one_setting(drawing.chosen_rows(rows, "cl", "seen_accuracy"))
    return summary(chosen, "seen_accuracy", by=["memory", "steps", "classes_seen"])


def cl_accuracy(rows: DataFrame) -> Figure:
    """Accuracy on the classes seen so far along the stream: a panel per number of steps, a line per memory.

    Bars are the 95 % intervals of `estimates.summary`; a point without a bar has n = 1. Hollow marks are the published
    end points, drawn for CIFAR-100's test split; they hold for 20 images per class.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, league, ipc, recipe and model.
    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    chosen = drawing.chosen_rows(rows, "cl", "seen_accuracy")
    data = cl_accuracy_data(rows)
    styles = drawing.styles_of(data["memory"])
    setting = drawing.setting_of(chosen)
    panels = [(int(steps), data[data["steps"] == steps]) for steps in sorted(data["steps"].unique())]
    figure = Figure(figsize=(max(0.6 + 3.8 * len(panels), 5.4), 4.6), layout="constrained")
    published_is_drawn = False
    for axes, (steps, panel) in zip(_panels(figure, len(panels)), panels, strict=True):
        for memory, style in styles.items():
            line = panel[panel["memory"] == memory]
            drawing.draw_line(axes, line["classes_seen"].astype(float), line, "mean", "low", "high", style)
        if setting["dataset"] == "cifar100" and setting["split"] == "test":
            here = {memory: style for memory, style in styles.items() if memory in set(panel["memory"])}
            published_is_drawn |= _draw_end_points(axes, steps, here)
        axes.set_title(f"{steps} steps, n = {_n_of(panel)}", fontsize="medium")
        axes.set_xlabel("classes seen")
        counts = sorted(panel["classes_seen"].astype(int).unique(), reverse=True)
        axes.set_xticks(counts[:: 1 + len(counts) // 11])  # from the last one down, no more than fit
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"{setting['split']} accuracy on seen classes (%)")
    figure.axes[0].set_ylim(drawing.within_percent(*figure.axes[0].get_ylim()))

    entries = [(marked(memory), drawing.handle(style)) for memory, style in styles.items()]
    if published_is_drawn:
        ours_is_theirs = setting["ipc"] == "20" and setting["preset"] == "paper"
        entries.append(("published" if ours_is_theirs else "published (20 per class)", drawing.hollow()))
    drawing.legend(figure, entries)
    drawing.title(figure, f"{drawing.setting_in_words(setting)}\n{drawing.intervals_in_words(data)}")
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
    drawing.title(figure, "\n".join(lines))
    return figure


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


FIGURES = {
    "cl_accuracy": Plot(cl_accuracy, cl_accuracy_data),
    "condense_accuracy": Plot(condense_accuracy, condense_accuracy_data),
    "condense_iterations": Plot(condense_iterations, condense_iterations_data),
}


def _panels(figure: Figure, number: int) -> list[Axes]:
    return list(figure.subplots(1, number, sharey=True, squeeze=False)[0])


def _draw_end_points(axes: Axes, steps: int, styles: dict[str, Style]) -> bool:
    points = published_end_points()
    points = points[(points["steps"] == steps) & points["memory"].isin(list(styles))]
    for memory, value in zip(points["memory"], points["value"], strict=True):
        drawing.draw_hollow(axes, 100, value, styles[memory])
    return not points.empty


def _n_of(panel: DataFrame) -> str:
    words = sorted(set(each_n_in_words(panel, "order")))
    return words[0] if len(words) == 1 else f"{panel['n'].min()} to {panel['n'].max()} nets"
