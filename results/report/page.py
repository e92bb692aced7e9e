"""Runs as one HTML page that needs nothing else: how they were made, tables, figures, pictures, and what is missing.

The page holds its style, its script and every figure; it loads nothing, and its policy forbids it to. Whatever stands
in rows and configurations is text there, in the figures too.
"""

import base64
import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from harness.results import rows as rowfiles
from harness.results.figures import registry
from harness.results.figures.captions import data_in_words
from harness.results.figures.registry import Plot
from harness.results.statistics.means import BLOCK
from harness.results.tables import text
from harness.results.tables.collect import tables_of
from harness.results.tables.columns import Table
from harness.results.tables.condensed import updates_in_all
from harness.results.wording import SMOKE, memory_label

GENERATOR = "harness report"  # marks a page as ours
# What a figure may have to be drawn apart for, in this order.
APART = (
    "preset", "split", "dataset", "dataset_digest", "space", "recipe", "model", "league", "ipc", "memory_model",
    "changes", "steps",
)  # fmt: skip
MOST_FIGURES = 6  # of one name; more are named, not drawn
# What sets a line of "what was run" off from another.
MADE_OF = (
    "track", "dataset", "dataset_digest", "exactness", "split", "preset", "memory", "changes", "league", "ipc",
    "recipe", "model", "memory_model", "steps", "space",
)  # fmt: skip
OWN = ("track", "memory", "networks trained", "their hours")  # told of each line, even where all lines agree
RESULTS = ("last_accuracy", "test_accuracy", "score")  # rows without any of these have no table yet
TABLES = {"cl": "Class-incremental streams", "condense": "Condensed sets", "nas": "Architecture search"}


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Facts:
    """What is known of a run beside its rows."""

    name: str
    configuration: Mapping[str, Any]  # by dotted names
    environment: Mapping[str, Any] = field(default_factory=dict)
    missing: Sequence[str] = ()  # networks that have no result yet
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Store:
    """What a store of units says of work that is not finished; it may serve other runs as well."""

    failed: Sequence[tuple[str, str]] = ()  # file of the trace, last line of it
    checkpoints: int = 0  # units under way, or cut off


@dataclass(frozen=True)
class Drawn:
    """A figure of the page."""

    name: str
    of: str  # the part of the rows it shows; "": all it can
    svg: Markup
    csv: str  # the numbers in it

    @property
    def csv_uri(self) -> str:
        return f"data:text/csv;base64,{base64.b64encode(self.csv.encode()).decode()}"


@dataclass(frozen=True)
class LeftOut:
    """A figure that could not be drawn."""

    name: str
    of: str
    reason: str


def page(rows: DataFrame, runs: Sequence[Facts] = (), store: Store = Store(), complaints: Sequence[str] = ()) -> str:
    """The report as HTML; the same arguments give the same text.

    Args:
        rows: as `rows.read` gives them.
        runs: what is known of the runs they come from.
        store: what their store says of unfinished work.
        complaints: what went wrong when they were read.
    """
    drawn, left_out = figures(rows)
    made_tables, refused = _tables(rows)
    shared, made = _made(rows)
    script = _resource("report.js")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(_resource("report.html.j2")).render(
        generator=GENERATOR,
        policy_of_script=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=Markup(script),  # ours
        title=_title(rows),
        smoke=SMOKE if (rows["preset"] == "smoke").any() else "",
        shared=shared,
        made=made,
        tables=made_tables,
        drawn=drawn,
        left_out=left_out,
        runs=runs,
        store=store,
        complaints=[*complaints, *refused],
    )


# --- reading --------------------------------------------------------------------------------------------------------


def read(paths: Sequence[Path]) -> tuple[DataFrame, list[str]]:
    """The rows at `paths`, and what was wrong with them: damaged files are left out and named.

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


def facts_of(
    run: Path,
    pictures: Sequence[Picture] = (),
    searched: Sequence[tuple[str, str]] = (),
) -> Facts | None:
    """What a run's directory tells beside its rows; None for one that holds no run.

    Args:
        searched: what a search trains, as `missing` takes it.
    Raises:
        ValueError: its configuration is damaged.
    """
    if not (run / "config.json").is_file():
        return None
    configuration = read_json(run / "config.json")
    environment = read_json(run / "environment.json") if (run / "environment.json").is_file() else {}
    own, _ = read([run])
    return Facts(run.name, _dotted(configuration), environment, missing(configuration, own, searched), pictures)


def missing(configuration: Mapping[str, Any], rows: DataFrame, searched: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The networks that a run's configuration asks for and its rows do not have, in words.

    They are orders x nets of track cl, sets x networks x nets of condense, and of a search what is said to be trained.

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


def store_of(roots: Sequence[Path]) -> Store:
    """What the stores beside runs say of units that failed or are not finished."""
    failed, checkpoints = [], 0
    for root in dict.fromkeys(roots):
        for path in sorted(root.glob("??/*.error.txt")):
            if path.with_name(path.name.replace(".error.txt", ".safetensors")).exists():
                continue  # another process did it after all
            lines = path.read_text(errors="replace").strip().splitlines() or [""]
            failed.append((str(path.relative_to(root.parent)), lines[-1]))
        checkpoints += len(list(root.glob("??/*.checkpoint.safetensors")))
    return Store(failed, checkpoints)


def read_json(path: Path) -> dict[str, Any]:
    """What a run has written about itself.

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


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration by dotted names, as `--set` knows them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key.removesuffix("_config")
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{name}.")
        elif not (key.endswith("_config") and value is None):
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat


# --- tables ---------------------------------------------------------------------------------------------------------


def _title(rows: DataFrame) -> str:
    if rows.empty:
        return "Runs without a result yet"
    datasets = ", ".join(sorted(rows["dataset"].unique()))
    return f"{datasets}: {' and '.join(sorted(TABLES.get(track, track).lower() for track in rows['track'].unique()))}"


def _tables(rows: DataFrame) -> tuple[list[tuple[str, Markup]], list[str]]:
    """(heading, HTML) of each league of each track's table, and why a track with results has none."""
    made: list[Table] = []
    refused = []
    for track, name in TABLES.items():
        own = rows[rows["track"] == track]
        if not own["metric"].isin(RESULTS).any():
            continue
        try:
            made += tables_of(own)
        except ValueError as error:
            refused.append(f"{name}: no table ({error})")
    return [found for table in made for found in _leagues(table)], refused


def _leagues(table: Table) -> Iterator[tuple[str, Markup]]:
    """(heading, HTML) of each league of a table that has leagues."""
    shared = [column for column in BLOCK if column in table.frame]
    for block, part in table.frame.groupby(shared, dropna=False, sort=False):
        setting = {column: str(value) for column, value in zip(shared, block, strict=True)}
        data = data_in_words(setting["dataset"], setting["exactness"])
        league = f", league {setting['league']}" if setting.get("league") else ""
        heading = f"{table.layout.title}: {data}, preset {setting['preset']}{league}"
        yield heading, Markup(text.to_text(replace(table, frame=part.reset_index(drop=True)), "html"))  # escaped there


def _made(rows: DataFrame) -> tuple[str, list[dict[str, str]]]:
    """What was run and what it took: what all settings share, in words, and a line per setting with what they do not.

    Units are counted once, whatever the number of settings they serve.
    """
    lines = []
    for setting, part in rows[rows["recipe"] != ""].groupby(list(MADE_OF), dropna=False, sort=True):
        of = {name: str(value).replace("<NA>", "") for name, value in zip(MADE_OF, setting, strict=True)}
        units = part[part["key"] != ""].drop_duplicates("key")
        lines.append({
            "track": of["track"],
            "memory": memory_label(of["memory"]),
            "changes": of["changes"],
            "data set": data_in_words(of["dataset"], of["exactness"]),
            "digest": of["dataset_digest"][:12],
            "split": of["split"],
            "preset": of["preset"],
            "league": of["league"],
            "images per class": of["ipc"],
            "steps": of["steps"],
            "space": of["space"],
            "recipe": of["recipe"],
            "network": of["model"],
            "built with": of["memory_model"],
            "networks trained": str(len(units)),
            "their hours": f"{units['wall_seconds'].sum() / 3600:.2g}" if units["wall_seconds"].notna().all() else "",
            "device": _each(part["device"]),
            "form": _each(part["compute"]),
            "torch": _each(part["torch"]),
            "harness": _each(part["version"]),
        })  # fmt: skip
    names = list(lines[0]) if lines else []
    shared = [name for name in names if len({line[name] for line in lines}) == 1 and name not in OWN]
    said = ", ".join(f"{name} {lines[0][name]}" for name in shared if lines[0][name])
    return said, [{name: value for name, value in line.items() if name not in shared} for line in lines]


def _each(values: "Series[str]") -> str:
    return "; ".join(sorted(filter(None, values.unique())))


# --- figures --------------------------------------------------------------------------------------------------------


def figures(rows: DataFrame) -> tuple[list[Drawn], list[LeftOut]]:
    """Every figure the rows allow: of all of them where they may stand in one, else of each part that may."""
    drawn: list[Drawn] = []
    left_out: dict[tuple[str, str], LeftOut] = {}
    for key, plot in registry.FIGURES.items():
        name = key.replace("_", "-")
        made: list[Drawn] = []
        failed: list[LeftOut] = []
        for part, of, found in _parts(plot, rows):
            if isinstance(found, ValueError):
                failed.append(LeftOut(name, of, str(found)))
            elif len(made) == MOST_FIGURES:
                failed.append(LeftOut(name, of, f"there are {MOST_FIGURES} of it already; report fewer runs at once"))
            else:
                prefix = f"{name}-{len(made)}-"
                made.append(Drawn(name, of, svg(found, prefix), plot.data(part).to_csv(index=False)))
        drawn += made
        for each in failed if made else failed[:1]:  # what no part of the rows has is said once
            left_out.setdefault((name, each.reason), each)
    return drawn, list(left_out.values())


def _parts(plot: Plot, rows: DataFrame, of: str = "") -> Iterator[tuple[DataFrame, str, Figure | ValueError]]:
    """The figure of the rows; where it is refused, of the parts by the first of `APART` that has several values."""
    try:
        yield rows, of, plot.draw(rows)
        return
    except ValueError as error:
        refused = error
    for column in APART:
        anywhere = _stands_anywhere(rows, column)
        values = sorted(rows.loc[~anywhere & (rows["recipe"] != ""), column].dropna().unique())
        if len(values) > 1:
            tried = [
                each
                for value in values
                for each in _parts(
                    plot, rows[anywhere | (rows[column] == value)], f"{of}, {column} {value or 'none'}".strip(", ")
                )
            ]
            if all(isinstance(found, ValueError) for _, _, found in tried):
                yield rows, of, refused  # not for what differs: the parts lack the same
            else:
                yield from tried
            return
    yield rows, of, refused


def _stands_anywhere(rows: DataFrame, column: str) -> "Series[bool]":
    """Which rows belong to each part, whatever the value: those of `full`, which has no budget, of images that no
    network was needed for, of memories, which are trained on by any network."""
    if column in ("ipc", "league"):
        return rows["memory"] == "full"
    if column in ("recipe", "model", "memory_model", "steps", "space"):
        return rows[column].isna() | (rows[column] == "")
    return Series(False, index=rows.index)


def svg(figure: Figure, prefix: str) -> Markup:
    """A figure as an SVG element to stand in a page beside others: its ids begin with `prefix`, text is drawn."""
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": "results", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata=nothing)
    element = content.getvalue().partition("<svg")[2]
    element = re.sub(r"<!--.*?-->", "", element, flags=re.DOTALL)  # the texts again, which the paths draw
    for before in (' id="', 'href="#', "url(#"):
        element = element.replace(before, before + prefix)
    return Markup(f'<svg role="img"{element}')


def _resource(name: str) -> str:
    return (resources.files("harness.results.report") / name).read_text(encoding="utf-8")
