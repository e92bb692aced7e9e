"""Carry out a run: plan its units, do the units without a result by an engine, and write rows."""

import importlib.util
import json
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame

from harness import config
from harness.config import Run
from harness.core import foreign, memory_file
from harness.core import memory as memories
from harness.core.atomic import write_bytes
from harness.core.registry import known
from harness.execution import engines
from harness.execution.engines import Event, Outcome
from harness.execution.resources import count_workers, list_worker_environments, pick_device
from harness.execution.units import Store, Unit
from harness.results.rows import to_csv, to_frame
from harness.tracks import TRACKS
from harness.tracks.base import LOGGERS, Place, Plan, Track, adopt_file_budget, get_file_config, is_file, load_dataset
from harness.tracks.estimates import estimate_costs
from harness.tracks.memories import describe_origin
from harness.tracks.rows import add_costs

UNITS = "units"  # directory under --out with the results of the units of all runs


@dataclass(frozen=True)
class Options:
    """Options for carrying out a run. Results depend on them only through the form of computing.

    Attributes:
        out: directory of all runs.
        name: name of the directory of this run; None for a name made from its configuration.
        data: directory of the data sets; None for the default places.
        device: "auto", "cpu", "cuda" (all GPUs) or "cuda:N".
        engine: a name in `harness.execution.engines.ENGINES`.
        jobs: number of worker processes; None for one per core, or for `WORKERS_PER_GPU` per GPU.
        shard: (i, n) for part i, counted from 1, of n parts of the units.
        time_limit: seconds after which the run stops; None for no limit.
        logger: an Avalanche logger, "text" or "tensorboard"; None for none.
    """

    out: Path = Path("runs")
    name: str | None = None
    data: Path | None = None
    device: str = "auto"
    engine: str = "local"
    jobs: int | None = None
    shard: tuple[int, int] = (1, 1)
    time_limit: float | None = None
    logger: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))  # callers may pass a str
        object.__setattr__(self, "data", None if self.data is None else Path(self.data))


@dataclass(frozen=True)
class Prepared:
    """A run that is checked and planned.

    Attributes:
        run: the run, with its form of computing resolved.
        form: a description of the form of computing and the reason for it.
        plan: the plan of its track.
        store: the store of the results of units.
        directory: the directory of this run.
        place: the device and the data of this run.
    """

    run: Run
    form: str
    plan: Plan
    store: Store
    directory: Path
    place: Place

    @property
    def track(self) -> Track[Any, Any]:
        """The track of the run."""
        return TRACKS[self.run.track]

    @cached_property
    def note(self) -> str:
        """The sets in the run's file that are evaluated, and the reason; "" if the file has only one set."""
        if not is_file(self.run.memory):
            return ""
        path = foreign.parse_path(self.run.memory)
        return foreign.explain_choice(path, load_dataset(self.run, self.place), get_file_config(self.run))

    @cached_property
    def units(self) -> list[Unit]:
        """All units with their estimated seconds on this machine, for which rates are measured once per machine."""
        return estimate_costs(self.plan.units, self.run, load_dataset(self.run, self.place))

    @property
    def left(self) -> list[Unit]:
        """The units without a result."""
        return [unit for unit in self.units if not self.store.has(unit.key)]


@dataclass(frozen=True)
class Finished:
    """A run that was carried out: its rows so far, the outcome of its units, its directory, and the seconds."""

    rows: DataFrame
    outcome: Outcome
    directory: Path
    seconds: float


def prepare(run: Run, options: Options) -> Prepared:
    """Check and plan a run. Nothing is written.

    Raises:
        ValueError, FileNotFoundError, PermissionError: the input is invalid; the message has one line.
    """
    device = pick_device(options.device)
    known(options.engine, engines.ENGINES, "engine")
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"jobs: at least 1 is needed, got {options.jobs}")
    if any(path.is_file() for path in (options.out, *options.out.parents)):
        raise ValueError(f"{options.out}: not a directory, because it or a parent is a file; use another --out")
    if options.logger is not None:
        known(options.logger, LOGGERS, "avalanche logger")
    if run.track == "cl" and importlib.util.find_spec("avalanche") is None:
        raise ValueError("cl: streams need Avalanche, which is not installed here: pip install avalanche-lib")
    run, form = config.resolve_form(run, device)
    data = None if options.data is None else str(options.data.resolve())
    place = Place(str(device), data, options.logger)
    dataset = load_dataset(run, place)
    run = adopt_file_budget(run, dataset)
    directory = options.out / (_check_name(options.name) if options.name else make_name(run))
    place = replace(place, logs=str((directory / "tensorboard").resolve()))
    plan = TRACKS[run.track].plan(run, dataset, place)
    return Prepared(run, form, plan, Store(options.out / UNITS), directory, place)


def make_name(run: Run) -> str:
    """Return a readable name for the directory of a run, with a digest of its configuration."""
    digest = Unit("run", config.to_plain(run), "").key[:6]
    names = (re.sub(r"[:/]+", "-", name).strip("-")[-60:] for name in (run.dataset, Path(run.memory).stem))
    return f"{run.track}-{'-'.join(names)}-{TRACKS[run.track].make_short_name(run)}-{run.preset}-{digest}"


def _check_name(name: str) -> str:
    """Check that `name` can be the name of a run's directory, and return it.

    Raises:
        ValueError: the name is a path, or that of the directory of the units.
    """
    if name in (".", "..", UNITS) or re.search(r"[/\\]", name):
        raise ValueError(f"--name: expected a plain name for a directory under --out other than {UNITS}, got {name!r}")
    return name


def claim_directory(prepared: Prepared) -> None:
    """Create the directory of a run, or check that it belongs to the run; a damaged config.json is replaced.

    Raises:
        ValueError: the directory cannot be written to, or belongs to a different run.
    """
    directory, path = prepared.directory, prepared.directory / "config.json"
    values = json.loads(json.dumps(config.to_plain(prepared.run)))
    try:
        present = _read_config(path)
        if present is not None and present != values:
            differ = sorted(key for key in {*present, *values} if present.get(key) != values.get(key))
            raise ValueError(f"{directory}: holds a different run ({', '.join(differ)} differ); use another --name")
        prepared.store.root.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(values, indent=2).encode() + b"\n")
        units = {"units": [unit.key for unit in prepared.plan.units]}  # for `harness ls runs`, which does not plan runs
        write_bytes(directory / "units.json", json.dumps(units, indent=2).encode() + b"\n")
    except OSError as error:
        raise ValueError(f"{directory}: cannot be used as a run directory ({error}); use another --out") from error


def _read_config(path: Path) -> dict[str, object] | None:
    """Read the configuration in a file; return None if the file is missing or damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def carry_out(prepared: Prepared, options: Options, report: Callable[[Event], None] = lambda event: None) -> Finished:
    """Do the units of a run that have no result, and write its rows.

    If a unit fails, the other units are still done, and the outcome names the failed unit.

    Raises:
        ValueError: the engine is unknown, jobs is below 1, the shard is invalid, or the directory belongs to another
            run.
    """
    start = time.monotonic()
    claim_directory(prepared)
    device = prepared.place.device
    jobs = count_workers(device, options.engine, options.jobs)
    outcome = engines.run(
        _select_shard(prepared.units, options.shard),
        prepared.store,
        prepared.track.work,
        engine=options.engine,
        jobs=jobs,
        deadline=None if options.time_limit is None else start + options.time_limit,
        report=report,
        environments=list_worker_environments(device, jobs),
    )
    return Finished(write_rows(prepared), outcome, prepared.directory, time.monotonic() - start)


def _select_shard(units: list[Unit], shard: tuple[int, int]) -> list[Unit]:
    """Return the units of a shard that train networks, and the units they need, which may be in several shards."""
    index, parts = shard
    if not 1 <= index <= parts:
        raise ValueError(f"shard: expected i/n with i from 1 to n, got {index}/{parts}")
    if parts == 1:
        return units
    by_key = {unit.key: unit for unit in units}
    todo = [unit for unit in units if unit.kind != "memory"][index - 1 :: parts]
    chosen: dict[str, Unit] = {}
    while todo:
        unit = todo.pop()
        chosen[unit.key] = unit
        todo += [by_key[key] for key in unit.needs if key in by_key and key not in chosen]
    return [unit for unit in units if unit.key in chosen]


def write_rows(prepared: Prepared) -> DataFrame:
    """Write the rows, the environment and the finished memories of a run; return the rows.

    All processes that share a run write its rows. If another process finishes a unit in the meantime, the rows are
    written again.
    """
    dataset = load_dataset(prepared.run, prepared.place)
    changes = find_changes(prepared.run, torch.device(prepared.place.device))
    left: list[str] | None = None
    while left != (left := [unit.key for unit in prepared.left]):
        rows = [*prepared.track.make_rows(prepared.run, prepared.plan, prepared.store, dataset, changes)]
        write_bytes(prepared.directory / "rows.csv", to_csv(rows))
    environment = {
        "device": prepared.place.device,
        "form": prepared.form,
        "harness": version("condensation-harness"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    write_bytes(prepared.directory / "environment.json", json.dumps(environment, indent=2).encode() + b"\n")
    for name, units in prepared.track.list_memory_files(prepared.plan).items():
        parts = [prepared.store.load(unit.key) for unit in units]
        whole = [memory_file.decode(*part, dataset) for part in parts if part is not None]
        if whole and len(whole) == len(units):
            cost = add_costs([part[1]["cost"] for part in parts if part is not None])
            origin = {**describe_origin(units[0].spec), "units": [unit.key for unit in units], "cost": cost}
            path = prepared.directory / "memories" / f"{name}.safetensors"
            memory_file.save(memories.join(whole), path, dataset, origin)
    return to_frame(rows)


def find_changes(run: Run, device: torch.device) -> str:
    """Return the settings in which a run differs from its preset, such as "memory.iterations=1000"."""
    default_run, _ = config.resolve_form(replace(run, memory_config=None, recipe_config=None), device)
    defaults, values = config.to_dotted(default_run), config.to_dotted(run)
    differ = [key for key in values if values[key] != defaults.get(key) and not _has_column(key)]
    return ", ".join(f"{key}={_remove_folders(key, values[key])}" for key in differ)


def _remove_folders(key: str, value: object) -> object:
    """Return the value of a setting for rows: the name of a file without its folders."""
    return Path(str(value)).name if key == "memory.scores" else value


def _has_column(key: str) -> bool:
    """Return whether rows have a column for the value of a setting, so that `find_changes` leaves it out."""
    return "." not in key or key.rpartition(".")[2] in ("compute", "real_dtype")


def run(configuration: Run, options: Options = Options()) -> DataFrame:
    """Carry out or continue a run, as `harness run` does, and return its rows.

    Raises:
        ValueError, FileNotFoundError: the input is invalid.
        RuntimeError: some units failed or are left; the same call continues the run.
    """
    finished = carry_out(prepare(configuration, options), options)
    if finished.outcome.failed or finished.outcome.left:
        first = next(iter(finished.outcome.failed.items()), ("left", ", ".join(finished.outcome.left[:3])))
        raise RuntimeError(f"{finished.directory}: the run is not complete; {': '.join(first)}")
    return finished.rows
