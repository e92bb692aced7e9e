"""The card of a file of the tabular benchmark: what the file holds, and how it was made."""

import json
from typing import TypedDict

import numpy as np
from pandas import DataFrame

SCHEMA = 1
ONE_OF = ("space", "dataset", "dataset_digest", "preset")  # a file has one value of each


class ProxyCard(TypedDict):
    """What a file holds of one proxy."""

    architectures: int
    networks: int
    most_repeats: int
    recipe: list[str]
    spec: list[object]


class Card(TypedDict):
    """The card of a file; a value in a list is one of those that the rows have."""

    schema: int
    space: str
    dataset: str
    dataset_digest: str
    preset: str
    exactness: str
    versions: dict[str, list[str]]
    hardware: dict[str, list[str]]
    rows: int
    architectures: int
    proxies: dict[str, ProxyCard]


def make_card(rows: DataFrame) -> Card:
    """Make the card of the rows of a file, which are of one space, data set and preset."""

    def distinct(name: str, of: DataFrame = rows) -> list[str]:
        return sorted(set(of[name]) - {""})

    proxies: dict[str, ProxyCard] = {}
    for (memory, ipc), part in rows[rows["arch"] != ""].groupby(["memory", "ipc"], dropna=False):
        networks = part.drop_duplicates(["arch", "repeat"])
        proxies[label_of(str(memory), ipc)] = {
            "architectures": int(part["arch"].nunique()),
            "networks": 0 if (part["metric"] == "score").all() else len(networks),
            "most_repeats": int(networks["repeat"].max()) + 1,
            "recipe": distinct("recipe", part),
            "spec": [json.loads(spec) for spec in distinct("spec", part)],
        }
    return {
        "schema": SCHEMA,
        "space": rows["space"].iloc[0],
        "dataset": rows["dataset"].iloc[0],
        "dataset_digest": rows["dataset_digest"].iloc[0],
        "preset": rows["preset"].iloc[0],
        "exactness": rows["exactness"].iloc[0],
        "versions": {name: distinct(name) for name in ("version", "torch")},
        "hardware": {name: distinct(name) for name in ("device", "compute")},
        "rows": len(rows),
        "architectures": int(rows.loc[rows["arch"] != "", "arch"].nunique()),
        "proxies": proxies,
    }


def label_of(memory: str, ipc: object) -> str:
    """The name of a proxy, with its budget if it has one."""
    return f"{memory}-{ipc}ipc" if isinstance(ipc, int | np.integer) else memory
