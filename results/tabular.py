"""The tabular benchmark: every trained network of a search space in one Parquet file, to be looked up, not trained.

A file holds the rows of one space, data set and preset (`results.rows` has the columns): architecture x proxy x repeat
x epoch. Its card, JSON in the schema's metadata, says what it holds and how it came about. The same rows give the same
bytes, by the same version of pyarrow.

    table = load("convnet720-cifar10")
    table.query(437).test_accuracy                    # trained on all the data
    table.query(437, proxy="dm", epoch=10).validation_accuracy
    nas_table(concat([my_proxy_rows, table.rows()]))  # scores another proxy without training the truth
"""

import io
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas import DataFrame
from pyarrow import parquet

from harness.results.rows import COLUMNS, FLOATS, INTEGERS
from harness.results.tabular_card import ONE_OF, SCHEMA, Card, label_of, make_card

CARD = b"harness.tabular"
NAMED = resources.files("harness.results") / "reference" / "tabular"  # the files that come with the package
# A measurement stands in a file once: that of a network, of a number that needs none, of a proxy set's part.
MEASUREMENT = ["memory", "ipc", "arch", "repeat", "metric", "epoch", "key"]


@dataclass(frozen=True)
class Entry:
    """One architecture under one proxy: means over its repeats, nan where a repeat diverged."""

    arch: str  # id in the space
    model: str
    proxy: str
    epoch: int | None  # epochs trained; None for a number that needs no training
    validation_accuracy: float  # %, after `epoch`
    test_accuracy: float  # %; missing but at the end, where alone it is measured
    curve: tuple[tuple[int, float], ...]  # (epochs, validation accuracy in %), up to `epoch`
    seconds: float  # of the whole training of one network
    repeats: int  # networks averaged
    diverged: int  # of them
    score: float = math.nan  # of a proxy that needs no training, in its own unit


@dataclass(frozen=True)
class _Network:
    curve: Mapping[int, float]  # epochs -> validation accuracy in %, ascending
    test_accuracy: float
    seconds: float
    diverged: bool
    score: float


@dataclass(frozen=True)
class _Measurements:
    """What the rows of one network hold."""

    seconds: float
    curve: dict[int, float] = field(default_factory=dict)  # epochs -> validation accuracy in %
    at_the_end: dict[str, float] = field(default_factory=dict)  # metric -> value

    def finish(self) -> _Network:
        """The network with its curve in the order of the epochs."""
        return _Network(
            curve=dict(sorted(self.curve.items())),
            test_accuracy=self.at_the_end.get("test_accuracy", math.nan),
            seconds=self.seconds,
            diverged=self.at_the_end.get("diverged") == 1,
            score=self.at_the_end.get("score", math.nan),
        )


@dataclass(frozen=True)
class Tabular:
    """One file, looked up in memory."""

    card: Card
    _frame: DataFrame = field(repr=False, compare=False)
    _networks: Mapping[str, Mapping[str, Mapping[int, _Network]]] = field(
        repr=False, compare=False
    )  # proxy -> id -> repeat -> it
    _models: Mapping[str, str] = field(repr=False, compare=False)  # id -> name of the network
    _ids: Mapping[str, str] = field(repr=False, compare=False)  # and back

    @classmethod
    def of(cls, card: Card, rows: DataFrame) -> Self:
        """Build the table of some rows."""
        of_archs = rows[rows["arch"] != ""]
        models = dict(zip(of_archs["arch"], of_archs["model"], strict=True))
        return cls(card, rows, _index_networks(of_archs), models, {model: arch for arch, model in models.items()})

    def query(self, arch: int | str, proxy: str = "full", repeat: int | None = None, epoch: int | None = None) -> Entry:
        """One architecture as a proxy sees it; by default as all the data do, at the end of training.

        Args:
            arch: its id, or the full name of its network.
            proxy: a name such as full, early-stopping or dm; dm-50ipc where the file has dm at several budgets.
            repeat: one of the networks; by default the mean over all.
            epoch: after which; by default the last.
        Raises:
            ValueError: the file has not got that; the message says what it has.
        """
        label = self._label(proxy)
        of_proxy = self._networks[label]
        id = str(arch) if str(arch) in self._models else self._ids.get(str(arch), str(arch))
        if (networks := of_proxy.get(id)) is None:
            raise ValueError(
                f"arch: {arch!r} is not in this table under {label}; it holds {len(of_proxy)} of them, "
                f"{_list_some(of_proxy)}"
            )
        if repeat is not None and repeat not in networks:
            raise ValueError(f"repeat: arch {id} under {label} has {_list_some(networks)}, not {repeat}")
        chosen = list(networks.values()) if repeat is None else [networks[repeat]]
        return _entry(id, self._models[id], label, chosen, epoch)

    def archs(self, proxy: str = "full") -> tuple[str, ...]:
        """The ids of the architectures that a proxy has, in the space's order."""
        return tuple(self._networks[self._label(proxy)])

    @property
    def proxies(self) -> tuple[str, ...]:
        """The names `query` takes."""
        return tuple(self._networks)

    def rows(self) -> DataFrame:
        """The rows, as `results.rows.read` gives them."""
        return self._frame.copy()

    def _label(self, proxy: str) -> str:
        if proxy in self._networks:
            return proxy
        several = [label for label in self._networks if label.startswith(f"{proxy}-") and label.endswith("ipc")]
        if len(several) == 1:
            return several[0]
        raise ValueError(f"proxy: {proxy!r} is not in this table; it has {', '.join(several or self._networks)}")


def load(name: str | Path) -> Tabular:
    """The table of that name, one of `names()`, or in that file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such name, or a file that is none of ours or damaged.
    """
    if not isinstance(name, Path) and not name.endswith(".parquet"):
        if name not in names():
            known = ", ".join(names()) or "none yet"
            raise ValueError(f"tabular: {name!r} is unknown; there are {known}; or pass a path that ends in .parquet")
        return _parse((NAMED / f"{name}.parquet").read_bytes(), name)
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; pass a .parquet file, or one of {', '.join(names()) or 'none'}")
    return _parse(path.read_bytes(), str(path))


def names() -> list[str]:
    """The tables that come with the package."""
    if not NAMED.is_dir():
        return []
    return sorted(file.name.removesuffix(".parquet") for file in NAMED.iterdir() if file.name.endswith(".parquet"))


def to_parquet(*parts: DataFrame) -> bytes:
    """The content of a file with the finished networks of track nas in some rows; other rows are left out.

    Each measurement stands in the file once; where two values differ, the earlier one stands, with a warning. The same
    rows in another order give the same bytes.

    Args:
        parts: rows as `results.rows.read` gives them, all of one space, data set and preset.
    Raises:
        ValueError: no row is a result, the rows mix spaces, data sets or presets, or hold two networks for one
            architecture, proxy and repeat.
    """
    rows = _merge(parts)
    arrays = {name: pa.array(_plain(rows, name), type=_type(name)) for name in COLUMNS}
    card = json.dumps(make_card(rows), sort_keys=True)
    table = pa.table(arrays).replace_schema_metadata({CARD: card.encode()})
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _merge(parts: Sequence[DataFrame]) -> DataFrame:
    """The finished rows of all parts, each measurement once, in an order that does not depend on theirs."""
    rows = pd.concat([part[part["track"] == "nas"] for part in parts], ignore_index=True)
    is_end = rows["metric"].isin(("test_accuracy", "diverged", "score"))
    rows = rows[(rows["arch"] == "") | rows["key"].isin(rows.loc[is_end, "key"])]
    if not is_end.any():
        raise ValueError(
            f"none of the {sum(map(len, parts))} rows is a result of track nas: no architecture is finished"
        )
    for name in ONE_OF:
        if len(found := sorted(rows[name].unique())) > 1:
            raise ValueError(f"a table is of one {name}; the rows mix {' and '.join(found)}: select one")
    rows = rows.assign(changes_length=rows["changes"].str.len())
    # Runs that change different fields may share a network: it stands with the fewest changes.
    rows = rows.sort_values(["changes_length", "changes"], kind="stable")
    again = rows.duplicated(MEASUREMENT)
    if (differing := again & ~rows.duplicated([*MEASUREMENT, "value"])).any():
        warnings.warn(
            f"{differing.sum()} rows repeat a measurement with another value (the first: key "
            f"{rows.loc[differing, 'key'].iloc[0]}); the earlier one is kept",
            stacklevel=3,
        )
    rows = rows[~again]
    _refuse_twins(rows[rows["arch"] != ""])
    is_number = rows["arch"].str.fullmatch(r"\d+")
    number = pd.to_numeric(rows["arch"].where(is_number), errors="coerce").astype("Int64")
    order = ["memory", "ipc", "number", "arch", "repeat", "epoch", "metric", "key"]
    rows = rows.assign(number=number).sort_values(order, na_position="first", kind="stable")
    return rows[list(COLUMNS)].reset_index(drop=True)


def _refuse_twins(of_archs: DataFrame) -> None:
    network = ["memory", "ipc", "arch", "repeat"]
    each = of_archs.drop_duplicates([*network, "key"])
    twins = each[each.duplicated(network, keep=False)]
    if twins.empty:
        return
    memory, ipc, arch, repeat = twins[network].iloc[0]
    of_one = twins[(twins["memory"] == memory) & (twins["arch"] == arch) & (twins["repeat"] == repeat)]
    raise ValueError(
        f"{label_of(memory, ipc)}: arch {arch}, repeat {repeat} stands for two networks, of changes "
        f"{' and '.join(map(repr, of_one['changes']))}; select one"
    )


def _plain(rows: DataFrame, name: str) -> Sequence[str | int | None] | NDArray[np.float64]:
    if name in INTEGERS:
        return [None if pd.isna(value) else int(value) for value in rows[name]]
    return rows[name].to_numpy(dtype="float64") if name in FLOATS else rows[name].tolist()


def _type(name: str) -> pa.DataType:
    return pa.int64() if name in INTEGERS else pa.float64() if name in FLOATS else pa.string()


def _parse(content: bytes, name: str) -> Tabular:
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name}: not a whole Parquet file ({' '.join(str(error).split())})") from error
    card = (table.schema.metadata or {}).get(CARD)
    if card is None:
        raise ValueError(f"{name}: a Parquet file, but none of this benchmark's: it has no card")
    try:
        said = json.loads(card)
        schema = said["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: its card cannot be read ({error})") from error
    if schema != SCHEMA or table.schema.names != list(COLUMNS):
        raise ValueError(f"{name}: of schema {schema}, {len(table.schema.names)} columns; this version reads schema "
                         f"{SCHEMA}, {len(COLUMNS)} columns")  # fmt: skip
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    text = {column: str for column in COLUMNS if column not in INTEGERS | FLOATS}
    return Tabular.of(said, frame.astype(text))


def _index_networks(of_archs: DataFrame) -> dict[str, dict[str, dict[int, _Network]]]:
    found: dict[str, dict[str, dict[int, _Measurements]]] = {}
    columns = ["memory", "ipc", "arch", "repeat", "metric", "epoch", "value", "wall_seconds"]
    for memory, ipc, arch, repeat, metric, epoch, value, seconds in of_archs[columns].itertuples(index=False):
        of_arch = found.setdefault(label_of(memory, ipc), {}).setdefault(arch, {})
        network = of_arch.setdefault(int(repeat), _Measurements(seconds))
        if metric == "validation_accuracy":
            network.curve[int(epoch)] = value
        else:
            network.at_the_end[metric] = value
    return {
        label: {arch: {n: each.finish() for n, each in repeats.items()} for arch, repeats in archs.items()}
        for label, archs in found.items()
    }


def _entry(arch: str, model: str, proxy: str, networks: list[_Network], epoch: int | None) -> Entry:
    whole = [each for each in networks if not each.diverged] or networks
    epochs = [each for each in whole[0].curve if all(each in other.curve for other in whole)]
    if epoch is not None and epoch not in epochs:
        raise ValueError(f"epoch: arch {arch} under {proxy} has {_list_some(epochs) or 'none'}, not {epoch}")
    last = epochs[-1] if epochs else None
    at = last if epoch is None else epoch
    curve = tuple(
        (each, _mean(network.curve.get(each, math.nan) for network in networks))
        for each in epochs
        if at is not None and each <= at
    )
    return Entry(
        arch=arch,
        model=model,
        proxy=proxy,
        epoch=at,
        validation_accuracy=curve[-1][1] if curve else math.nan,
        test_accuracy=_mean(each.test_accuracy for each in networks) if at == last else math.nan,
        curve=curve,
        seconds=_mean(each.seconds for each in networks),
        repeats=len(networks),
        diverged=sum(each.diverged for each in networks),
        score=_mean(each.score for each in networks),
    )


def _mean(values: Iterable[float]) -> float:
    of = list(values)
    mean = math.fsum(of) / len(of)
    return math.nan if math.isnan(mean) else mean  # always this one, by which entries stay equal to themselves


def _list_some(things: Iterable[object]) -> str:
    several = [str(thing) for thing in things]
    return ", ".join(several if len(several) <= 12 else [*several[:10], "...", several[-1]])
