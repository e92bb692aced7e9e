"""The options that several commands share, and how what they are given is read."""

import re
import time
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

COMPLETE, BAD_INPUT, UNFINISHED, BELOW = 0, 2, 3, 4  # exit codes; below what was published; 1 is Python's, our fault

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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda (every GPU there is) or cuda:N.")]
Engine = Annotated[str, typer.Option(help="local (worker processes) or serial.")]
Jobs = Annotated[int | None, typer.Option(help="Worker processes in all; by default one per core or GPU.")]
Shard = Annotated[str, typer.Option(help="i/n: do the i-th of n parts.")]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop, ready to go on, 90s, 9m or 2h after the start of the command.")
]
AvalancheLogger = Annotated[str | None, typer.Option(help="text or tensorboard, passed to Avalanche.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object last on stdout.")]
DryRun = Annotated[bool, typer.Option(help="Say what would be done, in which configuration, and stop.")]
Quiet = Annotated[bool, typer.Option(help="Say only what went wrong.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories or row files.")]

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


NEEDED = Parameter.empty  # the default of what has to be given


def takes(*options: dict[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
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


def as_shard(text: str) -> tuple[int, int]:
    """i/n as (i, n).

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard: expected i/n with i from 1 to n, got {text!r}")
    return int(match[1]), int(match[2])


def as_seconds(text: str | None) -> float | None:
    """90s, 9m or 2h in seconds; None where nothing was said.

    Raises:
        ValueError: it is no time.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None:
        raise ValueError(f"--time-limit: expected a time such as 90s, 9m or 2h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def left_of(seconds: float | None, began: float) -> float | None:
    """What is left of a time limit that runs since `began`, by `time.monotonic()`: loading and planning take some."""
    return None if seconds is None else max(0.0, seconds - (time.monotonic() - began))
