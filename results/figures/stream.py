"""The figure of accuracy along a class-incremental stream."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures import captions, drawing, selection
from harness.results.figures.drawing import Style
from harness.results.published.values import published_end_points
from harness.results.statistics.means import each_n_in_words, summary
from harness.results.wording import memory_label, quantity

# The setting of a memory in a stream, which stands beside its numbers.
SETTING = ("dataset", "exactness", "dataset_digest", "split", "preset", "league", "memory", "changes", "ipc", "recipe",
           "memory_model", "model", "steps")  # fmt: skip


def cl_accuracy_data(rows: DataFrame) -> DataFrame:
    """The numbers of `cl-accuracy`: `means.summary` by memory, steps and classes_seen, after the setting.

    Raises:
        ValueError: no row of track cl is a seen_accuracy, or the rows mix settings that one figure may not.
    """
    chosen = selection.choose_rows(rows, "cl", "seen_accuracy", needs=("steps", "classes_seen"))
    by = [*SETTING, "classes_seen"]
    data = summary(selection.require_one_setting(chosen), "seen_accuracy", by=by)
    return data.sort_values(["memory", "steps", "classes_seen"], ignore_index=True)


def draw_cl_accuracy(data: DataFrame) -> Figure:
    """Accuracy on the classes seen so far along the stream: a panel per number of steps, a line per memory.

    Bars are the 95 % intervals of `means.summary`. A point without a bar has n = 1. The intervals of the memory `full`
    are over orders, and at the end of the stream over networks. Hollow marks are the published end points, which are
    drawn for the test split of CIFAR-100; they hold for 20 images per class.

    Args:
        data: `cl_accuracy_data` of rows of one data set, split, preset, league, ipc, recipe and model.
    """
    styles = drawing.styles_of(data["memory"])
    setting = selection.setting_of(data)
    panels = [(int(steps), data[data["steps"] == steps]) for steps in sorted(data["steps"].unique())]
    figure, grid = drawing.make_grid(len(panels), len(panels), (3.8, 3.1), (0.6, 1.5), sharey=True)
    published_is_drawn = False
    for axes, (steps, panel) in zip(grid, panels, strict=True):
        for memory, style in styles.items():
            line = panel[panel["memory"] == memory]
            drawing.draw_line(axes, line["classes_seen"].astype(float), line, "mean", "low", "high", style)
        if setting["dataset"] == "cifar100" and setting["split"] == "test":
            here = {memory: style for memory, style in styles.items() if memory in set(panel["memory"])}
            published_is_drawn |= _draw_end_points(axes, steps, here)
        drawing.set_text(axes.set_title("", fontsize="medium"), f"{quantity(steps, 'step')}, {_n_in_words(panel)}")
        axes.set_xlabel("classes seen")
        counts = sorted(panel["classes_seen"].astype(int).unique(), reverse=True)
        axes.set_xticks(counts[:: 1 + len(counts) // 11])  # from the last one down, no more than fit
        axes.grid(alpha=0.3)
    grid[0].set_ylabel(f"{setting['split']} accuracy on seen classes (%)")
    drawing.limit_to_percent(grid[:1])
    entries = [(memory_label(memory), drawing.legend_handle(style)) for memory, style in styles.items()]
    if published_is_drawn:
        ours_is_theirs = setting["ipc"] == "20" and setting["preset"] == "paper"
        entries.append(("published" if ours_is_theirs else "published (20 per class)", drawing.hollow_handle()))
    drawing.add_legend(figure, entries)
    drawing.add_title(figure, captions.describe_setting(data, (), captions.intervals_in_words(data)))
    return figure


def _n_in_words(panel: DataFrame) -> str:
    """The n of the points of a panel; where all the data have another n at the end, it stands on a line below."""
    at_the_end = panel["memory"].where(panel["n_orders"] > 0, panel["memory"] + " at the end")
    named = panel.assign(memory=at_the_end, n=each_n_in_words(panel, "order"))
    return captions.counts_in_words(named).replace("; ", "\n")


def _draw_end_points(axes: Axes, steps: int, styles: dict[str, Style]) -> bool:
    """Draw the published end points of some memories; whether there are any."""
    points = published_end_points()
    points = points[(points["steps"] == steps) & points["memory"].isin(list(styles))]
    for memory, value in zip(points["memory"], points["value"], strict=True):
        drawing.draw_hollow(axes, 100, value, styles[memory])
    return not points.empty
