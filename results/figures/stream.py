"""Figures of track cl."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures import captions, drawing, selection
from harness.results.figures.drawing import Style
from harness.results.published.values import published_end_points
from harness.results.statistics.means import each_n_in_words, summary
from harness.results.wording import memory_label, quantity


def cl_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers `cl_accuracy` draws: one line per memory, steps and classes_seen, as `estimates.summary`.

    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    chosen = selection.chosen_rows(rows, "cl", "seen_accuracy", needs=("steps", "classes_seen"))
    return summary(selection.of_one_setting(chosen), "seen_accuracy", by=["memory", "steps", "classes_seen"])


def cl_accuracy(rows: DataFrame) -> Figure:
    """Accuracy on the classes seen so far along the stream: a panel per number of steps, a line per memory.

    Bars are the 95 % intervals of `estimates.summary`, for all the data over orders but at the end, where they are over
    networks; a point without a bar has n = 1. Hollow marks are the published end points, drawn for CIFAR-100's test
    split; they hold for 20 images per class.

    Args:
        rows: as `rows.read` gives them, of one data set, split, preset, league, ipc, recipe and model.
    Raises:
        ValueError: no row of track cl is a seen_accuracy, or they mix what one figure may not.
    """
    chosen = selection.chosen_rows(rows, "cl", "seen_accuracy")
    data = cl_accuracy_data(rows)
    styles = drawing.styles_of(data["memory"])
    setting = selection.setting_of(chosen)
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
        drawing.put(axes.set_title("", fontsize="medium"), f"{quantity(steps, 'step')}, {_n_of(panel)}")
        axes.set_xlabel("classes seen")
        counts = sorted(panel["classes_seen"].astype(int).unique(), reverse=True)
        axes.set_xticks(counts[:: 1 + len(counts) // 11])  # from the last one down, no more than fit
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"{setting['split']} accuracy on seen classes (%)")
    figure.axes[0].set_ylim(drawing.within_percent(*figure.axes[0].get_ylim()))

    entries = [(memory_label(memory), drawing.handle(style)) for memory, style in styles.items()]
    if published_is_drawn:
        ours_is_theirs = setting["ipc"] == "20" and setting["preset"] == "paper"
        entries.append(("published" if ours_is_theirs else "published (20 per class)", drawing.hollow()))
    drawing.legend(figure, entries)
    drawing.title(figure, f"{captions.setting_in_words(setting)}\n{captions.intervals_in_words(data)}")
    return figure


def _n_of(panel: DataFrame) -> str:
    """The n of a panel's points, those that differ on lines below: all the data has no orders at the end."""
    at_the_end = panel["memory"].where(panel["n_orders"] > 0, panel["memory"] + " at the end")
    named = panel.assign(memory=at_the_end, n=each_n_in_words(panel, "order"))
    return captions.counts_in_words(named).replace("; ", "\n")


def _panels(figure: Figure, number: int) -> list[Axes]:
    return list(figure.subplots(1, number, sharey=True, squeeze=False)[0])


def _draw_end_points(axes: Axes, steps: int, styles: dict[str, Style]) -> bool:
    points = published_end_points()
    points = points[(points["steps"] == steps) & points["memory"].isin(list(styles))]
    for memory, value in zip(points["memory"], points["value"], strict=True):
        drawing.draw_hollow(axes, 100, value, styles[memory])
    return not points.empty
