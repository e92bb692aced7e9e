"""The directories that runs leave: which there are, how far each run is, what came of it, and a page about it."""

import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from harness.commands.run import UNITS
from harness.execution.units import Store
from harness.results import rows as rowfiles
from harness.results.report.runs import read_json
from harness.results.tables.collect import tables_of
from harness.results.tables.condensed import condense_table
from harness.results.tables.console import print_tables
from harness.results.tables.streams import cl_table
from harness.results.wording import duration, quantity

RESULTS = {"cl": ("last_accuracy", cl_table), "condense": ("test_accuracy", condense_table)}


@dataclass(frozen=True)
class Progress:
    """How far a run is: its units in all, those with a result, and those that failed and have none."""

    units: int
    done: int
    failed: int

    def __str__(self) -> str:
        if self.done == self.units:
            return f"complete, {quantity(self.units, 'unit')}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {quantity(self.units, 'unit')}{failed}"


def find(out: Path) -> list[Path]:
    """The run directories in `out`, by name."""
    return [path.parent for path in sorted(out.glob("*/config.json"))]


def progress(directory: Path) -> Progress | None:
    """How far a run is; None for a run that no version since 0.4 has taken up, which does not list its units.

    A result counts by its presence; that it reads back whole is checked when a run is carried out.

    Raises:
        ValueError: the list of units is damaged.
    """
    if not (directory / "units.json").is_file():
        return None
    keys = [str(key) for key in read_json(directory / "units.json")["units"]]
    store = Store(directory.parent / UNITS)
    left = [key for key in keys if not store.path(key).exists()]
    failed = [key for key in left if store.path(key, ".error.txt").exists()]
    return Progress(len(keys), len(keys) - len(left), len(failed))


def summarise(directory: Path) -> str:
    """One line on a run: its state, its result, and when its rows were last written."""
    try:
        parts = [_state(directory), _result(directory)]
    except ValueError as error:
        return str(error)
    newest = max(path.stat().st_mtime for name in ("rows.csv", "config.json") if (path := directory / name).is_file())
    parts.append(f"{duration(max(0.0, time.time() - newest))} ago")
    return "; ".join(filter(None, parts))


def page(directory: Path) -> Iterator[str]:
    """Everything about a run, line by line: its state, its tables, its settings, and where it was computed.

    Raises:
        ValueError: a file of the run is damaged.
    """
    settings = read_json(directory / "config.json")
    yield f"{directory.name}: {summarise(directory)}"
    yield from ("", "RESULTS")
    rows = _rows(directory)
    try:
        tables = io.StringIO()
        print_tables(tables_of(rows), tables)
        yield tables.getvalue().rstrip()
    except ValueError as error:
        yield f"  none yet: {error}"
    yield from ("", "SETTINGS")
    yield from (f"  {key} = {_as_typed(value)}" for key, value in _flatten(settings))
    if (directory / "environment.json").is_file():
        yield from ("", "COMPUTED WITH")
        yield from (f"  {key}: {value}" for key, value in read_json(directory / "environment.json").items())
    yield from ("", f"harness report {directory}", f"harness plot {directory} --figure NAME")


def _state(directory: Path) -> str:
    read_json(directory / "config.json")  # a damaged configuration is reported before anything else
    found = progress(directory)
    if found is not None:
        return str(found)
    return f"{quantity(_rows(directory)['key'].nunique(), 'unit')} done"


def _result(directory: Path) -> str:
    """The run's mean with its 95 % interval, or the range of the means of several settings."""
    rows = _rows(directory)
    if (rows["track"] == "nas").any():
        return f"{quantity(rows['arch'].nunique(), 'architecture')} scored"
    for track, (metric, tabulate) in RESULTS.items():
        found = rows[rows["track"] == track]
        if not (found["metric"] == metric).any():
            continue
        means = tabulate(found)
        if len(means) > 1:
            return f"{_words(metric)} {means[metric].min():.1f} to {means[metric].max():.1f} %, {len(means)} settings"
        line = means.iloc[0]
        low, high = line[f"{metric}_low"], line[f"{metric}_high"]
        interval = "" if pd.isna(low) else f" [{low:.1f}, {high:.1f}]"
        return f"{_words(metric)} {line[metric]:.1f}{interval} %, {line['n']}"
    return ""


def _rows(directory: Path) -> DataFrame:
    """The rows of a run; none where nothing is finished, so that there is no row file or it holds its header alone."""
    path = directory / "rows.csv"
    is_empty = not path.is_file() or path.read_bytes().count(b"\n") <= 1
    return rowfiles.to_frame([]) if is_empty else rowfiles.read([path])


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The settings of a configuration as JSON, by the dotted names that `--set` takes."""
    for key, value in settings.items():
        name = prefix + key.removesuffix("_config")
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif not key.endswith("_config"):
            yield name, value


def _as_typed(value: object) -> str:
    """A value of a configuration as it is typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
