"""Directories of runs: find them, and describe the progress, the results and the settings of a run."""

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

# Track -> metric of its results, and function that makes a table of it.
RESULTS = {"cl": ("last_accuracy", cl_table), "condense": ("test_accuracy", condense_table)}


@dataclass(frozen=True)
class Progress:
    """The progress of a run: the numbers of all units, of units with a result, and of failed units without one."""

    units: int
    done: int
    failed: int

    def __str__(self) -> str:
        if self.done == self.units:
            return f"complete, {quantity(self.units, 'unit')}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {quantity(self.units, 'unit')}{failed}"


def find(out: Path) -> list[Path]:
    """Return the run directories in `out`, sorted by name."""
    return [path.parent for path in sorted(out.glob("*/config.json"))]


def find_progress(directory: Path) -> Progress | None:
    """Return the progress of a run; None if the run has no list of units, as runs of versions before 0.4.

    A unit counts as done if the file of its result exists. Whether the file is damaged is checked when the run is
    carried out.

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
    """Summarise a run in one line: its progress, its result, and when its rows were last written."""
    try:
        parts = [_describe_progress(directory), _describe_result(directory)]
    except ValueError as error:
        return str(error)
    newest = max(path.stat().st_mtime for name in ("rows.csv", "config.json") if (path := directory / name).is_file())
    parts.append(f"{duration(max(0.0, time.time() - newest))} ago")
    return "; ".join(filter(None, parts))


def describe(directory: Path) -> Iterator[str]:
    """Yield the lines of a page about a run: its progress, its tables, its settings, and where it was computed.

    Raises:
        ValueError: a file of the run is damaged.
    """
    settings = read_json(directory / "config.json")
    yield f"{directory.name}: {summarise(directory)}"
    yield from ("", "RESULTS")
    rows = _read_rows(directory)
    try:
        tables = io.StringIO()
        print_tables(tables_of(rows), tables)
        yield tables.getvalue().rstrip()
    except ValueError as error:
        yield f"  none yet: {error}"
    yield from ("", "SETTINGS")
    yield from (f"  {key} = {_format_value(value)}" for key, value in _flatten(settings))
    if (directory / "environment.json").is_file():
        yield from ("", "COMPUTED WITH")
        yield from (f"  {key}: {value}" for key, value in read_json(directory / "environment.json").items())
    yield from ("", f"harness report {directory}", f"harness plot {directory} --figure NAME")


def _describe_progress(directory: Path) -> str:
    read_json(directory / "config.json")  # raises an error first if the configuration is damaged
    progress = find_progress(directory)
    if progress is not None:
        return str(progress)
    return f"{quantity(_read_rows(directory)['key'].nunique(), 'unit')} done"


def _describe_result(directory: Path) -> str:
    """Return the mean of a run with its 95 % interval, or the range of the means of several settings."""
    rows = _read_rows(directory)
    if (rows["track"] == "nas").any():
        return f"{quantity(rows['arch'].nunique(), 'architecture')} scored"
    for track, (metric, tabulate) in RESULTS.items():
        track_rows = rows[rows["track"] == track]
        if not (track_rows["metric"] == metric).any():
            continue
        means = tabulate(track_rows)
        name = metric.replace("_", " ")
        if len(means) > 1:
            return f"{name} {means[metric].min():.1f} to {means[metric].max():.1f} %, {len(means)} settings"
        line = means.iloc[0]
        low, high = line[f"{metric}_low"], line[f"{metric}_high"]
        interval = "" if pd.isna(low) else f" [{low:.1f}, {high:.1f}]"
        return f"{name} {line[metric]:.1f}{interval} %, {line['n']}"
    return ""


def _read_rows(directory: Path) -> DataFrame:
    """Read the rows of a run; return no rows if the file is missing or has only its header."""
    path = directory / "rows.csv"
    is_empty = not path.is_file() or path.read_bytes().count(b"\n") <= 1
    return rowfiles.to_frame([]) if is_empty else rowfiles.read([path])


def _flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted names, as in `--set`, and the values of a configuration in JSON."""
    for key, value in settings.items():
        name = prefix + key.removesuffix("_config")
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif not key.endswith("_config"):
            yield name, value


def _format_value(value: object) -> str:
    """Format a value of a configuration as on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
