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
from harness.results.statistics.means import each_n_in_words, summary
from harness.results.tables.columns import is_last_of_run
from harness.results.tables.condensed import CONDENSED, condense_table
from harness.results.wording import memory_label, quantity

COLOURS: Colormap = mpl.colormaps["cividis"]  # its lightness rises evenly: for every eye, and in grey
ACCURACY = "test_accuracy"
APART = ("ipc", "league")  # what the maps of condensed sets keep apart themselves
ROOM_FOR_INTERVALS, MOST_NUMBERS = 5, 12  # experiences up to which a matrix has room for these in its cells


class Map(NamedTuple):
    """A heat map: values (rows, columns), nan where there is none, and what each cell says."""

    title: str
    rows: Sequence[str]
    values: NDArray[np.float64]
    texts: Sequence[Sequence[str]]


def cl_matrix_data(rows: DataFrame) -> DataFrame:
    """The numbers `cl_matrix` draws: `estimates.summary` by memory, steps, experience and tested experience.

    Raises:
        ValueError: no row of track cl is an experience_accuracy, or they mix what one figure may not.
    """
    needs = ("steps", "experience", "tested_experience")
    chosen = selection.chosen_rows(rows, "cl", "experience_accuracy", needs)
    selection.of_one_setting(chosen, but=("league", "steps"))
    return summary(chosen, "experience_accuracy", by=["league", "memory", "steps", "experience", "tested_experience"])


def cl_matrix(rows: DataFrame) -> Figure:
    """Accuracy after each experience on each experience's test images, a heat map per memory and number of steps.

    In each cell the mean, in per cent; under it, where there is room, half its 95 % interval (`estimates.summary`).

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, ipc, recipe and model.
    Raises:
        ValueError: as `cl_matrix_data`.
    """
    data = cl_matrix_data(rows)
    blocks = [[_matrix(part) for _, part in block.groupby(["league", "memory"])] for _, block in data.groupby("steps")]
    across = min(4, max(map(len, blocks)))
    lines = [block[first : first + across] for block in blocks for first in range(0, len(block), across)]
    figure = Figure(figsize=(max(3.3 * across + 0.9, 5.6), 3.7 * len(lines) + 0.8), layout="constrained")
    grid = figure.subplots(len(lines), across, squeeze=False)
    scale = _scale(data["mean"].to_numpy())
    for line_of_axes, line in zip(grid, lines, strict=True):
        for axes, matrix in zip(line_of_axes, line, strict=False):
            _draw(axes, matrix, matrix.rows, scale)
            axes.set_xlabel("tested on experience")
        line_of_axes[0].set_ylabel("after experience")
        for axes in line_of_axes[len(line) :]:
            axes.remove()
    split = rows.loc[rows["metric"] == "experience_accuracy", "split"].iloc[0]
    _colour_bar(figure, scale, f"{split} accuracy (%)")
    chosen = selection.chosen_rows(rows, "cl", "experience_accuracy")
    roomy = data[data["steps"] <= ROOM_FOR_INTERVALS]
    half = _half_said(roomy["low"])
    where = f" in maps of up to {ROOM_FOR_INTERVALS} steps" if half and len(roomy) < len(data) else ""
    said = f"mean{half}{where}, {_over(data)}"
    drawing.title(figure, f"{captions.setting_in_words(selection.setting_of(chosen, ('league',)))}\n{said}")
    return figure


def cross_arch_data(rows: DataFrame) -> DataFrame:
    """The numbers `cross_arch` draws: lines of `tables.condense_table` after each run's last iteration.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or they mix what one figure may not.
    """
    return _ends(rows, (*APART, "memory_model", "model"))


def cross_arch(rows: DataFrame) -> Figure:
    """Test accuracy of sets condensed with one network and tested on others; budgets and leagues apart.

    In each cell the mean with half its 95 % interval (`estimates.summary`), and in brackets the published value.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset and recipe.
    Raises:
        ValueError: as `cross_arch_data`.
    """
    data = cross_arch_data(rows)
    models = list(data["model"].drop_duplicates().sort_values())
    maps = _maps(data, ("memory", "memory_model"), "model", models)
    figure = _stacked(maps, list(map(captions.network_in_words, models)), data, "memory, condensed with", "tested on")
    _caption(figure, data, (*APART, "memory_model", "model"))
    return figure


def recipe_by_memory_data(rows: DataFrame) -> DataFrame:
    """The numbers `recipe_by_memory` draws: lines of `tables.condense_table` after each run's last iteration.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or they mix what one figure may not.
    """
    return _ends(rows, (*APART, "recipe"))


def recipe_by_memory(rows: DataFrame) -> Figure:
    """Test accuracy of every memory under every recipe; budgets and leagues apart.

    In each cell the mean with half its 95 % interval (`estimates.summary`), and in brackets the published value.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset and model.
    Raises:
        ValueError: as `recipe_by_memory_data`.
    """
    data = recipe_by_memory_data(rows)
    recipes = list(data["recipe"].drop_duplicates().sort_values())
    maps = _maps(data, ("memory",), "recipe", recipes)
    figure = _stacked(maps, recipes, data, "memory", "recipe")
    _caption(figure, data, (*APART, "recipe"))
    return figure


def _ends(rows: DataFrame, apart: Collection[str]) -> DataFrame:
    """The lines of the condense table after each run's last iteration, of one setting but for what is kept apart."""
    selection.of_one_setting(selection.chosen_rows(rows, "condense", ACCURACY), but=apart)
    table = condense_table(rows)
    table = table.loc[is_last_of_run(table, CONDENSED), DRAWN]
    return table.sort_values(["ipc", "league", "memory", "memory_model", "recipe", "model"], ignore_index=True)


def _matrix(part: DataFrame) -> Map:
    """The lower triangle of one memory and number of steps."""
    steps = int(part["steps"].iloc[0])
    values, texts = np.full((steps, steps), np.nan), [[""] * steps for _ in range(steps)]
    for line in part.to_dict("records"):
        row, column = line["experience"], line["tested_experience"]
        values[row, column] = line["mean"]
        if steps <= MOST_NUMBERS:
            cell = _cell(line["mean"], line["low"], line["high"])
            texts[row][column] = cell if steps <= ROOM_FOR_INTERVALS else f"{line['mean']:.0f}"
    counts = sorted(set(each_n_in_words(part, "order")))
    name = captions.of_league(str(part["memory"].iloc[0]), str(part["league"].iloc[0]))
    title = f"{name}, {quantity(steps, 'step')}\nn = {' or '.join(counts)}"
    return Map(title, list(map(str, range(steps))), values, texts)


def _maps(data: DataFrame, down: Sequence[str], across: str, columns: Sequence[str]) -> list[Map]:
    """The accuracies of a condense table, a map per ipc and league: a row for each value of `down`."""
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
    """A memory, and where that is told the network it was condensed with."""
    return f"{memory_label(memory)}, {captions.network_in_words(model)}" if model else memory_label(memory)


def _stacked(maps: Sequence[Map], columns: Sequence[str], data: DataFrame, down: str, across: str) -> Figure:
    """Heat maps with the same columns under each other."""
    cell = 0.6 if data["published"].notna().any() else 0.45
    heights = [len(each.rows) * cell + 0.35 for each in maps]
    names_width = 0.085 * max(len(name) for each in maps for name in each.rows)
    width = max(names_width + 1.25 * len(columns) + 1.4, 5.6)
    figure = Figure(figsize=(width, sum(heights) + 2.2), layout="constrained")
    grid = figure.subplots(len(maps), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    scale = _scale(np.concatenate([each.values.ravel() for each in maps]))
    for axes, each in zip(grid, maps, strict=True):
        _draw(axes, each, columns, scale)
    figure.supylabel(down, fontsize="medium")
    grid[-1].set_xlabel(across)
    _colour_bar(figure, scale, f"{data['split'].iloc[0]} accuracy (%)")
    return figure


def _scale(values: NDArray[np.float64]) -> Normalize:
    """From the lowest to the highest value; of one value alone, its surroundings."""
    low, high = np.nanmin(values), np.nanmax(values)
    return Normalize(low, high) if low < high else Normalize(low - 1, high + 1)


def _draw(axes: Axes, each: Map, columns: Sequence[str], scale: Normalize) -> None:
    """A map from the top down, as squares rather than an image: vector output stays sharp."""
    axes.pcolormesh(np.ma.masked_invalid(each.values), cmap=COLOURS, norm=scale, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    drawing.tick_names(axes.yaxis, _middles(each.rows), each.rows, fontsize="small")
    lean = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) > 16 else {}
    drawing.tick_names(axes.xaxis, _middles(columns), columns, fontsize="small", **lean)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    size = "x-small" if len(columns) <= 6 else "xx-small"
    for (row, column), value in np.ndenumerate(each.values):
        if not np.isnan(value):
            axes.text(
                column + 0.5, row + 0.5, each.texts[row][column], ha="center", va="center", fontsize=size,
                color=_ink(COLOURS(scale(value))), in_layout=False,
            )  # fmt: skip
    drawing.put(axes.set_title("", fontsize="medium"), each.title)


def _ink(ground: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out more on a ground (sRGB): by relative luminance, as WCAG 2.1 has it."""
    luminance = sum(weight * part**2.2 for weight, part in zip((0.2126, 0.7152, 0.0722), ground[:3], strict=True))
    return "black" if luminance > 0.18 else "white"


def _colour_bar(figure: Figure, scale: Normalize, label: str) -> None:
    figure.colorbar(ScalarMappable(scale, COLOURS), ax=figure.axes, label=label, shrink=0.9, pad=0.02)


def _cell(mean: float, low: float, high: float) -> str:
    """The mean, and under it half of its interval where it has one."""
    return f"{mean:.1f}" if np.isnan(low) else f"{mean:.1f}\n± {(high - low) / 2:.1f}"


def _middles(names: Sequence[str]) -> list[float]:
    return [place + 0.5 for place in range(len(names))]


def _half_said(lows: "Series[float]") -> str:
    if lows.isna().all():
        return ""
    return " ± half of its 95 % interval" + (", where it has one" if lows.isna().any() else "")


def _over(data: DataFrame) -> str:
    return captions.over_in_words(data) or "one value each, no interval"


def _caption(figure: Figure, data: DataFrame, apart: Collection[str]) -> None:
    """The title: the setting, what the cells say, and n."""
    said = f"mean{_half_said(data[f'{ACCURACY}_low'])}, {_over(data)}, {captions.counts_in_words(data)}"
    published = "\nin brackets: published" if data["published"].notna().any() else ""
    drawing.title(
        figure, f"{captions.setting_in_words(selection.setting_of(data, _shown_apart(data, apart)))}\n{said}{published}"
    )


def _shown_apart(data: DataFrame, apart: Collection[str]) -> list[str]:
    """The columns that the title is to leave out: a budget that all share stands in it."""
    return [column for column in apart if column != "ipc" or data["ipc"].nunique() > 1]
