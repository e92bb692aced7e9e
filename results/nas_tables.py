"""Track nas: rows to how well each proxy ranks the architectures, beside the published values.

The truth is the memory "full": an architecture's true score is the mean test accuracy of its networks trained on all
the data. A proxy's score is the mean validation accuracy of its own at the end of their training, or a number that
needs no training. `nas.ranking` says how networks that diverged count, what ties come to and how intervals are made.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import default_rng
from pandas import DataFrame

from nas import ranking
from nas.ranking import Drawn, Estimate, Networks, Statistic
from results.estimates import t_interval
from results.notes import note
from results.published import searches_for

TRUTH = "full"
TOGETHER = ("dataset", "exactness", "dataset_digest", "preset", "space")  # only what agrees here is compared
PROXY = ("league", "ipc", "memory", "changes", "recipe", "memory_model")
LINE = ("dataset", "exactness", "dataset_digest", "split", "preset", "league", "space", *PROXY[1:])
MEASURED = ("arch", "repeat", "key", "changes", "model", "epoch", "metric", "unit", "value", "wall_seconds", "device")
TRAINED = ("recipe", "spec", "compute")  # how a network was trained
OF_THE_MACHINE = ("compute", "dtype")  # fields of a recipe that a run settles by where it is carried out
LAST = ("full", "")  # leagues of no proxy set, below the others
DRAWS = 1000

# Images in the test split of the named data sets: what an accuracy at chance is told by.
TEST_IMAGES = {
    "mnist": 10_000, "fashionmnist": 10_000, "svhn": 26_032, "cifar10": 10_000, "cifar100": 10_000,
    "tinyimagenet": 10_000, "imagenet64": 50_000, "digits": 355,
}  # fmt: skip

PICKED = "spearman_rho_picked_5_percent"  # the paper's number
STATISTICS: Mapping[str, Statistic] = {
    PICKED: ranking.ranks_of_picked(0.05),
    "spearman_rho": ranking.ranks(ranking.spearman_rho),
    "spearman_rho_best_20_percent": ranking.ranks_of_best(0.2),
    "spearman_rho_best_5_percent": ranking.ranks_of_best(0.05),
    "kendall_tau_b": ranking.ranks(ranking.kendall_tau_b),
    "regret_at_1": ranking.picks(ranking.regret, 1),
    "regret_at_5_percent": ranking.picks(ranking.regret, 0.05),
    "top_k_agreement_at_5_percent": ranking.picks(ranking.top_k_agreement, 0.05),
    "top_k_agreement_at_20_percent": ranking.picks(ranking.top_k_agreement, 0.2),
    "best_rank_at_5_percent": ranking.picks(ranking.best_rank, 0.05),
}
COMPARED = ("spearman_rho", "spearman_rho_best_20_percent", "regret_at_1")
AXES = ("width", "depth", "norm", "activation", "pooling")
GIVEN = {"nothing": [], **{axis: [place] for place, axis in enumerate(AXES)}, "all axes": list(range(len(AXES)))}
MODEL = re.compile(
    r"convnet-d(?P<depth>\d+)-w(?P<width>\d+)-(?P<norm>[a-z]+)-(?P<activation>[a-z]+)-(?P<pooling>[a-z]+)"
)


@dataclass(frozen=True)
class Compared:
    """A proxy beside the truth, on the architectures both have, ids ascending. For the truth itself both are it."""

    setting: Mapping[str, Any]  # the columns LINE
    archs: tuple[str, ...]  # ids
    models: tuple[str, ...]  # names of their networks
    proxy: Networks
    truth: Networks
    seconds_of: tuple[float, ...]  # of training each one's networks of `proxy`; missing where one does not tell
    devices: frozenset[str]  # these seconds were told on
    scores: str  # what the proxy's score is: %, parameters, MACs ...
    classes: int
    not_shared: int  # architectures that only one of the two has

    @property
    def seconds(self) -> float:
        """Of training all networks of `proxy`; missing where one does not tell, or they are of several devices."""
        return math.fsum(self.seconds_of) if self.seconds_of and len(self.devices) < 2 else math.nan

    def of(self, archs: Iterable[str]) -> "Compared":
        """The same of some of its architectures."""
        places = [self.archs.index(arch) for arch in archs]
        return replace(
            self,
            archs=tuple(self.archs[place] for place in places),
            models=tuple(self.models[place] for place in places),
            proxy=_kept(self.proxy, places),
            truth=_kept(self.truth, places),
            seconds_of=tuple(self.seconds_of[place] for place in places),
        )

    @property
    def is_truth(self) -> bool:
        """Whether this is the truth beside itself."""
        return bool(self.setting["memory"] == TRUTH)

    @property
    def is_trained(self) -> bool:
        """Whether the score comes from training."""
        return self.scores == "%"


def compared(rows: DataFrame) -> list[Compared]:
    """Every proxy of the rows beside its truth, the truth included.

    Proxies and truth go together where data set, digest, preset and space agree. Of the truth, networks count once by
    their key, whatever else the runs changed that they come from.

    Raises:
        ValueError: no row of track nas is a result, a proxy has no truth, one network has two values, or networks were
            trained in several ways (`refuse_several_trainings`).
    """
    track = rows.loc[
        (rows["track"] == "nas") & (rows["arch"] != ""),
        [*TOGETHER, *PROXY, *sorted({*MEASURED, *TRAINED} - set(PROXY)), "classes_seen"],
    ]
    if not track["metric"].isin(("test_accuracy", "diverged", "score")).any():
        raise ValueError(f"none of the {len(rows)} rows is a result of track nas: no architecture is finished")
    found = []
    for block, part in track.groupby(list(TOGETHER), dropna=False, sort=True):
        together = dict(zip(TOGETHER, block, strict=True))
        refuse_several_trainings(part)
        is_truth = part["memory"] == TRUTH
        truth = _networks(part[is_truth], "the truth")
        if not truth:
            raise ValueError(
                f"no truth for {', '.join(part['memory'].unique())} on {together['dataset']}, preset "
                f"{together['preset']}: no row is a test_accuracy of memory full; run `harness run nas --proxy full "
                f"--dataset {together['dataset']} --preset {together['preset']}` and pass its run as well"
            )
        classes = int(part["classes_seen"].max()) if part["classes_seen"].notna().any() else 0
        usual = part[is_truth].sort_values("changes", key=lambda changes: changes.str.len(), kind="stable")
        lines = [(dict(usual[list(PROXY)].iloc[0]), truth)]
        for own, rows_of_proxy in part[~is_truth].groupby(list(PROXY), dropna=False, sort=True):
            lines.append((dict(zip(PROXY, own, strict=True)), _networks(rows_of_proxy, str(own[2]))))
        for setting, proxy in lines:
            if proxy:
                found.append(_beside(together | {"split": "test"} | setting, proxy, truth, classes))
    return found


def refuse_several_trainings(rows: DataFrame) -> None:
    """A ValueError where networks that are compared were not trained alike.

    The truth is one training: one recipe, one number of epochs, one precision of an architecture. So is a proxy, under
    the same recipe; its epochs are its own, and its precision may be that of another machine.

    Args:
        rows: of track nas, of one data set, preset and space. Rows that tell no recipe are taken as they are.
    """
    trained = rows[rows["metric"].isin(("test_accuracy", "diverged")) & (rows["recipe"] != "")]
    is_truth = trained["memory"] == TRUTH
    of_truth = _refuse_several(trained[is_truth], "the truth")
    for own, part in trained[~is_truth].groupby(list(PROXY), dropna=False):
        memory = str(own[PROXY.index("memory")])
        refuse_another_recipe(memory, _refuse_several(part, memory), of_truth)


def refuse_another_recipe(proxy: str, own: Mapping[str, Any], of_truth: Mapping[str, Any]) -> None:
    """A ValueError where the fields of a proxy's recipe are not the truth's, those that may differ aside."""
    shared = (of_truth.keys() & own.keys()) - {"epochs", *OF_THE_MACHINE}
    if differ := sorted(field for field in shared if of_truth[field] != own[field]):
        told = ", ".join(f"{field} {own[field]} and {of_truth[field]}" for field in differ)
        raise ValueError(
            f"{proxy} and the truth were trained by different recipes: {told}; compare networks of one recipe"
        )


def recipe_of_truth(rows: DataFrame) -> dict[str, Any]:
    """The fields of the recipe that the truth in some rows was trained by.

    Raises:
        ValueError: there are several.
    """
    return _refuse_several(rows[(rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")], "the truth")


def recipe_fields(name: str, spec: str) -> dict[str, Any]:
    """The fields of a recipe as rows tell them, by its name and the unit of work as JSON."""
    recipe = json.loads(spec).get("recipe", {}) if spec else {}
    return {"recipe": name, **{field: json.dumps(value) for field, value in recipe.items()}}


def _refuse_several(networks: DataFrame, of: str) -> dict[str, Any]:
    """The fields of the recipe that networks were trained by; a ValueError where they are of several."""
    found: dict[str, set[Any]] = {}
    for name, spec in networks[["recipe", "spec"]].drop_duplicates().itertuples(index=False):
        for field, value in recipe_fields(name, spec).items():
            found.setdefault(field, set()).add(value)
    precision = networks["compute"].map(lambda form: form.rpartition(", ")[2])
    for _, of_arch in precision[precision != ""].groupby(networks["arch"]):
        if of_arch.nunique() > 1:
            found["dtype of an architecture"] = set(of_arch)
    if differ := {field: values for field, values in found.items() if len(values) > 1}:
        told = ", ".join(f"{field} {' and '.join(sorted(map(str, values)))}" for field, values in differ.items())
        raise ValueError(f"{of} was trained in several ways: {told}; select the rows of one")
    return {field: next(iter(values)) for field, values in found.items()}


def has_results(rows: DataFrame) -> bool:
    """Whether the rows have architectures trained on the whole data, by which proxies can be judged."""
    return bool(((rows["track"] == "nas") & (rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")).any())


def nas_table(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """One line per data set, preset, space, league, proxy and its setting: what it picks, how well it ranks.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored.
        draws: bootstrap draws of every interval, from a generator seeded 0 for each number.
    Returns:
        The setting; architectures, that proxy and truth share and every number rests on, 5 % and 20 % of them rounded
        up in n_5_percent and n_20_percent;

        the paper's columns: performance (true accuracy of the architecture that the proxy's validation accuracy puts
        first, the mean over its networks with their Student's t interval in _low and _high; of several it puts first
        alike their mean, without an interval) and its name in selected; the rho of test accuracies within the proxy's
        own top 5 %; minutes to train the proxy's networks of these architectures and the device they passed on,
        condensing_minutes and theirs, missing where they passed on several; images; the published values where preset,
        data set and number of architectures are the paper's;

        the honest ones: `STATISTICS` with their 95 % intervals in _low and _high (`ranking.interval`); weighted_tau;
        noise_ceiling (`ranking.noise_ceiling`: one half of the truth's trainings against the other), the same within
        the best 20 %, and in halves how many trainings of each architecture that is: "1 against 1";

        and counts: repeats and true_repeats (most networks of an architecture), not_shared (architectures that only
        proxy or truth has), diverged and true_diverged (networks), at_chance (architectures whose true accuracy is
        not above `ranking.chance_bound`; missing where the size of the test set is not known), tied and true_tied
        (architectures whose score another has too); note.

        The truth has a line of its own, without the statistics that compare it with itself; its regret_at_1 is what
        selecting by validation accuracy loses. Lines of a league stand together, proxy sets before what needs none,
        inside it the highest rho first.
    Raises:
        ValueError: as `compared`.
    """
    lines = [_line(each, draws) for each in compared(rows)]
    table = DataFrame(lines)
    table["ipc"] = table["ipc"].astype("Int64")
    costs = [_costs(rows, line) for line in lines]
    table["images"], table["condensing_minutes"], table["condensing_device"] = zip(*costs, strict=True)
    table = table.join(searches_for(table))
    table["note"] = [note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
    table["place"] = [LAST.index(league) + 1 if league in LAST else 0 for league in table["league"]]
    order = [*TOGETHER, "place", "league", "spearman_rho", "memory", "ipc", "changes"]
    ascending = [name != "spearman_rho" for name in order]
    table = table.sort_values(order, ascending=ascending, ignore_index=True)
    estimated = {name: [f"{name}{end}" for end in ("", "_low", "_high")] for name in STATISTICS}
    others = [column for name, columns in estimated.items() if name != PICKED for column in columns]
    return table[
        [*LINE, "architectures", "performance", "performance_low", "performance_high", *estimated[PICKED], "minutes",
         "minutes_device", "condensing_minutes", "condensing_device", "images", "published_performance",
         "published_rho", "published_minutes", "selected", *others, "weighted_tau", "noise_ceiling",
         "noise_ceiling_best_20_percent", "halves", "n_5_percent", "n_20_percent", "repeats", "true_repeats",
         "not_shared", "diverged", "true_diverged", "at_chance", "tied", "true_tied", "note"]
    ]  # fmt: skip


def nas_pairs(rows: DataFrame, draws: int = DRAWS) -> DataFrame:
    """What one proxy has over another, for every two of a data set, preset and space, and each of `COMPARED`.

    Returns:
        What both share; statistic; first and second, the better proxy first; advantage, how much higher its rho or
        lower its regret is, with the ends of its 95 % interval in _low and _high, and p (`ranking.paired`: two-sided,
        for this one comparison); architectures, of those that both and the truth have the number in the statistic. No
        line where no two proxies share any.
    Raises:
        ValueError: as `compared`.
    """
    by_block: dict[tuple[Any, ...], list[Compared]] = {}
    for each in compared(rows):
        if each.archs and not each.is_truth:
            by_block.setdefault(tuple(each.setting[name] for name in TOGETHER), []).append(each)
    lines: list[dict[str, Any]] = []
    for block, proxies in by_block.items():
        names, drawn = labels(proxies), _on_shared(proxies, draws)
        for statistic, (first, second) in product(COMPARED, combinations(range(len(proxies)), 2)):
            if (first, second) not in drawn:
                continue
            of_both = [found[statistic] for found in drawn[first, second]]
            fewer_is_better = statistic.startswith("regret")
            if (of_both[0].value < of_both[1].value) != fewer_is_better:
                first, second = second, first
                of_both.reverse()
            found = ranking.paired(*(reversed(of_both) if fewer_is_better else of_both))
            lines.append(
                dict(zip(TOGETHER, block, strict=True))
                | {"statistic": statistic, "first": names[first], "second": names[second]}
                | {"advantage": found.value, "advantage_low": found.low, "advantage_high": found.high, "p": found.p}
                | {"architectures": found.n}
            )
    columns = [*TOGETHER, "statistic", "first", "second", "advantage", "advantage_low", "advantage_high", "p"]
    return DataFrame(lines, columns=[*columns, "architectures"])


def nas_partial(rows: DataFrame, draws: int = DRAWS // 5) -> DataFrame:
    """How well each proxy ranks beyond what one axis of the space tells, for each axis and for all of them together.

    A rho that falls far below the plain one given, say, the norm comes from telling the norms apart.

    Returns:
        The setting; given, the axis ("nothing" first, "all axes" last); partial_rho (`ranking.partial_rho`) with its
        95 % interval in _low and _high; architectures.
    Raises:
        ValueError: as `compared` and `axes_of`.
    """
    lines = []
    for each in compared(rows):
        if each.is_truth:
            continue
        axes = axes_of(each.models)
        codes = np.stack([pd.factorize(axes[name])[0] for name in AXES], axis=1)
        given = {axis: _given(codes[:, columns]) for axis, columns in GIVEN.items()}
        for axis, drawn in ranking.bootstrap(given, each.proxy, each.truth, default_rng(0), draws).items():
            found = ranking.interval(drawn)
            lines.append(
                {name: each.setting[name] for name in LINE}
                | {"given": axis, "partial_rho": found.value, "partial_rho_low": found.low}
                | {"partial_rho_high": found.high, "architectures": len(each.archs)}
            )
    table = DataFrame(lines, columns=[*LINE, "given", "partial_rho", "partial_rho_low", "partial_rho_high",
                                      "architectures"])  # fmt: skip
    table["ipc"] = table["ipc"].astype("Int64")
    table["note"] = [note(*line) for line in table[["memory", "changes", "preset"]].itertuples(index=False)]
    return table


def axes_of(models: Iterable[str]) -> DataFrame:
    """The value of each axis of architectures named like convnet-d3-w32-instancenorm-relu-avgpooling, line by line.

    Raises:
        ValueError: another name; only the ConvNet space tells its axes.
    """
    found = []
    for model in models:
        if (match := MODEL.fullmatch(model)) is None:
            raise ValueError(f"{model or 'an architecture without a model'}: axes are told by names such as "
                             "convnet-d3-w32-instancenorm-relu-avgpooling")  # fmt: skip
        found.append(match.groupdict())
    axes = DataFrame(found, columns=list(AXES))
    return axes.astype({"width": "int64", "depth": "int64"})


def tell_axes(rows: DataFrame) -> bool:
    """Whether every architecture of the rows is named so that `axes_of` can tell its axes."""
    models = rows.loc[(rows["track"] == "nas") & (rows["arch"] != ""), "model"].unique()
    return all(MODEL.fullmatch(model) for model in models)


def labels(several: list[Compared]) -> list[str]:
    """A name for each proxy: its memory, with its budget and changes where the memory alone does not tell it apart."""
    memories = [str(each.setting["memory"]) for each in several]
    found = []
    for memory, each in zip(memories, several, strict=True):
        more = []
        if memories.count(memory) > 1:
            more += [] if pd.isna(each.setting["ipc"]) else [f"{each.setting['ipc']} per class"]
            more += [
                each.setting[name] for name in ("changes", "recipe", "memory_model") if _differs(several, each, name)
            ]
        found.append(", ".join([memory, *filter(None, more)]))
    return found


def _differs(several: list[Compared], one: Compared, name: str) -> bool:
    return any(
        each.setting["memory"] == one.setting["memory"] and each.setting[name] != one.setting[name] for each in several
    )


class _Network(NamedTuple):
    """A trained network, or a number that needs none, which stands on both sides; -inf: it diverged."""

    model: str
    unit: str
    validation: float
    test: float
    seconds: float
    device: str


_Trained = dict[str, dict[int, _Network]]  # arch -> repeat -> network


def _networks(rows: DataFrame, of: str) -> _Trained:
    """Every network of a proxy that is finished; accuracies are those after its last epoch."""
    last = rows.loc[rows["metric"] == "test_accuracy", "epoch"].unique()
    is_end = (rows["metric"] != "validation_accuracy") | rows["epoch"].isin(last)
    told: dict[tuple[str, int], dict[str, Any]] = {}
    for arch, repeat, key, changes, model, epoch, metric, unit, value, seconds, device in zip(
        *(rows.loc[is_end, name].tolist() for name in MEASURED), strict=True
    ):
        own = {"key": key, "changes": changes, "model": model, "unit": "%", "seconds": seconds, "device": device}
        network = told.setdefault((arch, int(repeat)), own)
        if network["key"] != key:
            raise ValueError(
                f"{of}: arch {arch}, repeat {repeat} has several values, of changes {network['changes']!r} and "
                f"{changes!r}; select one"
            )
        if metric == "score":
            network |= {"validation": value, "test": value, "unit": unit, "seconds": math.nan, "device": ""}
        elif metric == "diverged":
            network |= {"validation": -math.inf, "test": -math.inf} if value == 1 else {}
        elif not math.isnan(value):
            network.setdefault(f"{metric} {epoch}", value)
            if metric == "test_accuracy":
                network["epoch"] = epoch
    found: _Trained = {}
    for (arch, repeat), network in told.items():
        if "epoch" in network:
            for name in ("validation", "test"):
                network.setdefault(name, network.get(f"{name}_accuracy {network['epoch']}", math.nan))
        if not math.isnan(network.get("validation", math.nan)):
            found.setdefault(arch, {})[repeat] = _Network(*(network[name] for name in _Network._fields))
    return found


def _beside(setting: Mapping[str, Any], proxy: _Trained, truth: _Trained, classes: int) -> Compared:
    archs = sorted(proxy.keys() & truth.keys(), key=_as_id)
    own = [list(proxy[arch].values()) for arch in archs]
    return Compared(
        setting=setting,
        archs=tuple(archs),
        models=tuple(next(iter(truth[arch].values())).model for arch in archs),
        proxy=_matrices(proxy, archs),
        truth=_matrices(truth, archs),
        seconds_of=tuple(math.fsum(network.seconds for network in networks) for networks in own),
        devices=frozenset(network.device for networks in own for network in networks) - {""},
        scores=next(network.unit for repeats in proxy.values() for network in repeats.values()),
        classes=classes,
        not_shared=len(proxy.keys() ^ truth.keys()),
    )


def _as_id(arch: str) -> tuple[bool, int, str]:
    """Ids in the space's order: by number, other names after them."""
    return (False, int(arch), "") if arch.isdecimal() else (True, 0, arch)


def _matrices(trained: _Trained, archs: list[str]) -> Networks:
    """Validation and test accuracy by architecture and repeat."""
    repeats = sorted({repeat for arch in archs for repeat in trained[arch]})
    both = np.full((2, len(archs), len(repeats)), math.nan)
    for row, arch in enumerate(archs):
        for repeat, network in trained[arch].items():
            both[:, row, repeats.index(repeat)] = network.validation, network.test
    return Networks(both[0], both[1])


def _line(each: Compared, draws: int) -> dict[str, Any]:
    archs = len(each.archs)
    line = {name: each.setting[name] for name in LINE} | {
        "architectures": archs,
        "minutes": each.seconds / 60,
        "minutes_device": " and ".join(sorted(each.devices)),
        "weighted_tau": _weighted_tau(each),
        **_ceilings(each),
        "n_5_percent": ranking.share(archs, 0.05) if archs else 0,
        "n_20_percent": ranking.share(archs, 0.2) if archs else 0,
        "repeats": _repeats(each.proxy),
        "true_repeats": _repeats(each.truth),
        "not_shared": each.not_shared,
        "diverged": _diverged(each.proxy),
        "true_diverged": _diverged(each.truth),
        **_counts(each),
        **_performance(each),
    }
    for name, found in _estimates(each, draws).items():
        line |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return line


def _ceilings(each: Compared) -> dict[str, Any]:
    repeats = _repeats(each.truth)
    told = " against ".join(map(str, ranking.halves(repeats))) if repeats > 1 else ""
    all_of, best = (
        ranking.noise_ceiling(each.truth.test, default_rng(0), fraction) if each.archs else math.nan
        for fraction in (1.0, 0.2)
    )
    return {"noise_ceiling": all_of, "noise_ceiling_best_20_percent": best, "halves": told}


def _estimates(each: Compared, draws: int) -> dict[str, Estimate]:
    """Every one of `STATISTICS`; of the truth beside itself, whose accuracies are those of the same networks, few."""
    if each.archs and not each.is_truth:
        found = ranking.bootstrap(STATISTICS, each.proxy, each.truth, default_rng(0), draws)
        return {name: ranking.interval(drawn) for name, drawn in found.items()}
    missing = dict.fromkeys(STATISTICS, Estimate(math.nan, math.nan, math.nan, 0))
    if not each.archs:
        return missing
    of_truth = float(STATISTICS["regret_at_1"].of(ranking.whole(each.proxy, each.truth)))
    return missing | {"regret_at_1": Estimate(of_truth, math.nan, math.nan, len(each.archs))}


def _weighted_tau(each: Compared) -> float:
    if not each.archs or each.is_truth:
        return math.nan
    return float(ranking.weighted_tau(each.proxy.scores().validation, each.truth.scores().test))


def _repeats(networks: Networks) -> int:
    return int((~np.isnan(networks.test)).sum(1).max()) if len(networks) else 0


def _diverged(networks: Networks) -> int:
    return int(np.isneginf(networks.test).sum())


def _counts(each: Compared) -> dict[str, float]:
    if not each.archs:
        return {"at_chance": math.nan, "tied": math.nan, "true_tied": math.nan}
    true = each.truth.scores().test
    images = TEST_IMAGES.get(each.setting["dataset"])
    at_chance = math.nan
    if images is not None and each.classes > 1:
        at_chance = ranking.at_chance(true, ranking.chance_bound(each.classes, images))
    return {
        "at_chance": at_chance,
        "tied": ranking.tied(each.proxy.scores().validation),
        "true_tied": ranking.tied(true),
    }


def _performance(each: Compared) -> dict[str, Any]:
    if not each.archs:
        return {"performance": math.nan, "performance_low": math.nan, "performance_high": math.nan, "selected": ""}
    places = np.flatnonzero(ranking.picked(each.proxy.scores().validation, 1))
    mean = float(each.truth.scores().test[places].mean())
    first = places[0]
    accuracies = each.truth.test[first]
    is_one = len(places) == 1 and not math.isinf(mean)
    low, high = t_interval(accuracies[~np.isnan(accuracies)].tolist()) if is_one else (math.nan, math.nan)
    return {
        "performance": math.nan if math.isinf(mean) else mean,
        "performance_low": low,
        "performance_high": high,
        "selected": (each.models[first] or each.archs[first]) if len(places) == 1 else f"{len(places)} tied",
    }


def _costs(rows: DataFrame, line: Mapping[str, Any]) -> tuple[float, float, str]:
    """Images of a line's memory, the minutes of condensing it and the device; sums over its parts.

    Missing where no row tells them, minutes also where they passed on several devices.
    """
    own = rows[(rows["track"] == "nas") & (rows["metric"] == "memory_images")]
    for name in (*TOGETHER[:4], "memory", "changes", "memory_model"):
        own = own[own[name] == line[name]]
    own = own[own["ipc"].isna() if pd.isna(line["ipc"]) else (own["ipc"] == line["ipc"]).fillna(False)]
    own = own.drop_duplicates("key")
    if own.empty:
        return math.nan, math.nan, ""
    devices = sorted(set(own["device"]) - {""})
    minutes = float(own["wall_seconds"].sum(skipna=False)) / 60 if len(devices) < 2 else math.nan
    return float(own["value"].sum(skipna=False)), minutes, " and ".join(devices)


def _on_shared(proxies: list[Compared], draws: int) -> dict[tuple[int, int], tuple[dict[str, Drawn], dict[str, Drawn]]]:
    """For each two proxies that share architectures, `COMPARED` on those they share.

    The draws of these and of the truth's networks are the same, those of each proxy's own networks its own.
    """
    statistics = {name: STATISTICS[name] for name in COMPARED}

    @cache
    def drawn(proxy: int, archs: tuple[str, ...]) -> dict[str, Drawn]:
        each = proxies[proxy].of(archs)
        return ranking.bootstrap(statistics, each.proxy, each.truth, default_rng(0), draws, default_rng([1, proxy]))

    found = {}
    for first, second in combinations(range(len(proxies)), 2):
        archs = tuple(arch for arch in proxies[first].archs if arch in set(proxies[second].archs))
        if archs:
            found[first, second] = drawn(first, archs), drawn(second, archs)
    return found


def _kept(networks: Networks, places: list[int]) -> Networks:
    return Networks(networks.validation[places], networks.test[places])


def _given(codes: "np.ndarray[Any, np.dtype[np.integer[Any]]]") -> Statistic:
    """Partial rho given the categories (A, J) of all architectures."""

    def of(sample: ranking.Sample) -> ranking.Array:
        if not codes.shape[1]:
            return ranking.spearman_rho(sample.proxy.validation, sample.truth.test)
        return ranking.partial_rho(sample.proxy.validation, sample.truth.test, codes[sample.archs])

    return Statistic(of, redraws=False)
