"""Figures of track condense."""

import math
import re
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from harness.results.figures import captions, drawing, selection
from harness.results.figures.drawing import Style
from harness.results.tables.columns import is_last_of_run
from harness.results.tables.condensed import CONDENSED, condense_table
from harness.results.wording import memory_label

ACCURACY = ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
DRAWN = [*CONDENSED, *ACCURACY, "n", "varies", "published", "published_std", "note"]
PANEL = ("dataset", "dataset_digest", "ipc")
PUBLISHED_DASHES = (0, (1, 3, 6, 3))
ITERATIONS = re.compile(r"memory\.(\w+\.)?iterations=")  # a plug-in's are its host's
UNLESS_TOLD = " (unless told)"  # in a title, of what most lines share
LINE, HEADING = 1.4, 1.3  # height of a label's first line and of a league's name, in lines of text


def condense_iterations_data(rows: DataFrame) -> DataFrame:
    """The numbers `condense_iterations` draws: lines of `tables.condense_table`, one per memory, iterations and panel.

    A run of fewer iterations is the beginning of a whole one: it counts as unchanged. Left out are the memories of a
    data set and ipc of which none was updated.

    Raises:
        ValueError: no row of track condense is a test_accuracy of images that were updated, or they mix what one
            figure, or one panel, may not.
    """
    chosen = _of_one_digest_each(selection.chosen_rows(rows, "condense", "test_accuracy"))
    chosen = chosen.assign(changes=chosen["changes"].map(_but_for_iterations))
    for (dataset, ipc), panel in chosen.groupby(["dataset", "ipc"]):
        selection.refuse_several(panel, "league", f" of {dataset}, {captions.images_in_words(str(ipc))}")
    selection.of_one_setting(chosen, (*PANEL, "league"))
    if chosen["iterations"].isna().all():
        raise ValueError(f"none of the {len(chosen)} test accuracies has iterations: these images were not updated")
    has_course = chosen.groupby(list(PANEL), dropna=False)["iterations"].transform("count") > 0
    is_bound = chosen["ipc"].isna() & chosen["dataset"].isin(chosen.loc[has_course, "dataset"])
    return condense_table(chosen[has_course | is_bound])[DRAWN]


def condense_iterations(rows: DataFrame) -> Figure:
    """Test accuracy against updates of the synthetic images, a line per memory, a panel per data set and ipc.

    Bars are the 95 % intervals of `estimates.summary`; a point without a bar has n = 1. Memories of selected images
    have no iterations: they are level lines, their intervals bands. Thin dashed lines are the published values,
    of images after all their updates.

    Args:
        rows: as `rows.read` gives them, of one split, preset, recipe and model, of each data set one digest, and of
            each panel one league.
    Raises:
        ValueError: as `condense_iterations_data`.
    """
    data = condense_iterations_data(rows)
    styles = drawing.styles_of(data["memory"])
    panels = _by_budget(data)
    is_alone = len(panels) == 1
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    size = (6.4, 4.8) if is_alone else (max(0.4 + 4.2 * columns, 5.4), 1.5 + 3.3 * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (name, panel) in zip(grid.flat, panels, strict=False):
        _draw_courses(axes, panel, styles)
        axes.set_ylabel(f"{data['split'].iloc[0]} accuracy (%)")
        if not is_alone:
            drawing.put(axes.set_title("", fontsize="medium"), name)
    for axes in grid.flat[len(panels) :]:
        axes.remove()

    n = _usual(data["n"])
    courses = {str(memory): part for memory, part in data.groupby("memory")}
    other_n = {memory: " or ".join(part.loc[part["n"] != n, "n"].unique()) for memory, part in courses.items()}
    entries = []
    for memory, style in styles.items():
        own_n = f"n = {other_n[memory]}" if other_n[memory] else ""
        changes = courses[memory]["changes"].unique()
        told = changes[0] if len(changes) == 1 else " or ".join(change or "unchanged" for change in changes)
        entries.append((_label(memory, own_n, told), drawing.handle(style)))
    if data["published"].notna().any():
        entries.append(
            ("published, after all updates", Line2D([], [], color="0.3", linestyle=PUBLISHED_DASHES, linewidth=0.9))
        )
    drawing.legend(figure, entries)
    unless = UNLESS_TOLD if any(other_n.values()) else ""
    setting = captions.setting_in_words(selection.setting_of(data, () if is_alone else (*PANEL, "exactness", "league")))
    drawing.title(figure, f"{setting}\n{captions.intervals_in_words(data)}, n = {n}{unless}")
    return figure


def condense_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers `condense_accuracy` draws: the lines of `tables.condense_table` after each run's last iteration.

    Lines of a data set and ipc stand together, leagues apart, best first.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or they mix what one figure may not.
    """
    chosen = selection.chosen_rows(rows, "condense", "test_accuracy")
    for column in ("preset", "split", "model"):
        selection.refuse_several(chosen, column)
    table = condense_table(_of_one_digest_each(chosen))
    table = table[is_last_of_run(table, CONDENSED)]
    order = ["dataset", "ipc", "league", "test_accuracy", "memory", "recipe", "memory_model", "changes"]
    ascending = [name != "test_accuracy" for name in order]
    return table.sort_values(order, ascending=ascending, na_position="first", ignore_index=True)[DRAWN]


def condense_accuracy(rows: DataFrame) -> Figure:
    """Test accuracy of the memories, best first, a panel per data set and ipc; leagues stand apart, each ranked alone.

    Bars are the 95 % intervals of `estimates.summary`; a point without a bar has n = 1. Hollow marks are the published
    values. What sets a line off from the others, or off its preset, stands under its memory's name.

    Args:
        rows: as `rows.read` gives them, of one split, preset and model, and of each data set one digest.
    Raises:
        ValueError: as `condense_accuracy_data`.
    """
    data = condense_accuracy_data(rows)
    styles = drawing.styles_of(data["memory"])
    panels = _by_budget(data.assign(label=_labels(data)))
    columns = min(len(panels), 3)
    heights = [
        max(_height(panel) for _, panel in panels[first : first + columns]) for first in range(0, len(panels), columns)
    ]
    size = (max(0.4 + 4.2 * columns, 5.4), 1.5 + sum(0.2 * height + 0.7 for height in heights))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for number, (name, panel) in enumerate(panels):
        axes = grid.flat[number]
        _draw_ranking(axes, panel, styles, heights[number // columns])
        drawing.put(axes.set_title("", fontsize="medium"), name)
        axes.set_xlabel(f"{data['split'].iloc[0]} accuracy (%)")
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    if data["published"].notna().any():
        drawing.legend(figure, [("published", drawing.hollow())])
    unless = {name: UNLESS_TOLD if data[name].nunique() > 1 else "" for name in ("recipe", "n")}
    drawing.title(
        figure,
        f"{captions.preset_in_words(data['preset'].iloc[0])}, "
        f"recipe {_usual(data['recipe'])}{unless['recipe']}\n{data['model'].iloc[0]}\n"
        f"{captions.intervals_in_words(data)}, n = {_usual(data['n'])}{unless['n']}",
    )
    return figure


def _of_one_digest_each(rows: DataFrame) -> DataFrame:
    """The rows, if those of each data set are of one version of it."""
    for dataset, part in rows.groupby("dataset"):
        selection.refuse_several(part, "dataset_digest", f" of {dataset}")
    return rows


def _but_for_iterations(changes: str) -> str:
    """What a run's row names as changed, without the number of updates, which has an axis of its own."""
    return ", ".join(change for change in changes.split(", ") if not ITERATIONS.match(change))


def _draw_courses(axes: Axes, panel: DataFrame, styles: dict[str, Style]) -> None:
    """The lines of a panel's memories, and the published values."""
    drawing.mark_logarithmic(axes, sorted(panel["iterations"].dropna().unique()))
    lines = {str(memory): line for memory, line in panel.groupby("memory")}
    for memory, style in styles.items():
        if (line := lines.get(memory)) is None:
            continue
        if line["iterations"].isna().all():
            drawing.draw_level(axes, line, *ACCURACY, style)
        else:
            drawing.draw_line(axes, line["iterations"].astype(float), line, *ACCURACY, style)
        for value in line["published"].dropna():
            axes.axhline(value, color=style.colour, linestyle=PUBLISHED_DASHES, linewidth=0.9)
    axes.set_xlabel("updates of the synthetic images")
    axes.set_ylim(drawing.within_percent(*axes.get_ylim()))
    axes.grid(alpha=0.3)


def _by_budget(data: DataFrame) -> list[tuple[str, DataFrame]]:
    """A panel per data set and ipc; `full`, which has no ipc, stands in each panel of its data set."""
    panels = []
    for dataset, part in data.groupby("dataset"):
        name = captions.data_in_words(str(dataset), part["exactness"].iloc[0])
        budgets = sorted(part["ipc"].dropna().unique())
        for ipc in budgets:
            panels.append(
                (f"{name}\n{captions.images_in_words(str(ipc))}", part[part["ipc"].isna() | (part["ipc"] == ipc)])
            )
        if not budgets:
            panels.append((name, part))
    return panels


def _labels(data: DataFrame) -> list[str]:
    """The name of each line's memory, and below it what sets the line off."""
    several_networks = data.groupby("memory")["memory_model"].transform("nunique") > 1
    labels = []
    for line, tell_network in zip(data.to_dict("records"), several_networks, strict=True):
        said = (
            f"recipe {line['recipe']}" if line["recipe"] != _usual(data["recipe"]) else "",
            f"built with {line['memory_model']}" if tell_network and line["memory_model"] else "",
            f"n = {line['n']}" if line["n"] != _usual(data["n"]) else "",
            line["changes"],
        )
        labels.append(_label(line["memory"], *said))
    return labels


def _label(memory: str, *said: str) -> str:
    """The name of a memory and, on the lines below it, what is to be said of it."""
    below = textwrap.wrap(", ".join(part for part in said if part), 44, break_on_hyphens=False)
    return "\n".join([memory_label(memory), *below])


def _usual(values: "Series[str]") -> str:
    """The most frequent one, the first by name among equals."""
    return str(values.mode().iloc[0])


def _height(panel: DataFrame) -> float:
    """Height of a ranking in lines of text."""
    return float(sum(LINE + label.count("\n") for label in panel["label"]) + HEADING * panel["league"].nunique())


def _draw_ranking(axes: Axes, panel: DataFrame, styles: dict[str, Style], height: float) -> None:
    """The lines of a panel from the top down, each league under its name; the panel is `height` lines of text high."""
    at = 0.0
    ticks = []
    for league, part in panel.groupby("league", sort=False):
        if at:
            axes.axhline(at, color="0.8", linewidth=0.8)
        heading = axes.text(
            0.01, at + HEADING / 2, "", transform=axes.get_yaxis_transform(), fontsize="small", style="italic",
            color="0.35", va="center",
        )  # fmt: skip
        drawing.put(heading, f"league {league}")
        at += HEADING
        for line in part.to_dict("records"):
            middle = at + (LINE + line["label"].count("\n")) / 2
            _draw_dot(axes, middle, line, styles[line["memory"]])
            ticks.append(middle)
            at = 2 * middle - at
    axes.set_yticks(ticks, list(panel["label"]), fontsize="small", parse_math=False)
    axes.set_ylim(height, 0)
    axes.set_xlim(drawing.within_percent(*axes.get_xlim()))
    axes.grid(alpha=0.3)


def _draw_dot(axes: Axes, y: float, line: dict[Any, Any], style: Style) -> None:
    mean, low, high = (line[name] for name in ACCURACY)
    axes.plot(mean, y, color=style.colour, marker=style.marker, linestyle="none", markersize=6)
    if not math.isnan(low):
        axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="none", ecolor=style.colour, capsize=2.5)
    if not math.isnan(line["published"]):
        drawing.draw_hollow(axes, line["published"], y, style)
