"""Figures of track nas over the whole space, each of one data set, preset and space."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame
from scipy import stats

from harness.results.figures import drawing
from harness.results.figures.drawing import Style
from harness.results.figures.proxies import (
    Labelled,
    estimate,
    find_proxies,
    n_of,
    on_shared,
    rho_in_words,
    setting_in_words,
)
from harness.results.statistics import ranking
from harness.results.statistics.means import t_interval
from harness.results.statistics.searches import AXES, Compared, axes_of
from harness.results.tables.search import STATISTICS

FEWEST = 10  # points of a scatter: where 5 % are fewer, all are shown
# Values of an axis, in Okabe & Ito's colours; the markers alone tell them apart in print without colour.
VALUES = (Style("#000000", "o", "-"), Style("#D55E00", "s", "-"), Style("#56B4E9", "^", "-"),
          Style("#009E73", "D", "-"), Style("#E69F00", "v", "-"))  # fmt: skip
NAMES = ("nonorm", "batchnorm", "layernorm", "instancenorm", "groupnorm", "sigmoid", "relu", "leakyrelu", "nopooling",
         "maxpooling", "avgpooling")  # fmt: skip  # in the order of the space


def nas_scatter_data(rows: DataFrame) -> DataFrame:
    """The points `nas_scatter` draws: proxy, arch, model, proxy_accuracy and true_accuracy (%, test, means over
    repeats; of a proxy that is not trained its score), and of the panel rho, rho_low, rho_high, picked, architectures.

    Raises:
        ValueError: as `nas_scatter`.
    """
    parts = [part for _, _, part in _scatters(rows)]
    return pd.concat(parts, ignore_index=True)


def nas_scatter(rows: DataFrame) -> Figure:
    """Test accuracy on the proxy against that on all the data, for the proxy's own top 5 %: the DM paper's figure.

    A panel per proxy. The 5 % are chosen by the proxy's validation accuracy, with all that are tied for the last place;
    where 5 % are fewer than ten, all are shown. rho has its 95 % interval. Networks that diverged have no place, and
    are counted.

    Raises:
        ValueError: no result of track nas, no truth, no proxy, or rows of several data sets, presets or spaces.
    """
    panels = _scatters(rows)
    figure, grid = _grid(len(panels))
    styles = drawing.styles_of([label for label, _, _ in panels])
    for axes, (label, each, part) in zip(grid, panels, strict=True):
        finite = part[np.isfinite(part["proxy_accuracy"]) & np.isfinite(part["true_accuracy"])]
        style = styles[label]
        axes.plot(
            finite["proxy_accuracy"], finite["true_accuracy"], color=style.colour, marker=style.marker,
            linestyle="none", markersize=4, alpha=0.6, markeredgewidth=0,
        )  # fmt: skip
        archs, picked = len(each.archs), int(part["picked"].iloc[0])
        rho, low, high = part[["rho", "rho_low", "rho_high"]].iloc[0]
        which = f"all {archs}" if picked == archs else f"top {picked} of {archs}"
        which += f", {len(part)} with those tied" if len(part) > picked else ""
        failed = len(part) - len(finite)
        told = f"{label}: {rho_in_words(rho, low, high)}\n{which}{f', {failed} diverged' if failed else ''}"
        drawing.put(axes.set_title("", fontsize="medium"), told)
        axes.set_xlabel("test accuracy on the proxy (%)" if each.is_trained else each.scores)
        axes.locator_params(axis="x", nbins=5)  # so that six digits fit
        if not each.is_trained and finite["proxy_accuracy"].max() > 10 * finite["proxy_accuracy"].min() > 0:
            axes.set_xscale("log")
        axes.set_ylabel("test accuracy on all data (%)")
        axes.grid(alpha=0.3)
    each = panels[0][1]
    drawing.title(figure, f"{setting_in_words(each)}\nrho of what is drawn, with its 95 % interval over architectures")
    return figure


def _scatters(rows: DataFrame) -> list[tuple[str, Compared, DataFrame]]:
    found = []
    for label, each in find_proxies(rows):
        sample = ranking.whole(each.proxy, each.truth)
        few = ranking.share(len(each.archs), 0.05) < FEWEST
        statistic = ranking.ranks_of_picked(1.0 if few else 0.05)
        number = ranking.share(len(each.archs), statistic.fraction)
        chosen = np.flatnonzero(ranking.picked(sample.proxy.validation, number))
        rho = estimate(statistic, each)
        part = DataFrame({
            "proxy": label,
            "arch": [each.archs[place] for place in chosen],
            "model": [each.models[place] for place in chosen],
            "proxy_accuracy": sample.proxy.test[chosen],
            "true_accuracy": sample.truth.test[chosen],
        })  # fmt: skip
        told = {"rho": rho.value, "rho_low": rho.low, "rho_high": rho.high}
        found.append((label, each, part.assign(**told, picked=number, architectures=len(each.archs))))
    return found


def nas_ranks_data(rows: DataFrame) -> DataFrame:
    """The points `nas_ranks` draws: proxy, arch, the value of each axis, proxy_rank and true_rank (1: the best).

    Raises:
        ValueError: as `nas_ranks`.
    """
    return _ranks(find_proxies(rows))


def _ranks(proxies: Sequence[Labelled]) -> DataFrame:
    parts = []
    for label, each in proxies:
        sample = ranking.whole(each.proxy, each.truth)
        both = {
            "proxy_rank": stats.rankdata(-sample.proxy.validation),
            "true_rank": stats.rankdata(-sample.truth.test),
        }
        parts.append(axes_of(each.models).assign(proxy=label, arch=list(each.archs), **both))
    return pd.concat(parts, ignore_index=True)[["proxy", "arch", *AXES, "proxy_rank", "true_rank"]]


def nas_ranks(rows: DataFrame) -> Figure:
    """Ranks by the proxy against true ranks over the whole space: a row per proxy, a column per axis that colours it.

    An axis of one value has no column. Rank 1 is the best, equals share the mean rank; networks that diverged are last.

    Raises:
        ValueError: as `nas_scatter`, or an architecture whose name does not tell its axes.
    """
    proxies = find_proxies(rows)
    data = _ranks(proxies)
    told_apart = [axis for axis in AXES if data[axis].nunique() > 1] or list(AXES[:1])
    figure = Figure(figsize=(2.3 * len(told_apart) + 0.5, 2.3 * len(proxies) + 2.5), layout="constrained")
    grid = figure.subplots(len(proxies), len(told_apart), squeeze=False, sharex="row", sharey="row")
    for line, (label, each) in zip(grid, proxies, strict=True):
        own = data[data["proxy"] == label]
        told = rho_in_words(*estimate(STATISTICS["spearman_rho"], each)[:3])
        for axes, axis in zip(line, told_apart, strict=True):
            for value, style in _values(data[axis]).items():
                part = own[own[axis] == value]
                axes.plot(
                    part["proxy_rank"], part["true_rank"], color=style.colour, marker=style.marker, linestyle="none",
                    markersize=2.6 if len(own) > 200 else 4, markeredgewidth=0, alpha=0.75,
                )  # fmt: skip
            axes.set_box_aspect(1)
            axes.set_anchor("N")  # what room is left is the legends'
            axes.tick_params(labelsize="small")
        drawing.put(line[0].set_ylabel("", fontsize="small"), "true rank")
        for axes in line:
            drawing.put(axes.set_xlabel("", fontsize="small"), f"rank by {label}")
        drawing.put(line[0].set_title("", fontsize="medium", loc="left"), f"{label}: {told}, n = {len(own)}")
    for axes, axis in zip(grid[-1], told_apart, strict=True):
        entries = [Line2D([], [], color=style.colour, marker=style.marker, linestyle="none", markersize=5)
                   for style in _values(data[axis]).values()]  # fmt: skip
        axes.legend(
            entries, [str(value) for value in _values(data[axis])], title=axis, loc="upper center", frameon=False,
            bbox_to_anchor=(0.5, -0.32), fontsize="small", handletextpad=0.2, borderaxespad=0,
        )  # fmt: skip
    drawing.title(figure, f"{setting_in_words(proxies[0][1])}\nrank 1 is the best")
    return figure


def nas_axes_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_axes` draws: axis, value, memory, mean, low, high and n (architectures).

    Raises:
        ValueError: as `nas_ranks`.
    """
    return _marginals(_trained(rows))


def _trained(rows: DataFrame) -> list[Labelled]:
    """The truth and the proxies that are trained, on the architectures that all have."""
    return on_shared([found for found in find_proxies(rows, with_truth=True) if found.each.is_trained])


def _marginals(proxies: Sequence[Labelled]) -> DataFrame:
    lines = []
    for label, each in proxies:
        scores = each.truth.scores().test if each.is_truth else each.proxy.scores().validation
        axes = axes_of(each.models)
        for axis in AXES:
            for value in _values(axes[axis]):
                own = scores[(axes[axis] == value).to_numpy() & np.isfinite(scores)]
                mean = float(own.mean()) if len(own) else math.nan
                lines.append((axis, str(value), label, mean, *t_interval(own.tolist()), len(own)))
    return DataFrame(lines, columns=["axis", "value", "memory", "mean", "low", "high", "n"])


def nas_axes(rows: DataFrame) -> Figure:
    """Mean accuracy of all architectures that share a value of an axis: a panel per axis, a line per proxy.

    An axis of one value has no panel, though its numbers stand beside the figure. The truth is the test accuracy after
    training on all data, a proxy its validation accuracy. Bars are 95 % intervals over architectures (Student's t);
    networks that diverged are left out of the means. All lines are of the architectures that all have.

    Raises:
        ValueError: as `nas_ranks`.
    """
    several = _trained(rows)
    data = _marginals(several)
    styles = drawing.styles_of(data["memory"].drop_duplicates())
    told_apart = [axis for axis in AXES if data.loc[data["axis"] == axis, "value"].nunique() > 1] or list(AXES[:1])
    figure = Figure(figsize=(2.4 * len(told_apart) + 1, 4.4), layout="constrained")
    panels = figure.subplots(1, len(told_apart), sharey=True, squeeze=False)[0]
    for axes, axis in zip(panels, told_apart, strict=True):
        own = data[data["axis"] == axis]
        values = list(own["value"].drop_duplicates())
        for number, (label, style) in enumerate(styles.items()):
            line = own[own["memory"] == label]
            aside = 0.3 * (number / max(len(styles) - 1, 1) - 0.5)
            places = line["value"].map(values.index) + aside
            drawing.draw_line(axes, places.astype(float), line, "mean", "low", "high", style)
        slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(max(values, key=len)) > 4 else {}
        drawing.tick_names(axes.xaxis, range(len(values)), values, fontsize="small", **slanted)
        axes.set_xlabel(axis)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean accuracy (%)")
    panels[0].set_ylim(drawing.within_percent(*panels[0].get_ylim()))
    figure.align_xlabels()
    drawing.legend(figure, [(label, drawing.handle(style)) for label, style in styles.items()])
    counts = data.loc[data["axis"].isin(told_apart) & (data["n"] > 0), "n"]
    of_each = str(counts.min()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    said = f"{n_of(several)}, {of_each} at a point: mean and 95 % interval over them"
    said += "; a point without a bar is one architecture" if counts.min() == 1 else ""
    accuracy = "full: test accuracy, proxies: validation accuracy"
    drawing.title(figure, f"{setting_in_words(several[0][1])}\n{said}\n{accuracy}")
    return figure


def _values(column: "pd.Series[Any]") -> dict[Any, Style]:
    """The values of an axis in the space's order, others after them, and how each is drawn."""
    if pd.api.types.is_numeric_dtype(column):
        values = sorted(column.unique())
    else:
        values = sorted(column.unique(), key=lambda name: (NAMES.index(name) if name in NAMES else len(NAMES), name))
    return {value: VALUES[place % len(VALUES)] for place, value in enumerate(values)}


def _grid(number: int) -> tuple[Figure, list[Axes]]:
    columns = min(number, 3)
    lines = math.ceil(number / columns)
    figure = Figure(figsize=(max(0.4 + 3.6 * columns, 5.4), 0.7 + 3.4 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[number:]:
        axes.remove()
    return figure, grid[:number]
