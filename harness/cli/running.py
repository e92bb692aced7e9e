"""`run` and `estimate`: a configuration from what was given, its run, and what that found."""

import json
import shlex
import sys
import time
import tomllib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from harness.cli.options import (
    TRACKS,
    UNFINISHED,
    ExecutionOptions,
    RunOptions,
    RunPlaceOptions,
    SettingOptions,
    StreamExecutionOptions,
    remaining_seconds,
    run_options,
    takes,
)
from harness.cli.saying import complain, say

if TYPE_CHECKING:
    from harness.commands.run import Finished, Options, Prepared
    from harness.config import Run
    from harness.results.tables.columns import Table

BESIDE = ("average_incremental_accuracy", "forgetting", "test_accuracy_uint8")
HEADLINES = ("last_accuracy", "test_accuracy")  # where a track's own is there, there may be a table
AN_HOUR = 3600.0

run_app = typer.Typer(no_args_is_help=True, help="Carry a run out, or on: finished units are never done again.")
estimate_app = typer.Typer(no_args_is_help=True, help="Say what a run would do and how long it takes here.")


def _add_commands(track: str, kind: type[RunOptions]) -> None:
    """Add `run TRACK` and `estimate TRACK`, which take the options of `kind` among others."""

    @run_app.command(track, help=kind.__doc__)
    @takes(kind, SettingOptions, RunPlaceOptions, StreamExecutionOptions if track == "cl" else ExecutionOptions)
    def run(own: RunOptions, others: SettingOptions, place: RunPlaceOptions, execution: ExecutionOptions) -> None:
        start = time.monotonic()
        logger = execution.avalanche_logger if isinstance(execution, StreamExecutionOptions) else None
        options = run_options(place, execution, name=place.name, logger=logger)
        _carry_out(read_configuration(track, own, others), options, execution, start)

    @estimate_app.command(
        track, help=f"What `run {track}` with the same options would still do, and how long it takes here."
    )
    @takes(kind, SettingOptions, RunPlaceOptions)
    def estimate(own: RunOptions, others: SettingOptions, place: RunPlaceOptions) -> None:
        from harness.commands import run as runs

        options = run_options(place, name=place.name)
        prepared = runs.prepare(read_configuration(track, own, others), options)
        _announce(prepared, options, configuration=False, quiet=False)
        if track == "nas":
            _print_each(prepared)


for _track, _kind in TRACKS.items():
    _add_commands(_track, _kind)


def _carry_out(run: "Run", options: "Options", execution: ExecutionOptions, start: float) -> None:
    """Announce a run and carry it out, unless it is a dry run; its time limit counts from `start`."""
    from harness.commands import run as runs

    prepared = runs.prepare(run, options)
    if not execution.dry_run:
        runs.claim_directory(prepared)  # before anything is announced
    _announce(prepared, options, configuration=execution.dry_run, quiet=execution.quiet and not execution.dry_run)
    if execution.dry_run:
        return
    from harness.cli.display import watching

    with watching(prepared.units, execution.quiet) as report:
        limited = replace(options, time_limit=remaining_seconds(options.time_limit, start))
        finished = runs.carry_out(prepared, limited, report)
    _conclude(finished, len(prepared.left), execution.as_json, execution.quiet)


def read_configuration(track: str, own: RunOptions, others: SettingOptions) -> "Run":
    """Read the configuration of a run; `--set` overrides options, and these override the settings in a file."""
    from harness.config import RUNS, assemble, flatten

    settings: dict[str, object] = {}
    if others.config is not None:
        try:
            settings |= flatten(tomllib.loads(others.config.read_text("utf-8-sig")))
        except (OSError, ValueError) as error:  # no such file, no text, no TOML
            raise ValueError(f"--config: {others.config} cannot be read ({error})") from error
    given = {**asdict(own), "seed": others.seed, "preset": others.preset}
    settings |= {key: value for key, value in given.items() if value is not None}
    for pair in others.pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected KEY=VALUE, got {pair!r}")
        settings[key.strip()] = value.strip()
    return assemble(RUNS[track], str(settings.pop("preset", "paper")), settings)


def _announce(prepared: "Prepared", options: "Options", *, configuration: bool, quiet: bool) -> None:
    """Say what a run will do, in which form, and how long that takes here."""
    if quiet:
        return
    from harness.config import to_dotted
    from harness.execution.costs import estimate_seconds_left
    from harness.execution.resources import count_full_rate_workers, count_workers
    from harness.results.wording import duration, quantity
    from harness.tracks.base import is_file

    run = prepared.run
    if configuration:
        for key, value in to_dotted(run).items():
            say(f"{key} = {value}")
    say(prepared.track.make_title(run))
    if prepared.note:
        say(prepared.note)
    say(f"form: {prepared.form}; device {prepared.place.device}")
    left = prepared.left  # which measures this machine, the first time, and compiles for that
    say(f"{quantity(len(prepared.units), 'unit')}, {len(prepared.units) - len(left)} of them done already")
    device = prepared.place.device
    workers = min(count_workers(device, options.engine, options.jobs), max(len(left), 1))
    seconds = estimate_seconds_left(left, count_full_rate_workers(device, workers))
    if left:
        say(f"about {duration(seconds)} on this machine, {workers} at a time; results in {prepared.directory}")
    if seconds > AN_HOUR and prepared.place.device == "cpu" and run.preset == "paper" and not is_file(run.memory):
        say(f"for an answer in minutes: {_quick_command(run, options)}")


def _quick_command(run: "Run", options: "Options") -> str:
    """Return the command that answers the same question under `quick`."""
    asked = {"dataset": run.dataset, "proxy" if run.track == "nas" else "memory": run.memory}
    asked |= {name: getattr(run, name) for name in ("steps", "space") if hasattr(run, name)}
    asked |= {name: value for name in ("ipc", "recipe") if (value := getattr(run, name)) != getattr(type(run)(), name)}
    asked |= {"data": str(options.data)} if options.data is not None else {}
    words = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    return shlex.join(["harness", "run", run.track, *words, "--preset", "quick"])


def _print_each(prepared: "Prepared") -> None:
    """Print how long each training that is left takes, longest first."""
    from harness.results.wording import duration

    for unit in sorted(prepared.left, key=lambda unit: -unit.cost):
        print(f"{duration(unit.cost):>9}  {unit.label}")


def _conclude(finished: "Finished", left: int, as_json: bool, quiet: bool) -> None:
    """Print the table and what is left; exit 3 where something is."""
    from harness.results.wording import quantity

    outcome, rows = finished.outcome, finished.rows
    complete = not outcome.failed and not outcome.left
    tables: list[Table] = []
    if (as_json or not quiet) and rows["metric"].isin(HEADLINES).any():
        from harness.results.tables.collect import tables_of
        from harness.results.tables.console import print_tables

        try:
            tables = tables_of(rows)
        except ValueError as error:  # candidates were trained, but on one side only: there is nothing to rank against
            if not quiet:
                say(f"no table: {error}")
    if tables and not quiet:
        print_tables(tables, sys.stderr if as_json else sys.stdout)
    for label, reason in outcome.failed.items():
        complain(f"failed: {label}: {reason}")
    if not complete:
        why = f" ({outcome.stopped})" if outcome.stopped else ""
        waiting = f"{quantity(len(outcome.left), 'unit')} left{why}"
        if outcome.failed:
            complain(f"{quantity(len(outcome.failed), 'unit')} failed, {waiting}; the same command tries them again")
        else:
            complain(f"{waiting}; the same command continues")
    elif not quiet:
        say(f"rows: {finished.directory / 'rows.csv'}")
        if left:
            say(f"this part is done; left to others: {quantity(left, 'unit')}")
    if as_json:
        print(json.dumps(_as_json(finished, left, tables)))
    if not complete:
        raise typer.Exit(UNFINISHED)


def _as_json(finished: "Finished", left: int, tables: "list[Table]") -> dict[str, object]:
    """Return the result as one JSON object for other programs.

    Args:
        finished: the run; left: the number of units of the whole run without a result, those of other shards included.
        tables: its tables; of a search, the rank correlations of its proxies are those of the table.
    """
    from harness.results.tables.search import SEARCHES
    from harness.results.tables.search_records import rank_records

    rows = finished.rows
    ranking = [record for table in tables if table.layout is SEARCHES for record in rank_records(table.frame)]
    whole = rows[rows["metric"].isin((*HEADLINES, *BESIDE))]
    columns = ["metric", "unit", "value", "memory", "preset", "repeat"]
    columns += [name for name in ("steps", "order", "set", "model", "iterations", "arch") if (whole[name] != "").any()]
    return {
        "complete": not left,
        "directory": str(finished.directory),
        **({"ranking": ranking} if ranking else {}),
        "results": json.loads(whole[columns].to_json(orient="records")),  # pandas knows what is missing
        "failed": finished.outcome.failed,
        "left": left,
        "seconds": round(finished.seconds, 1),
    }
