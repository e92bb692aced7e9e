"""Figures of accuracy against its cost: images per class, bytes, or seconds of condensing."""

from functools import partial
from itertools import product

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
CROWD = 8  # the most memories in one panel; of more, each has a panel of its own
OF_ALL = "% of that on all images"


def cost_data(rows: DataFrame) -> DataFrame:
    """The numbers of `cost`: lines of `condense_table` with the mean condensing_seconds of the sets, and their device.

    Seconds are missing if no row has them.

    Raises:
        ValueError: no row of track condense is a test_accuracy, none has seconds, or the rows mix settings that one
            figure may not, such as seconds on several devices.
    """
    chosen = _choose_rows(rows)
    is_cost = (rows["track"] == "condense") & (rows["metric"] == "memory_images")
    costs = rows[is_cost & rows["memory"].isin(set(chosen["memory"]))]
    selection.refuse_several(costs, "device", " of condensing seconds")
    table = condense_table(rows)[[*DRAWN, "condensing_seconds", "condensing_device"]]
    if table["condensing_seconds"].isna().all():
        raise ValueError(
            f"none of the {len(rows)} rows tells the seconds that condensing took: they are those of memory_images"
        )
    return table.sort_values(
        ["ipc", "league", "memory", "condensing_seconds"], na_position="first", ignore_index=True, kind="stable"
    )


def draw_cost(data: DataFrame) -> Figure:
    """Test accuracy against the seconds that condensing a set took, a line per memory; budgets and leagues apart.

    A memory that was judged after several numbers of iterations is a line from the fewest to the most, and any other is
    a mark. `full` is a level line. Bars are the 95 % intervals of `means.summary`, hollow marks the published values.

    Args:
        data: `cost_data` of rows of one data set, split, preset, recipe and model, condensed on one device.
    """
    styles = drawing.styles_of(data["memory"])
    bound, others = data[data["memory"] == BOUND], data[data["memory"] != BOUND]
    timed = others.dropna(subset=["condensing_seconds"])
    fewest, most = timed["condensing_seconds"].min(), timed["condensing_seconds"].max()
    panels = {
        (ipc, league): timed[(timed["ipc"] == ipc) & (timed["league"] == league)]
        for ipc, league in timed[["ipc", "league"]].drop_duplicates().itertuples(index=False)
    }
    budgets, leagues = (sorted(set(values)) for values in zip(*panels, strict=True))
    count = len(budgets) * len(leagues)
    figure, grid = drawing.make_grid(count, len(leagues), (4.2, 3.2), (0.0, 1.4), sharex=True, sharey=True)
    for axes, (ipc, league) in zip(grid, product(budgets, leagues), strict=True):
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
        drawing.set_text(
            axes.set_title("", fontsize="medium"), f"{captions.images_in_words(str(ipc))}, league {league}"
        )
        drawing.scale_logarithmic(axes, drawing.round_marks(fewest, most), room=6)
        axes.set_xlim(fewest / 1.3, most * 1.3)
    drawing.limit_to_percent(figure.axes)
    drawing.label_outside(figure, "seconds to condense a set", _accuracy_label(data))
    untimed = sorted(set(others["memory"]) - set(timed["memory"]))
    devices = sorted(set(timed["condensing_device"]) - {""})
    notes = [f"seconds on {', '.join(devices) or 'an unknown device'}"]
    notes += [f"no seconds are known of {', '.join(map(memory_label, untimed))}"] if untimed else []
    _add_title(figure, data, notes)
    entries = [
        (memory_label(memory), drawing.legend_handle(styles[memory])) for memory in styles if memory not in untimed
    ]
    _legend(figure, entries, timed)
    return figure


def budget_data(rows: DataFrame) -> DataFrame:
    """The numbers of `budget`: lines of `condense_table` after the last iteration of each run, with their bytes.

    Raises:
        ValueError: no row of track condense is a test_accuracy, or the rows mix settings that one figure may not.
    """
    return _last_lines(rows, ["stored_kib_per_class"])


def draw_budget(data: DataFrame) -> Figure:
    """Test accuracy against stored bytes, a line per memory and league; the marks tell the leagues.

    The league pixel has full marks, storage has marks half full from below, and soft from the left. Bars are the 95 %
    intervals of `means.summary`, large hollow marks the published accuracies. Selected images take one byte per value,
    learned ones four. Marks of one size stand side by side, so that their bars can be told apart. If there are many
    memories, each has a panel of its own, with `full` as a level line.

    Args:
        data: `budget_data` of rows of one data set, split, preset, recipe and model.
    """
    styles = drawing.styles_of(data["memory"])
    lines = _lines(data)
    if len(lines) > CROWD:
        return _draw_one_by_one(data, data["stored_kib_per_class"], "stored KiB per class", [])
    figure, (axes,) = drawing.make_grid(1, 1, (6.0, 3.5))
    places = sorted(data["stored_kib_per_class"].dropna().unique())
    entries = []
    for number, ((league, memory), line) in enumerate(lines.items()):
        fill, style = FILLS.get(league, "full"), styles[memory]
        ordered = line.sort_values("stored_kib_per_class")
        kib = ordered["stored_kib_per_class"] * drawing.side_by_side(number, len(lines), places)
        drawing.draw_line(axes, kib, ordered, *ACCURACY, style, fill)
        for place, value in zip(kib, ordered["published"], strict=True):
            drawing.draw_hollow(axes, place, value, style)
        entries.append((captions.with_league(memory, league), drawing.legend_handle(style, fill)))
    drawing.scale_logarithmic(axes, places)
    axes.grid(alpha=0.3)
    drawing.limit_to_percent(figure.axes)
    drawing.label_outside(figure, "stored KiB per class", _accuracy_label(data))
    _add_title(figure, data, [])
    _legend(figure, entries, data)
    return figure


def large_ipc_data(rows: DataFrame) -> DataFrame:
    """The numbers of `large-ipc`: lines of `condense_table`, also relative to the mean accuracy on all images (%).

    `relative` and its ends are missing if no row is of the memory full.

    Raises:
        ValueError: as `budget_data`, or all rows are of the memory full, which has no images per class.
    """
    data = _last_lines(rows, [])
    if (data["memory"] == BOUND).all():
        raise ValueError(f"all {len(data)} accuracies are of the memory {BOUND}, which has no images per class")
    bound = data.loc[data["memory"] == BOUND, ACCURACY[0]]
    whole = bound.iloc[0] if len(bound) else float("nan")
    return data.assign(**{name: 100 * data[of] / whole for name, of in zip(RELATIVE, ACCURACY, strict=True)})


def draw_large_ipc(data: DataFrame) -> Figure:
    """Test accuracy against images per class, absolute and relative to that on all images; leagues apart.

    Bars are the 95 % intervals of `means.summary`. The band of `full` is its own interval, which the bars of relative
    accuracies do not contain. Hollow marks are the published accuracies. Marks of one ipc stand side by side. Without
    rows of `full` no accuracy is relative to it. If there are many memories, each has a panel of its own.

    Args:
        data: `large_ipc_data` of rows of one data set, split, preset, recipe and model.
    """
    styles = drawing.styles_of(data["memory"])
    bound, others = data[data["memory"] == BOUND], data[data["memory"] != BOUND]
    leagues = sorted(others["league"].unique())
    notes = [] if len(bound) else [f"without rows of {BOUND} there are no relative accuracies"]
    if len(_lines(others)) > CROWD:
        return _draw_one_by_one(data, data["ipc"].astype(float), "images per class", notes)
    scales = [ACCURACY, RELATIVE] if len(bound) else [ACCURACY]
    count = len(leagues) * len(scales)
    figure, grid = drawing.make_grid(count, len(scales), (4.2, 3.4), (0.0, 1.2), sharex=True, sharey="col")
    places = sorted(others["ipc"].astype(int).unique())
    for axes, (league, scale) in zip(grid, product(leagues, scales), strict=True):
        lines = list(others[others["league"] == league].groupby("memory"))
        for number, (memory, line) in enumerate(lines):
            ipc = line["ipc"].astype(float) * drawing.side_by_side(number, len(lines), places)
            drawing.draw_line(axes, ipc, line, *scale, styles[str(memory)])
            for place, value in zip(ipc, line["published"], strict=True) if scale is ACCURACY else ():
                drawing.draw_hollow(axes, place, value, styles[str(memory)])
        _draw_bound(axes, bound, scale, styles)
        drawing.scale_logarithmic(axes, places)
        axes.grid(alpha=0.3)
        axes.set_ylabel(OF_ALL if scale is RELATIVE else _accuracy_label(data))
        drawing.set_text(axes.set_title("", fontsize="medium"), f"league {league}")
    drawing.limit_to_percent(grid[:1])
    drawing.label_outside(figure, "images per class", "")
    _add_title(figure, data, notes)
    _legend(figure, [(memory_label(memory), drawing.legend_handle(style)) for memory, style in styles.items()], data)
    return figure


def _draw_one_by_one(data: DataFrame, x: "Series[float]", name: str, notes: list[str]) -> Figure:
    """Draw a panel for each memory of `data`, with its line in colour and the others of its league in grey.

    Args:
        data: the lines; x: their places on the x axis, whose name is `name`.
        notes: further lines of the title.

    Leagues follow one another, and in each the memory that is best at its largest budget is the first. The right-hand
    scale is relative to `full`.
    """
    of_all = data["memory"] == BOUND
    bound, others = data[of_all], data[~of_all].assign(x=x[~of_all])
    whole = bound[ACCURACY[0]].mean()  # of the one line there is, if any
    styles = drawing.styles_of(data["memory"])
    lines = {of: line.sort_values("x") for of, line in _lines(others).items()}
    ranked = sorted(lines, key=lambda of: (of[0], -lines[of][ACCURACY[0]].iloc[-1], of[1]))
    figure, panels = drawing.make_small_grid(len(ranked))
    for axes, (league, memory) in zip(panels, ranked, strict=True):
        for (other, name_of), line in lines.items():
            if other == league and name_of != memory:
                axes.plot(line["x"], line[ACCURACY[0]], color=drawing.BEHIND, linewidth=0.8, zorder=1)
        own, style = lines[league, memory], styles[memory]
        drawing.draw_line(axes, own["x"], own, *ACCURACY, style, FILLS.get(league, "full"))
        for place, value in zip(own["x"], own["published"], strict=True):
            drawing.draw_hollow(axes, place, value, style)
        _draw_bound(axes, bound, ACCURACY, styles)
        drawing.scale_logarithmic(axes, sorted(others["x"].dropna().unique()), room=4)
        axes.grid(alpha=0.3)
        drawing.set_text(axes.set_title("", fontsize="small"), captions.with_league(memory, league))
    for axes in panels[drawing.ABREAST - 1 :: drawing.ABREAST] if len(bound) else ():
        relative = (partial(np.multiply, 100 / whole), partial(np.multiply, whole / 100))
        axes.secondary_yaxis("right", functions=relative).set_ylabel(OF_ALL)
    drawing.label_outside(figure, name, _accuracy_label(data))
    drawing.limit_to_percent(figure.axes)
    bounds = [(memory_label(BOUND), drawing.legend_handle(styles[BOUND]))] if len(bound) else []
    _add_title(figure, data, notes)
    _legend(figure, [*bounds, ("the other memories of its league", Line2D([], [], color=drawing.BEHIND))], data)
    return figure


def _lines(data: DataFrame) -> dict[tuple[str, str], DataFrame]:
    """The lines of each league and memory."""
    return {(str(league), str(memory)): line for (league, memory), line in data.groupby(["league", "memory"])}


def _accuracy_label(data: DataFrame) -> str:
    return f"{data['split'].iloc[0]} accuracy (%)"


def _choose_rows(rows: DataFrame) -> DataFrame:
    return selection.require_one_setting(selection.choose_rows(rows, "condense", "test_accuracy"), but=APART)


def _last_lines(rows: DataFrame, more: list[str]) -> DataFrame:
    """The lines of `condense_table` after the last iteration of each run, by league, memory and ipc."""
    _choose_rows(rows)
    table = condense_table(rows)
    table = table.loc[is_last_of_run(table, CONDENSED), [*DRAWN, *more]]
    return table.sort_values(["league", "memory", "ipc"], ignore_index=True)


def _draw_bound(axes: Axes, bound: DataFrame, scale: drawing.Ends, styles: dict[str, Style]) -> None:
    if len(bound):
        drawing.draw_level(axes, bound, *scale, styles[BOUND])


def _add_title(figure: Figure, data: DataFrame, notes: list[str]) -> None:
    """Add the title: the setting, what the bars are, n, and notes."""
    intervals = f"{captions.intervals_in_words(data)}, {captions.counts_in_words(data)}"
    drawing.add_title(figure, captions.describe_setting(data, APART, intervals, *notes))


def _legend(figure: Figure, entries: list[tuple[str, Line2D]], data: DataFrame) -> None:
    published = [("published", drawing.hollow_handle())] if data["published"].notna().any() else []
    drawing.add_legend(figure, entries + published)
