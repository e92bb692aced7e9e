"""Comparisons of the proxies of a search with the truth, made from the rows of track nas.

The truth is the memory "full": the true score of an architecture is the mean test accuracy of its networks trained on
all the data. The score of a proxy is the mean validation accuracy of its networks at the end of their training, or a
number that needs no training. `statistics.ranking` explains how diverged networks and ties count.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from pandas import DataFrame

from harness.results.statistics.ranking import AccuracyMatrix
from harness.results.statistics.trainings import PROXY, TRAINED, TRUTH, refuse_several_trainings

TOGETHER = ("dataset", "exactness", "dataset_digest", "preset", "space")  # only what agrees here is compared
LINE = ("dataset", "exactness", "dataset_digest", "split", "preset", "league", "space", *PROXY[1:])
MEASURED = ("arch", "repeat", "key", "changes", "model", "epoch", "metric", "unit", "value", "wall_seconds", "device")
AXES = ("width", "depth", "norm", "activation", "pooling")
MODEL = re.compile(
    r"convnet-d(?P<depth>\d+)-w(?P<width>\d+)-(?P<norm>[a-z]+)-(?P<activation>[a-z]+)-(?P<pooling>[a-z]+)"
)


@dataclass(frozen=True)
class Comparison:
    """The scores of a proxy and of the truth on the architectures that both have, in the order of their ids.

    The truth is also compared with itself. Its `proxy` and `truth` are the same.
    """

    setting: Mapping[str, str]  # the columns LINE without ipc
    ipc: int | None  # the budget, images per class; None if the proxy has none
    archs: tuple[str, ...]  # ids
    models: tuple[str, ...]  # names of their networks
    proxy: AccuracyMatrix
    truth: AccuracyMatrix
    seconds_of: tuple[float, ...]  # of training the networks of each architecture for `proxy`; nan if a row has none
    devices: frozenset[str]  # the devices of these seconds
    scores: str  # the unit of the proxy's score: %, parameters, MACs ...
    classes: int
    not_shared: int  # number of architectures that only one of the two has

    @property
    def seconds(self) -> float:
        """Time to train all networks of `proxy`; nan if a row has none, or if several devices were used."""
        return math.fsum(self.seconds_of) if self.seconds_of and len(self.devices) < 2 else math.nan

    def select(self, archs: Iterable[str]) -> "Comparison":
        """The same comparison on some of its architectures."""
        places = [self.archs.index(arch) for arch in archs]
        return replace(
            self,
            archs=tuple(self.archs[place] for place in places),
            models=tuple(self.models[place] for place in places),
            proxy=_select_architectures(self.proxy, places),
            truth=_select_architectures(self.truth, places),
            seconds_of=tuple(self.seconds_of[place] for place in places),
        )

    @property
    def is_truth(self) -> bool:
        """Whether this compares the truth with itself."""
        return self.setting["memory"] == TRUTH

    @property
    def columns(self) -> dict[str, object]:
        """The setting as the columns LINE of a table."""
        return {name: self.ipc if name == "ipc" else self.setting[name] for name in LINE}

    @property
    def is_trained(self) -> bool:
        """Whether the score comes from training."""
        return self.scores == "%"


def compare(rows: DataFrame) -> list[Comparison]:
    """Compare every proxy of the rows with its truth; the truth itself is the first of its group.

    A proxy and a truth belong together if data set, digest, preset and space agree. A network of the truth counts once,
    by its key, even if several runs with different changes contain it.

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
        truth = _collect_networks(part[is_truth], "the truth")
        if not truth:
            raise ValueError(
                f"no truth for {', '.join(part['memory'].unique())} on {together['dataset']}, preset "
                f"{together['preset']}: no row is a test_accuracy of memory full; run `harness run nas --proxy full "
                f"--dataset {together['dataset']} --preset {together['preset']}` and pass its run as well"
            )
        classes = int(part["classes_seen"].max()) if part["classes_seen"].notna().any() else 0
        usual = part[is_truth].sort_values("changes", key=lambda changes: changes.str.len(), kind="stable")
        lines = [(tuple(usual[list(PROXY)].iloc[0]), truth)]
        for own, rows_of_proxy in part[~is_truth].groupby(list(PROXY), dropna=False, sort=True):
            lines.append((tuple(own), _collect_networks(rows_of_proxy, str(own[2]))))
        for values, proxy in lines:
            if proxy:
                columns: dict[str, object] = together | {"split": "test"} | dict(zip(PROXY, values, strict=True))
                ipc = columns.pop("ipc")
                setting = {name: str(value) for name, value in columns.items()}
                budget = int(ipc) if isinstance(ipc, int | np.integer) else None
                found.append(_compare_networks(setting, budget, proxy, truth, classes))
    return found


def has_results(rows: DataFrame) -> bool:
    """Whether the rows have architectures trained on the whole data, by which proxies can be judged."""
    return bool(((rows["track"] == "nas") & (rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")).any())


def parse_axes(models: Iterable[str]) -> DataFrame:
    """Read the value of each axis from names like convnet-d3-w32-instancenorm-relu-avgpooling, one line per name.

    Raises:
        ValueError: another name; only names of the ConvNet space contain axes.
    """
    found = []
    for model in models:
        if (match := MODEL.fullmatch(model)) is None:
            raise ValueError(f"{model or 'an architecture without a model'}: axes are told by names such as "
                             "convnet-d3-w32-instancenorm-relu-avgpooling")  # fmt: skip
        found.append(match.groupdict())
    axes = DataFrame(found, columns=list(AXES))
    return axes.astype({"width": "int64", "depth": "int64"})


def has_axes(rows: DataFrame) -> bool:
    """Whether `parse_axes` can read the name of every architecture of the rows."""
    models = rows.loc[(rows["track"] == "nas") & (rows["arch"] != ""), "model"].unique()
    return all(MODEL.fullmatch(model) for model in models)


def label_proxies(several: Sequence[Comparison]) -> list[str]:
    """A name for each proxy: its memory, followed by its budget and changes if several proxies use that memory."""
    memories = [str(each.setting["memory"]) for each in several]
    found = []
    for memory, each in zip(memories, several, strict=True):
        more = []
        if memories.count(memory) > 1:
            more += [] if each.ipc is None else [f"{each.ipc} per class"]
            more += [
                each.setting[name] for name in ("changes", "recipe", "memory_model") if _differs(several, each, name)
            ]
        found.append(", ".join([memory, *filter(None, more)]))
    return found


def _differs(several: Sequence[Comparison], one: Comparison, name: str) -> bool:
    return any(
        each.setting["memory"] == one.setting["memory"] and each.setting[name] != one.setting[name] for each in several
    )


class _Network(NamedTuple):
    """A trained network, or a score without training, which counts as both accuracies; -inf if it diverged."""

    model: str
    unit: str
    validation: float
    test: float
    seconds: float
    device: str


@dataclass
class _Measurements:
    """What the rows of one network hold, before its last epoch is known."""

    key: str
    changes: str
    model: str
    seconds: float
    device: str
    unit: str = "%"
    validation: float | None = None  # a score, or -inf if the network diverged
    test: float | None = None
    accuracies: dict[tuple[str, int], float] = field(default_factory=dict)  # (metric, epoch) -> %
    last_epoch: int | None = None

    def finish(self) -> _Network | None:
        """The network with the accuracies after its last epoch; None if there is no validation accuracy."""
        validation, test = self.validation, self.test
        if self.last_epoch is not None and validation is None:
            validation = self.accuracies.get(("validation_accuracy", self.last_epoch))
            test = self.accuracies.get(("test_accuracy", self.last_epoch))
        if validation is None or math.isnan(validation):
            return None
        return _Network(
            self.model, self.unit, validation, math.nan if test is None else test, self.seconds, self.device
        )


_Trained = dict[str, dict[int, _Network]]  # arch -> repeat -> network


def _collect_networks(rows: DataFrame, name: str) -> _Trained:
    """Collect the finished networks of a proxy, with their accuracies after the last epoch."""
    last = rows.loc[rows["metric"] == "test_accuracy", "epoch"].unique()
    is_end = (rows["metric"] != "validation_accuracy") | rows["epoch"].isin(last)
    of_networks: dict[tuple[str, int], _Measurements] = {}
    for arch, repeat, key, changes, model, epoch, metric, unit, value, seconds, device in zip(
        *(rows.loc[is_end, column].tolist() for column in MEASURED), strict=True
    ):
        network = of_networks.setdefault(
            (arch, int(repeat)), _Measurements(key, changes, model, seconds=seconds, device=device)
        )
        if network.key != key:
            raise ValueError(
                f"{name}: arch {arch}, repeat {repeat} has several values, of changes {network.changes!r} and "
                f"{changes!r}; select one"
            )
        if metric == "score":
            network.validation, network.test, network.unit = value, value, unit
            network.seconds, network.device = math.nan, ""
        elif metric == "diverged":
            if value == 1:
                network.validation = network.test = -math.inf
        elif not math.isnan(value):
            network.accuracies.setdefault((metric, int(epoch)), value)
            if metric == "test_accuracy":
                network.last_epoch = int(epoch)
    found: _Trained = {}
    for (arch, repeat), measurements in of_networks.items():
        if (finished := measurements.finish()) is not None:
            found.setdefault(arch, {})[repeat] = finished
    return found


def _compare_networks(
    setting: Mapping[str, str], ipc: int | None, proxy: _Trained, truth: _Trained, classes: int
) -> Comparison:
    archs = sorted(proxy.keys() & truth.keys(), key=_id_order)
    own = [list(proxy[arch].values()) for arch in archs]
    return Comparison(
        setting=setting,
        ipc=ipc,
        archs=tuple(archs),
        models=tuple(next(iter(truth[arch].values())).model for arch in archs),
        proxy=_accuracy_matrix(proxy, archs),
        truth=_accuracy_matrix(truth, archs),
        seconds_of=tuple(math.fsum(network.seconds for network in networks) for networks in own),
        devices=frozenset(network.device for networks in own for network in networks) - {""},
        scores=next(network.unit for repeats in proxy.values() for network in repeats.values()),
        classes=classes,
        not_shared=len(proxy.keys() ^ truth.keys()),
    )


def _id_order(arch: str) -> tuple[bool, int, str]:
    """A key that sorts ids by number, and other names after them."""
    return (False, int(arch), "") if arch.isdecimal() else (True, 0, arch)


def _accuracy_matrix(trained: _Trained, archs: list[str]) -> AccuracyMatrix:
    """Validation and test accuracy by architecture and repeat."""
    repeats = sorted({repeat for arch in archs for repeat in trained[arch]})
    both = np.full((2, len(archs), len(repeats)), math.nan)
    for row, arch in enumerate(archs):
        for repeat, network in trained[arch].items():
            both[:, row, repeats.index(repeat)] = network.validation, network.test
    return AccuracyMatrix(both[0], both[1])


def _select_architectures(networks: AccuracyMatrix, places: list[int]) -> AccuracyMatrix:
    """The networks of some architectures.

    A repeat that none of these has is left out: each column of the matrix takes a draw of the bootstrap.
    """
    validation, test = networks.validation[places], networks.test[places]
    there = ~np.isnan(validation).all(0)
    return AccuracyMatrix(validation[:, there], test[:, there])
