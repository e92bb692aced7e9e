"""Figures of condensed memories: accuracy along the updates, and a ranking of the memories."""

import math
import re
import textwrap

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
UNLESS_TOLD = " (unless told)"  # follows a value in a title that most lines share
ACROSS = 3  # panels in a row
LINE, HEADING = 1.4, 1.3  # height of a label's first line and of a league's name, in lines of text


def condense_iterations_data(rows: DataFrame) -> DataFrame:
    """The numbers of `condense-iterations`: lines of `condense_table`, one per memory, iterations and panel.

    A run of fewer iterations is the beginning of a whole one and counts as unchanged. A data set and ipc without any
    updated memory is left out.

    Raises:
        ValueError: no row of track condense is a test_accuracy of images that were updated, or the rows mix settings
            that one figure, or one panel, may not.
    """
    chosen = _require_one_digest(selection.choose_rows(rows, "condense", "test_accuracy"))
    chosen = chosen.assign(changes=chosen["changes"].map(_without_iterations))
    for (dataset, ipc), panel in chosen.groupby(["dataset", "ipc"]):
        selection.refuse_several(panel, "league", f" of {dataset}, {captions.images_in_words(str(ipc))}")
    selection.require_one_setting(chosen, (*PANEL, "league"))
    if chosen["iterations"].isna().all():
        raise ValueError(f"none of the {len(chosen)} test accuracies has iterations: these images were not updated")
    has_course = chosen.groupby(list(PANEL), dropna=False)["iterations"].transform("count") > 0
    is_bound = chosen["ipc"].isna() & chosen["dataset"].isin(chosen.loc[has_course, "dataset"])
    return condense_table(chosen[has_course | is_bound])[DRAWN]


def draw_condense_iterations(data: DataFrame) -> Figure:
    """Test accuracy against updates of the synthetic images, a line per memory, a panel per data set and ipc.

    Bars are the 95 % intervals of `means.summary`. A point without a bar has n = 1. Memories of selected images have no
    iterations: they are level lines, and their intervals are bands. Thin dashed lines are the published values, which
    hold for images after all their updates.

    Args:
        data: `condense_iterations_data` of rows of one split, preset, recipe and model, with one digest of each data
            set and one league in each panel.
    """
    styles = drawing.styles_of(data["memory"])
    panels = _by_budget(data)
    is_alone = len(panels) == 1
    figure, grid = drawing.make_grid(len(panels), 3, (6.0, 3.3) if is_alone else (4.2, 3.3))
    for axes, (name, panel) in zip(grid, panels, strict=True):
        _draw_courses(axes, panel, styles)
        axes.set_ylabel(f"{data['split'].iloc[0]} accuracy (%)")
        if not is_alone:
            drawing.set_text(axes.set_title("", fontsize="medium"), name)
    n = _usual(data["n"])
    courses = {str(memory): part for memory, part in data.groupby("memory")}
    other_n = {memory: " or ".join(part.loc[part["n"] != n, "n"].unique()) for memory, part in courses.items()}
    entries = []
    for memory, style in styles.items():
        own_n = f"n = {other_n[memory]}" if other_n[memory] else ""
        changes = courses[memory]["changes"].unique()
        changed = changes[0] if len(changes) == 1 else " or ".join(change or "unchanged" for change in changes)
        entries.append((_label(memory, own_n, changed), drawing.legend_handle(style)))
    if data["published"].notna().any():
        entries.append(
            ("published, after all updates", Line2D([], [], color="0.3", linestyle=PUBLISHED_DASHES, linewidth=0.9))
        )
    drawing.add_legend(figure, entries)
    unless = UNLESS_TOLD if any(other_n.values()) else ""
    setting = captions.setting_in_words(selection.setting_of(data, () if is_alone else (*PANEL, "exactness", "league")))
    drawing.add_title(figure, f"{setting}\n{captions.intervals_in_words(data)}, n = {n}{unless}")
    return figure


def condense_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers of `condense-accuracy`: lines of `condense_table` after the last iteration of each run.

    They are sorted by data set, ipc and league, and then by accuracy, best first.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or the rows mix settings that one figure may not.
    """
    chosen = selection.choose_rows(rows, "condense", "test_accuracy")
    for column in ("preset", "split", "model"):
        selection.refuse_several(chosen, column)
    table = condense_table(_require_one_digest(chosen))
    table = table[is_last_of_run(table, CONDENSED)]
    order = ["dataset", "ipc", "league", "test_accuracy", "memory", "recipe", "memory_model", "changes"]
    ascending = [name != "test_accuracy" for name in order]
    return table.sort_values(order, ascending=ascending, na_position="first", ignore_index=True)[DRAWN]


def draw_condense_accuracy(data: DataFrame) -> Figure:
    """Test accuracy of the memories, best first: a panel per data set and ipc, in it each league ranked alone.

    Bars are the 95 % intervals of `means.summary`. A point without a bar has n = 1. Hollow marks are the published
    values. Below the name of a memory stand its changed settings, and its recipe, network or n if most others have
    another.

    Args:
        data: `condense_accuracy_data` of rows of one split, preset and model, with one digest of each data set.
    """
    styles = drawing.styles_of(data["memory"])
    panels = _by_budget(data.assign(label=_labels(data)))
    lines = [max(_lines_of_text(panel) for _, panel in panels[first : first + ACROSS])
             for first in range(0, len(panels), ACROSS)]  # fmt: skip
    inches = [0.2 * number + 0.7 for number in lines]
    figure, grid = drawing.make_grid(len(panels), ACROSS, (4.2, 0), heights=inches)
    for number, (axes, (name, panel)) in enumerate(zip(grid, panels, strict=True)):
        _draw_ranking(axes, panel, styles, lines[number // ACROSS])
        drawing.set_text(axes.set_title("", fontsize="medium"), name)
        axes.set_xlabel(f"{data['split'].iloc[0]} accuracy (%)")
    if data["published"].notna().any():
        drawing.add_legend(figure, [("published", drawing.hollow_handle())])
    unless = {name: UNLESS_TOLD if data[name].nunique() > 1 else "" for name in ("recipe", "n")}
    drawing.add_title(
        figure,
        f"{captions.preset_in_words(data['preset'].iloc[0])}, "
        f"recipe {_usual(data['recipe'])}{unless['recipe']}\n{data['model'].iloc[0]}\n"
        f"{captions.intervals_in_words(data)}, n = {_usual(data['n'])}{unless['n']}",
    )
    return figure


def _require_one_digest(rows: DataFrame) -> DataFrame:
    """Return the rows if those of each data set have one digest."""
    for dataset, part in rows.groupby("dataset"):
        selection.refuse_several(part, "dataset_digest", f" of {dataset}")
    return rows


def _without_iterations(changes: str) -> str:
    """The changes of a run without the number of updates, which has an axis of its own."""
    return ", ".join(change for change in changes.split(", ") if not ITERATIONS.match(change))


def _draw_courses(axes: Axes, panel: DataFrame, styles: dict[str, Style]) -> None:
    """Draw the lines of the memories of a panel, and the published values."""
    drawing.scale_logarithmic(axes, sorted(panel["iterations"].dropna().unique()))
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
    """Split the lines into panels by data set and ipc; `full`, which has no ipc, is in each panel of its data set."""
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
    """The name of the memory of each line, and below it what distinguishes the line."""
    several_networks = data.groupby("memory")["memory_model"].transform("nunique") > 1
    labels = []
    for line, shows_network in zip(data.to_dict("records"), several_networks, strict=True):
        details = (
            f"recipe {line['recipe']}" if line["recipe"] != _usual(data["recipe"]) else "",
            f"built with {line['memory_model']}" if shows_network and line["memory_model"] else "",
            f"n = {line['n']}" if line["n"] != _usual(data["n"]) else "",
            line["changes"],
        )
        labels.append(_label(line["memory"], *details))
    return labels


def _label(memory: str, *details: str) -> str:
    """The name of a memory and, on the lines below it, details."""
    below = textwrap.wrap(", ".join(filter(None, details)), 44, break_on_hyphens=False)
    return "\n".join([memory_label(memory), *below])


def _usual(values: "Series[str]") -> str:
    """The most frequent value, the first by name among equals."""
    return str(values.mode().iloc[0])


def _lines_of_text(panel: DataFrame) -> float:
    """The height of a ranking in lines of text."""
    return float(sum(LINE + label.count("\n") for label in panel["label"]) + HEADING * panel["league"].nunique())


def _draw_ranking(axes: Axes, panel: DataFrame, styles: dict[str, Style], height: float) -> None:
    """Draw the lines of a panel from the top down, each league under its name, over `height` lines of text."""
    at = 0.0
    ticks = []
    for league, part in panel.groupby("league", sort=False):
        if at:
            axes.axhline(at, color="0.8", linewidth=0.8)
        heading = axes.text(
            0.01, at + HEADING / 2, "", transform=axes.get_yaxis_transform(), fontsize="small", style="italic",
            color="0.35", va="center",
        )  # fmt: skip
        drawing.set_text(heading, f"league {league}")
        at += HEADING
        for line in part.to_dict("records"):
            middle = at + (LINE + line["label"].count("\n")) / 2
            ends = tuple(float(line[name]) for name in ACCURACY)
            _draw_dot(axes, middle, ends, float(line["published"]), styles[line["memory"]])
            ticks.append(middle)
            at = 2 * middle - at
    axes.set_yticks(ticks, list(panel["label"]), fontsize="small", parse_math=False)
    axes.set_ylim(height, 0)
    axes.set_xlim(drawing.within_percent(*axes.get_xlim()))
    axes.grid(alpha=0.3)


def _draw_dot(axes: Axes, y: float, ends: tuple[float, ...], published: float, style: Style) -> None:
    """Draw a mean, its interval and the published value at a height."""
    mean, low, high = ends
    axes.plot(mean, y, color=style.colour, marker=style.marker, linestyle="none", markersize=6)
    if not math.isnan(low):
        axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="none", ecolor=style.colour, capsize=2.5)
    if not math.isnan(published):
        drawing.draw_hollow(axes, published, y, style)
