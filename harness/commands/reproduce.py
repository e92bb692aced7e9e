"""`harness reproduce`: carry out the runs behind a published table, and hold what they gave against it."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame

from harness import config, memory
from harness.commands import run as runs
from harness.commands.run import Options, Prepared
from harness.config import EARLY_STOPPING, PRESETS, RUNS, NASRun, Run
from harness.core import models
from harness.core.atomic import write_bytes
from harness.core.models import ConvNetSpec
from harness.core.registry import known
from harness.execution.engines import Event
from harness.execution.resources import count_full_rate_workers, count_workers, pick_device
from harness.results import rows as rowfiles
from harness.results.published import verdicts
from harness.results.published.reproductions import REPRODUCTIONS, Cell, Reproduction
from harness.results.published.verdicts import Wanted
from harness.results.tables import text
from harness.results.wording import quantity
from harness.tracks import TRACKS
from harness.tracks.base import memory_name

Watch = Callable[[Prepared], AbstractContextManager[Callable[[Event], None]]]  # what is shown while a run works


@dataclass(frozen=True)
class Part:
    """A run of a reproduction, in its form of computing, and the cells it gives."""

    run: Run
    cells: list[Cell]

    @property
    def name(self) -> str:
        """Its directory's."""
        return runs.default_name(self.run)


@dataclass(frozen=True)
class Plan:
    """A published table as runs under a preset, on a device. No data set is needed to make one."""

    name: str
    preset: str
    device: torch.device
    note: str
    cells: list[Cell]  # of the whole table
    chosen: frozenset[str]  # names of the cells asked for
    parts: list[Part]  # the runs of all cells that have one
    missing: Mapping[str, str]  # cell -> why it has no run

    def is_chosen(self, part: Part) -> bool:
        return any(cell.name in self.chosen for cell in part.cells)


@dataclass(frozen=True)
class Ready:
    """What could start: the runs asked for, cheapest first, with the seconds each adds to those before it."""

    prepared: list[tuple[Prepared, float]]
    unavailable: dict[str, str]  # cell -> why its run cannot start: its data are not here


@dataclass(frozen=True)
class Reproduced:
    table: DataFrame  # `verdicts.judge` of the cells asked for
    failed: dict[str, str]  # a run's directory and a unit's label -> reason
    left: int  # units, and cells whose data are not here
    files: list[Path]
    stopped: str | None = None

    @property
    def has_below(self) -> bool:
        """Whether a number fell short of the published one."""
        return bool((self.table["verdict"] == verdicts.BELOW).any())

    @property
    def has_numbers(self) -> bool:
        """Whether any row fits a cell asked for."""
        return bool(self.table["ours"].notna().any())


# --- planning -------------------------------------------------------------------------------------------------------


def plan(name: str, preset: str = "paper", device: str = "auto", only: str | None = None) -> Plan:
    """The runs of a table in `REPRODUCTIONS`.

    Args:
        only: cells whose name has this in it, or fits it where it has wildcards: cifar10/*/50. None: all.
    Raises:
        ValueError: an unknown table or preset, or no cell fits.
    """
    known(name, REPRODUCTIONS, "reproduction")
    return plan_of(name, REPRODUCTIONS[name], preset, device, only)


def plan_of(
    name: str, reproduction: Reproduction, preset: str = "paper", device: str = "auto", only: str | None = None
) -> Plan:
    """`plan` of any table, listed or not."""
    known(preset, PRESETS, "preset")
    where, cells = pick_device(device), reproduction.cells()
    exactly = [cell.name for cell in cells if cell.name == only]  # mnist/dm/1 is in mnist/dm/10 as well
    chosen = exactly or [cell.name for cell in cells if only is None or _fits(cell.name, only)]
    if not chosen:
        raise ValueError(f"--only: no cell of {name} fits {only!r}; cells are named like {cells[0].name}")
    missing = {cell.name: why for cell in cells if (why := _missing(cell))}
    parts: dict[tuple[tuple[str, str], ...], Part] = {}
    for cell in cells:
        if cell.name not in missing:
            key = (("track", cell.track), *sorted(cell.settings.items()))
            if key not in parts:
                parts[key] = Part(config.resolve_form(run_of(cell, preset), where)[0], [])
            parts[key].cells.append(cell)
    return Plan(name, preset, where, reproduction.note, cells, frozenset(chosen), [*parts.values()], missing)


def run_of(cell: Cell, preset: str) -> Run:
    """A cell's run under a preset, which may have the papers' ConvNet narrower."""
    settings = dict(cell.settings)
    for name in ("model", "eval_models"):
        if name in settings:
            settings[name] = ",".join(narrowed(model, cell.track, preset) for model in settings[name].split(","))
    return config.assemble(RUNS[cell.track], preset, settings)


def narrowed(model: str, track: str, preset: str) -> str:
    """The full name of a network, a ConvNet's at the width that a preset has for a track; others have one width."""
    spec, usual = models.parse(model), models.parse(str(PRESETS[preset].run.get(track, {}).get("model", "convnet3")))
    if isinstance(spec, ConvNetSpec) and isinstance(usual, ConvNetSpec):
        return str(replace(spec, width=usual.width))
    return str(spec)


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")


def _missing(cell: Cell) -> str:
    """What there is not that a cell's run would need; "" for nothing."""
    if cell.missing:
        return cell.missing
    name = cell.settings["memory"]
    if name not in RUNS[cell.track].without_builder:
        try:
            memory.find(name)
        except ValueError:
            return f"no builder {name}"
    return "" if cell.track in verdicts.TABLES and cell.track in TRACKS else f"track {cell.track}"


# --- carrying out ---------------------------------------------------------------------------------------------------


def prepare(plan: Plan, options: Options) -> Ready:
    """Check the runs asked for and say what each would take; nothing is written.

    Raises:
        ValueError, FileNotFoundError: bad options, or none of the runs can start.
    """
    device = str(pick_device(options.device))
    found: list[tuple[Prepared, dict[str, float]]] = []
    unavailable: dict[str, str] = {}
    first: Exception | None = None
    for part in filter(plan.is_chosen, plan.parts):
        try:
            prepared = runs.prepare(part.run, options)
        except (ValueError, FileNotFoundError) as error:
            first = first or error
            unavailable |= {cell.name: " ".join(str(error).split()) for cell in part.cells}
            continue
        costs = {unit.key: unit.cost for unit in prepared.left}
        found.append((prepared, costs))
    if first is not None and not found:
        raise first
    ready: list[tuple[Prepared, float]] = []
    counted: set[str] = set()  # what runs share is done once, by the first
    workers = count_full_rate_workers(device, count_workers(device, options.engine, options.jobs))
    for prepared, costs in sorted(found, key=lambda each: sum(each[1].values())):
        own = [cost for key, cost in costs.items() if key not in counted]
        ready.append((prepared, sum(own) / workers))
        counted |= costs.keys()
    return Ready(ready, unavailable)


def carry_out(plan: Plan, ready: Ready, options: Options, watch: Watch) -> Reproduced:
    """Do what is left of the runs in their order, within the time limit; then judge, and write the verdicts.

    What the limit leaves no time for is left: the same call continues. A unit that fails is named, the others go on.
    """
    began = time.monotonic()
    failed: dict[str, str] = {}
    failed_keys: set[str] = set()
    stopped = None
    for prepared, _ in ready.prepared:
        rest = None if options.time_limit is None else options.time_limit - (time.monotonic() - began)
        if stopped not in (None, "time limit") or (rest is not None and rest <= 0):
            stopped = stopped or "time limit"
            continue
        with watch(prepared) as report:
            outcome = runs.carry_out(prepared, replace(options, time_limit=rest), report).outcome
        failed |= {f"{prepared.directory.name}: {label}": reason for label, reason in outcome.failed.items()}
        failed_keys |= {unit.key for unit in prepared.units if unit.label in outcome.failed}
        stopped = outcome.stopped or stopped
    # By key: runs may share units. With `shard`, those of others are left as well.
    left = {unit.key for prepared, _ in ready.prepared for unit in prepared.left} - failed_keys
    table = judge(plan, _own_rows(plan, options.out), ready.unavailable)
    files = write(plan, table, options.out / f"reproduce-{plan.name}-{plan.preset}")
    asked = table[table["cell"].isin(list(plan.chosen))].reset_index(drop=True)
    return Reproduced(asked, failed, len(left) + len(ready.unavailable), files, stopped)


def from_rows(plan: Plan, paths: Sequence[Path], out: Path) -> Reproduced:
    """Judge what row files say, without a run.

    Raises:
        ValueError, FileNotFoundError: there are no rows, none of a cell asked for, or those of several runs fit one.
    """
    rows = rowfiles.read(paths)
    table = judge(plan, rows)
    asked = table[table["cell"].isin(list(plan.chosen))].reset_index(drop=True)
    if asked["ours"].isna().all():
        one = asked["cell"].iloc[0]
        raise ValueError(
            f"none of {quantity(len(rows), 'row')} fits any of {quantity(len(asked), 'cell')} of {plan.name}, preset "
            f"{plan.preset}, such as {one}: a cell wants the data set, builder, budget, recipe and networks of its run"
        )
    files = write(plan, table, out / f"reproduce-{plan.name}-{plan.preset}-rows")
    return Reproduced(asked, {}, 0, files)


def _own_rows(plan: Plan, out: Path) -> DataFrame:
    """The rows of all runs of the table that were ever carried out here, asked for this time or not."""
    found = [path for part in plan.parts if (path := out / part.name / "rows.csv").is_file() and path.stat().st_size]
    try:
        return rowfiles.read(found)
    except ValueError:  # nothing is finished, and each file holds its header alone
        return rowfiles.to_frame([])


# --- judging --------------------------------------------------------------------------------------------------------


def judge(plan: Plan, rows: DataFrame, unavailable: Mapping[str, str] = {}) -> DataFrame:
    """`verdicts.judge` of all cells of a plan.

    Args:
        unavailable: cell -> why its run could not start; told where it has not been carried out earlier either.
    """
    of_cell = {cell.name: part.run for part in plan.parts for cell in part.cells}
    wanted = [
        Wanted(cell, plan.preset, _columns(of_cell[cell.name], cell, plan.device))
        if cell.name in of_cell
        else Wanted(cell, plan.preset, {}, plan.missing[cell.name])
        for cell in plan.cells
    ]
    table = verdicts.judge(wanted, rows)
    is_open = (table["verdict"] == verdicts.NOT_RUN) & table["cell"].isin(list(unavailable))
    table.loc[is_open, "note"] = [
        ", ".join(filter(None, (unavailable[cell], note)))
        for cell, note in table.loc[is_open, ["cell", "note"]].itertuples(index=False)
    ]
    return table


def _columns(run: Run, cell: Cell, device: torch.device) -> dict[str, Any]:
    """What a run's rows say in the columns that set runs apart."""
    columns: dict[str, Any] = {
        "dataset": run.dataset,
        "split": run.split,
        "preset": run.preset,
        "changes": runs.changes(run, device),
        "memory": memory_name(run),
        "ipc": run.ipc if run.method.stored or run.memory == EARLY_STOPPING else None,  # as shortly as on so many
        "recipe": run.recipe,
    }
    if cell.track == "cl":
        return columns | {"model": str(models.parse(run.model)), "steps": int(cell.settings["steps"])}
    if not isinstance(run, NASRun):
        model = narrowed(cell.model, cell.track, run.preset) if cell.model else run.model
        built_with = run.method.model
        return columns | {
            "model": str(models.parse(model)),
            "memory_model": "" if built_with is None else str(models.parse(built_with)),
        }
    return columns | {"split": "test", "space": run.space, "architectures": len(run.searched.archs)}


def write(plan: Plan, table: DataFrame, directory: Path) -> list[Path]:
    """Write the verdicts as CSV, number by number, and as markdown for people; the files."""
    csv_file, page = directory / "verdicts.csv", directory / "verdicts.md"
    write_bytes(csv_file, text.to_csv(table).encode())
    write_bytes(page, as_markdown(plan, table).encode())
    return [csv_file, page]


def as_markdown(plan: Plan, table: DataFrame) -> str:
    """The verdicts with what they mean and where the published values are from."""
    loud = verdicts.caption(plan.preset)
    sources = ", ".join(dict.fromkeys(filter(None, table["source"])))
    return "\n\n".join([
        f"# {plan.name}, preset {plan.preset}",
        plan.note,
        *([f"**{loud}**"] if loud else []),
        text.to_text(verdicts.shown(table), "md").strip(),
        f"{counts(table)}. Published: {sources}.",
        *([] if loud else [verdicts.RULE]),
    ]) + "\n"  # fmt: skip


def counts(table: DataFrame) -> str:
    """How many cells have each verdict: "3 within, 1 below"."""
    return ", ".join(f"{number} {given}" for given, number in table["verdict"].value_counts(sort=False).items())
