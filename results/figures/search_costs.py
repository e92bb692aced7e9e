"""Figures of the selections and the costs of the proxies of a search, each of one data set, preset and space."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.figures import drawing
from harness.results.figures.drawing import Style
from harness.results.figures.proxies import (
    LabelledProxy,
    describe_search,
    estimate,
    find_proxies,
    join_parts,
    label_without_budget,
    n_in_words,
)
from harness.results.statistics import ranking
from harness.results.statistics.ranking import Estimate, Statistic
from harness.results.tables.search import DRAWS, STATISTICS, noise_ceilings

ENDS = ("spearman_rho", "spearman_rho_low", "spearman_rho_high")
CURVE = Statistic(lambda sample: ranking.regret_curve(sample.proxy.validation, sample.truth.test), redraws=True)
AT_RANDOM = "tried at random"
CEILINGS = ("noise_ceiling_of_mean", "noise_ceiling_best_20_percent", "halves")


# --- nas-regret -----------------------------------------------------------------------------------------------------


def nas_regret_data(rows: DataFrame) -> DataFrame:
    """The numbers of `nas-regret`, after the setting and the name of the proxy.

    The columns are tried (architectures), regret, low and high (points), and architectures. All proxies are on the
    architectures that all have. The lines "tried at random" are the mean over all orders of these, without an interval;
    the regret is inf if an architecture that diverged may be the only one tried.

    Raises:
        ValueError: as `nas_scatter_data`, or no architecture is shared by all.
    """
    proxies = find_proxies(rows, alike=True)
    parts = []
    for proxy in proxies:
        each = proxy.comparison
        curve = ranking.bootstrap({"curve": CURVE}, each.proxy, each.truth, default_rng(0), DRAWS)["curve"]
        parts.append((proxy, _course(curve.value, [ranking.percentiles(draws) for draws in curve.draws.T])))
    regrets = ranking.regret_at_random(proxies[0].comparison.truth.scores().test)
    at_random = _course(regrets, [(math.nan, math.nan)] * len(regrets))
    data = join_parts([*parts, (LabelledProxy(AT_RANDOM, proxies[0].comparison), at_random)])
    data.loc[data["proxy"] == AT_RANDOM, ["league", "changes"]] = ""
    return data


def _course(regrets: ranking.Array, ends: list[tuple[float, float]]) -> DataFrame:
    low, high = zip(*ends, strict=True)
    tried = np.arange(1, len(regrets) + 1)
    return DataFrame({"tried": tried, "regret": regrets, "low": low, "high": high, "architectures": len(regrets)})


def draw_nas_regret(data: DataFrame) -> Figure:
    """Accuracy still missing to the best of the space against the number of architectures tried, in the proxy's order.

    A panel per proxy, with the others of its league in grey behind it. Bands are 95 % intervals over architectures and
    their networks. The thin line is the mean of trying at random.

    Args:
        data: `nas_regret_data`.
    """
    own = data[data["proxy"] != AT_RANDOM]
    leagues = dict(zip(own["proxy"], own["league"], strict=True))
    finite = data[np.isfinite(data["regret"])]
    lines = {str(label): line for label, line in finite.groupby("proxy", sort=False)}
    at_random = lines.pop(AT_RANDOM)
    styles = drawing.styles_of(leagues)
    figure, panels = drawing.make_small_grid(len(styles))
    ends = finite[["regret", "high"]]
    highest = np.nanmax(ends.where(np.isfinite(ends)).to_numpy(), initial=1.0)
    for axes, (label, style) in zip(panels, styles.items(), strict=True):
        for other in [other for other in lines if other != label and leagues[other] == leagues[label]]:
            line = lines[other]
            axes.step(line["tried"], line["regret"], where="post", color=drawing.BEHIND, linewidth=0.8, zorder=1)
        axes.plot(at_random["tried"], at_random["regret"], color="0.3", linewidth=0.8)
        if label in lines:  # otherwise nothing that it selects can be trained
            _draw_regret(axes, lines[label], style)
        drawing.set_text(axes.set_title("", fontsize="small"), _with_league(label, leagues[label]))
        last = float(finite["tried"].max())
        drawing.scale_logarithmic(axes, drawing.round_marks(1, last))
        axes.set_xlim(1 / 1.3, last * 1.3)
        # The axis of regrets has 0, where all lines end, and tens of points, which a bad first choice costs.
        marks = [0, 0.5, *(mark for mark in (1, 2, 5, 10, 20, 50, 100) if mark <= highest)]
        drawing.scale_logarithmic(axes, marks, "y", room=12, linear=1)
        axes.set_ylim(0, 1.1 * highest)
        axes.grid(alpha=0.3)
    drawing.label_outside(figure, "architectures tried", "regret (points)")
    has_others = len(set(leagues.values())) < len(leagues)
    others = [("the other proxies of its league", Line2D([], [], color=drawing.BEHIND))] if has_others else []
    drawing.add_legend(figure, [*others, (AT_RANDOM, Line2D([], [], color="0.3", linewidth=0.8))])
    n = n_in_words(int(data["architectures"].iloc[0]))
    intervals = f"points of test accuracy; {n}, 95 % intervals over them and their networks"
    drawing.add_title(figure, describe_search(own, intervals))
    return figure


def _with_league(label: str, league: str) -> str:
    """The name of a proxy with its league; a proxy without images has none."""
    return f"{label}, league {league}" if league else f"{label}, no images"


def _draw_regret(axes: Axes, line: DataFrame, style: Style) -> None:
    """Draw the steps of a proxy, about ten marks along them, and their band."""
    axes.step(line["tried"], line["regret"], where="post", color=style.colour, linestyle=style.dashes, linewidth=1.4)
    axes.fill_between(line["tried"], line["low"], line["high"].where(np.isfinite(line["high"])), step="post",
                      color=style.colour, alpha=0.15, linewidth=0)  # fmt: skip
    places = np.unique(np.geomspace(1, int(line["tried"].max()), 10).round().astype(int))
    marked = line[line["tried"].isin(places)]
    axes.plot(
        marked["tried"], marked["regret"], color=style.colour, marker=style.marker, linestyle="none", markersize=5
    )


# --- nas-size -------------------------------------------------------------------------------------------------------


def nas_size_data(rows: DataFrame) -> DataFrame:
    """The numbers of `nas-size`, after the setting and the name of the proxy without its budget.

    The columns are ipc (missing: no budget), spearman_rho with its ends, and architectures. All proxies are on the
    architectures that all have.

    Raises:
        ValueError: as `nas_scatter_data`, no proxy has images per class, or no architecture is shared by all.
    """
    parts = []
    for proxy in label_without_budget(find_proxies(rows, alike=True)):
        each = proxy.comparison
        rho = estimate(STATISTICS["spearman_rho"], each)
        line = (each.ipc, *rho[:3], len(each.archs))
        parts.append((proxy, DataFrame([line], columns=["ipc", *ENDS, "architectures"])))
    data = join_parts(parts).astype({"ipc": "Int64"})
    if data["ipc"].isna().all():
        raise ValueError(f"none of the {len(data)} proxies has a budget of images per class")
    return data.sort_values(["proxy", "ipc"], ignore_index=True)


def draw_nas_size(data: DataFrame) -> Figure:
    """Spearman's rho against the images per class of the proxy set, a line per proxy.

    rho is that of the validation accuracy on the proxy, or of its score, and the true test accuracy. All proxies are on
    the architectures that all have, and bars are 95 % intervals over these. Proxies without a budget are level lines,
    and their intervals are bands.

    Args:
        data: `nas_size_data`.
    """
    figure, (axes,) = drawing.make_grid(1, 1, (6.0, 3.3))
    styles = drawing.styles_of(data["proxy"].drop_duplicates())
    budgets = sorted(data["ipc"].dropna().astype(int).unique())
    drawing.scale_logarithmic(axes, [float(ipc) for ipc in budgets])
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
    drawing.add_legend(figure, [(label, drawing.legend_handle(style)) for label, style in styles.items()])
    n = n_in_words(int(data["architectures"].iloc[0]))
    drawing.add_title(figure, describe_search(data, f"{n}, 95 % intervals over them"))
    return figure


# --- nas-cost -------------------------------------------------------------------------------------------------------


def nas_cost_data(rows: DataFrame) -> DataFrame:
    """The numbers of `nas-cost`, after the setting and the name of the proxy.

    The columns are seconds (of training all networks of an architecture, the mean over architectures; missing if
    nothing is trained), spearman_rho with its ends, architectures and device. The line of the truth has the noise
    ceiling in spearman_rho, and beside it noise_ceiling_of_mean, noise_ceiling_best_20_percent and halves
    (`tables.search.noise_ceilings`).

    Raises:
        ValueError: as `nas_scatter_data`, no row has the seconds of training, they are of several devices, or no
            architecture is shared by all.
    """
    proxies = find_proxies(rows, with_truth=True, alike=True)
    devices = sorted({device for proxy in proxies for device in proxy.comparison.devices})
    if len(devices) > 1:
        found = " and ".join(devices)
        raise ValueError(f"a figure shows one device of training seconds; the rows mix {found}: select one")
    columns = ["seconds", *ENDS, "architectures", "device", *CEILINGS]
    parts = [(proxy, DataFrame([_cost(proxy)], columns=columns)) for proxy in proxies]
    data = join_parts(parts)
    if data["seconds"].isna().all():
        raise ValueError(f"none of the {len(data)} proxies tells the seconds of its training")
    return data


def _cost(proxy: LabelledProxy) -> tuple[object, ...]:
    each = proxy.comparison
    ceilings = noise_ceilings(each)
    if each.is_truth:
        rho = Estimate(ceilings["noise_ceiling"], math.nan, math.nan, len(each.archs))
        beside: tuple[object, ...] = tuple(ceilings[name] for name in CEILINGS)  # type: ignore[literal-required]
    else:
        rho, beside = estimate(STATISTICS["spearman_rho"], each), (math.nan, math.nan, "")
    return (each.seconds / len(each.archs), *rho[:3], len(each.archs), "".join(each.devices), *beside)


def draw_nas_cost(data: DataFrame) -> Figure:
    """Spearman's rho against the seconds it takes to train one architecture on the proxy, all on one device.

    rho is that of the validation accuracy on the proxy, or of its score, and the true test accuracy. All proxies are on
    the architectures that all have, and bars are 95 % intervals over these. Scores without training are level lines,
    and their intervals are bands. The truth stands at its own cost, which a thin line marks, with its noise ceiling:
    the rho of one half of its trainings with the other, if it has several of each architecture.

    Args:
        data: `nas_cost_data`.
    """
    figure, (axes,) = drawing.make_grid(1, 1, (6.0, 3.3))
    styles = drawing.styles_of(data["proxy"].drop_duplicates())
    low, high = float(data["seconds"].min()), float(data["seconds"].max())
    drawing.scale_logarithmic(axes, drawing.round_marks(low, high), room=12)
    axes.set_xlim(low / 1.3, high * 1.3)
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
    drawing.add_legend(figure, [(label, drawing.legend_handle(style)) for label, style in styles.items()])
    n = n_in_words(int(data["architectures"].iloc[0]))
    device = next(filter(None, data["device"]), "an unknown device")
    lines = [f"{n}, 95 % intervals over them", f"seconds of all trainings of one architecture, on {device}"]
    drawing.add_title(figure, describe_search(data, *lines, _ceilings_in_words(data)))
    return figure


def _ceilings_in_words(data: DataFrame) -> str:
    """The noise ceilings of the truth: of half of its trainings, and of their mean; "" if there are none."""
    truth = data[data["proxy"] == "full"]
    if truth.empty or truth["spearman_rho"].isna().all():
        return ""
    line = truth.iloc[0]
    best = line["noise_ceiling_best_20_percent"]
    among_best = "" if math.isnan(best) else f" ({best:.2f} among its best 20 %)"
    return (
        f"full: noise ceiling of half of its trainings ({line['halves']}), rho {line['spearman_rho']:.2f}{among_best}; "
        f"the mean of both halves allows rho {line['noise_ceiling_of_mean']:.2f}; no intervals"
    )


def _label_rho(axes: Axes) -> None:
    axes.set_ylabel("Spearman's rho with the truth")
    axes.set_ylim(max(axes.get_ylim()[0], -1), min(axes.get_ylim()[1], 1.02))
    axes.grid(alpha=0.3)
