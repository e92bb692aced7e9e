"""The facts about runs that a report reads beside rows: configurations, missing networks, and unfinished units."""

import base64
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pandas import DataFrame

from harness.results import rows as rowfiles
from harness.results.tables.condensed import updates_in_all


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Facts:
    """The facts about a run beside its rows."""

    name: str
    configuration: Mapping[str, object]  # by dotted names
    environment: Mapping[str, object] = field(default_factory=dict)
    missing: Sequence[str] = ()  # networks without a result
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Store:
    """The unfinished work in a store of units, which may belong to other runs as well."""

    failed: Sequence[tuple[str, str]] = ()  # file of the trace, last line of it
    checkpoints: int = 0  # units under way, or cut off


def read(paths: Sequence[Path]) -> tuple[DataFrame, list[str]]:
    """Read the rows at `paths`, and say which damaged files were left out.

    A run's directory may have no rows yet.

    Raises:
        FileNotFoundError: a path does not exist, or holds neither rows nor a run.
        ValueError: no row is left.
    """
    started = [path for path in paths if (path / "config.json").is_file()]
    with_rows = [path for path in paths if path not in started or (path / "rows.csv").is_file()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = rowfiles.read(with_rows)
        except ValueError:
            if not started:
                raise
            found = rowfiles.to_frame([])
    return found, [str(warning.message) for warning in caught]


def read_facts(
    run: Path,
    pictures: Sequence[Picture] = (),
    searched: Sequence[tuple[str, str]] = (),
) -> Facts | None:
    """Read the facts about the run in a directory; None if it holds no run.

    Args:
        run: the directory; pictures: pictures of its memories.
        searched: what a search trains, as for `find_missing`.
    Raises:
        ValueError: its configuration is damaged.
    """
    if not (run / "config.json").is_file():
        return None
    configuration = read_json(run / "config.json")
    environment = read_json(run / "environment.json") if (run / "environment.json").is_file() else {}
    own, _ = read([run])
    return Facts(run.name, _flatten(configuration), environment, find_missing(configuration, own, searched), pictures)


def find_missing(
    configuration: Mapping[str, Any], rows: DataFrame, searched: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Find the networks that a run's configuration asks for and its rows do not have, in words.

    They are orders x nets of track cl, sets x networks x nets of condense, and what a search is said to train.

    Args:
        searched: (proxy, id of the architecture) of what is trained nets times each.
    """
    nets = range(configuration.get("nets", 0))
    if "orders" in configuration:
        done = rows[rows["metric"] == "last_accuracy"]
        there = set(zip(done["order"], done["repeat"], strict=True))
        orders = ["listed"] if configuration["class_order"] else [str(order) for order in configuration["orders"]]
        return [f"order {order}, network {net}" for order in orders for net in nets if (order, net) not in there]
    if "sets" in configuration:
        done = rows[rows["metric"] == "test_accuracy"]
        if configuration.get("at"):  # the end alone: what is judged on the way comes before it
            done = done[done["iterations"] == updates_in_all(configuration["memory_config"])]
        counts = done.groupby(["set", "repeat"])["model"].nunique()
        asked = max(1, len(configuration["eval_models"]))
        found = []
        for number in range(configuration["sets"]):
            for net in nets:
                has = int(counts.get((number, net), 0))
                if has < asked:
                    of = f" of {asked - has} of {asked} architectures" if asked > 1 else ""
                    found.append(f"set {number}, network {net}{of}")
        return found
    done = rows[rows["metric"] == "test_accuracy"]  # without a value where the network diverged
    trained = set(zip(done["memory"], done["arch"], done["repeat"], strict=True))
    return [
        f"architecture {arch} on {proxy}, network {net}"
        for proxy, arch in searched
        for net in nets
        if (proxy, arch, net) not in trained
    ]


def read_store(roots: Sequence[Path]) -> Store:
    """Read which units failed or are not finished in the stores beside runs."""
    failed, checkpoints = [], 0
    for root in dict.fromkeys(roots):
        for path in sorted(root.glob("??/*.error.txt")):
            if path.with_name(path.name.replace(".error.txt", ".safetensors")).exists():
                continue  # another process has done it
            lines = path.read_text(errors="replace").strip().splitlines() or [""]
            failed.append((str(path.relative_to(root.parent)), lines[-1]))
        checkpoints += sum(path.name.count(".") == 2 for path in root.glob("??/*.checkpoint.safetensors"))
    return Store(failed, checkpoints)


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file that a run wrote.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: damaged (an object fits, got {type(found).__name__})")
    return found


def _flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A configuration by dotted names, as `--set` takes them."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = prefix + key.removesuffix("_config")
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{name}.")
        elif not (key.endswith("_config") and value is None):
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat
