"""Figures that are heat maps: accuracy by two settings, one down and one across, a number in every cell."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame, Series

from harness.results.figures import captions, drawing, selection
from harness.results.figures.condensed import DRAWN
from harness.results.figures.stream import SETTING
from harness.results.statistics.means import each_n_in_words, summary
from harness.results.tables.columns import is_last_of_run
from harness.results.tables.condensed import CONDENSED, condense_table
from harness.results.wording import memory_label, quantity

COLOURS: Colormap = mpl.colormaps["cividis"]  # its lightness rises evenly: for every eye, and in grey
ACCURACY = "test_accuracy"
APART = ("ipc", "league")  # each value of these has a map of its own
ROOM_FOR_INTERVALS, MOST_NUMBERS = 5, 12  # experiences up to which a matrix has room for these in its cells


class Map(NamedTuple):
    """A heat map: values (rows, columns), nan for a cell without one, and the text of each cell."""

    title: str
    rows: Sequence[str]
    values: NDArray[np.float64]
    texts: Sequence[Sequence[str]]


def cl_matrix_data(rows: DataFrame) -> DataFrame:
    """The numbers of `cl-matrix`: `means.summary` by memory, steps and both experiences, after the setting.

    Raises:
        ValueError: no row of track cl is an experience_accuracy, or the rows mix settings that one figure may not.
    """
    needs = ("steps", "experience", "tested_experience")
    chosen = selection.choose_rows(rows, "cl", "experience_accuracy", needs)
    selection.require_one_setting(chosen, but=("league", "steps"))
    cell = ["experience", "tested_experience"]
    data = summary(chosen, "experience_accuracy", by=[*SETTING, *cell])
    return data.sort_values(["league", "memory", "steps", *cell], ignore_index=True)


def draw_cl_matrix(data: DataFrame) -> Figure:
    """Accuracy after each experience on each experience's test images, a heat map per memory and number of steps.

    A cell holds the mean in per cent and, if there is room, half of its 95 % interval (`means.summary`).

    Args:
        data: `cl_matrix_data` of rows of one data set, split, preset, ipc, recipe and model.
    """
    blocks = [[_matrix(part) for _, part in block.groupby(["league", "memory"])] for _, block in data.groupby("steps")]
    across = min(4, max(map(len, blocks)))
    lines = [block[first : first + across] for block in blocks for first in range(0, len(block), across)]
    figure, grid = drawing.make_grid(len(lines) * across, across, (3.3, 3.7), (0.9, 0.8))
    scale = _scale(data["mean"].to_numpy())
    places = [line[place] if place < len(line) else None for line in lines for place in range(across)]
    for number, (axes, matrix) in enumerate(zip(grid, places, strict=True)):
        if matrix is None:
            axes.remove()
            continue
        _draw(axes, matrix, matrix.rows, scale)
        axes.set_xlabel("tested on experience")
        axes.set_ylabel("after experience" if number % across == 0 else "")
    _add_colour_bar(figure, scale, f"{data['split'].iloc[0]} accuracy (%)")
    roomy = data[data["steps"] <= ROOM_FOR_INTERVALS]
    half = _half_in_words(roomy["low"])
    where = f" in maps of up to {ROOM_FOR_INTERVALS} steps" if half and len(roomy) < len(data) else ""
    drawing.add_title(figure, captions.describe_setting(data, ("league",), f"mean{half}{where}, {_over(data)}"))
    return figure


def cross_arch_data(rows: DataFrame) -> DataFrame:
    """The numbers of `cross-arch`: lines of `condense_table` after the last iteration of each run.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or the rows mix settings that one figure may not.
    """
    return _last_lines(rows, (*APART, "memory_model", "model"))


def draw_cross_arch(data: DataFrame) -> Figure:
    """Test accuracy of sets condensed with one network and tested on others; budgets and leagues apart.

    A cell holds the mean with half of its 95 % interval (`means.summary`), and in brackets the published value.

    Args:
        data: `cross_arch_data` of rows of one data set, split, preset and recipe.
    """
    models = list(data["model"].drop_duplicates().sort_values())
    maps = _maps(data, ("memory", "memory_model"), "model", models)
    figure = _draw_maps(maps, list(map(captions.network_in_words, models)), data, "memory, condensed with", "tested on")
    _add_title(figure, data, (*APART, "memory_model", "model"))
    return figure


def recipe_by_memory_data(rows: DataFrame) -> DataFrame:
    """The numbers of `recipe-by-memory`: lines of `condense_table` after the last iteration of each run.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or the rows mix settings that one figure may not.
    """
    return _last_lines(rows, (*APART, "recipe"))


def draw_recipe_by_memory(data: DataFrame) -> Figure:
    """Test accuracy of every memory under every recipe; budgets and leagues apart.

    A cell holds the mean with half of its 95 % interval (`means.summary`), and in brackets the published value.

    Args:
        data: `recipe_by_memory_data` of rows of one data set, split, preset and model.
    """
    recipes = list(data["recipe"].drop_duplicates().sort_values())
    maps = _maps(data, ("memory",), "recipe", recipes)
    figure = _draw_maps(maps, recipes, data, "memory", "recipe")
    _add_title(figure, data, (*APART, "recipe"))
    return figure


def _last_lines(rows: DataFrame, apart: Collection[str]) -> DataFrame:
    """The lines of `condense_table` after the last iteration of each run, all of one setting but for `apart`."""
    selection.require_one_setting(selection.choose_rows(rows, "condense", ACCURACY), but=apart)
    table = condense_table(rows)
    table = table.loc[is_last_of_run(table, CONDENSED), DRAWN]
    return table.sort_values(["ipc", "league", "memory", "memory_model", "recipe", "model"], ignore_index=True)


def _matrix(part: DataFrame) -> Map:
    """Make the lower triangle of one memory and number of steps."""
    steps = int(part["steps"].iloc[0])
    values, texts = np.full((steps, steps), np.nan), [[""] * steps for _ in range(steps)]
    for line in part.to_dict("records"):
        row, column = line["experience"], line["tested_experience"]
        values[row, column] = line["mean"]
        if steps <= MOST_NUMBERS:
            cell = _cell(line["mean"], line["low"], line["high"])
            texts[row][column] = cell if steps <= ROOM_FOR_INTERVALS else f"{line['mean']:.0f}"
    counts = sorted(set(each_n_in_words(part, "order")))
    name = captions.with_league(str(part["memory"].iloc[0]), str(part["league"].iloc[0]))
    title = f"{name}, {quantity(steps, 'step')}\nn = {' or '.join(counts)}"
    return Map(title, list(map(str, range(steps))), values, texts)


def _maps(data: DataFrame, down: Sequence[str], across: str, columns: Sequence[str]) -> list[Map]:
    """Make a map of accuracies for each ipc and league, with a row for each value of the columns `down`."""
    several = data["ipc"].nunique() > 1
    maps = []
    for _, part in data.groupby(list(APART), dropna=False):
        names = part[list(down)].drop_duplicates().apply(tuple, axis="columns").tolist()
        values, texts = np.full((len(names), len(columns)), np.nan), [[""] * len(columns) for _ in names]
        for line in part.to_dict("records"):
            row, column = names.index(tuple(line[name] for name in down)), columns.index(line[across])
            values[row, column] = line[ACCURACY]
            cell = _cell(line[ACCURACY], line[f"{ACCURACY}_low"], line[f"{ACCURACY}_high"])
            texts[row][column] = cell if np.isnan(line["published"]) else f"{cell}\n({line['published']:.1f})"
        ipc, league = part[list(APART)].astype(object).iloc[0]
        budget = f"{captions.images_in_words(str(ipc))}, " if several and part["ipc"].notna().all() else ""
        maps.append(Map(f"{budget}league {league}", [_row_name(*name) for name in names], values, texts))
    return maps


def _row_name(memory: str, model: str | None = None) -> str:
    """The name of a memory, and of the network that condensed it if there is one."""
    return f"{memory_label(memory)}, {captions.network_in_words(model)}" if model else memory_label(memory)


def _draw_maps(maps: Sequence[Map], columns: Sequence[str], data: DataFrame, down: str, across: str) -> Figure:
    """Draw heat maps with the same columns below each other."""
    cell = 0.6 if data["published"].notna().any() else 0.45
    heights = [len(each.rows) * cell + 0.35 for each in maps]
    names_width = 0.085 * max(len(name) for each in maps for name in each.rows)
    width = names_width + 1.25 * len(columns) + 1.4
    figure, grid = drawing.make_grid(len(maps), 1, (width, 0), (0.0, 2.2), heights, sharex=True)
    scale = _scale(np.concatenate([each.values.ravel() for each in maps]))
    for axes, each in zip(grid, maps, strict=True):
        _draw(axes, each, columns, scale)
    figure.supylabel(down, fontsize="medium")
    grid[-1].set_xlabel(across)
    _add_colour_bar(figure, scale, f"{data['split'].iloc[0]} accuracy (%)")
    return figure


def _scale(values: NDArray[np.float64]) -> Normalize:
    """The colours from the lowest to the highest value; around a value that is alone."""
    low, high = np.nanmin(values), np.nanmax(values)
    return Normalize(low, high) if low < high else Normalize(low - 1, high + 1)


def _draw(axes: Axes, each: Map, columns: Sequence[str], scale: Normalize) -> None:
    """Draw a map from the top down, as squares rather than as an image, so that vector output stays sharp."""
    axes.pcolormesh(np.ma.masked_invalid(each.values), cmap=COLOURS, norm=scale, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    drawing.name_ticks(axes.yaxis, _middles(each.rows), each.rows, "small")
    is_slanted = max(map(len, columns)) > 16
    drawing.name_ticks(axes.xaxis, _middles(columns), columns, "small", is_slanted)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    size = "x-small" if len(columns) <= 6 else "xx-small"
    for (row, column), value in np.ndenumerate(each.values):
        if not np.isnan(value):
            axes.text(
                column + 0.5, row + 0.5, each.texts[row][column], ha="center", va="center", fontsize=size,
                color=_ink(COLOURS(scale(value))), in_layout=False,
            )  # fmt: skip
    drawing.set_text(axes.set_title("", fontsize="medium"), each.title)


def _ink(ground: tuple[float, float, float, float]) -> str:
    """Black or white, whichever has more contrast on a ground (sRGB), by the relative luminance of WCAG 2.1."""
    luminance = sum(weight * part**2.2 for weight, part in zip((0.2126, 0.7152, 0.0722), ground[:3], strict=True))
    return "black" if luminance > 0.18 else "white"


def _add_colour_bar(figure: Figure, scale: Normalize, label: str) -> None:
    figure.colorbar(ScalarMappable(scale, COLOURS), ax=figure.axes, label=label, shrink=0.9, pad=0.02)


def _cell(mean: float, low: float, high: float) -> str:
    """The mean, and below it half of its interval if it has one."""
    return f"{mean:.1f}" if np.isnan(low) else f"{mean:.1f}\n± {(high - low) / 2:.1f}"


def _middles(names: Sequence[str]) -> list[float]:
    return [place + 0.5 for place in range(len(names))]


def _half_in_words(lows: "Series[float]") -> str:
    if lows.isna().all():
        return ""
    return " ± half of its 95 % interval" + (", where it has one" if lows.isna().any() else "")


def _over(data: DataFrame) -> str:
    return captions.over_in_words(data) or "one value each, no interval"


def _add_title(figure: Figure, data: DataFrame, apart: Collection[str]) -> None:
    """Add the title: the setting, what the cells hold, and n; a budget that all maps share is part of the setting."""
    cells = f"mean{_half_in_words(data[f'{ACCURACY}_low'])}, {_over(data)}, {captions.counts_in_words(data)}"
    published = "in brackets: published" if data["published"].notna().any() else ""
    apart = [column for column in apart if column != "ipc" or data["ipc"].nunique() > 1]
    drawing.add_title(figure, captions.describe_setting(data, apart, cells, published))
