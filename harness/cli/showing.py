"""What shows, draws, times and gathers what there is: no command here trains anything."""

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import BAD_INPUT, Data, Device, Json, Out, Runs
from harness.cli.saying import complain, say

if TYPE_CHECKING:
    from harness.commands.listings import Lines


def table(
    runs: Runs,
    format: Annotated[str, typer.Option(help="md, csv, latex, html, terminal.")] = "terminal",
    details: Annotated[bool, typer.Option("--details", help="On a terminal, the other columns as well.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="On a terminal, all columns in one wide table.")] = False,
) -> None:
    """Print the results of runs: means with 95 % intervals and n, beside the published values.

    A terminal gets a table for each question, within 80 columns; the other formats hold every column.
    """
    from harness.results import rows
    from harness.results.tables import text
    from harness.results.tables.collect import tables_of
    from harness.results.tables.console import print_tables

    tables = tables_of(rows.read(runs))
    if format == "terminal":
        print_tables(tables, sys.stdout, details=details, wide=wide)
        if not details and not wide:
            print("--details prints the other columns as well, --wide one wide table.")
    else:
        print("\n".join(text.to_text(each, format) for each in tables), end="")


def gather(
    runs: Runs,
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.parquet; made, or added to.")],
) -> None:
    """Gather the networks of searches in one Parquet file, the tabular benchmark: what `--truth tabular` reads."""
    from harness.core.atomic import write_bytes
    from harness.results import rows, tabular
    from harness.results.wording import quantity

    if output.suffix != ".parquet":
        raise ValueError(f"{output}: a table is a file whose name ends in .parquet")
    known = [tabular.load(output).rows()] if output.exists() else []
    write_bytes(output, tabular.to_parquet(*known, rows.read(runs)))
    print(f"{output}: {quantity(len(tabular.load(output).archs()), 'architecture')} trained on all images")


def plot(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run directories or row files.")] = None,
    figure: Annotated[str | None, typer.Option(help="A name of `harness ls figures`.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="FILE.png, .pdf or .svg.")] = None,
    data: Data = None,
) -> None:
    """Draw a figure of runs, and write its numbers beside it as CSV; without an argument, list the figures.

    A file of another figure is never replaced.
    """
    from harness.commands import figures, listings

    if runs and figure:
        for path in figures.draw(figure, runs, output, data):
            print(path)
    elif runs:
        raise ValueError(f"--figure: name the figure to draw: {', '.join(figures.names())}")
    elif figure:
        raise ValueError(f"plot: name the runs to draw, such as `harness plot runs/* --figure {figure}`")
    else:
        _print_lines(listings.list_kind("figures"))
        print("\nGo on with `harness plot RUN... --figure NAME`, or `harness show NAME`.")


def report(
    runs: Runs,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="An HTML file.")] = Path("report.html"),
) -> None:
    """Write one HTML page that opens anywhere: tables, figures, memories, how they were made, what is missing."""
    from harness.commands import report as reports

    print(reports.write(runs, output))


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(help="memories, recipes, presets, datasets, spaces, figures, reproductions or runs."),
    ] = None,
    out: Out = Path("runs"),
) -> None:
    """List everything of a kind, such as the runs under --out; without an argument, list the kinds."""
    from harness.commands import listings

    if kind is None:
        _print_lines(listings.list_kinds(out))
        print("\nGo on with `harness ls KIND`, then `harness show NAME`.")
    else:
        _print_lines(listings.list_kind(kind, out))


def _print_lines(lines: "Lines") -> None:
    """Print names and what they are in 80 columns: a long name has a line of its own, a long text several."""
    for name, about in lines:
        head = f"{name:20} " if len(name) <= 20 else f"{name}\n{'':21}"
        if not about:
            print(name)
            continue
        first, *rest = textwrap.wrap(about, 59, break_long_words=False, break_on_hyphens=False)
        print(head + first, *(f"{'':21}{line}" for line in rest), sep="\n")


def show(name: Annotated[str, typer.Argument(metavar="NAME|RUN|FILE")]) -> None:
    """Print a page about anything that `harness ls` lists, a network, a run or a memory file."""
    from harness.commands import show as pages

    print(pages.show(name))


def doctor(out: Out = Path("runs"), data: Data = None) -> None:
    """What this machine has for a run, and what is in the way of one. Exit code 2: something is."""
    from harness.commands import doctor as doctors

    findings = list(doctors.examine(out, data))
    for finding in findings:
        print(f"{finding.name:20} {finding.found}")
    for finding in findings:
        if not finding.is_fine:
            complain(f"{finding.name}: {finding.found}")
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(BAD_INPUT)


def bench(
    name: Annotated[str, typer.Argument(help="dc, dcc, dm, dm-mnist, dsa, fit, idc, nas or stream.")],
    preset: Annotated[str, typer.Option(help="paper or quick: the sizes to time.")] = "paper",
    seconds: Annotated[float, typer.Option(help="How long to measure the slower form; nas takes its own time.")] = 20.0,
    threads: Annotated[int | None, typer.Option(help="For both forms alike; by default one per core.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Time the shipped form against the plain one, in turn in this process."""
    from harness.commands import bench as benches

    result = benches.run(name, preset, seconds, threads, device)
    if as_json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A directory; by default RUN/export.")] = None,
    data: Data = None,
) -> None:
    """Write a run's memories as files others read: safetensors, a card, .pt as DC writes it, PNGs, a picture of all."""
    from harness.commands import export as exports

    for path in exports.export(run, output, data):
        print(path)


def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that --out named.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where their units and runs are brought together.")],
) -> None:
    """Bring together what was done in several directories or on several machines; the same commands go on from there.

    What is there already is kept. Exit code 2: something could not be brought along, and is named; the rest was.
    """
    from harness.commands import merge as merging

    merged = merging.merge(directories, into)
    say(f"units: {merged.copied} copied, {merged.present} there already; runs: {len(merged.runs)} brought along")
    for name in merged.to_write:
        say(f"{name}: has other rows there; the same `harness run` command writes them anew, from all units")
    for each in merged.damaged:
        complain(f"skipped: {each}")
    for each in merged.differing:
        complain(f"kept the one in {into}: {each} has the same key and other content")
    for each in merged.other_runs:
        complain(f"left: {each}; {into} has another run of that name")
    if not merged.is_clean:
        raise typer.Exit(BAD_INPUT)
