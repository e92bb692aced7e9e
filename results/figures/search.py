"""Figures of track nas. Each is of one data set, preset and space; every statistic is that of `nas_tables`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.random import default_rng
from pandas import DataFrame
from scipy import stats

from harness.results.figures import drawing
from harness.results.figures.drawing import Style
from harness.results.statistics import ranking
from harness.results.statistics.means import t_interval
from harness.results.statistics.ranking import Estimate, Statistic
from harness.results.statistics.searches import AXES, TOGETHER, Compared, axes_of, compared, labels
from harness.results.tables.search import DRAWS, STATISTICS
from harness.results.wording import quantity

FEWEST = 10  # points of a scatter: where 5 % are fewer, all are shown
ENDS = ("spearman_rho", "spearman_rho_low", "spearman_rho_high")
CURVE = Statistic(lambda sample: ranking.regret_curve(sample.proxy.validation, sample.truth.test), redraws=True)
# Values of an axis, in Okabe & Ito's colours; the markers alone tell them apart in print without colour.
VALUES = (Style("#000000", "o", "-"), Style("#D55E00", "s", "-"), Style("#56B4E9", "^", "-"),
          Style("#009E73", "D", "-"), Style("#E69F00", "v", "-"))  # fmt: skip
NAMES = ("nonorm", "batchnorm", "layernorm", "instancenorm", "groupnorm", "sigmoid", "relu", "leakyrelu", "nopooling",
         "maxpooling", "avgpooling")  # fmt: skip  # in the order of the space
AT_RANDOM = "tried at random"


class _Labelled(NamedTuple):
    label: str
    each: Compared


# --- the paper's figure ---------------------------------------------------------------------------------------------


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
        told = f"{label}: {_in_words(rho, low, high)}\n{which}{f', {failed} diverged' if failed else ''}"
        drawing.put(axes.set_title("", fontsize="medium"), told)
        axes.set_xlabel("test accuracy on the proxy (%)" if each.is_trained else each.scores)
        axes.locator_params(axis="x", nbins=5)  # so that six digits fit
        if not each.is_trained and finite["proxy_accuracy"].max() > 10 * finite["proxy_accuracy"].min() > 0:
            axes.set_xscale("log")
        axes.set_ylabel("test accuracy on all data (%)")
        axes.grid(alpha=0.3)
    each = panels[0][1]
    drawing.title(figure, f"{_setting(each)}\nrho of what is drawn, with its 95 % interval over architectures")
    return figure


def _scatters(rows: DataFrame) -> list[tuple[str, Compared, DataFrame]]:
    found = []
    for label, each in _proxies(rows):
        sample = ranking.whole(each.proxy, each.truth)
        few = ranking.share(len(each.archs), 0.05) < FEWEST
        statistic = ranking.ranks_of_picked(1.0 if few else 0.05)
        number = ranking.share(len(each.archs), statistic.fraction)
        chosen = np.flatnonzero(ranking.picked(sample.proxy.validation, number))
        estimate = _estimate(statistic, each)
        part = DataFrame({
            "proxy": label,
            "arch": [each.archs[place] for place in chosen],
            "model": [each.models[place] for place in chosen],
            "proxy_accuracy": sample.proxy.test[chosen],
            "true_accuracy": sample.truth.test[chosen],
        })  # fmt: skip
        told = {"rho": estimate.value, "rho_low": estimate.low, "rho_high": estimate.high}
        found.append((label, each, part.assign(**told, picked=number, architectures=len(each.archs))))
    return found


# --- the whole space ------------------------------------------------------------------------------------------------


def nas_ranks_data(rows: DataFrame) -> DataFrame:
    """The points `nas_ranks` draws: proxy, arch, the value of each axis, proxy_rank and true_rank (1: the best).

    Raises:
        ValueError: as `nas_ranks`.
    """
    return _ranks(_proxies(rows))


def _ranks(proxies: Sequence[_Labelled]) -> DataFrame:
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
    proxies = _proxies(rows)
    data = _ranks(proxies)
    told_apart = [axis for axis in AXES if data[axis].nunique() > 1] or list(AXES[:1])
    figure = Figure(figsize=(2.3 * len(told_apart) + 0.5, 2.3 * len(proxies) + 2.5), layout="constrained")
    grid = figure.subplots(len(proxies), len(told_apart), squeeze=False, sharex="row", sharey="row")
    for line, (label, each) in zip(grid, proxies, strict=True):
        own = data[data["proxy"] == label]
        told = _in_words(*_estimate(STATISTICS["spearman_rho"], each)[:3])
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
    drawing.title(figure, f"{_setting(proxies[0][1])}\nrank 1 is the best")
    return figure


def nas_axes_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_axes` draws: axis, value, memory, mean, low, high and n (architectures).

    Raises:
        ValueError: as `nas_ranks`.
    """
    return _marginals(_trained(rows))


def _trained(rows: DataFrame) -> list[_Labelled]:
    """The truth and the proxies that are trained, on the architectures that all have."""
    return _on_shared([found for found in _proxies(rows, with_truth=True) if found.each.is_trained])


def _marginals(proxies: Sequence[_Labelled]) -> DataFrame:
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
    said = f"{_n_of(several)}, {of_each} at a point: mean and 95 % interval over them"
    said += "; a point without a bar is one architecture" if counts.min() == 1 else ""
    accuracy = "full: test accuracy, proxies: validation accuracy"
    drawing.title(figure, f"{_setting(several[0][1])}\n{said}\n{accuracy}")
    return figure


# --- what is picked, and at what cost -------------------------------------------------------------------------------


def nas_regret_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_regret` draws: proxy, tried (architectures), regret, low, high (points), architectures.

    All are of the architectures that all proxies have. The proxy "tried at random" is the mean over all their orders,
    without an interval; inf where one that diverged may be the only one tried.

    Raises:
        ValueError: as `nas_scatter`, or no architecture is shared by all.
    """
    return _regrets(_proxies(rows, alike=True))


def _regrets(proxies: Sequence[_Labelled]) -> DataFrame:
    parts = []
    for label, each in proxies:
        curve = ranking.bootstrap({"curve": CURVE}, each.proxy, each.truth, default_rng(0), DRAWS)["curve"]
        ends = [ranking.percentiles(draws) for draws in curve.draws.T]
        parts.append(_course(label, curve.value, ends))
    at_random = ranking.regret_at_random(proxies[0].each.truth.scores().test)
    parts.append(_course(AT_RANDOM, at_random, [(math.nan, math.nan)] * len(at_random)))
    return pd.concat(parts, ignore_index=True)


def nas_regret(rows: DataFrame) -> Figure:
    """Accuracy still missing to the best of the space against the number of architectures tried, in the proxy's order.

    A panel per proxy, the others of its league in grey behind it. Bands are 95 % intervals over architectures and their
    networks. The thin line is what trying at random would do on average.

    Raises:
        ValueError: as `nas_scatter`.
    """
    proxies = _proxies(rows, alike=True)
    leagues = {label: each.setting["league"] for label, each in proxies}
    data = _regrets(proxies)
    data = data[np.isfinite(data["regret"])]
    lines = {str(label): line for label, line in data.groupby("proxy", sort=False)}
    at_random = lines.pop(AT_RANDOM)
    styles = drawing.styles_of([label for label, _ in proxies])
    figure, panels = drawing.small_panels(len(styles))
    highest = np.nanmax(data[["regret", "high"]].where(np.isfinite(data[["regret", "high"]])).to_numpy(), initial=1.0)
    marks = [0, 0.5, *(mark for mark in (1, 2, 5, 10, 20, 50, 100) if mark <= highest)]
    for axes, (label, style) in zip(panels, styles.items(), strict=True):
        for other in [other for other in lines if other != label and leagues[other] == leagues[label]]:
            line = lines[other]
            axes.step(line["tried"], line["regret"], where="post", color=drawing.BEHIND, linewidth=0.8, zorder=1)
        axes.plot(at_random["tried"], at_random["regret"], color="0.3", linewidth=0.8)
        if label in lines:  # else nothing it picks can be trained
            _draw_regret(axes, lines[label], style)
        drawing.put(axes.set_title("", fontsize="small"), _with_league(label, leagues[label]))
        _scale_logarithmic(axes, 1, float(data["tried"].max()))
        axes.set_yscale("symlog", linthresh=1)  # 0 is where all lines end, and a bad first pick costs tens of points
        drawing.tick_names(axes.yaxis, marks, [f"{mark:g}" for mark in marks])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, 1.1 * highest)
        axes.grid(alpha=0.3)
    drawing.label_outside(figure, "architectures tried", "regret (points)")
    has_others = len(set(leagues.values())) < len(leagues)
    others = [("the other proxies of its league", Line2D([], [], color=drawing.BEHIND))] if has_others else []
    drawing.legend(figure, [*others, (AT_RANDOM, Line2D([], [], color="0.3", linewidth=0.8))])
    drawing.title(
        figure,
        f"{_setting(proxies[0][1])}\npoints of test accuracy; {_n_of(proxies)}, 95 % intervals over them and their "
        "networks",
    )
    return figure


def _with_league(label: str, league: str) -> str:
    """A proxy's name with its league; what needs no images has none."""
    return f"{label}, league {league}" if league else f"{label}, no images"


def _draw_regret(axes: Axes, line: DataFrame, style: Style) -> None:
    """A proxy's steps, marked now and then, and their band."""
    axes.step(line["tried"], line["regret"], where="post", color=style.colour, linestyle=style.dashes, linewidth=1.4)
    axes.fill_between(line["tried"], line["low"], line["high"].where(np.isfinite(line["high"])), step="post",
                      color=style.colour, alpha=0.15, linewidth=0)  # fmt: skip
    _mark(axes, line, style)


def nas_size_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_size` draws: proxy, ipc (missing: no budget), spearman_rho with its ends, architectures.

    Raises:
        ValueError: as `nas_size`.
    """
    return _sizes(_proxies(rows, alike=True))


def _sizes(proxies: Sequence[_Labelled]) -> DataFrame:
    lines = []
    for each, label in _without_budget(proxies):
        estimate = _estimate(STATISTICS["spearman_rho"], each)
        lines.append((label, each.setting["ipc"], *estimate[:3], len(each.archs)))
    data = DataFrame(lines, columns=["proxy", "ipc", *ENDS, "architectures"]).astype({"ipc": "Int64"})
    if data["ipc"].isna().all():
        raise ValueError(f"none of the {len(data)} proxies has a budget of images per class")
    return data.sort_values(["proxy", "ipc"], ignore_index=True)


def nas_size(rows: DataFrame) -> Figure:
    """Spearman's rho against the images per class of the proxy set, a line per proxy.

    All are of the architectures that all proxies have. Bars are 95 % intervals over these. Proxies without a budget are
    level lines, their intervals bands.

    Raises:
        ValueError: as `nas_scatter`, no proxy has images per class, or no architecture is shared by all.
    """
    proxies = _proxies(rows, alike=True)
    data = _sizes(proxies)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    styles = drawing.styles_of(data["proxy"].drop_duplicates())
    budgets = sorted(data["ipc"].dropna().astype(int).unique())
    drawing.mark_logarithmic(axes, [float(ipc) for ipc in budgets])
    axes.set_xlim(budgets[0] / 1.3, budgets[-1] * 1.3)
    with_budget = [label for label in styles if data.loc[data["proxy"] == label, "ipc"].notna().all()]
    for label, style in styles.items():
        line = data[data["proxy"] == label]
        if label in with_budget:
            aside = drawing.side_by_side(with_budget.index(label), len(with_budget), budgets)
            drawing.draw_line(axes, line["ipc"].astype(float) * aside, line, *ENDS, style)
        else:
            drawing.draw_level(axes, line, *ENDS, style)
    axes.set_xlabel("images per class")
    _label_rho(axes)
    _finish(figure, proxies, styles, f"{_n_of(proxies)}, 95 % intervals over them")
    return figure


def nas_cost_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_cost` draws: proxy, seconds (of training all networks of an architecture, the mean over them;
    missing: nothing is trained), spearman_rho with its ends, architectures, device. The truth stands with its noise
    ceiling.

    Raises:
        ValueError: as `nas_cost`.
    """
    return _costs(_proxies(rows, with_truth=True, alike=True))


def _costs(proxies: Sequence[_Labelled]) -> DataFrame:
    devices = sorted({device for _, each in proxies for device in each.devices})
    if len(devices) > 1:
        found = " and ".join(devices)
        raise ValueError(f"a figure shows one device of training seconds; the rows mix {found}: select one")
    lines = []
    for label, each in proxies:
        estimate = _estimate(STATISTICS["spearman_rho"], each)
        if each.is_truth:
            ceiling = ranking.noise_ceiling(each.truth.test, default_rng(0))
            estimate = Estimate(ceiling, math.nan, math.nan, len(each.archs))
        lines.append((label, each.seconds / len(each.archs), *estimate[:3], len(each.archs), "".join(each.devices)))
    data = DataFrame(lines, columns=["proxy", "seconds", *ENDS, "architectures", "device"])
    if data["seconds"].isna().all():
        raise ValueError(f"none of the {len(data)} proxies tells the seconds of its training")
    return data


def nas_cost(rows: DataFrame) -> Figure:
    """Spearman's rho against the seconds it takes to train one architecture on the proxy, all on one device.

    All are of the architectures that all proxies have. Bars are 95 % intervals over these. Numbers that need no
    training are level lines, their intervals bands. The truth stands at its own cost with its noise ceiling, the rho of
    one half of its trainings with the other, where it has more than one of each; a thin line marks its cost.

    Raises:
        ValueError: as `nas_scatter`, no row tells the seconds of training, they are of several devices, or no
            architecture is shared by all.
    """
    proxies = _proxies(rows, with_truth=True, alike=True)
    data = _costs(proxies)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    styles = drawing.styles_of(data["proxy"].drop_duplicates())
    _scale_logarithmic(axes, float(data["seconds"].min()), float(data["seconds"].max()))
    for label, style in styles.items():
        line = data[data["proxy"] == label]
        if line["seconds"].notna().all():
            drawing.draw_line(axes, line["seconds"], line, *ENDS, style)
        else:
            drawing.draw_level(axes, line, *ENDS, style)
        if label == "full":
            axes.axvline(line["seconds"].iloc[0], color="0.3", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.set_xlabel("training, seconds per architecture")
    _label_rho(axes)
    said = f"{_n_of(proxies)}, 95 % intervals over them\nseconds of all trainings of one, on {_device_of(data)}"
    if data.loc[data["proxy"] == "full", "spearman_rho"].notna().all():
        said += f"\n{_ceiling_in_words(proxies[0].each)}"
    _finish(figure, proxies, styles, said)
    return figure


def _ceiling_in_words(truth: Compared) -> str:
    """What stands for the truth, over all architectures and within the best 20 %; it has no interval."""
    one, other = ranking.halves(int((~np.isnan(truth.truth.test)).sum(1).max()))
    over_all, best = (ranking.noise_ceiling(truth.truth.test, default_rng(0), part) for part in (1.0, 0.2))
    among = "" if math.isnan(best) else f", {best:.2f} among its best 20 %"
    told = f"{quantity(one, 'training')} of the truth against {other} more, rho {over_all:.2f}{among}"
    return f"full, the noise ceiling: {told}; no interval"


def _device_of(data: DataFrame) -> str:
    return next(filter(None, data["device"]), "a device not told")


# --- what they share ------------------------------------------------------------------------------------------------


def _proxies(rows: DataFrame, with_truth: bool = False, alike: bool = False) -> list[_Labelled]:
    """Every proxy that shares architectures with the truth, by label; the truth, first, if it is asked for.

    Args:
        alike: on the architectures that all of them have, and no others: what is drawn in one panel is compared.
    """
    everything = compared(rows)
    for name in TOGETHER:
        if len(several := sorted({str(each.setting[name]) for each in everything})) > 1:
            raise ValueError(f"a figure shows one {name}; the rows mix {' and '.join(several)}: select one")
    proxies = [each for each in everything if each.archs and not each.is_truth]
    if not proxies:
        raise ValueError("no proxy shares an architecture with the truth: there is nothing to compare")
    named = [_Labelled(*pair) for pair in zip(labels(proxies), proxies, strict=True)]
    truth = [_Labelled("full", each) for each in everything if each.is_truth]
    found = [*(truth if with_truth else []), *sorted(named, key=_order)]
    return _on_shared(found) if alike else found


def _on_shared(several: Sequence[_Labelled]) -> list[_Labelled]:
    shared = set.intersection(*(set(each.archs) for _, each in several))
    if not shared:
        raise ValueError(f"no architecture is shared by all of {', '.join(label for label, _ in several)}: select some")
    return [_Labelled(label, each.of(arch for arch in each.archs if arch in shared)) for label, each in several]


def _n_of(several: Sequence[_Labelled]) -> str:
    """The n of what `_on_shared` gave."""
    return f"n = {quantity(len(several[0].each.archs), 'architecture')} that all have"


def _order(labelled: _Labelled) -> tuple[bool, str, bool, int, str]:
    """Proxy sets first, then by memory and budget."""
    setting = labelled.each.setting
    has_budget = not pd.isna(setting["ipc"])
    return not has_budget, setting["memory"], not has_budget, int(setting["ipc"]) if has_budget else 0, labelled.label


def _without_budget(labelled: Sequence[_Labelled]) -> list[tuple[Compared, str]]:
    """Every proxy under its label less the budget, which is on the axis."""
    proxies = [each for _, each in labelled]
    unlimited = [each for each in proxies if pd.isna(each.setting["ipc"])]
    found = list(zip(unlimited, labels(unlimited), strict=True))
    for ipc in sorted({each.setting["ipc"] for each in proxies if not pd.isna(each.setting["ipc"])}):
        of_one = [each for each in proxies if not pd.isna(each.setting["ipc"]) and each.setting["ipc"] == ipc]
        found += [
            (each, label.replace(f", {ipc} per class", "")) for each, label in zip(of_one, labels(of_one), strict=True)
        ]
    return found


def _estimate(statistic: Statistic, each: Compared) -> Estimate:
    return ranking.interval(ranking.bootstrap({"rho": statistic}, each.proxy, each.truth, default_rng(0), DRAWS)["rho"])


def _in_words(rho: float, low: float, high: float) -> str:
    if math.isnan(rho):
        return "rho undefined"
    return f"rho {rho:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _setting(each: Compared) -> str:
    data = drawing.data_in_words(each.setting["dataset"], each.setting["exactness"])
    return f"{data}, {drawing.preset_in_words(each.setting['preset'])}, space {each.setting['space']}"


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


def _course(label: str, regrets: ranking.Array, ends: Sequence[tuple[float, float]]) -> DataFrame:
    low, high = zip(*ends, strict=True)
    tried = np.arange(1, len(regrets) + 1)
    return DataFrame({"proxy": label, "tried": tried, "regret": regrets, "low": low, "high": high}).assign(
        architectures=len(regrets)
    )


def _mark(axes: Axes, line: DataFrame, style: Style) -> None:
    """The proxy's marker, about ten times along a logarithmic axis."""
    last = int(line["tried"].max()) if len(line) else 1
    places = np.unique(np.geomspace(1, last, 10).round().astype(int))
    shown = line[line["tried"].isin(places)]
    axes.plot(shown["tried"], shown["regret"], color=style.colour, marker=style.marker, linestyle="none", markersize=5)


def _scale_logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from a little below `low` to a little above `high`, marked with plain numbers."""
    axes.set_xscale("log")
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    marks = [mark for mark in marks if low / 1.3 <= mark <= high * 1.3]
    drawing.tick_names(axes.xaxis, marks, [f"{mark:g}" for mark in marks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low / 1.3, high * 1.3)


def _label_rho(axes: Axes) -> None:
    axes.set_ylabel("Spearman's rho with the truth")
    axes.set_ylim(max(axes.get_ylim()[0], -1), min(axes.get_ylim()[1], 1.02))
    axes.grid(alpha=0.3)


def _finish(figure: Figure, proxies: Sequence[_Labelled], styles: Mapping[str, Style], said: str) -> None:
    drawing.legend(figure, [(label, drawing.handle(style)) for label, style in styles.items()])
    drawing.title(figure, f"{_setting(proxies[0].each)}\n{said}")
