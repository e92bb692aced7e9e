"""Carry a run out: plan its units, skip finished ones, hand the rest to an engine, leave rows."""

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
from harness.core import memory as memories
from harness.core.atomic import write_bytes
from harness.core.registry import known
from harness.execution import engines
from harness.execution.engines import Event, Outcome
from harness.execution.resources import count_workers, pick_device, worker_environments
from harness.execution.units import Store, Unit
from harness.results import rows as rowfiles
from harness.tracks import TRACKS
from harness.tracks.base import LOGGERS, Place, Plan, Track, adopt_file_budget, load_dataset
from harness.tracks.estimates import estimate_costs
from harness.tracks.memories import origin
from harness.tracks.rows import add_costs

UNITS = "units"  # where the units of all runs are kept, under --out


@dataclass(frozen=True)
class Options:
    """How a run is carried out here; no result depends on it but through the form of computing."""

    out: Path = Path("runs")
    name: str | None = None  # of the run's directory; None: one made of the configuration
    data: Path | None = None
    device: str = "auto"  # auto, cpu, cuda (every GPU there is) or cuda:N
    engine: str = "local"
    jobs: int | None = None  # worker processes; None: one per core, or `WORKERS_PER_GPU` for each GPU
    shard: tuple[int, int] = (1, 1)  # (i, n): the i-th of n parts of the units, from 1
    time_limit: float | None = None  # seconds
    logger: str | None = None  # an Avalanche logger: text or tensorboard

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))  # who writes Python gives text as well
        object.__setattr__(self, "data", None if self.data is None else Path(self.data))


@dataclass(frozen=True)
class Prepared:
    """A run that could start: all that can be wrong with it has been checked."""

    run: Run
    form: str  # of computing, and why
    plan: Plan  # of its track
    store: Store
    directory: Path
    place: Place

    @property
    def track(self) -> Track[Any, Any]:
        """The track of the run."""
        return TRACKS[self.run.track]

    @cached_property
    def units(self) -> list[Unit]:
        """All there is to do, with the seconds that each takes on this machine; what tells them is measured once."""
        return estimate_costs(self.plan.units, self.run, load_dataset(self.run, self.place))

    @property
    def left(self) -> list[Unit]:
        """Units whose results are not there yet."""
        return [unit for unit in self.units if not self.store.has(unit.key)]


@dataclass(frozen=True)
class Finished:
    rows: DataFrame
    outcome: Outcome
    directory: Path
    seconds: float


def prepare(run: Run, options: Options) -> Prepared:
    """Check and plan a run; nothing is written.

    Raises:
        ValueError, FileNotFoundError, PermissionError: bad input, in one line.
    """
    device = pick_device(options.device)
    known(options.engine, engines.ENGINES, "engine")
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"jobs: at least 1, got {options.jobs}")
    if any(path.is_file() for path in (options.out, *options.out.parents)):
        raise ValueError(f"{options.out}: cannot be used as a directory, for there is a file; use another --out")
    if options.logger is not None:
        known(options.logger, LOGGERS, "avalanche logger")
    run, form = config.resolve_form(run, device)
    data = None if options.data is None else str(options.data.resolve())
    place = Place(str(device), data, options.logger)
    dataset = load_dataset(run, place)
    run = adopt_file_budget(run, dataset)
    directory = options.out / (_plain_name(options.name) if options.name else default_name(run))
    place = replace(place, logs=str((directory / "tensorboard").resolve()))
    plan = TRACKS[run.track].plan(run, dataset, place)
    return Prepared(run, form, plan, Store(options.out / UNITS), directory, place)


def default_name(run: Run) -> str:
    """A directory name people can read, and that another configuration does not have."""
    digest = Unit("run", config.plain(run), "").key[:6]
    names = (re.sub(r"[:/]+", "-", name).strip("-") for name in (run.dataset, Path(run.memory).stem))
    return f"{run.track}-{'-'.join(names)}-{TRACKS[run.track].short_name(run)}-{run.preset}-{digest}"


def _plain_name(name: str) -> str:
    """`name` as that of a run's directory.

    Raises:
        ValueError: it leads elsewhere, or to where units are kept.
    """
    if name in (".", "..", UNITS) or re.search(r"[/\\]", name):
        raise ValueError(f"--name: expected a plain name for a directory under --out other than {UNITS}, got {name!r}")
    return name


def claim_directory(prepared: Prepared) -> None:
    """Make the run's directory, or see that it is this run's; a damaged config.json is written anew.

    Raises:
        ValueError: it cannot be written to, or holds a different run.
    """
    directory, path = prepared.directory, prepared.directory / "config.json"
    wanted = json.loads(json.dumps(config.plain(prepared.run)))
    try:
        there = _config_at(path)
        if there is not None and there != wanted:
            differ = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
            raise ValueError(f"{directory}: holds a different run ({', '.join(differ)} differ); use another --name")
        prepared.store.root.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(wanted, indent=2).encode() + b"\n")
        units = {"units": [unit.key for unit in prepared.plan.units]}  # for `harness ls runs`, which plans nothing
        write_bytes(directory / "units.json", json.dumps(units, indent=2).encode() + b"\n")
    except OSError as error:
        raise ValueError(f"{directory}: cannot be used as a run directory ({error}); use another --out") from error


def _config_at(path: Path) -> dict[str, Any] | None:
    """The configuration in a file; None where there is no file or it does not read back whole."""
    try:
        there = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return there if isinstance(there, dict) else None


def carry_out(prepared: Prepared, options: Options, report: Callable[[Event], None] = lambda event: None) -> Finished:
    """Do what is left of a run and write its rows; a unit that fails is named in the outcome, the others go on.

    Raises:
        ValueError: an unknown engine, jobs below 1, a shard that is none, a directory that is not this run's.
    """
    began = time.monotonic()
    claim_directory(prepared)
    device = prepared.place.device
    jobs = count_workers(device, options.engine, options.jobs)
    outcome = engines.run(
        _shard(prepared.units, options.shard),
        prepared.store,
        prepared.track.work,
        engine=options.engine,
        jobs=jobs,
        deadline=None if options.time_limit is None else began + options.time_limit,
        report=report,
        environments=worker_environments(device, jobs),
    )
    return Finished(write_rows(prepared), outcome, prepared.directory, time.monotonic() - began)


def _shard(units: list[Unit], shard: tuple[int, int]) -> list[Unit]:
    """The networks whose turn it is, and the memories they need; a memory that several shards need is done once."""
    index, parts = shard
    if not 1 <= index <= parts:
        raise ValueError(f"shard: {index}/{parts} is none; give i/n with i from 1 to n")
    if parts == 1:
        return units
    by_key = {unit.key: unit for unit in units}
    todo = [unit for unit in units if unit.kind != "memory"][index - 1 :: parts]
    mine: dict[str, Unit] = {}
    while todo:
        unit = todo.pop()
        mine[unit.key] = unit
        todo += [by_key[key] for key in unit.needs if key in by_key and key not in mine]
    return [unit for unit in units if unit.key in mine]


def write_rows(prepared: Prepared) -> DataFrame:
    """Write the run's rows, its environment and the memories it has so far; the rows.

    Those who share a run each write its rows: whoever ends while others finish units writes again, with theirs.
    """
    dataset = load_dataset(prepared.run, prepared.place)
    differs = changes(prepared.run, torch.device(prepared.place.device))
    left: list[str] | None = None
    while left != (left := [unit.key for unit in prepared.left]):
        made = [*prepared.track.rows(prepared.run, prepared.plan, prepared.store, dataset, differs)]
        write_bytes(prepared.directory / "rows.csv", rowfiles.to_csv(made))
    environment = {
        "device": prepared.place.device,
        "form": prepared.form,
        "harness": version("condensation-harness"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    write_bytes(prepared.directory / "environment.json", json.dumps(environment, indent=2).encode() + b"\n")
    for name, units in prepared.track.memory_files(prepared.plan).items():
        parts = [prepared.store.load(unit.key) for unit in units]
        whole = [memories.decode(*part, dataset) for part in parts if part is not None]
        if whole and len(whole) == len(units):
            cost = add_costs([part[1]["cost"] for part in parts if part is not None])
            made_by = {**origin(units[0].spec), "units": [unit.key for unit in units], "cost": cost}
            path = prepared.directory / "memories" / f"{name}.safetensors"
            memories.save(memories.join(whole), path, dataset, made_by)
    return rowfiles.to_frame(made)


def changes(run: Run, device: torch.device) -> str:
    """What makes a run another than its preset, such as "memory.iterations=1000"; "" for the preset itself."""
    plain = replace(run, memory_config=None, recipe_config=None)
    fitted, _ = config.resolve_form(plain, device)
    usual, own = config.dotted(fitted), config.dotted(run)
    differ = [key for key in own if own[key] != usual.get(key) and not _has_own_column(key)]
    return ", ".join(f"{key}={_without_folders(key, own[key])}" for key in differ)


def _without_folders(key: str, value: Any) -> Any:
    """A setting as rows know it: a file by its name, wherever it lies."""
    return Path(value).name if key == "memory.scores" else value


def _has_own_column(key: str) -> bool:
    return "." not in key or key.rpartition(".")[2] in ("compute", "real_dtype")


def run(configuration: Run, options: Options = Options()) -> DataFrame:
    """Carry a run out, or on, and give its rows: the Python form of `harness run`.

    Raises:
        ValueError, FileNotFoundError: bad input.
        RuntimeError: some units failed, or were left; the same call continues.
    """
    finished = carry_out(prepare(configuration, options), options)
    if finished.outcome.failed or finished.outcome.left:
        first = next(iter(finished.outcome.failed.items()), ("left", ", ".join(finished.outcome.left[:3])))
        raise RuntimeError(f"{finished.directory}: the run is not complete; {': '.join(first)}")
    return finished.rows
