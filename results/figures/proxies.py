"""The proxies of a search that its figures show; every statistic is that of the tables."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from numpy.random import default_rng
from pandas import DataFrame

from harness.results.figures import captions
from harness.results.statistics import ranking
from harness.results.statistics.comparisons import TOGETHER, Comparison, compare, label_proxies
from harness.results.statistics.ranking import Estimate, Statistic
from harness.results.tables.search import DRAWS
from harness.results.wording import quantity

# The setting of a proxy, which stands beside its numbers.
SETTING = ("dataset", "exactness", "dataset_digest", "preset", "space", "league", "changes")


class LabelledProxy(NamedTuple):
    """A proxy with the name that it has in a figure."""

    label: str
    comparison: Comparison

    def columns(self) -> dict[str, str]:
        """The setting and the name of the proxy as columns of a figure's numbers."""
        return {**{name: self.comparison.setting[name] for name in SETTING}, "proxy": self.label}

    @property
    def ranked_by(self) -> str:
        """The score that ranks the architectures: validation accuracy, or a number that needs no training."""
        return "validation" if self.comparison.is_trained else "score"


def find_proxies(rows: DataFrame, with_truth: bool = False, alike: bool = False) -> list[LabelledProxy]:
    """Every proxy that shares architectures with the truth, sorted by label.

    Args:
        rows: as `rows.read` gives them.
        with_truth: put the truth first.
        alike: restrict all of them to the architectures that all have, because one panel compares them.
    Raises:
        ValueError: no result of track nas, no truth, no proxy, or rows of several data sets, presets or spaces.
    """
    comparisons = compare(rows)
    for name in TOGETHER:
        if len(several := sorted({each.setting[name] for each in comparisons})) > 1:
            raise ValueError(f"a figure shows one {name}; the rows mix {' and '.join(several)}: select one")
    proxies = [each for each in comparisons if each.archs and not each.is_truth]
    if not proxies:
        raise ValueError("no proxy shares an architecture with the truth: there is nothing to compare")
    named = [LabelledProxy(*pair) for pair in zip(label_proxies(proxies), proxies, strict=True)]
    truth = [LabelledProxy("full", each) for each in comparisons if each.is_truth]
    found = [*(truth if with_truth else []), *sorted(named, key=_order)]
    return restrict_to_shared(found) if alike else found


def restrict_to_shared(proxies: Sequence[LabelledProxy]) -> list[LabelledProxy]:
    """The proxies on the architectures that all of them have.

    Raises:
        ValueError: there are none.
    """
    shared = set.intersection(*(set(each.archs) for _, each in proxies))
    if not shared:
        names = ", ".join(label for label, _ in proxies)
        raise ValueError(f"no architecture is shared by all of {names}: select some")
    return [LabelledProxy(label, each.select(a for a in each.archs if a in shared)) for label, each in proxies]


def label_without_budget(proxies: Sequence[LabelledProxy]) -> list[LabelledProxy]:
    """The proxies with labels that leave out the budget, for a figure that has it on an axis."""
    comparisons = [each for _, each in proxies]
    unlimited = [each for each in comparisons if each.ipc is None]
    found = [LabelledProxy(*pair) for pair in zip(label_proxies(unlimited), unlimited, strict=True)]
    for ipc in sorted({each.ipc for each in comparisons if each.ipc is not None}):
        of_one = [each for each in comparisons if each.ipc == ipc]
        labels = [label.replace(f", {ipc} per class", "") for label in label_proxies(of_one)]
        found += [LabelledProxy(*pair) for pair in zip(labels, of_one, strict=True)]
    return found


def estimate(statistic: Statistic, each: Comparison) -> Estimate:
    """A statistic of a proxy with its 95 % interval, drawn as for the tables."""
    draws = ranking.bootstrap({"rho": statistic}, each.proxy, each.truth, default_rng(0), DRAWS)
    return ranking.estimate(draws["rho"])


def join_parts(parts: Sequence[tuple[LabelledProxy, DataFrame]]) -> DataFrame:
    """One frame of the numbers of several proxies, each after the columns of its setting."""
    lines = [proxy.columns() | dict(line) for proxy, part in parts for line in part.to_dict("records")]
    columns = [*SETTING, "proxy", *parts[0][1].columns]
    return DataFrame(lines, columns=columns)


def describe_search(data: DataFrame, *lines: str) -> str:
    """The title of a figure of a search: its setting, what its runs changed from their preset, then further lines."""
    first = data.iloc[0]
    setting = f"{captions.data_in_words(first['dataset'], first['exactness'])}, "
    setting += f"{captions.preset_in_words(first['preset'])}, space {first['space']}"
    return "\n".join(filter(None, [setting, captions.changes_in_words(data, "proxy"), *lines]))


def n_in_words(number: int) -> str:
    """The n of proxies on the architectures that all have."""
    return f"n = {quantity(number, 'architecture')} that all have"


def rho_in_words(of: str, rho: float, low: float, high: float) -> str:
    """A rho with its interval, and the score of which it is, such as "rho (validation) 0.90 [0.81, 0.95]"."""
    if math.isnan(rho):
        return f"rho ({of}) undefined"
    return f"rho ({of}) {rho:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _order(proxy: LabelledProxy) -> tuple[bool, str, int, str]:
    """A key that sorts proxy sets first, then by memory and budget."""
    each = proxy.comparison
    return each.ipc is None, each.setting["memory"], each.ipc or 0, proxy.label
