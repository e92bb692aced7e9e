"""Track nas: rows to proxies beside their truth, on the architectures that both have, and how all of them were trained.

The truth is the memory "full": an architecture's true score is the mean test accuracy of its networks trained on all
the data. A proxy's score is the mean validation accuracy of its own at the end of their training, or a number that
needs no training. `statistics.ranking` says how networks that diverged count and what ties come to.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame

from harness.results.statistics.ranking import AccuracyMatrix

TRUTH = "full"
TOGETHER = ("dataset", "exactness", "dataset_digest", "preset", "space")  # only what agrees here is compared
PROXY = ("league", "ipc", "memory", "changes", "recipe", "memory_model")
LINE = ("dataset", "exactness", "dataset_digest", "split", "preset", "league", "space", *PROXY[1:])
MEASURED = ("arch", "repeat", "key", "changes", "model", "epoch", "metric", "unit", "value", "wall_seconds", "device")
TRAINED = ("recipe", "spec", "compute")  # how a network was trained
OF_THE_MACHINE = ("compute", "dtype")  # fields of a recipe that a run settles by where it is carried out
AXES = ("width", "depth", "norm", "activation", "pooling")
MODEL = re.compile(
    r"convnet-d(?P<depth>\d+)-w(?P<width>\d+)-(?P<norm>[a-z]+)-(?P<activation>[a-z]+)-(?P<pooling>[a-z]+)"
)


@dataclass(frozen=True)
class Compared:
    """A proxy beside the truth, on the architectures that both have, ids ascending.

    The truth is also compared with itself: then `proxy` and `truth` are the same.
    """

    setting: Mapping[str, Any]  # the columns LINE
    archs: tuple[str, ...]  # ids
    models: tuple[str, ...]  # names of their networks
    proxy: AccuracyMatrix
    truth: AccuracyMatrix
    seconds_of: tuple[float, ...]  # to train the networks of each architecture for `proxy`; nan where a row has none
    devices: frozenset[str]  # on which these seconds passed
    scores: str  # what the proxy's score is: %, parameters, MACs ...
    classes: int
    not_shared: int  # architectures that only one of the two has

    @property
    def seconds(self) -> float:
        """Time to train all networks of `proxy`; nan where a row has none, or several devices were used."""
        return math.fsum(self.seconds_of) if self.seconds_of and len(self.devices) < 2 else math.nan

    def of(self, archs: Iterable[str]) -> "Compared":
        """The same comparison on some of its architectures."""
        places = [self.archs.index(arch) for arch in archs]
        return replace(
            self,
            archs=tuple(self.archs[place] for place in places),
            models=tuple(self.models[place] for place in places),
            proxy=_select(self.proxy, places),
            truth=_select(self.truth, places),
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


def refuse_another_recipe(proxy: str, own: Mapping[str, object], of_truth: Mapping[str, object]) -> None:
    """A ValueError where the fields of a proxy's recipe are not the truth's, those that may differ aside."""
    shared = (of_truth.keys() & own.keys()) - {"epochs", *OF_THE_MACHINE}
    if differ := sorted(field for field in shared if of_truth[field] != own[field]):
        told = ", ".join(f"{field} {own[field]} and {of_truth[field]}" for field in differ)
        raise ValueError(
            f"{proxy} and the truth were trained by different recipes: {told}; compare networks of one recipe"
        )


def recipe_of_truth(rows: DataFrame) -> dict[str, object]:
    """The fields of the recipe that the truth in some rows was trained by.

    Raises:
        ValueError: there are several.
    """
    return _refuse_several(rows[(rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")], "the truth")


def recipe_fields(name: str, spec: str) -> dict[str, object]:
    """The fields of a recipe as rows tell them, by its name and the unit of work as JSON."""
    recipe = json.loads(spec).get("recipe", {}) if spec else {}
    return {"recipe": name, **{field: json.dumps(value) for field, value in recipe.items()}}


def has_results(rows: DataFrame) -> bool:
    """Whether the rows have architectures trained on the whole data, by which proxies can be judged."""
    return bool(((rows["track"] == "nas") & (rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")).any())


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


def _refuse_several(networks: DataFrame, of: str) -> dict[str, object]:
    """The fields of the recipe that networks were trained by; a ValueError where they are of several."""
    found: dict[str, set[object]] = {}
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


def _matrices(trained: _Trained, archs: list[str]) -> AccuracyMatrix:
    """Validation and test accuracy by architecture and repeat."""
    repeats = sorted({repeat for arch in archs for repeat in trained[arch]})
    both = np.full((2, len(archs), len(repeats)), math.nan)
    for row, arch in enumerate(archs):
        for repeat, network in trained[arch].items():
            both[:, row, repeats.index(repeat)] = network.validation, network.test
    return AccuracyMatrix(both[0], both[1])


def _select(networks: AccuracyMatrix, places: list[int]) -> AccuracyMatrix:
    """The networks of some architectures.

    A repeat that none of these has is left out: each column of the matrix takes a draw of the bootstrap.
    """
    validation, test = networks.validation[places], networks.test[places]
    there = ~np.isnan(validation).all(0)
    return AccuracyMatrix(validation[:, there], test[:, there])
