"""The `harness` command: argv to a configuration, a run, rows. Nothing heavy is imported until a command needs it."""

import json
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.config import Run
    from harness.reproduce import Plan, Ready, Reproduced
    from harness.runs import Finished, Options, Prepared

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
run_app = typer.Typer(no_args_is_help=True, help="Carry a run out, or on: finished units are never done again.")
estimate_app = typer.Typer(no_args_is_help=True, help="Say what a run would do and how long it takes here.")
data_app = typer.Typer(no_args_is_help=True, help="The image data: what there is, whether it is the official data.")
app.add_typer(run_app, name="run")
app.add_typer(estimate_app, name="estimate")
app.add_typer(data_app, name="data")

COMPLETE, FAULT, BAD_INPUT, UNFINISHED = 0, 1, 2, 3
BESIDE = ("average_incremental_accuracy", "forgetting", "test_accuracy_uint8")
HEADLINES = ("last_accuracy", "test_accuracy")  # where a track's own is there, there may be a table
AN_HOUR = 3600.0

Dataset = Annotated[str | None, typer.Option(help="A name of `harness data list`, or folder:PATH.")]
Memory = Annotated[str | None, typer.Option(help="A builder of `harness ls memories`.")]
Sets = Annotated[str | None, typer.Option(help="Sets condensed independently of each other.")]
EvalModels = Annotated[str | None, typer.Option(help="Networks to judge with, such as convnet3,mlp,resnet18-bn.")]
At = Annotated[str | None, typer.Option(help="Iterations after which to judge as well, such as 1000,5000.")]
Networks = Annotated[str | None, typer.Option(help="What to match in: random, or trained:LO-HI (accuracy in %).")]
Proxy = Annotated[
    str | None, typer.Option(help="What ranks: a builder, file:PATH, early-stopping, full, params, macs, depth.")
]
Space = Annotated[str | None, typer.Option(help="A search space of `harness ls spaces`.")]
Archs = Annotated[str | None, typer.Option(help="Which architectures, such as width<=64,pooling=avg.")]
Subset = Annotated[str | None, typer.Option(help="So many of them, balanced; a smaller subset lies within a larger.")]
Truth = Annotated[str | None, typer.Option(help="What to compare with: run, none, tabular or tabular:FILE.")]
Steps = Annotated[str | None, typer.Option(help="Experiences of the stream.")]
Ipc = Annotated[str | None, typer.Option(help="Images kept per class.")]
Orders = Annotated[str | None, typer.Option(help="Seeds of the class orders, such as 0 or 0-4.")]
Nets = Annotated[str | None, typer.Option(help="Networks trained on each memory.")]
Recipe = Annotated[str | None, typer.Option(help="How networks are trained: `harness ls recipes`.")]
Model = Annotated[str | None, typer.Option(help="A network such as convnet3 or convnet-d3-w32-batchnorm.")]
Seed = Annotated[str | None, typer.Option(help="Of everything drawn but the class orders.")]
Preset = Annotated[str | None, typer.Option(help="paper (the default), quick or smoke: `harness ls presets`.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any field: memory.iterations=300. Repeatable.")
]
Config = Annotated[Path | None, typer.Option(help="A TOML file of fields; --set and the options above win over it.")]
Out = Annotated[Path, typer.Option(help="Where runs and their units are kept.")]
Name = Annotated[str | None, typer.Option(help="The run's directory under --out.")]
Data = Annotated[Path | None, typer.Option(help="A directory that holds the data.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Engine = Annotated[str, typer.Option(help="local (worker processes) or serial.")]
Jobs = Annotated[int | None, typer.Option(help="Worker processes; by default one per core or GPU.")]
Shard = Annotated[str, typer.Option(help="i/n: do the i-th of n parts.")]
TimeLimit = Annotated[str | None, typer.Option(help="Stop, ready to go on, after 90s, 9m or 2h.")]
AvalancheLogger = Annotated[str | None, typer.Option(help="text or tensorboard, passed to Avalanche.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object last on stdout.")]
DryRun = Annotated[bool, typer.Option(help="Say what would be done, in which configuration, and stop.")]
Quiet = Annotated[bool, typer.Option(help="Say only what went wrong.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories or row files.")]


# --- run and estimate -----------------------------------------------------------------------------------------------

# What a run is: fields of its configuration, by the name and help of their option. `--set` reaches all others.
SHARED = dict(dataset=Dataset, memory=Memory, ipc=Ipc, nets=Nets, recipe=Recipe, model=Model)
_without_memory = {name: option for name, option in SHARED.items() if name != "memory"}
TRACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cl": (
        "A class-incremental stream: condense each step's classes, train fresh networks on the memory alone.",
        SHARED | dict(steps=Steps, orders=Orders),
    ),
    "condense": (
        "The tables of the papers: condense sets, train fresh networks on each, test them once at the end.",
        SHARED | dict(sets=Sets, eval_models=EvalModels, at=At, networks=Networks),
    ),
    "nas": (
        "A search space ranked by training it on a proxy set, against training it on all images.",
        dict(proxy=Proxy) | _without_memory | dict(space=Space, archs=Archs, subset=Subset, truth=Truth),
    ),
}
# How a configuration is given, and where it is carried out.
GIVEN = dict(seed=Seed, preset=Preset, set_=Set, config=Config)
WHERE = dict(out=(Out, Path("runs")), name=Name, data=Data, device=(Device, "auto"), jobs=Jobs)
HOW = dict(
    engine=(Engine, "local"),
    shard=(Shard, "1/1"),
    time_limit=TimeLimit,
    as_json=(Json, False),
    dry_run=(DryRun, False),
    quiet=(Quiet, False),
)


def _takes(*options: dict[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of some tables: name -> annotation, or (annotation, default) where it is not None."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        pairs = [
            (name, option if isinstance(option, tuple) else (option, None))
            for table in options
            for name, option in table.items()
        ]
        command.__signature__ = Signature(  # type: ignore[attr-defined]
            [Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=kind) for name, (kind, value) in pairs]
        )
        return command

    return give


def _add_commands(name: str, help_text: str, settings: dict[str, Any]) -> None:
    more = dict(avalanche_logger=AvalancheLogger) if name == "cl" else {}

    @run_app.command(name, help=help_text)
    @_takes(settings, GIVEN, WHERE, HOW, more)
    def run(**given: Any) -> None:
        _run(name, given)

    @estimate_app.command(
        name, help=f"What `run {name}` with the same options would still do, and how long it takes here."
    )
    @_takes(settings, GIVEN, WHERE)
    def estimate(**given: Any) -> None:
        prepared, options = _prepare(name, given)
        _announce(prepared, options, configuration=False, quiet=False)
        if name == "nas":
            _print_each(prepared)


for _name, (_help, _settings) in TRACKS.items():
    _add_commands(_name, _help, _settings)


def _prepare(track: str, given: dict[str, Any]) -> tuple["Prepared", "Options"]:
    fields = {name: given[name] for name in (*TRACKS[track][1], "seed", "preset")}
    run = _configuration(track, given["config"], given["set_"], fields)
    from harness import runs

    options = runs.Options(
        given["out"],
        given["name"],
        given["data"],
        given["device"],
        given.get("engine", "local"),
        given["jobs"],
        _shard(given.get("shard", "1/1")),
        _seconds(given.get("time_limit")),
        given.get("avalanche_logger"),
    )
    return runs.prepare(run, options), options


def _run(track: str, given: dict[str, Any]) -> None:
    from harness import runs

    dry_run, quiet = given["dry_run"], given["quiet"]
    prepared, options = _prepare(track, given)
    if not dry_run:
        runs.claim_directory(prepared)  # before anything is announced
    _announce(prepared, options, configuration=dry_run, quiet=quiet and not dry_run)
    if dry_run:
        return
    from harness.display import watching

    with watching(prepared.planned.units, quiet) as report:
        finished = runs.carry_out(prepared, options, report)
    _conclude(finished, given["as_json"], quiet)


def _configuration(track: str, file: Path | None, pairs: list[str] | None, given: dict[str, str | None]) -> "Run":
    from harness.config import RUNS, assemble

    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings |= _flat(tomllib.loads(file.read_text()))
        except (OSError, ValueError) as error:  # no such file, no text, no TOML
            raise ValueError(f"--config: {file} cannot be read ({error})") from error
    settings |= {key: value for key, value in given.items() if value is not None}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected KEY=VALUE, got {pair!r}")
        settings[key.strip()] = value.strip()
    return assemble(RUNS[track], str(settings.pop("preset", "paper")), settings)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard: expected i/n with i from 1 to n, got {text!r}")
    return int(match[1]), int(match[2])


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None:
        raise ValueError(f"--time-limit: expected a time such as 90s, 9m or 2h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _announce(prepared: "Prepared", options: "Options", *, configuration: bool, quiet: bool) -> None:
    """Say what a run will do, in which form, and how long that takes here."""
    if quiet:
        return
    from harness import engines, estimates, track
    from harness.config import dotted
    from harness.display import duration

    run, left = prepared.run, prepared.left
    if configuration:
        for key, value in dotted(run).items():
            _say(f"{key} = {value}")
    _say(prepared.track.title(run))
    _say(f"form: {prepared.form}; device {prepared.place.device}")
    _say(f"{len(prepared.planned.units)} units, {len(prepared.planned.units) - len(left)} of them done already")
    workers = min(options.jobs or engines.usable_cpus(), max(len(left), 1)) if prepared.place.device == "cpu" else 1
    if options.engine == "serial":
        workers = 1
    costs = estimates.with_costs(left, run, track.load(run, prepared.place))
    seconds = estimates.seconds_left(costs, workers)
    if left:
        _say(f"about {duration(seconds)} on this machine, {workers} at a time; results in {prepared.directory}")
    if seconds > AN_HOUR and prepared.place.device == "cpu" and run.preset == "paper" and not track.is_file(run.memory):
        same = f"--dataset {run.dataset} --memory {run.memory}"
        _say(f"for an answer in minutes: harness run {run.track} {same} --preset quick")


def _print_each(prepared: "Prepared") -> None:
    """How long each training that is left takes, longest first."""
    from harness import estimates, track
    from harness.display import duration

    costs = estimates.with_costs(prepared.left, prepared.run, track.load(prepared.run, prepared.place))
    for unit in sorted(costs, key=lambda unit: -unit.cost):
        print(f"{duration(unit.cost):>9}  {unit.label}")


def _conclude(finished: "Finished", as_json: bool, quiet: bool) -> None:
    """Print the table and what is left; exit 3 where something is."""
    outcome, rows = finished.outcome, finished.rows
    complete = not outcome.failed and not outcome.left
    if not quiet and rows["metric"].isin(HEADLINES).any():
        from rich.console import Console

        from results import tables, text

        try:
            for each in tables.tables_of(rows):
                Console(file=sys.stderr if as_json else sys.stdout, width=None).print(text.to_rich(each))
        except ValueError as error:  # candidates were trained, but on one side only: there is nothing to rank against
            _say(f"no table: {error}")
    for label, reason in outcome.failed.items():
        _complain(f"failed: {label}: {reason}")
    if not complete:
        why = f" ({outcome.stopped})" if outcome.stopped else ""
        _complain(f"{len(outcome.left)} units are left{why}; the same command continues")
    elif not quiet:
        _say(f"rows: {finished.directory / 'rows.csv'}")
    if as_json:
        print(json.dumps(_as_json(finished, complete)))
    if not complete:
        raise typer.Exit(UNFINISHED)


def _as_json(finished: "Finished", complete: bool) -> dict[str, Any]:
    rows = finished.rows
    whole = rows[rows["metric"].isin((*HEADLINES, *BESIDE))]
    columns = ["metric", "unit", "value", "memory", "preset", "repeat"]
    columns += [name for name in ("steps", "order", "set", "model", "iterations", "arch") if (whole[name] != "").any()]
    return {
        "complete": complete,
        "directory": str(finished.directory),
        "results": json.loads(whole[columns].to_json(orient="records")),  # pandas knows what is missing
        "failed": finished.outcome.failed,
        "left": len(finished.outcome.left),
        "seconds": round(finished.seconds, 1),
    }


@app.command()
def table(
    runs: Runs, format: Annotated[str, typer.Option(help="md, csv, latex, html, terminal.")] = "terminal"
) -> None:
    """The results of runs: means with 95 % intervals and n, beside the published values."""
    from results import rows, tables, text

    found = tables.tables_of(rows.read(runs))
    if format == "terminal":
        from rich.console import Console

        for result in found:
            Console().print(text.to_rich(result))
    else:
        print("\n".join(text.to_text(result, format) for result in found), end="")


@app.command("tabular")
def gather(
    runs: Runs,
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.parquet; made, or added to.")],
) -> None:
    """Gather the networks of searches in one Parquet file, the tabular benchmark: what `--truth tabular` reads."""
    from results import rows, tabular

    tabular.extend(output, rows.read(runs))
    print(f"{output}: {len(tabular.load(output).archs())} architectures trained on all images")


@app.command()
def plot(
    runs: Runs,
    figure: Annotated[str, typer.Option(help="A name of `harness ls figures`.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="FILE.png, .pdf or .svg.")] = None,
    data: Data = None,
) -> None:
    """Draw a figure of runs, and write the numbers in it beside it as CSV. Another figure's files are left alone."""
    from harness import figures

    for path in figures.draw(figure, runs, output, data):
        print(path)


@app.command()
def report(
    runs: Runs,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="An HTML file.")] = Path("report.html"),
) -> None:
    """Write one HTML page that opens anywhere: tables, figures, memories, how they were made, what is missing."""
    from harness import report as reports

    print(reports.write(runs, output))


REPRODUCE: dict[str, Any] = dict(
    table=Annotated[str, typer.Argument(metavar="NAME", help="A table of `harness ls reproductions`.")],
    preset=Preset,
    only=Annotated[str | None, typer.Option(metavar="PATTERN", help="Cells whose name has it in it: cifar10/dm.")],
    rows=Annotated[list[Path] | None, typer.Option(help="Judge what these runs or row files say; train nothing.")],
)


@app.command()
@_takes(REPRODUCE, {name: option for name, option in WHERE.items() if name != "name"}, HOW)
def reproduce(**given: Any) -> None:
    """Carry out the runs behind a published table, and say for every cell whether its number holds.

    Exit code 0: every run asked for is complete and no cell is below; 1: a cell is below; 3: work is left.
    """
    from harness import reproduce as reproductions
    from harness.runs import Options

    options = Options(
        given["out"], None, given["data"], given["device"], given["engine"], given["jobs"], _shard(given["shard"]),
        _seconds(given["time_limit"]),
    )  # fmt: skip
    plan = reproductions.plan(given["table"], given["preset"] or "paper", given["device"], given["only"])
    if given["rows"]:
        _judge(reproductions.from_rows(plan, given["rows"], given["out"]), plan, given)
        return
    ready = reproductions.prepare(plan, options)
    _announce_all(plan, ready, quiet=given["quiet"] and not given["dry_run"])
    if not given["dry_run"]:
        from harness.display import watching

        carried_out = reproductions.carry_out(
            plan, ready, options, lambda prepared: watching(prepared.planned.units, given["quiet"])
        )
        _judge(carried_out, plan, given)


def _announce_all(plan: "Plan", ready: "Ready", *, quiet: bool) -> None:
    """Say which runs a reproduction has left, how long they take here, and what cannot be run."""
    if quiet:
        return
    from harness.display import duration
    from results import verdicts

    if loud := verdicts.caption(plan.preset):
        _say(loud)
    _say(f"{plan.name}: {plan.note}; {len(plan.chosen)} of {len(plan.cells)} cells, {len(ready.prepared)} runs")
    for prepared, seconds in ready.prepared:
        left = len(prepared.left)
        takes = f"{left} units left, about {duration(seconds)}" if left else "done already"
        _say(f"  {prepared.track.title(prepared.run)}: {takes}")
    for cell, why in {**plan.missing, **ready.unavailable}.items():
        if cell in plan.chosen:
            _say(f"  {cell}: cannot be run ({why})")
    total = sum(seconds for _, seconds in ready.prepared)
    _say(f"about {duration(total)} in all on this machine")
    if total > AN_HOUR and plan.preset == "paper" and plan.device.type == "cpu":
        _say(f"to see the same in little: harness reproduce {plan.name} --preset quick")


def _judge(reproduced: "Reproduced", plan: "Plan", given: dict[str, Any]) -> None:
    """Print the verdicts and what is left; exit 3 where something is, 1 where a cell is below."""
    from harness.reproduce import counts
    from results import text, verdicts

    loud = verdicts.caption(plan.preset)
    if not given["quiet"]:
        from rich.console import Console

        console = Console(file=sys.stderr if given["as_json"] else sys.stdout)
        console.print(text.to_rich(verdicts.shown(reproduced.table)))
        console.print(loud, counts(reproduced.table), sep="\n" if loud else "", markup=False, highlight=False)
    for label, reason in reproduced.failed.items():
        _complain(f"failed: {label}: {reason}")
    complete = not reproduced.failed and not reproduced.left
    if not complete:
        why = f" ({reproduced.stopped})" if reproduced.stopped else ""
        _complain(
            f"{reproduced.left + len(reproduced.failed)} units or cells are left{why}; the same command continues"
        )
    if not given["quiet"]:
        _say(f"verdicts: {' '.join(map(str, reproduced.files))}")
    if given["as_json"]:
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
        raise typer.Exit(FAULT)


@app.command()
def ls(
    kind: Annotated[
        str, typer.Argument(help="memories, recipes, presets, datasets, spaces, figures, reproductions or runs.")
    ],
) -> None:
    """What there is of a kind."""
    from harness import listings

    for name, note in listings.of_kind(kind):
        print(f"{name:20} {note}".rstrip())


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME|RUN|FILE")]) -> None:
    """A memory builder, recipe, preset, network, run or memory file in full."""
    from harness import listings

    print(listings.show(name))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="dc, dcc, dm, dsa, fit, idc, nas or stream.")],
    preset: Annotated[str, typer.Option(help="paper or quick: the sizes to time.")] = "paper",
    seconds: Annotated[float, typer.Option(help="Time to spend measuring each form.")] = 20.0,
    threads: Annotated[int | None, typer.Option(help="For both forms alike; by default one per core.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Time the shipped form against the plain one, interleaved in this process."""
    from harness import bench as benches

    result = benches.run(name, preset, seconds, threads, device)
    if as_json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A directory; by default RUN/export.")] = None,
    data: Data = None,
) -> None:
    """Write a run's memories as files others can read: safetensors, the card as JSON, a grid of the images as PNG."""
    from harness import export as exports

    for path in exports.export(run, output, data):
        print(path)


@app.command()
def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that --out named.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where their units and runs are brought together.")],
) -> None:
    """Bring together what was done in several directories or on several machines; the same commands go on from there.

    What is there already is kept. Exit code 2: something could not be brought along, and is named; the rest was.
    """
    from harness import merge as merging

    merged = merging.merge(directories, into)
    _say(f"units: {merged.copied} copied, {merged.present} there already; runs: {len(merged.runs)} brought along")
    for name in merged.to_write:
        _say(f"{name}: has other rows there; the same `harness run` command writes them anew, from all units")
    for each in merged.damaged:
        _complain(f"skipped: {each}")
    for each in merged.differing:
        _complain(f"kept the one in {into}: {each} has the same key and other content")
    for each in merged.other_runs:
        _complain(f"left: {each}; {into} has another run of that name")
    if not merged.is_clean:
        raise typer.Exit(BAD_INPUT)


@data_app.command("list")
def data_list(data: Data = None) -> None:
    """Every named data set and where it would come from."""
    from harness.core import data as sets

    for listing in sets.describe(data):
        where = listing.found or ("a download" if listing.downloadable else "nowhere yet: supply it by --data")
        print(f"{listing.name:14} {where}")


@data_app.command("check")
def data_check(
    name: str,
    data: Data = None,
    official: Annotated[bool, typer.Option(help="Exit 2 unless it is the official data.")] = False,
) -> None:
    """Whether a data set is the official one, by digests of its pixels and labels."""
    from harness.core import data as sets

    _print_report(sets.check(name, data))
    if official:
        sets.require_official(sets.load(name, data))


@data_app.command("fetch")
def data_fetch(name: str) -> None:
    """Download a data set, continuing where an earlier call was cut off."""
    from rich.console import Console
    from rich.progress import Progress

    from harness.core import data as sets

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(name)
        print(sets.fetch(name, lambda done, total: bars.update(task, completed=done, total=total or None)))


@data_app.command("import")
def data_import(source: Path, name: Annotated[str, typer.Option(help="The data set it is.")]) -> None:
    """Decode a directory or archive into the cache, so that no --data is needed later."""
    from harness.core import data as sets

    _print_report(sets.import_data(source, name))


def _print_report(report: Any) -> None:
    print(f"{report.name}: {report.exactness}")
    print(f"  {report.train_size} train and {report.test_size} test images, {report.num_classes} classes, ", end="")
    print(f"{' x '.join(map(str, report.image_shape))}, from {report.found}")
    print(f"  digest {report.digest}")
    for part, digest in report.digests.items():
        expected = report.expected.get(part)
        verdict = "" if expected is None else "  as expected" if expected == digest else f"  expected {expected}"
        print(f"  {part:13} {digest}{verdict}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _complain(line: str) -> None:
    sys.stderr.write(f"harness: {line}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 complete, 1 our fault, 2 bad input, 3 stopped with work left."""
    warnings.showwarning = _warn
    command: Callable[..., Any] = typer.main.get_command(app)
    try:
        result = command(args=None if argv is None else list(argv), prog_name="harness", standalone_mode=False)
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError) as error:
        _complain(" ".join(str(error).split()))
        return BAD_INPUT
    except typer.Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; the same command continues")
        return UNFINISHED
    except Exception as error:
        if (code := _usage_error(error)) is None:
            raise
        return code
    return result if isinstance(result, int) else COMPLETE


def _usage_error(error: Exception) -> int | None:
    """Exit code of an error that the option parser raised, which says what is wrong itself; None for any other."""
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    if text := message().strip():  # none where no command was given: the help has been shown
        _complain(text)
    return BAD_INPUT


def _warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if category is UserWarning:
        _complain(f"warning: {message}")


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
