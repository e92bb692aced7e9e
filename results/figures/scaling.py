"""Figures of accuracy against what it takes: images per class, bytes, seconds of condensing."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from harness.results.figures import captions, drawing, selection
from harness.results.figures.condensed import ACCURACY, DRAWN
from harness.results.figures.drawing import FILLS, Style
from harness.results.tables.columns import is_last_of_run
from harness.results.tables.condensed import CONDENSED, condense_table
from harness.results.wording import memory_label

APART = ("ipc", "league")  # what these figures keep apart themselves
RELATIVE = ("relative", "relative_low", "relative_high")
BOUND = "full"  # trained on all images: it has no budget, and is drawn across the axes
CROWD = 8  # memories that can be told apart in one panel; of more, each has a panel of its own
OF_ALL = "% of that on all images"


def cost_data(rows: DataFrame) -> DataFrame:
    """The numbers `cost` draws: lines of `tables.condense_table` with condensing_seconds, the mean over the sets.

    Seconds are missing where no row tells them.

    Raises:
        ValueError: no row of track condense is a test_accuracy, none tells seconds, or they mix what one figure may
            not: seconds of several devices among it.
    """
    chosen = _chosen(rows)
    selection.refuse_several(_built(rows, chosen["memory"]), "device", " of condensing seconds")
    table = condense_table(rows)[[*DRAWN, "condensing_seconds"]]
    if table["condensing_seconds"].isna().all():
        raise ValueError(f"none of the {len(rows)} rows tells the seconds a memory of these took: memory_images")
    return table.sort_values(
        ["ipc", "league", "memory", "condensing_seconds"], na_position="first", ignore_index=True, kind="stable"
    )


def cost(rows: DataFrame) -> Figure:
    """Test accuracy against the seconds that condensing a set took, a line per memory; budgets and leagues apart.

    A memory judged after several numbers of iterations is a line from the fewest to the most, another a mark; `full`
    is a level line. Bars are the 95 % intervals of `estimates.summary`, hollow marks the published accuracies.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, recipe and model, condensed on one device.
    Raises:
        ValueError: as `cost_data`.
    """
    data = cost_data(rows)
    styles = drawing.styles_of(data["memory"])
    bound, others = data[data["memory"] == BOUND], data[data["memory"] != BOUND]
    timed = others.dropna(subset=["condensing_seconds"])
    panels = {
        (ipc, league): timed[(timed["ipc"] == ipc) & (timed["league"] == league)]
        for ipc, league in timed[["ipc", "league"]].drop_duplicates().itertuples(index=False)
    }
    figure, grid = _grid(panels)
    for (ipc, league), axes in grid.items():
        part = panels.get((ipc, league))
        if part is None:
            axes.remove()
            continue
        for memory, line in part.groupby("memory"):
            drawing.draw_line(axes, line["condensing_seconds"], line, *ACCURACY, styles[str(memory)])
            for seconds, value in line[["condensing_seconds", "published"]].dropna().itertuples(index=False):
                drawing.draw_hollow(axes, seconds, value, styles[str(memory)])
        _draw_bound(axes, bound, ACCURACY, styles)
        axes.grid(alpha=0.3)
        drawing.put(axes.set_title("", fontsize="medium"), f"{captions.images_in_words(str(ipc))}, league {league}")
    drawing.limit_to_percent(figure.axes)
    for axes in figure.axes:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    drawing.label_outside(figure, "seconds to condense a set", _accuracy_of(data))
    untimed = sorted(set(others["memory"]) - set(timed["memory"]))
    devices = _built(rows, timed["memory"])["device"]
    said = [f"seconds on {', '.join(sorted(set(devices) - {''})) or 'a device not told'}"]
    said += [f"no seconds are told of {', '.join(map(memory_label, untimed))}"] if untimed else []
    _caption(figure, data, said)
    entries = [(memory_label(memory), drawing.handle(styles[memory])) for memory in styles if memory not in untimed]
    _legend(figure, entries, timed)
    return figure


def budget_data(rows: DataFrame) -> DataFrame:
    """The numbers `budget` draws: lines of `tables.condense_table` after each run's last iteration, with their bytes.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or they mix what one figure may not.
    """
    return _ends(rows, ["stored_kib_per_class"])


def budget(rows: DataFrame) -> Figure:
    """Test accuracy against stored bytes, a line per memory and league; the marks tell the leagues.

    The league pixel has full marks, storage marks half full from below, soft from the left. Bars are the 95 % intervals
    of `estimates.summary`, large hollow marks the published accuracies. Selected images take a byte a value, learned
    ones four. Marks of one size stand side by side, so that their bars can be told apart. A crowd of memories has a
    panel each (`_one_by_one`), with `full` as a level line.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, recipe and model.
    Raises:
        ValueError: as `budget_data`.
    """
    data = budget_data(rows)
    styles = drawing.styles_of(data["memory"])
    lines = _lines(data)
    if len(lines) > CROWD:
        return _one_by_one(data, data["stored_kib_per_class"], "stored KiB per class", [])
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes = figure.subplots()
    places = sorted(data["stored_kib_per_class"].dropna().unique())
    entries = []
    for number, ((league, memory), line) in enumerate(lines.items()):
        fill, style = FILLS.get(league, "full"), styles[memory]
        ordered = line.sort_values("stored_kib_per_class")
        kib = ordered["stored_kib_per_class"] * drawing.side_by_side(number, len(lines), places)
        drawing.draw_line(axes, kib, ordered, *ACCURACY, style, fill)
        for place, value in zip(kib, ordered["published"], strict=True):
            drawing.draw_hollow(axes, place, value, style)
        entries.append((captions.of_league(memory, league), drawing.handle(style, fill)))
    drawing.mark_logarithmic(axes, places)
    axes.grid(alpha=0.3)
    drawing.limit_to_percent(figure.axes)
    drawing.label_outside(figure, "stored KiB per class", _accuracy_of(data))
    _caption(figure, data, [])
    _legend(figure, entries, data)
    return figure


def large_ipc_data(rows: DataFrame) -> DataFrame:
    """The numbers `large_ipc` draws: as `budget_data`, and relative to the mean accuracy on all images (%).

    `relative` and its ends are missing where no row is of the memory full.

    Raises:
        ValueError: as `budget_data`.
    """
    data = _ends(rows, [])
    bound = data.loc[data["memory"] == BOUND, ACCURACY[0]]
    whole = bound.iloc[0] if len(bound) else float("nan")
    return data.assign(**{name: 100 * data[of] / whole for name, of in zip(RELATIVE, ACCURACY, strict=True)})


def large_ipc(rows: DataFrame) -> Figure:
    """Test accuracy against images per class, absolute and relative to that on all images; leagues apart.

    Bars are the 95 % intervals of `estimates.summary`; the band about `full` is its own, which the bars of relative
    accuracies leave out. Hollow marks are the published accuracies. Marks of one ipc stand side by side. Without rows
    of `full` nothing is relative to it. A crowd of memories has a panel each (`_one_by_one`).

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, recipe and model.
    Raises:
        ValueError: as `large_ipc_data`, or only `full` was run.
    """
    data = large_ipc_data(rows)
    styles = drawing.styles_of(data["memory"])
    bound, others = data[data["memory"] == BOUND], data[data["memory"] != BOUND]
    leagues = sorted(others["league"].unique())
    if not leagues:
        raise ValueError(f"all {len(data)} accuracies are of the memory {BOUND}, which has no images per class")
    said = [] if len(bound) else [f"without rows of {BOUND}, nothing to be relative to"]
    if len(_lines(others)) > CROWD:
        return _one_by_one(data, data["ipc"].astype(float), "images per class", said)
    scales = [ACCURACY, RELATIVE] if len(bound) else [ACCURACY]
    figure = Figure(figsize=(max(4.2 * len(scales), 5.6), 3.4 * len(leagues) + 1.2), layout="constrained")
    grid = figure.subplots(len(leagues), len(scales), squeeze=False, sharex=True, sharey="col")
    places = sorted(others["ipc"].astype(int).unique())
    for league, line_of_axes in zip(leagues, grid, strict=True):
        lines = list(others[others["league"] == league].groupby("memory"))
        for axes, scale in zip(line_of_axes, scales, strict=True):
            for number, (memory, line) in enumerate(lines):
                ipc = line["ipc"].astype(float) * drawing.side_by_side(number, len(lines), places)
                drawing.draw_line(axes, ipc, line, *scale, styles[str(memory)])
                for place, value in zip(ipc, line["published"], strict=True) if scale is ACCURACY else ():
                    drawing.draw_hollow(axes, place, value, styles[str(memory)])
            _draw_bound(axes, bound, scale, styles)
            drawing.mark_logarithmic(axes, places)
            axes.grid(alpha=0.3)
            axes.set_ylabel(OF_ALL if scale is RELATIVE else _accuracy_of(data))
            drawing.put(axes.set_title("", fontsize="medium"), f"league {league}")
    drawing.limit_to_percent(grid[:1, 0])
    drawing.label_outside(figure, "images per class", "")
    _caption(figure, data, said)
    _legend(figure, [(memory_label(memory), drawing.handle(style)) for memory, style in styles.items()], data)
    return figure


def _one_by_one(data: DataFrame, x: "Series[float]", name: str, said: list[str]) -> Figure:
    """A panel for each memory of `data`, over its places `x`: its line in colour, the others of its league in grey.

    Leagues follow one another, the best at its largest budget first; the right-hand scale is relative to `full`.
    """
    of_all = data["memory"] == BOUND
    bound, others = data[of_all], data[~of_all].assign(x=x[~of_all])
    whole = bound[ACCURACY[0]].mean()  # of the one line there is, if any
    styles = drawing.styles_of(data["memory"])
    lines = {of: line.sort_values("x") for of, line in _lines(others).items()}
    ranked = sorted(lines, key=lambda of: (of[0], -lines[of][ACCURACY[0]].iloc[-1], of[1]))
    figure, panels = drawing.small_panels(len(ranked))
    for axes, (league, memory) in zip(panels, ranked, strict=True):
        for (other, name_of), line in lines.items():
            if other == league and name_of != memory:
                axes.plot(line["x"], line[ACCURACY[0]], color=drawing.BEHIND, linewidth=0.8, zorder=1)
        own, style = lines[league, memory], styles[memory]
        drawing.draw_line(axes, own["x"], own, *ACCURACY, style, FILLS.get(league, "full"))
        for place, value in zip(own["x"], own["published"], strict=True):
            drawing.draw_hollow(axes, place, value, style)
        _draw_bound(axes, bound, ACCURACY, styles)
        drawing.mark_logarithmic(axes, sorted(others["x"].dropna().unique()), room=4)
        axes.grid(alpha=0.3)
        drawing.put(axes.set_title("", fontsize="small"), captions.of_league(memory, league))
    for axes in panels[drawing.ABREAST - 1 :: drawing.ABREAST] if len(bound) else ():
        relative = (partial(np.multiply, 100 / whole), partial(np.multiply, whole / 100))
        axes.secondary_yaxis("right", functions=relative).set_ylabel(OF_ALL)
    drawing.label_outside(figure, name, _accuracy_of(data))
    drawing.limit_to_percent(figure.axes)
    bounds = [(memory_label(BOUND), drawing.handle(styles[BOUND]))] if len(bound) else []
    _caption(figure, data, said)
    _legend(figure, [*bounds, ("the other memories of its league", Line2D([], [], color=drawing.BEHIND))], data)
    return figure


def _lines(data: DataFrame) -> dict[tuple[str, str], DataFrame]:
    """Of each league and memory."""
    return {(str(league), str(memory)): line for (league, memory), line in data.groupby(["league", "memory"])}


def _accuracy_of(data: DataFrame) -> str:
    return f"{data['split'].iloc[0]} accuracy (%)"


def _chosen(rows: DataFrame) -> DataFrame:
    return selection.of_one_setting(selection.chosen_rows(rows, "condense", "test_accuracy"), but=APART)


def _ends(rows: DataFrame, more: list[str]) -> DataFrame:
    """The lines of the condense table after each run's last iteration, by league, memory and ipc."""
    _chosen(rows)
    table = condense_table(rows)
    table = table.loc[is_last_of_run(table, CONDENSED), [*DRAWN, *more]]
    return table.sort_values(["league", "memory", "ipc"], ignore_index=True)


def _built(rows: DataFrame, memories: Iterable[str]) -> DataFrame:
    """The rows that tell what condensing some memories took."""
    built = rows[(rows["track"] == "condense") & (rows["metric"] == "memory_images")]
    return built[built["memory"].isin(set(memories))]


def _grid(panels: Iterable[tuple[int, str]]) -> tuple[Figure, dict[tuple[int, str], Axes]]:
    """Axes by ipc, from the top down, and league; a league that has no such ipc gets axes all the same."""
    budgets, leagues = (sorted(set(values)) for values in zip(*panels, strict=True))
    figure = Figure(figsize=(max(4.2 * len(leagues), 5.6), 3.2 * len(budgets) + 1.4), layout="constrained")
    grid = figure.subplots(len(budgets), len(leagues), squeeze=False, sharex=True, sharey=True)
    return figure, {
        (ipc, league): grid[row, column] for row, ipc in enumerate(budgets) for column, league in enumerate(leagues)
    }


def _draw_bound(axes: Axes, bound: DataFrame, scale: drawing.Ends, styles: dict[str, Style]) -> None:
    if len(bound):
        drawing.draw_level(axes, bound, *scale, styles[BOUND])


def _caption(figure: Figure, data: DataFrame, said: list[str]) -> None:
    """The title: the setting, then what the bars are, n, and what else is to be said."""
    intervals = f"{captions.intervals_in_words(data)}, {captions.counts_in_words(data)}"
    drawing.title(figure, "\n".join([captions.setting_in_words(selection.setting_of(data, APART)), intervals, *said]))


def _legend(figure: Figure, entries: list[tuple[str, Line2D]], data: DataFrame) -> None:
    published = [("published", drawing.hollow())] if data["published"].notna().any() else []
    drawing.legend(figure, entries + published)
