"""The options of the commands: dataclasses whose fields are options, and readers of what is written as text.

`takes` gives a command the options of such dataclasses, and hands it one object of each.
"""

import functools
import re
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

if TYPE_CHECKING:
    from harness.commands.run import Options

# Exit codes. 1 is Python's own, for an error of this program; BELOW: a number is below the published one.
COMPLETE, BAD_INPUT, UNFINISHED, BELOW = 0, 2, 3, 4

Preset = Annotated[str | None, typer.Option(help="paper (the default), quick or smoke: `harness ls presets`.")]
Out = Annotated[Path, typer.Option(help="The directory of runs and their units.")]
Data = Annotated[Path | None, typer.Option(help="A directory that holds the data.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda (every GPU there is) or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories or row files.")]


# --- what a run is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Settings of a run, named as the fields of its configuration; `--set` reaches all others.

    A value stays text here: `harness.config` converts and checks it, whether it comes from an option, from `--set` or
    from a file, so that a value that does not fit gets the same message everywhere.
    """

    dataset: Annotated[str | None, typer.Option(help="A name of `harness data list`, or folder:PATH.")] = None
    memory: Annotated[str | None, typer.Option(help="A method of `harness ls memories`, or file:PATH.")] = None
    ipc: Annotated[str | None, typer.Option(metavar="<int>", help="Images per class in the memory.")] = None
    nets: Annotated[str | None, typer.Option(metavar="<int>", help="Networks trained on each memory.")] = None
    recipe: Annotated[str | None, typer.Option(help="How networks are trained: `harness ls recipes`.")] = None
    model: Annotated[str | None, typer.Option(help="A network, such as convnet3 or convnet-d3-w32-batchnorm.")] = None


@dataclass(frozen=True, kw_only=True)
class StreamOptions(RunOptions):
    """A class-incremental stream: condense each step's classes, train fresh networks on the memory alone."""

    steps: Annotated[str | None, typer.Option(metavar="<int>", help="Experiences of the stream.")] = None
    orders: Annotated[
        str | None, typer.Option(metavar="<int,...>", help="Seeds of the class orders, such as 0 or 0-4.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class CondenseOptions(RunOptions):
    """The tables of the papers: condense sets, train fresh networks on each, test them once at the end."""

    sets: Annotated[str | None, typer.Option(metavar="<int>", help="Sets condensed independently.")] = None
    eval_models: Annotated[
        str | None,
        typer.Option(metavar="<str,...>", help="Networks to evaluate with, such as convnet3,mlp,resnet18-bn."),
    ] = None
    at: Annotated[
        str | None,
        typer.Option(metavar="<int,...>", help="Iterations after which to evaluate as well, such as 1000,5000."),
    ] = None
    networks: Annotated[
        str | None, typer.Option(help="Networks to match in: random, or trained:LO-HI (accuracy in %).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SearchOptions(RunOptions):
    """A search space ranked by training it on a proxy set, against training it on all images."""

    memory: Annotated[
        str | None,
        typer.Option("--proxy", help="What ranks: a method, file:PATH, early-stopping, full, params, macs or depth."),
    ] = None
    space: Annotated[str | None, typer.Option(help="A search space of `harness ls spaces`.")] = None
    archs: Annotated[str | None, typer.Option(help="Which architectures, such as width<=64,pooling=avg.")] = None
    subset: Annotated[
        str | None,
        typer.Option(metavar="<int>", help="How many of them, balanced; a smaller subset lies within a larger one."),
    ] = None
    truth: Annotated[str | None, typer.Option(help="What to compare with: run, none, tabular or tabular:FILE.")] = None


TRACKS: dict[str, type[RunOptions]] = {"cl": StreamOptions, "condense": CondenseOptions, "nas": SearchOptions}


@dataclass(frozen=True, kw_only=True)
class SettingOptions:
    """Where other settings of a run come from."""

    seed: Annotated[str | None, typer.Option(metavar="<int>", help="Seed of every draw but the class orders.")] = None
    preset: Preset = None
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting: memory.iterations=300. Repeatable."),
    ] = None
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; --set and the options above win over it.")
    ] = None


# --- how it is carried out -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Where a run is carried out."""

    out: Out = Path("runs")
    data: Data = None
    device: Device = "auto"
    jobs: Annotated[int | None, typer.Option(help="Worker processes in all; by default one per core or GPU.")] = None


@dataclass(frozen=True, kw_only=True)
class RunPlaceOptions(PlaceOptions):
    """Where a single run is carried out."""

    name: Annotated[str | None, typer.Option(help="The run's directory under --out.")] = None


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a run is carried out, and what is printed about it."""

    engine: Annotated[str, typer.Option(metavar="<local|serial>", help="local works in processes of its own.")] = (
        "local"
    )
    shard: Annotated[str, typer.Option(metavar="<i/n>", help="Do the i-th of n parts.")] = "1/1"
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="<time>",
            help="Stop this long after the start of the command, ready to continue: 90s, 1h30m, 01:30:00.",
        ),
    ] = None
    as_json: Json = False
    dry_run: Annotated[
        bool, typer.Option(help="Print what the command would do, in which configuration, and stop.")
    ] = False
    quiet: Annotated[bool, typer.Option(help="Print errors only.")] = False


@dataclass(frozen=True, kw_only=True)
class StreamExecutionOptions(ExecutionOptions):
    """How a stream is carried out."""

    avalanche_logger: Annotated[
        str | None, typer.Option(metavar="<text|tensorboard>", help="A logger of Avalanche to attach.")
    ] = None


def takes(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that are the fields of `groups`, dataclasses; call it with one object of each."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command, assigned=("__module__", "__name__", "__doc__"))
        def call(**values: object) -> None:
            command(*(group(**{field.name: values[field.name] for field in fields(group)}) for group in groups))

        call.__signature__ = Signature(  # type: ignore[attr-defined]
            [
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.default is MISSING else field.default,
                    annotation=get_type_hints(group, include_extras=True)[field.name],
                )
                for group in groups
                for field in fields(group)
            ]
        )
        return call

    return give


def run_options(
    place: PlaceOptions,
    execution: ExecutionOptions = ExecutionOptions(),
    *,
    name: str | None = None,
    logger: str | None = None,
) -> "Options":
    """Return the options of a command in the form that `harness.run` takes.

    Raises:
        ValueError: the shard or the time limit cannot be read.
    """
    from harness.commands.run import Options

    return Options(
        out=place.out,
        name=name,
        data=place.data,
        device=place.device,
        engine=execution.engine,
        jobs=place.jobs,
        shard=parse_shard(execution.shard),
        time_limit=parse_seconds(execution.time_limit),
        logger=logger,
    )


def parse_shard(text: str) -> tuple[int, int]:
    """Parse the text i/n as (i, n).

    Raises:
        ValueError: the text has another form, or i is not from 1 to n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard: expected i/n with i from 1 to n, got {text!r}")
    return int(match[1]), int(match[2])


UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PART = r"(\d+(?:\.\d+)?)\s*(sec|s|min|m|h|d)\s*"  # a number with its unit, such as 30min


def parse_seconds(text: str | None) -> float | None:
    """Return a time in seconds: 90, 90s, 30min, 1h30m, or as Slurm writes it, 30:00, 1:30:00, 1-12:00:00.

    Raises:
        ValueError: the text is no time.
    """
    if text is None:
        return None
    written = text.strip()
    if match := re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", written):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if re.fullmatch(r"\d+(\.\d+)?", written):
        return float(written)
    if not re.fullmatch(f"({PART})+", written):
        raise ValueError(f"--time-limit: expected a time such as 90s, 30min, 1h30m or 01:30:00, got {text!r}")
    return sum(float(number) * UNIT_SECONDS[unit[0]] for number, unit in re.findall(PART, written))


def remaining_seconds(limit: float | None, start: float) -> float | None:
    """Return the seconds left of a limit that began at `start`, by `time.monotonic()`; None for no limit."""
    return None if limit is None else max(0.0, limit - (time.monotonic() - start))
