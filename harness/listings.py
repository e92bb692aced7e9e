"""What `harness ls` and `harness show` tell."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memory
from harness import figures
from harness.config import PRESETS, RUNS, assemble, dotted, known
from harness.core import data, files, models
from harness.core.train import RECIPES
from nas import space as spaces
from results.reproductions import REPRODUCTIONS

KINDS = ("memories", "recipes", "presets", "datasets", "spaces", "figures", "reproductions", "runs")


def of_kind(kind: str) -> Iterator[tuple[str, str]]:
    """(name, one line) of everything of `kind`, which may be KIND or, for runs, a directory of them.

    Raises:
        ValueError: an unknown kind.
    """
    known(kind, list(KINDS), "ls")
    if kind == "memories":
        yield from ((name, _about_builder(name)) for name in memory.names())
    elif kind == "recipes":
        yield from ((name, _first_line(recipe)) for name, recipe in RECIPES.items())
    elif kind == "presets":
        yield from ((name, preset.note) for name, preset in PRESETS.items())
    elif kind == "datasets":
        yield from ((listing.name, listing.found) for listing in data.describe())
    elif kind == "spaces":
        yield from ((name, _about_space(name)) for name in spaces.names())
    elif kind == "figures":
        yield from sorted(figures.about().items())
    elif kind == "reproductions":
        yield from ((name, reproduction.note) for name, reproduction in REPRODUCTIONS.items())
    else:
        yield from ((path.parent.name, "") for path in sorted(Path("runs").glob("*/config.json")))


def show(name: str) -> str:
    """All there is to say of a run directory, a memory file, a builder, recipe, search space, preset or network.

    Raises:
        ValueError: nothing of that name.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return _run(path)
    if path.is_file():
        return json.dumps(files.load(path)[1], indent=2)
    found = []  # a builder and a recipe may share a name
    if name in memory.names():
        builder = memory.find(name)
        found.append(f"{inspect.getdoc(builder)}\n\n" + _fields(memory.default_config(builder), "memory."))
    if name in RECIPES:
        recipe = RECIPES[name]("cifar10", False)
        found.append(f"{inspect.getdoc(RECIPES[name])}\n\n" + _fields(recipe, "recipe.") + "\n(on CIFAR-10)")
    if found:
        return "\n\n".join(found)
    if name in spaces.names():
        return _space(spaces.find(name))
    if name in PRESETS:
        lines = [
            f"# {track} --memory {builder}\n{_fields(assemble(run, name, {'memory': builder}))}"
            for track, run in RUNS.items()
            for builder in memory.names()
        ]
        return f"{PRESETS[name].note}\n\n" + "\n\n".join(lines)
    try:
        return str(models.parse(name))
    except ValueError:
        known(name, sorted({*memory.names(), *RECIPES, *spaces.names(), *PRESETS, "convnet3"}), "show")
        raise


def _run(path: Path) -> str:
    from results import rows, tables

    config = json.loads((path / "config.json").read_text())
    parts = [json.dumps(config, indent=2)]
    if (path / "environment.json").is_file():
        parts.append((path / "environment.json").read_text().strip())
    if (path / "rows.csv").is_file():
        try:
            parts += [tables.to_text(table, "md") for table in tables.tables_of(rows.read([path]))]
        except ValueError:
            parts.append("nothing is finished yet")
    return "\n".join(parts)


def _fields(config: Any, prefix: str = "") -> str:
    return "\n".join(f"{prefix}{key} = {value}" for key, value in dotted(config).items())


def _space(space: spaces.Space) -> str:
    """Its axes, and a line for each architecture: id, numbers learned, multiply-adds for a 32 x 32 colour image."""
    shape, classes = (3, 32, 32), 10
    axes = [f"{axis} = {', '.join(map(str, values))}" for axis, values in space.axes.items()]
    lines = [
        f"{arch.id:>5}  {spaces.parameters(arch.model, shape, classes):>9,}  "
        f"{spaces.macs(arch.model, shape, classes):>13,}  {arch.model}"
        for arch in space
    ]
    heading = f"{'id':>5}  {'parameters':>9}  {'MACs':>12}  network, of 3 x 32 x 32 images in 10 classes"
    return "\n".join([f"{space.about}; {len(space)} architectures", "", *axes, "", heading, *lines])


def _about_space(name: str) -> str:
    try:
        return spaces.find(name).about
    except ValueError as error:  # of another package, which is not to hide the others
        return str(error)


def _about_builder(name: str) -> str:
    try:
        return _first_line(memory.find(name))
    except ValueError as error:  # of another package, which is not to hide the others
        return str(error)


def _first_line(thing: Any) -> str:
    return next(iter((inspect.getdoc(thing) or "").splitlines()), "")
