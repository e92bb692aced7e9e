"""`reproduce`: the runs behind a published table, and the verdicts."""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    BELOW,
    UNFINISHED,
    ExecutionOptions,
    PlaceOptions,
    Preset,
    remaining_seconds,
    run_options,
    takes,
)
from harness.cli.running import AN_HOUR
from harness.cli.saying import complain, say

if TYPE_CHECKING:
    from harness.commands.reproduce import PreparedTable, TablePlan, TableResult


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which published table is reproduced, and from which rows."""

    table: Annotated[str, typer.Argument(metavar="NAME", help="A table of `harness ls reproductions`.")]
    more_rows: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="More runs after `--rows RUN`.")] = None
    preset: Preset = None
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Cells whose name contains this text: cifar10/dm.")
    ] = None
    rows: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Judge these runs or row files, and train nothing."),
    ] = None

    @property
    def row_files(self) -> list[Path]:
        """Return the runs and row files to judge: that of `--rows`, and those that follow as arguments."""
        if self.more_rows and not self.rows:
            raise ValueError(f"reproduce: {self.more_rows[0]} is unexpected; give runs by --rows RUN...")
        return [*(self.rows or []), *(self.more_rows or [])]


@takes(TableOptions, PlaceOptions, ExecutionOptions)
def reproduce(asked: TableOptions, place: PlaceOptions, execution: ExecutionOptions) -> None:
    """Carry out the runs behind a published table, and say for every cell whether its number holds.

    Exit code 0: every run asked for is complete and no cell is below.
    Exit code 2: the input is bad, or no row fits any cell.
    Exit code 3: work is left.
    Exit code 4: all is complete and a cell is below the published number.
    """
    start = time.monotonic()
    from harness.commands import reproduce as reproductions

    options = run_options(place, execution)
    plan = reproductions.plan(asked.table, asked.preset or "paper", place.device, asked.only)
    if asked.row_files:
        if execution.dry_run:
            raise ValueError("--dry-run: --rows trains nothing; leave one of them out")
        _judge(reproductions.judge_rows(plan, asked.row_files, place.out), plan, execution)
        return
    ready = reproductions.prepare(plan, options)
    _announce_all(plan, ready, quiet=execution.quiet and not execution.dry_run)
    if not execution.dry_run:
        from harness.cli.display import watching

        options = replace(options, time_limit=remaining_seconds(options.time_limit, start))
        carried_out = reproductions.carry_out(
            plan, ready, options, lambda prepared: watching(prepared.units, execution.quiet)
        )
        _judge(carried_out, plan, execution)


def _announce_all(plan: "TablePlan", ready: "PreparedTable", *, quiet: bool) -> None:
    """Say which runs a reproduction has left, how long they take here, and what cannot be run."""
    if quiet:
        return
    from harness.results.published import verdicts
    from harness.results.wording import duration, quantity

    if loud := verdicts.caption(plan.preset):
        say(loud)
    say(
        f"{plan.name}: {plan.note}; {len(plan.chosen)} of {quantity(len(plan.cells), 'cell')}, "
        f"{quantity(len(ready.runs), 'run')}"
    )
    for prepared, seconds in ready.runs:
        left = len(prepared.left)
        takes = f"{quantity(left, 'unit')} left, about {duration(seconds)}" if left else "done already"
        say(f"  {prepared.track.make_title(prepared.run)}: {takes}")
    for cell, why in {**plan.missing, **ready.unavailable}.items():
        if cell in plan.chosen:
            say(f"  {cell}: cannot be run ({why})")
    total = sum(seconds for _, seconds in ready.runs)
    say(f"about {duration(total)} in all on this machine")
    if total > AN_HOUR and plan.preset == "paper" and plan.device.type == "cpu":
        say(f"to see the same in little: harness reproduce {plan.name} --preset quick")


def _judge(reproduced: "TableResult", plan: "TablePlan", execution: ExecutionOptions) -> None:
    """Print the verdicts and what is left; exit 3 where something is, 4 where a cell is below."""
    from harness.results.published import verdicts
    from harness.results.tables.console import print_tables
    from harness.results.wording import quantity

    loud = verdicts.caption(plan.preset)
    if not execution.quiet:
        from rich.console import Console

        console = Console(file=sys.stderr if execution.as_json else sys.stdout)
        if reproduced.has_numbers:
            # In a pipe or a log, each cell is one line.
            print_tables([verdicts.to_table(reproduced.table)], console.file, wide=not console.is_terminal)
            lines = [*([loud] if loud else []), verdicts.count_verdicts(reproduced.table)]
            console.print(*lines, sep="\n", markup=False, highlight=False)
        else:
            cells = quantity(len(reproduced.table), "cell")
            console.print(
                f"no row fits any of {cells} of {plan.name} yet", markup=False, highlight=False, soft_wrap=True
            )
    for label, reason in reproduced.failed.items():
        complain(f"failed: {label}: {reason}")
    complete = not reproduced.failed and not reproduced.left
    if not complete:
        why = f" ({reproduced.stopped})" if reproduced.stopped else ""
        left = quantity(reproduced.left + len(reproduced.failed), "unit")
        complain(f"{left} or cells left{why}; the same command continues")
    if not execution.quiet:
        say(f"verdicts: {' '.join(map(str, reproduced.files))}")
    if execution.as_json:
        print(json.dumps({
            "complete": complete,
            "preset": plan.preset,
            "cells": json.loads(reproduced.table.to_json(orient="records")),
            "failed": reproduced.failed,
            "left": reproduced.left,
            "files": [str(path) for path in reproduced.files],
        }))  # fmt: skip
    if not complete:
        raise typer.Exit(UNFINISHED)
    if reproduced.has_below:
        raise typer.Exit(BELOW)
