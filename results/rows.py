"""A row is one measurement; a row file is a CSV of them. What stands in each column:

    track               cl, condense or nas
    dataset             name of the data set (cifar100, digits ...)
    dataset_digest      digest of its pixels and labels in official order
    exactness           "official" where that digest is the known one, else what differs
    preset              paper, quick or smoke; a smoke row is no result
    changes             fields set otherwise than the preset has them, such as memory.iterations=1000; empty: none
    memory              name of the builder of the memory, or of the NAS proxy, trained on
    league              pixel, storage or soft; never mixed in one ranking
    ipc                 budget, images per class
    stored_bytes        size of the whole memory at this experience, bytes
    recipe              name of the way a network is trained on the memory
    model               name of that network's architecture
    memory_model        name of the architecture the builder worked with; empty: none
    steps               number of experiences of the stream
    order               seed of the class order, as text, or "listed"
    set                 index of the condensed set, from 0
    experience          index of the experience after which was measured, from 0
    classes_seen        number of classes up to and including that experience; without a stream, of all classes
    tested_experience   index of the experience whose test images were used, from 0; empty: all seen classes
    repeat              number of the network within its order or set, from 0
    iterations          updates of the synthetic images after which was measured; empty: images were selected
    space               the NAS search space; empty outside track nas
    arch                one candidate of that space: its id there, as text
    epoch               epochs of that candidate's training after which was measured; empty: none
    metric              what was measured, spelled out: seen_accuracy, test_accuracy, memory_images ...
    unit                the unit of `value`: %, images, scalars, FLOP ...
    value               the measurement; missing where it cannot be computed
    seed                seed of the unit of work
    split               test or validation
    spec                the unit of work, as JSON
    key                 its key: a digest of spec, data and schema
    version             version of the harness
    device              cpu, or the name of the GPU
    compute             the form of computing taken: eager or compiled, and its precision
    torch               version of torch
    wall_seconds        time the unit took, seconds; of a memory, up to `iterations`
    peak_bytes          most memory it held, bytes: of the GPU, or resident memory of its process on a CPU

An empty cell: the value is missing, or there is no such thing in this track. Files from before a column of `ADDED`
was thought of read as if it were empty.
"""

import csv
import io
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

import numpy as np
import pandas as pd
from pandas import DataFrame, Series

Cell = str | int | float | None
Table = dict[str, Sequence[Cell]]  # column -> its cells
Row = Mapping[str, object]  # column -> its value

SCHEMA = 1

COLUMNS = (
    "track", "dataset", "dataset_digest", "exactness", "preset", "changes", "memory", "league", "ipc", "stored_bytes",
    "recipe", "model", "memory_model", "steps", "order", "set", "experience", "classes_seen", "tested_experience",
    "repeat", "iterations", "space", "arch", "epoch", "metric", "unit", "value", "seed", "split", "spec", "key",
    "version", "device", "compute", "torch", "wall_seconds", "peak_bytes",
)  # fmt: skip
# Older files lack these: they came with track condense, and with track nas.
ADDED = ("memory_model", "set", "iterations", "space", "epoch")
INTEGERS = frozenset(
    ("ipc", "stored_bytes", "steps", "set", "experience", "classes_seen", "tested_experience", "repeat", "iterations",
     "epoch", "seed", "peak_bytes")
)  # fmt: skip
FLOATS = frozenset(("value", "wall_seconds"))

# A unit is done once, so rows that agree here are one measurement met twice. Runs of different presets, or that change
# different fields of theirs, may share a unit, such as a memory that two recipes train on.
IDENTITY = [
    "key", "metric", "experience", "tested_experience", "steps", "order", "set", "repeat", "iterations", "epoch",
    "split", "preset", "changes", "recipe", "space", "arch",
]  # fmt: skip


def to_csv(rows: Iterable[Row]) -> bytes:
    """The content of a row file: the same rows give the same bytes.

    Args:
        rows: column -> value; columns left out, None and NaN become empty cells.
    Raises:
        ValueError: a column that `COLUMNS` does not have, or a value that does not fit its column.
    """
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    return "".join(",".join(map(_quote, line)) + "\n" for line in lines).encode()


def to_frame(rows: Iterable[Row]) -> DataFrame:
    """The frame that `read` gives for a file of these rows.

    Raises:
        ValueError: as `to_csv`.
    """
    return _frame([_parse_cells([_cells(row) for row in rows], COLUMNS)])


def read(paths: str | Path | Iterable[str | Path]) -> DataFrame:
    """The rows found at `paths`, each measurement once.

    Args:
        paths: row files, run directories holding a rows.csv, or directories to search for rows*.csv. Directories
            of units and of verdicts, which `runs/*` names beside runs, are passed over.
    Returns:
        One line per row, in the order of `paths`; `COLUMNS` as columns. Text is never missing but may be empty,
        integers are nullable Int64, `value` and `wall_seconds` float64.
    Raises:
        FileNotFoundError: a path does not exist, or is a directory without row files.
        ValueError: no row is left; damaged files are skipped with a warning that names and counts them.
    """
    named = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    paths = [path for path in named if not _is_beside_runs(path)] or named
    files = dict.fromkeys(file.resolve() for path in paths for file in _files(path))
    tables, damaged = [], []
    for file in files:
        try:
            tables.append(_parse(file.read_bytes()))
        except (ValueError, csv.Error) as error:
            damaged.append(f"{file}: damaged, its rows are left out ({error})")
    if damaged:
        warnings.warn(
            f"{_list_some(damaged, '; ')}; {len(damaged)} of {len(files)} row files are damaged", stacklevel=2
        )
    rows = _frame(tables)
    if rows.empty:
        raise ValueError(f"no rows in {_list_some(list(map(str, paths)), ', ') or 'an empty list of paths'}")
    return _drop_repeated(rows)


def _list_some(names: list[str], between: str) -> str:
    """The first ten names, and the number of the others."""
    more = [f"and {len(names) - 10} more"] if len(names) > 10 else []
    return between.join(names[:10] + more)


def _cells(row: Row) -> tuple[str, ...]:
    if unknown := [column for column in row if column not in COLUMNS]:
        raise ValueError(f"unknown column {', '.join(map(repr, unknown))}; a row has {', '.join(COLUMNS)}")
    return tuple(_cell(column, row.get(column)) for column in COLUMNS)


def _cell(column: str, value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    try:
        if column in FLOATS:
            if not isinstance(value, str | SupportsFloat):
                raise TypeError("not a number")
            number = float(value)
            return "" if math.isnan(number) else repr(number)
        if isinstance(value, str) and column not in INTEGERS:
            return value
        if not isinstance(value, SupportsIndex):  # an order may come as a number
            raise TypeError("not an integer")
        integer = operator.index(value)
        if column in INTEGERS and not -(2**63) <= integer < 2**63:
            raise ValueError("more than 64 bits")
        return str(integer)
    except (TypeError, ValueError) as error:
        kind = "a number" if column in FLOATS else "a 64-bit integer" if column in INTEGERS else "text"
        raise ValueError(f"column {column}: expected {kind}, got {value!r}") from error


def _quote(cell: str) -> str:
    # csv.writer leaves a lone carriage return unquoted, which csv.reader then refuses.
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in ',"\r\n') else cell


def _is_beside_runs(path: Path) -> bool:
    """Whether a directory is one that `harness run` or `harness reproduce` makes for other things than rows."""
    is_other = path.name == "units" or (path / "verdicts.csv").is_file()
    return is_other and path.is_dir() and not any(path.rglob("rows*.csv"))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory; pass a rows.csv or a run directory")
    if (path / "rows.csv").is_file():
        return [path / "rows.csv"]
    if not (found := sorted(path.rglob("rows*.csv"))):
        raise FileNotFoundError(f"{path}: no rows.csv here or below; pass a rows.csv or a run directory")
    return found


def _parse(content: bytes) -> Table:
    text = content.decode()
    if not text.endswith("\n"):
        raise ValueError("cut short" if text else "empty")
    header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    if header != [column for column in COLUMNS if column in header or column not in ADDED]:
        lacking = [column for column in COLUMNS if column not in header and column not in ADDED]
        foreign = [column for column in header if column not in COLUMNS]
        parts = [f"{word} {', '.join(found)}" for word, found in (("no", lacking), ("foreign", foreign)) if found]
        differences = "; ".join(parts) or "in another order"
        raise ValueError(
            f"its columns are not those of schema {SCHEMA}: {differences}; the same run command writes it anew"
        )
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise ValueError(f"row {number} has {len(line)} cells, not {len(header)}")
    return _parse_cells(lines, header)


def _parse_cells(lines: Sequence[Sequence[str]], header: Sequence[str]) -> Table:
    """The cells of each column, numbers read; columns that the header does not have are empty."""
    cells = dict(zip(header, zip(*lines, strict=True), strict=True)) if lines else {}
    absent = ("",) * len(lines)
    return {name: _read_column(name, cells.get(name, absent)) for name in COLUMNS}


def _read_column(name: str, cells: Sequence[str]) -> Sequence[Cell]:
    read: Callable[[str], Cell] = _integer if name in INTEGERS else _float if name in FLOATS else str
    known = {cell: read(cell) for cell in set(cells)}  # most columns repeat few cells: read once, and kept once
    return [known[cell] for cell in cells]


def _integer(cell: str) -> int | None:
    if not cell:
        return None
    if not -(2**63) <= (number := int(cell)) < 2**63:
        raise ValueError(f"{cell}: more than 64 bits")
    return number


def _float(cell: str) -> float:
    return float(cell or "nan")


def _frame(tables: Sequence[Table]) -> DataFrame:
    """One frame of all tables: built once, because building a frame costs more than reading a file."""
    columns = {name: [cell for table in tables for cell in table[name]] for name in COLUMNS}
    return DataFrame({name: _series(name, cells) for name, cells in columns.items()}, copy=False)


def _series(name: str, cells: list[Cell]) -> "Series":
    if name in INTEGERS:
        missing = np.array([cell is None for cell in cells], dtype=bool)
        numbers = np.array([cell or 0 for cell in cells], dtype=np.int64)
        return Series(pd.arrays.IntegerArray(numbers, missing))
    return Series(cells, dtype="float64" if name in FLOATS else str)


def _drop_repeated(rows: DataFrame) -> DataFrame:
    has_key = rows["key"] != ""
    again = has_key & rows.duplicated(IDENTITY)
    again |= rows[~has_key].duplicated().reindex(rows.index, fill_value=False)
    differing = again & ~rows.duplicated([*IDENTITY, "value"])
    if differing.any():
        keys = rows.loc[differing, "key"]
        warnings.warn(
            f"{len(keys)} rows repeat a measurement with another value (the first: key {keys.iloc[0]}); "
            "the earlier one is kept",
            stacklevel=3,
        )
    return rows[~again].reset_index(drop=True)
