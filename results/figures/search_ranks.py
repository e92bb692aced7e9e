"""Figures of a search over its whole space, each of one data set, preset and space."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series
from scipy import stats

from harness.results.figures import drawing
from harness.results.figures.drawing import Style
from harness.results.figures.proxies import (
    LabelledProxy,
    describe_search,
    estimate,
    find_proxies,
    join_parts,
    n_in_words,
    restrict_to_shared,
    rho_in_words,
)
from harness.results.statistics import ranking
from harness.results.statistics.comparisons import AXES, parse_axes
from harness.results.statistics.means import t_interval
from harness.results.tables.search import STATISTICS

FEWEST = 10  # points of a scatter: if 5 % are fewer, all are shown
# Values of an axis, in Okabe & Ito's colours; the markers alone tell them apart in print without colour.
VALUES = (Style("#000000", "o", "-"), Style("#D55E00", "s", "-"), Style("#56B4E9", "^", "-"),
          Style("#009E73", "D", "-"), Style("#E69F00", "v", "-"))  # fmt: skip
NAMES = ("nonorm", "batchnorm", "layernorm", "instancenorm", "groupnorm", "sigmoid", "relu", "leakyrelu", "nopooling",
         "maxpooling", "avgpooling")  # fmt: skip  # in the order of the space
AxisValue = int | str


# --- nas-scatter ----------------------------------------------------------------------------------------------------


def nas_scatter_data(rows: DataFrame) -> DataFrame:
    """The points of `nas-scatter`, after the setting and the name of the proxy.

    The columns are arch, model, score (unit of the proxy's accuracy), proxy_accuracy and true_accuracy (%, test, means
    over repeats; of a proxy without training its score), then of the panel rho with rho_low and rho_high, selected (the
    number that 5 % are) and architectures.

    Raises:
        ValueError: no result of track nas, no truth, no proxy, or rows of several data sets, presets or spaces.
    """
    return join_parts([(proxy, _scatter(proxy)) for proxy in find_proxies(rows)])


def _scatter(proxy: LabelledProxy) -> DataFrame:
    each = proxy.comparison
    sample = ranking.full_sample(each.proxy, each.truth)
    are_few = ranking.count_fraction(len(each.archs), 0.05) < FEWEST
    statistic = ranking.rho_among_selected(1.0 if are_few else 0.05)
    number = ranking.count_fraction(len(each.archs), statistic.fraction)
    places = np.flatnonzero(ranking.selection_chances(sample.proxy.validation, number))
    rho = estimate(statistic, each)
    return DataFrame({
        "arch": [each.archs[place] for place in places],
        "model": [each.models[place] for place in places],
        "score": each.scores,
        "proxy_accuracy": sample.proxy.test[places],
        "true_accuracy": sample.truth.test[places],
        "rho": rho.value,
        "rho_low": rho.low,
        "rho_high": rho.high,
        "selected": number,
        "architectures": len(each.archs),
    })  # fmt: skip


def draw_nas_scatter(data: DataFrame) -> Figure:
    """Test accuracy on the proxy against that on all the data, for the proxy's own top 5 %: the DM paper's figure.

    A panel per proxy. The 5 % have the highest validation accuracy on the proxy; all that are tied for the last place
    are drawn. If 5 % are fewer than ten, all are drawn. rho is that of the test accuracies which are drawn, with its
    95 % interval over architectures; other figures and tables rank by validation accuracy. Networks that diverged are
    not drawn but counted.

    Args:
        data: `nas_scatter_data`.
    """
    panels = {str(label): part for label, part in data.groupby("proxy", sort=False)}
    figure, grid = drawing.make_grid(len(panels), 3, (3.6, 3.4), (0.4, 0.7))
    styles = drawing.styles_of(panels)
    for axes, (label, part) in zip(grid, panels.items(), strict=True):
        finite = part[np.isfinite(part["proxy_accuracy"]) & np.isfinite(part["true_accuracy"])]
        style = styles[label]
        axes.plot(
            finite["proxy_accuracy"], finite["true_accuracy"], color=style.colour, marker=style.marker,
            linestyle="none", markersize=4, alpha=0.6, markeredgewidth=0,
        )  # fmt: skip
        drawing.set_text(axes.set_title("", fontsize="medium"), _scatter_title(label, part, len(part) - len(finite)))
        is_trained = part["score"].iloc[0] == "%"
        axes.set_xlabel("test accuracy on the proxy (%)" if is_trained else part["score"].iloc[0])
        axes.locator_params(axis="x", nbins=5)  # so that six digits fit
        low, high = finite["proxy_accuracy"].min(), finite["proxy_accuracy"].max()
        if not is_trained and high > 10 * low > 0:
            drawing.scale_logarithmic(axes, drawing.round_marks(low, high), room=4)
        axes.set_ylabel("test accuracy on all data (%)")
        axes.grid(alpha=0.3)
    meaning = "rho (test): Spearman's, of the test accuracies that are drawn, with its 95 % interval over architectures"
    drawing.add_title(figure, describe_search(data, meaning))
    return figure


def _scatter_title(label: str, part: DataFrame, failed: int) -> str:
    archs, selected = int(part["architectures"].iloc[0]), int(part["selected"].iloc[0])
    of = "test" if part["score"].iloc[0] == "%" else "score"
    which = f"all {archs}" if selected == archs else f"top {selected} of {archs}"
    which += f", {len(part)} with ties" if len(part) > selected else ""
    diverged = f", {failed} diverged" if failed else ""
    return f"{label}: {rho_in_words(of, *part[['rho', 'rho_low', 'rho_high']].iloc[0])}\n{which}{diverged}"


# --- nas-ranks ------------------------------------------------------------------------------------------------------


def nas_ranks_data(rows: DataFrame) -> DataFrame:
    """The points of `nas-ranks`, after the setting and the name of the proxy.

    The columns are ranked_by (validation, or score if nothing is trained), arch, the value of each axis, proxy_rank and
    true_rank (1 is the best), then of the row spearman_rho with its ends.

    Raises:
        ValueError: as `nas_scatter_data`, or the name of an architecture does not contain its axes.
    """
    return join_parts([(proxy, _ranks(proxy)) for proxy in find_proxies(rows)])


def _ranks(proxy: LabelledProxy) -> DataFrame:
    each = proxy.comparison
    sample = ranking.full_sample(each.proxy, each.truth)
    rho = estimate(STATISTICS["spearman_rho"], each)
    return parse_axes(each.models).assign(
        ranked_by=proxy.ranked_by,
        arch=list(each.archs),
        proxy_rank=stats.rankdata(-sample.proxy.validation),
        true_rank=stats.rankdata(-sample.truth.test),
        spearman_rho=rho.value,
        spearman_rho_low=rho.low,
        spearman_rho_high=rho.high,
    )[["ranked_by", "arch", *AXES, "proxy_rank", "true_rank", "spearman_rho", "spearman_rho_low", "spearman_rho_high"]]


def draw_nas_ranks(data: DataFrame) -> Figure:
    """Ranks by the proxy against true ranks over the whole space: a row per proxy, a column per axis that colours it.

    The proxy ranks by its validation accuracy, or by its score if nothing is trained; the true rank is by test accuracy
    after training on all the data. An axis of one value has no column. Rank 1 is the best, equals share the mean rank,
    and networks that diverged are last.

    Args:
        data: `nas_ranks_data`.
    """
    proxies = {str(label): part for label, part in data.groupby("proxy", sort=False)}
    varying = _varying_axes(data)
    across = len(varying)
    count = len(proxies) * across
    figure, grid = drawing.make_grid(count, across, (2.3, 2.3), (0.5, 2.5), sharex="row", sharey="row")
    for number, (label, own) in enumerate(proxies.items()):
        line = grid[number * across : (number + 1) * across]
        for axes, axis in zip(line, varying, strict=True):
            for value, style in _styles_of_values(data[axis]).items():
                part = own[own[axis] == value]
                axes.plot(
                    part["proxy_rank"], part["true_rank"], color=style.colour, marker=style.marker, linestyle="none",
                    markersize=2.6 if len(own) > 200 else 4, markeredgewidth=0, alpha=0.75,
                )  # fmt: skip
            axes.set_box_aspect(1)
            axes.set_anchor("N")  # the room that is left belongs to the legends
            axes.tick_params(labelsize="small")
            drawing.set_text(axes.set_xlabel("", fontsize="small"), f"rank by {label}")
        drawing.set_text(line[0].set_ylabel("", fontsize="small"), "true rank")
        rho = own[["spearman_rho", "spearman_rho_low", "spearman_rho_high"]].iloc[0]
        title = f"{label}: {rho_in_words(own['ranked_by'].iloc[0], *rho)}, n = {len(own)}"
        drawing.set_text(line[0].set_title("", fontsize="medium", loc="left"), title)
    for axes, axis in zip(grid[-across:], varying, strict=True):
        styles = _styles_of_values(data[axis])
        entries = [Line2D([], [], color=style.colour, marker=style.marker, linestyle="none", markersize=5)
                   for style in styles.values()]  # fmt: skip
        axes.legend(
            entries, [str(value) for value in styles], title=axis, loc="upper center", frameon=False,
            bbox_to_anchor=(0.5, -0.32), fontsize="small", handletextpad=0.2, borderaxespad=0,
        )  # fmt: skip
    meaning = "rho: Spearman's, of the validation accuracy on the proxy, or of its score, and the true test accuracy"
    drawing.add_title(figure, describe_search(data, f"{meaning}, with its 95 % interval; rank 1 is the best"))
    return figure


# --- nas-axes -------------------------------------------------------------------------------------------------------


def nas_axes_data(rows: DataFrame) -> DataFrame:
    """The numbers of `nas-axes`, after the setting and the name of the proxy: axis, value, mean, low, high and n.

    n counts architectures, of the number in `architectures`.

    Raises:
        ValueError: as `nas_ranks_data`, or no architecture is shared by all.
    """
    trained = [proxy for proxy in find_proxies(rows, with_truth=True) if proxy.comparison.is_trained]
    return join_parts([(proxy, _marginals(proxy)) for proxy in restrict_to_shared(trained)])


def _marginals(proxy: LabelledProxy) -> DataFrame:
    each = proxy.comparison
    scores = each.truth.scores().test if each.is_truth else each.proxy.scores().validation
    of_archs = parse_axes(each.models)
    lines = []
    for axis in AXES:
        for value in _styles_of_values(of_archs[axis]):
            own = scores[(of_archs[axis] == value).to_numpy() & np.isfinite(scores)]
            mean = float(own.mean()) if len(own) else math.nan
            lines.append((axis, str(value), mean, *t_interval(own.tolist()), len(own), len(each.archs)))
    return DataFrame(lines, columns=["axis", "value", "mean", "low", "high", "n", "architectures"])


def draw_nas_axes(data: DataFrame) -> Figure:
    """Mean accuracy of all architectures that share a value of an axis: a panel per axis, a line per proxy.

    An axis of one value has no panel, though the CSV has its numbers. The truth is the test accuracy after training on
    all the data, and a proxy is its validation accuracy. Bars are 95 % intervals over architectures (Student's t).
    Networks that diverged are left out of the means. All lines are of the architectures that all proxies have.

    Args:
        data: `nas_axes_data`.
    """
    styles = drawing.styles_of(data["proxy"].drop_duplicates())
    counts = data.groupby("axis", sort=False)["value"].nunique()
    varying = [axis for axis in AXES if counts[axis] > 1] or list(AXES[:1])
    figure, panels = drawing.make_grid(len(varying), len(varying), (2.4, 2.9), (1.0, 1.5), sharey=True)
    for axes, axis in zip(panels, varying, strict=True):
        _draw_axis(axes, data[data["axis"] == axis], styles)
        axes.set_xlabel(axis)
    panels[0].set_ylabel("mean accuracy (%)")
    drawing.limit_to_percent(panels[:1])
    figure.align_xlabels()
    drawing.add_legend(figure, [(label, drawing.legend_handle(style)) for label, style in styles.items()])
    counts = data.loc[data["axis"].isin(varying) & (data["n"] > 0), "n"]
    of_each = str(counts.min()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    n = f"{n_in_words(int(data['architectures'].iloc[0]))}, {of_each} at a point: mean and 95 % interval over them"
    n += "; a point without a bar is one architecture" if counts.min() == 1 else ""
    drawing.add_title(figure, describe_search(data, n, "full: test accuracy, proxies: validation accuracy"))
    return figure


def _draw_axis(axes: Axes, own: DataFrame, styles: dict[str, Style]) -> None:
    """Draw the lines of all proxies over the values of an axis, side by side."""
    values = list(own["value"].drop_duplicates())
    for number, (label, style) in enumerate(styles.items()):
        line = own[own["proxy"] == label]
        aside = 0.3 * (number / max(len(styles) - 1, 1) - 0.5)
        places = line["value"].map(values.index) + aside
        drawing.draw_line(axes, places.astype(float), line, "mean", "low", "high", style)
    drawing.name_ticks(axes.xaxis, range(len(values)), values, "small", is_slanted=max(map(len, values)) > 4)
    axes.grid(alpha=0.3)


def _varying_axes(data: DataFrame) -> list[str]:
    """The axes that have several values, or the first if none has."""
    return [axis for axis in AXES if data[axis].nunique() > 1] or list(AXES[:1])


def _styles_of_values(column: "Series[int] | Series[str]") -> dict[AxisValue, Style]:
    """The style of each value of an axis, in the order of the space, with other names after them."""
    values: list[AxisValue] = list(column.unique())
    values.sort(key=_value_order)
    return {value: VALUES[place % len(VALUES)] for place, value in enumerate(values)}


def _value_order(value: AxisValue) -> tuple[int, str]:
    if not isinstance(value, str):
        return value, ""
    return (NAMES.index(value) if value in NAMES else len(NAMES)), value
