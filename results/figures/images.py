"""Figures of the images of memories, and of their features in a network."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pandas import DataFrame

from harness.results.figures import drawing

Images = NDArray[np.float32] | NDArray[np.float64]
Labels = Sequence[int] | NDArray[np.int64]

MOST = 10  # classes, and images of each
ACROSS = 24  # images in a row of memories side by side, about
CELL = 0.5  # inches of an image
NARROWEST = 1.1  # inches of a memory among others,
BETWEEN, LINE = 0.2, 0.19  # between two memories, and of a line of their names
REAL, SYNTHETIC = "real", "synthetic"
# Ten classes: Okabe & Ito's colours and three of Tol's; each has a marker of its own as well.
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#882255", "#117733",
                 "#7F7F7F")  # fmt: skip
CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")


class ImageSet(NamedTuple):
    """Images of a memory to show, (N, H, W) or (N, H, W, C) with C 1 or 3, in [0, 1]; labels (N,), global ids."""

    name: str
    images: Images
    labels: Labels


def draw_memory_images(images: Images, labels: Labels, class_names: Sequence[str], title: str) -> Figure:
    """Draw the images of a memory: a row per class, labels ascending, at most 10 classes and 10 images of each.

    Args:
        images: (N, H, W) or (N, H, W, C) with C 1 or 3, in [0, 1].
        labels: their classes, (N,), global ids.
        class_names: name of each global id.
        title: the text above the grid.
    Raises:
        ValueError: no image, another shape or range, or a label without a name.
    """
    return draw_memories_side_by_side([ImageSet("", images, labels)], class_names, title)


def draw_memories_side_by_side(memories: Sequence[ImageSet], class_names: Sequence[str], title: str) -> Figure:
    """Draw the images of memories of one data set, a panel each with the same classes, as `draw_memory_images` does.

    Raises:
        ValueError: no memory, images of different sizes, or as `draw_memory_images`.
    """
    shown = [_check(memory, class_names) for memory in memories]
    if len(sizes := {memory.images.shape[1:] for memory in shown}) != 1:
        raise ValueError(f"images: memories side by side hold images of one shape, got {sorted(sizes) or 'no memory'}")
    classes = sorted({int(c) for memory in shown for c in np.unique(memory.labels)})[:MOST]
    panels = [(memory.name, _grid(memory, classes)) for memory in shown]
    height, width, _ = shown[0].images.shape[1:]
    names = [drawing.printable(class_names[c]) for c in classes]
    across = max(1, min(len(panels), ACROSS // max(2, *(grid.shape[1] for _, grid in panels))))
    down = -(-len(panels) // across)
    gap = _gap(height) / (width + _gap(height))  # between images, in parts of CELL: one less than there are images
    columns = [max(grid.shape[1] for _, grid in panels[place::across]) for place in range(across)]
    widths = [max(CELL * (each - gap), NARROWEST if len(panels) > 1 else 0) for each in columns]
    labels = [
        textwrap.wrap(name, max(int(13 * widths[number % across]), 17)) for number, (name, _) in enumerate(panels)
    ]
    label_height = LINE * max(map(len, labels))
    names_width = 0.09 * max(map(len, names)) + 0.25
    figure_width = names_width + sum(widths) + BETWEEN * across
    title_lines = textwrap.wrap(title, int(11 * figure_width))
    title_height = 0.2 * len(title_lines) + 0.15
    panel_height = CELL * len(classes) * height / width
    figure_height = title_height + (label_height + panel_height + BETWEEN) * down
    # Placed by inches, not by a layout engine, so that all images have the same size.
    figure = Figure(figsize=(figure_width, figure_height))
    for number, ((_, grid), label) in enumerate(zip(panels, labels, strict=True)):
        row, column = divmod(number, across)
        left = names_width + sum(widths[:column]) + BETWEEN * column
        bottom = figure_height - title_height - (label_height + panel_height) * (row + 1) - BETWEEN * row
        size = (CELL * (grid.shape[1] - gap), panel_height - CELL * gap * height / width)
        place = (left / figure_width, bottom / figure_height, size[0] / figure_width, size[1] / figure_height)
        axes = figure.add_axes(place)
        _draw_grid(axes, grid, (height, width))
        drawing.set_text(axes.set_title("", fontsize="small"), "\n".join(label))
        if column == 0:
            middles = [row * (height + _gap(height)) + (height - 1) / 2 for row in range(len(classes))]
            drawing.name_ticks(axes.yaxis, middles, names)
    heading = figure.text(0.5, 1 - 0.08 / figure_height, "", ha="center", va="top", fontsize="medium")
    drawing.set_text(heading, "\n".join(title_lines))
    return figure


def draw_features(points: DataFrame, title: str) -> Figure:
    """Draw the features of memories' images among those of real ones: a panel per memory, faint marks for real images.

    Args:
        points: one line per image: memory (name of the panel; "" for real images, which stand in every panel), kind
            ("real" or "synthetic"), class (name), x and y.
        title: the text above the panels.
    Raises:
        ValueError: no synthetic image, or more classes than can be told apart.
    """
    synthetic, real = points[points["kind"] == SYNTHETIC], points[points["kind"] == REAL]
    classes = list(dict.fromkeys(points["class"]))
    if synthetic.empty or len(classes) > MOST:
        raise ValueError(
            f"points: synthetic images of 1 to {MOST} classes are shown, got {len(synthetic)} of {len(classes)}"
        )
    memories = list(dict.fromkeys(synthetic["memory"]))
    figure, grid = drawing.make_grid(len(memories), 3, (4.2, 4.2), (0.0, 0.8), sharex=True, sharey=True)
    for axes, memory in zip(grid, memories, strict=True):
        for name, colour, marker in zip(classes, CLASS_COLOURS, CLASS_MARKERS, strict=False):
            own = synthetic[(synthetic["memory"] == memory) & (synthetic["class"] == name)]
            of_class = real[real["class"] == name]
            axes.scatter(of_class["x"], of_class["y"], s=5, color=colour, marker=marker, alpha=0.3, linewidths=0)
            axes.scatter(own["x"], own["y"], s=46, color=colour, marker=marker, edgecolors="black", linewidths=0.8)
        drawing.set_text(axes.set_title("", fontsize="medium"), memory)
        axes.set_xticks([])
        axes.set_yticks([])
    marks = [
        Line2D([], [], color=colour, marker=marker, markeredgecolor="black", linestyle="none", markersize=7)
        for colour, marker in zip(CLASS_COLOURS, CLASS_MARKERS, strict=True)
    ]
    drawing.add_legend(figure, list(zip(classes, marks, strict=False)))
    drawing.add_title(figure, title)
    return figure


def _check(memory: ImageSet, class_names: Sequence[str]) -> ImageSet:
    """Check a memory, and give its images four axes (N, H, W, C)."""
    images, labels = memory.images, np.asarray(memory.labels, dtype=np.int64)
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
    return ImageSet(memory.name, images, labels)


def _grid(memory: ImageSet, classes: Sequence[int]) -> NDArray[np.object_]:
    """The grid of images to show, (classes, most images of a class): arrays (H, W, C), or None beyond the last."""
    parts = [memory.images[np.asarray(memory.labels) == c][:MOST] for c in classes]
    grid = np.full((len(parts), max(map(len, parts))), None, dtype=object)
    for row, part in enumerate(parts):
        for column, image in enumerate(part):
            grid[row, column] = image
    return grid


def _gap(height: int) -> int:
    """The pixels between two images."""
    return max(1, height // 16)


def _draw_grid(axes: Axes, grid: NDArray[np.object_], size: tuple[int, int]) -> None:
    (rows, columns), (height, width), gap = grid.shape, size, _gap(size[0])
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for (row, column), image in np.ndenumerate(grid):
        if image is not None:
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = image  # one channel spreads over three
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
