"""Figures of track nas: what a proxy picks, and at what cost; each of one data set, preset and space."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.figures import drawing
from harness.results.figures.drawing import Style
from harness.results.figures.proxies import Labelled, estimate, find_proxies, n_of, setting_in_words, without_budget
from harness.results.statistics import ranking
from harness.results.statistics.ranking import Estimate, Statistic
from harness.results.statistics.searches import Compared
from harness.results.tables.search import DRAWS, STATISTICS
from harness.results.wording import quantity

ENDS = ("spearman_rho", "spearman_rho_low", "spearman_rho_high")
CURVE = Statistic(lambda sample: ranking.regret_curve(sample.proxy.validation, sample.truth.test), redraws=True)
AT_RANDOM = "tried at random"


def nas_regret_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_regret` draws: proxy, tried (architectures), regret, low, high (points), architectures.

    All are of the architectures that all proxies have. The proxy "tried at random" is the mean over all their orders,
    without an interval; inf where one that diverged may be the only one tried.

    Raises:
        ValueError: as `nas_scatter`, or no architecture is shared by all.
    """
    return _regrets(find_proxies(rows, alike=True))


def _regrets(proxies: Sequence[Labelled]) -> DataFrame:
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
    proxies = find_proxies(rows, alike=True)
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
        f"{setting_in_words(proxies[0][1])}\npoints of test accuracy; {n_of(proxies)}, "
        "95 % intervals over them and their networks",
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
    return _sizes(find_proxies(rows, alike=True))


def _sizes(proxies: Sequence[Labelled]) -> DataFrame:
    lines = []
    for each, label in without_budget(proxies):
        rho = estimate(STATISTICS["spearman_rho"], each)
        lines.append((label, each.setting["ipc"], *rho[:3], len(each.archs)))
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
    proxies = find_proxies(rows, alike=True)
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
    _finish(figure, proxies, styles, f"{n_of(proxies)}, 95 % intervals over them")
    return figure


def nas_cost_data(rows: DataFrame) -> DataFrame:
    """The numbers `nas_cost` draws: proxy, seconds (of training all networks of an architecture, the mean over them;
    missing: nothing is trained), spearman_rho with its ends, architectures, device. The truth stands with its noise
    ceiling.

    Raises:
        ValueError: as `nas_cost`.
    """
    return _costs(find_proxies(rows, with_truth=True, alike=True))


def _costs(proxies: Sequence[Labelled]) -> DataFrame:
    devices = sorted({device for _, each in proxies for device in each.devices})
    if len(devices) > 1:
        found = " and ".join(devices)
        raise ValueError(f"a figure shows one device of training seconds; the rows mix {found}: select one")
    lines = []
    for label, each in proxies:
        rho = estimate(STATISTICS["spearman_rho"], each)
        if each.is_truth:
            ceiling = ranking.noise_ceiling(each.truth.test, default_rng(0))
            rho = Estimate(ceiling, math.nan, math.nan, len(each.archs))
        lines.append((label, each.seconds / len(each.archs), *rho[:3], len(each.archs), "".join(each.devices)))
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
    proxies = find_proxies(rows, with_truth=True, alike=True)
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
    said = f"{n_of(proxies)}, 95 % intervals over them\nseconds of all trainings of one, on {_device_of(data)}"
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


def _finish(figure: Figure, proxies: Sequence[Labelled], styles: Mapping[str, Style], said: str) -> None:
    drawing.legend(figure, [(label, drawing.handle(style)) for label, style in styles.items()])
    drawing.title(figure, f"{setting_in_words(proxies[0].each)}\n{said}")
