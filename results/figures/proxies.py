"""The proxies of a search that its figures show, beside the truth; every statistic is that of its tables."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from numpy.random import default_rng
from pandas import DataFrame

from harness.results.figures import captions
from harness.results.statistics import ranking
from harness.results.statistics.ranking import Estimate, Statistic
from harness.results.statistics.searches import TOGETHER, Compared, compared, labels
from harness.results.tables.search import DRAWS
from harness.results.wording import quantity


class Labelled(NamedTuple):
    label: str
    each: Compared


def find_proxies(rows: DataFrame, with_truth: bool = False, alike: bool = False) -> list[Labelled]:
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
    named = [Labelled(*pair) for pair in zip(labels(proxies), proxies, strict=True)]
    truth = [Labelled("full", each) for each in everything if each.is_truth]
    found = [*(truth if with_truth else []), *sorted(named, key=_order)]
    return on_shared(found) if alike else found


def on_shared(several: Sequence[Labelled]) -> list[Labelled]:
    shared = set.intersection(*(set(each.archs) for _, each in several))
    if not shared:
        raise ValueError(f"no architecture is shared by all of {', '.join(label for label, _ in several)}: select some")
    return [Labelled(label, each.of(arch for arch in each.archs if arch in shared)) for label, each in several]


def n_of(several: Sequence[Labelled]) -> str:
    """The n of what `on_shared` gave."""
    return f"n = {quantity(len(several[0].each.archs), 'architecture')} that all have"


def _order(labelled: Labelled) -> tuple[bool, str, bool, int, str]:
    """Proxy sets first, then by memory and budget."""
    setting = labelled.each.setting
    has_budget = not pd.isna(setting["ipc"])
    return not has_budget, setting["memory"], not has_budget, int(setting["ipc"]) if has_budget else 0, labelled.label


def without_budget(labelled: Sequence[Labelled]) -> list[tuple[Compared, str]]:
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


def estimate(statistic: Statistic, each: Compared) -> Estimate:
    return ranking.interval(ranking.bootstrap({"rho": statistic}, each.proxy, each.truth, default_rng(0), DRAWS)["rho"])


def rho_in_words(rho: float, low: float, high: float) -> str:
    if math.isnan(rho):
        return "rho undefined"
    return f"rho {rho:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def setting_in_words(each: Compared) -> str:
    data = captions.data_in_words(each.setting["dataset"], each.setting["exactness"])
    return f"{data}, {captions.preset_in_words(each.setting['preset'])}, space {each.setting['space']}"
