"""`harness reproduce`: carry out the runs of a published table and compare their results with the published values."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

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
from harness.results.published.reproductions import REPRODUCTIONS, Cell
from harness.results.published.verdicts import Wanted
from harness.results.tables import text
from harness.results.wording import quantity
from harness.tracks import TRACKS
from harness.tracks.base import get_memory_name

# Run -> context that shows the progress of the run; its value is called with each event.
Watch = Callable[[Prepared], AbstractContextManager[Callable[[Event], None]]]


@dataclass(frozen=True)
class Part:
    """A run of a published table, with its form of computing resolved, and the cells whose values it gives."""

    run: Run
    cells: list[Cell]

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        return runs.make_name(self.run)


@dataclass(frozen=True)
class TablePlan:
    """The runs of a published table for a preset and a device. Planning needs no data set.

    Attributes:
        name, note: the name of the table, and one line about it.
        preset, device: the preset and the device of the runs.
        cells: all cells of the table.
        chosen: names of the chosen cells.
        parts: the runs of all cells that have one.
        missing: name of a cell without a run -> the reason.
    """

    name: str
    preset: str
    device: torch.device
    note: str
    cells: list[Cell]
    chosen: frozenset[str]
    parts: list[Part]
    missing: Mapping[str, str]

    def is_chosen(self, part: Part) -> bool:
        """Return whether a run gives the value of a chosen cell."""
        return any(cell.name in self.chosen for cell in part.cells)


@dataclass(frozen=True)
class PreparedTable:
    """The runs of a table that can start.

    Attributes:
        runs: the runs of the chosen cells, the shortest first, each with the estimated seconds of its units that no
            earlier run has.
        unavailable: name of a cell whose run cannot start -> the reason, for example missing data.
    """

    runs: list[tuple[Prepared, float]]
    unavailable: dict[str, str]


@dataclass(frozen=True)
class TableResult:
    """The verdicts on the chosen cells.

    Attributes:
        table: the frame that `verdicts.judge` returns for these cells.
        failed: directory of a run and label of a unit -> the reason why the unit failed.
        left: number of units that are left, plus number of cells whose run cannot start.
        files: the files that were written.
        stopped: the reason why the runs ended early; None if they did not.
    """

    table: DataFrame
    failed: dict[str, str]
    left: int
    files: list[Path]
    stopped: str | None = None

    @property
    def has_below(self) -> bool:
        """Whether a value is below the published one."""
        return bool((self.table["verdict"] == verdicts.BELOW).any())

    @property
    def has_numbers(self) -> bool:
        """Whether any row belongs to a cell."""
        return bool(self.table["ours"].notna().any())


# --- planning -------------------------------------------------------------------------------------------------------


def plan(name: str, preset: str = "paper", device: str = "auto", only: str | None = None) -> TablePlan:
    """Plan the runs of a table in `REPRODUCTIONS`.

    Args:
        name, preset: names of the table and of the preset.
        device: auto, cpu, cuda or cuda:N.
        only: a text that the names of the chosen cells contain, or a pattern such as cifar10/*/50 that they match. None
            chooses all cells.
    Raises:
        ValueError: the table or the preset is unknown, or no cell matches `only`.
    """
    known(name, REPRODUCTIONS, "reproduction")
    known(preset, PRESETS, "preset")
    where, table = pick_device(device), REPRODUCTIONS[name]
    cells = table.cells()
    exact = [cell.name for cell in cells if cell.name == only]  # "mnist/dm/10" contains "mnist/dm/1" too
    chosen = exact or [cell.name for cell in cells if only is None or _matches(cell.name, only)]
    if not chosen:
        raise ValueError(f"--only: no cell of {name} matches {only!r}; cells are named like {cells[0].name}")
    missing = {cell.name: why for cell in cells if (why := _explain_missing(cell))}
    parts: dict[tuple[tuple[str, str], ...], Part] = {}
    for cell in cells:
        if cell.name not in missing:
            key = (("track", cell.track), *sorted(cell.settings.items()))
            if key not in parts:
                parts[key] = Part(config.resolve_form(assemble_run(cell, preset), where)[0], [])
            parts[key].cells.append(cell)
    return TablePlan(name, preset, where, table.note, cells, frozenset(chosen), [*parts.values()], missing)


def assemble_run(cell: Cell, preset: str) -> Run:
    """Assemble the run of a cell under a preset, with ConvNets of the preset's width."""
    settings = dict(cell.settings)
    for name in ("model", "eval_models"):
        if name in settings:
            settings[name] = ",".join(adapt_width(model, cell.track, preset) for model in settings[name].split(","))
    return config.assemble(RUNS[cell.track], preset, settings)


def adapt_width(model: str, track: str, preset: str) -> str:
    """Return the full name of a network; a ConvNet takes the width that the preset has for the track."""
    preset_model = str(PRESETS[preset].run.get(track, {}).get("model", "convnet3"))
    spec, preset_spec = models.parse(model), models.parse(preset_model)
    if isinstance(spec, ConvNetSpec) and isinstance(preset_spec, ConvNetSpec):
        return str(replace(spec, width=preset_spec.width))
    return str(spec)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")


def _explain_missing(cell: Cell) -> str:
    """Return what the run of a cell needs and this version lacks; "" if nothing is missing."""
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


def prepare(plan: TablePlan, options: Options) -> PreparedTable:
    """Check the runs of the chosen cells and estimate their time. Nothing is written.

    Raises:
        ValueError, FileNotFoundError: an option is invalid, or none of the runs can start.
    """
    device = str(pick_device(options.device))
    costs: list[tuple[Prepared, dict[str, float]]] = []  # each run, with key of a unit without a result -> seconds
    unavailable: dict[str, str] = {}
    first_error: Exception | None = None
    for part in filter(plan.is_chosen, plan.parts):
        try:
            prepared = runs.prepare(part.run, options)
        except (ValueError, FileNotFoundError) as error:
            first_error = first_error or error
            unavailable |= {cell.name: " ".join(str(error).split()) for cell in part.cells}
        else:
            costs.append((prepared, {unit.key: unit.cost for unit in prepared.left}))
    if first_error is not None and not costs:
        raise first_error
    table = PreparedTable([], unavailable)
    counted: set[str] = set()  # keys of the units of earlier runs; a unit that runs share is done by the first of them
    workers = count_full_rate_workers(device, count_workers(device, options.engine, options.jobs))
    for prepared, by_key in sorted(costs, key=lambda each: sum(each[1].values())):
        seconds = sum(cost for key, cost in by_key.items() if key not in counted)
        table.runs.append((prepared, seconds / workers))
        counted |= by_key.keys()
    return table


def carry_out(plan: TablePlan, ready: PreparedTable, options: Options, watch: Watch) -> TableResult:
    """Carry out the runs in their order within the time limit, then judge the cells and write the verdicts.

    After the time limit, the same call continues. If a unit fails, the result names it, and the other units are still
    done.
    """
    began = time.monotonic()
    failed: dict[str, str] = {}
    failed_keys: set[str] = set()
    stopped = None
    for prepared, _ in ready.runs:
        seconds = None if options.time_limit is None else options.time_limit - (time.monotonic() - began)
        if stopped not in (None, "time limit") or (seconds is not None and seconds <= 0):
            stopped = stopped or "time limit"
            continue
        with watch(prepared) as report:
            outcome = runs.carry_out(prepared, replace(options, time_limit=seconds), report).outcome
        failed |= {f"{prepared.directory.name}: {label}": reason for label, reason in outcome.failed.items()}
        failed_keys |= {unit.key for unit in prepared.units if unit.label in outcome.failed}
        stopped = outcome.stopped or stopped
    # Runs may share units, so units are counted by key. With `shard`, the units of other shards are left as well.
    left = {unit.key for prepared, _ in ready.runs for unit in prepared.left} - failed_keys
    table = judge(plan, _read_rows(plan, options.out), ready.unavailable)
    files = write(plan, table, options.out / f"reproduce-{plan.name}-{plan.preset}")
    return TableResult(_choose_cells(plan, table), failed, len(left) + len(ready.unavailable), files, stopped)


def judge_rows(plan: TablePlan, paths: Sequence[Path], out: Path) -> TableResult:
    """Judge the cells by the rows in the files `paths`, without carrying out runs.

    Raises:
        ValueError, FileNotFoundError: there are no rows, no row belongs to a chosen cell, or the rows of several runs
            belong to one cell.
    """
    rows = rowfiles.read(paths)
    table = judge(plan, rows)
    chosen = _choose_cells(plan, table)
    if chosen["ours"].isna().all():
        raise ValueError(
            f"none of {quantity(len(rows), 'row')} belongs to any of {quantity(len(chosen), 'cell')} of {plan.name}, "
            f"preset {plan.preset}, such as {chosen['cell'].iloc[0]}: rows need the data set, method, budget, recipe "
            "and networks of the cell's run"
        )
    files = write(plan, table, out / f"reproduce-{plan.name}-{plan.preset}-rows")
    return TableResult(chosen, {}, 0, files)


def _read_rows(plan: TablePlan, out: Path) -> DataFrame:
    """Read the rows in `out` of all runs of the table, including runs of cells that are not chosen."""
    paths = [path for part in plan.parts if (path := out / part.name / "rows.csv").is_file() and path.stat().st_size]
    try:
        return rowfiles.read(paths)
    except ValueError:  # no unit is finished: all files have only a header
        return rowfiles.to_frame([])


def _choose_cells(plan: TablePlan, table: DataFrame) -> DataFrame:
    """Return the lines of the chosen cells."""
    return table[table["cell"].isin(list(plan.chosen))].reset_index(drop=True)


# --- judging --------------------------------------------------------------------------------------------------------


def judge(plan: TablePlan, rows: DataFrame, unavailable: Mapping[str, str] = {}) -> DataFrame:
    """Judge all cells of a plan by `verdicts.judge`.

    Args:
        plan, rows: the plan of the table, and the rows of its runs.
        unavailable: name of a cell whose run cannot start -> the reason, which is added to the note of the cell.
    """
    run_of_cell = {cell.name: part.run for part in plan.parts for cell in part.cells}
    wanted = [
        Wanted(cell, plan.preset, _find_columns(run_of_cell[cell.name], cell, plan.device))
        if cell.name in run_of_cell
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


def _find_columns(run: Run, cell: Cell, device: torch.device) -> dict[str, object]:
    """Return column -> value for the columns that distinguish the rows of a run from those of other runs."""
    columns: dict[str, object] = {
        "dataset": run.dataset,
        "split": run.split,
        "preset": run.preset,
        "changes": runs.find_changes(run, device),
        "memory": get_memory_name(run),
        "ipc": run.ipc if run.method.stored or run.memory == EARLY_STOPPING else None,  # see `search.make_rows`
        "recipe": run.recipe,
    }
    if cell.track == "cl":
        return columns | {"model": str(models.parse(run.model)), "steps": int(cell.settings["steps"])}
    if not isinstance(run, NASRun):
        model = adapt_width(cell.model, cell.track, run.preset) if cell.model else run.model
        memory_model = run.method.model
        return columns | {
            "model": str(models.parse(model)),
            "memory_model": "" if memory_model is None else str(models.parse(memory_model)),
        }
    return columns | {"split": "test", "space": run.space, "architectures": len(run.candidates.archs)}


def write(plan: TablePlan, table: DataFrame, directory: Path) -> list[Path]:
    """Write the verdicts to verdicts.csv and verdicts.md in `directory`; return the paths of both files."""
    csv_path, page_path = directory / "verdicts.csv", directory / "verdicts.md"
    write_bytes(csv_path, text.to_csv(table).encode())
    write_bytes(page_path, to_markdown(plan, table).encode())
    return [csv_path, page_path]


def to_markdown(plan: TablePlan, table: DataFrame) -> str:
    """Return a Markdown page with the verdicts, their meaning, and the sources of the published values."""
    warning = verdicts.caption(plan.preset)
    sources = ", ".join(dict.fromkeys(filter(None, table["source"])))
    return "\n\n".join([
        f"# {plan.name}, preset {plan.preset}",
        plan.note,
        *([f"**{warning}**"] if warning else []),
        text.to_text(verdicts.to_table(table), "md").strip(),
        f"{verdicts.count_verdicts(table)}. Published: {sources}.",
        *([] if warning else [verdicts.RULE]),
    ]) + "\n"  # fmt: skip
