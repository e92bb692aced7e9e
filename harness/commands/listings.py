"""What `harness ls` and `harness show` tell."""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import memory
from harness.commands import figures
from harness.config import PRESETS, RUNS, assemble, dotted
from harness.core import atomic as files
from harness.core import data, models
from harness.core.registry import known
from harness.core.train import find_recipe, recipe_names
from harness.nas import space as spaces
from harness.results.published.reproductions import REPRODUCTIONS
from harness.results.wording import quantity

Lines = Iterator[tuple[str, str]]  # (name, what it is in one line)
KINDS = ("memories", "recipes", "presets", "datasets", "spaces", "figures", "reproductions", "runs")


def of_kind(kind: str, out: Path = Path("runs")) -> Lines:
    """(name, one line) of everything of a kind; runs are those in the directory `out`.

    Raises:
        ValueError: an unknown kind.
    """
    known(kind, KINDS, "ls")
    if kind == "memories":
        yield from ((name, _about(memory.find, name, _first_line)) for name in memory.names())
    elif kind == "recipes":
        yield from ((name, _about(find_recipe, name, _first_line)) for name in recipe_names())
    elif kind == "presets":
        yield from ((name, preset.note) for name, preset in PRESETS.items())
    elif kind == "datasets":
        yield from ((listing.name, listing.found) for listing in data.describe())
    elif kind == "spaces":
        yield from ((name, _about(spaces.find, name, lambda space: space.about)) for name in spaces.names())
    elif kind == "figures":
        yield from sorted(figures.about().items())
    elif kind == "reproductions":
        yield from ((name, reproduction.note) for name, reproduction in REPRODUCTIONS.items())
    else:
        yield from ((path.parent.name, "") for path in sorted(out.glob("*/config.json")))


def show(name: str) -> str:
    """All there is to say of a run directory, a memory file, a network, or anything that `of_kind` lists.

    Raises:
        ValueError: nothing of that name.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return _run(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(
                f"{name}: no file of ours; sets of others are judged by `run condense --memory file:{name}`"
            )
        return json.dumps(files.load(path)[1], indent=2)
    found = [tell(name) for names, tell in _TOLD if name in names()]  # a builder and a recipe may share a name
    if found:
        return "\n\n".join(found)
    try:
        return str(models.parse(name))
    except ValueError:
        if path.is_dir():
            raise ValueError(f"{name}: holds no config.json, so it is no run; name a directory inside --out") from None
        known(name, sorted({*(each for names, _ in _TOLD for each in names()), "convnet3"}), "show")
        raise


# --- one thing in full ----------------------------------------------------------------------------------------------


def _builder(name: str) -> str:
    builder = memory.find(name)
    return f"{inspect.getdoc(builder) or ''}\n\n{_fields(memory.default_config(builder), 'memory.')}"


def _recipe(name: str) -> str:
    recipe = find_recipe(name)
    return f"{inspect.getdoc(recipe) or ''}\n\n{_fields(recipe('cifar10', False), 'recipe.')}\n(on CIFAR-10)"


def _preset(name: str) -> str:
    lines = [
        f"# {track} --memory {builder}\n{_fields(assemble(run, name, {'memory': builder}))}"
        for track, run in RUNS.items()
        for builder in memory.names()
    ]
    return f"{PRESETS[name].note}\n\n" + "\n\n".join(lines)


def _space(name: str) -> str:
    """Its axes, and a line for each architecture: id, numbers learned, multiply-adds for a 32 x 32 colour image."""
    space, shape, classes = spaces.find(name), (3, 32, 32), 10
    axes = [f"{axis} = {', '.join(map(str, values))}" for axis, values in space.axes.items()]
    lines = [
        f"{arch.id:>5}  {spaces.count_parameters(arch.model, shape, classes):>9,}  "
        f"{spaces.count_macs(arch.model, shape, classes):>13,}  {arch.model}"
        for arch in space
    ]
    heading = f"{'id':>5}  {'parameters':>9}  {'MACs':>12}  network, of 3 x 32 x 32 images in 10 classes"
    return "\n".join([f"{space.about}; {quantity(len(space), 'architecture')}", "", *axes, "", heading, *lines])


def _dataset(name: str) -> str:
    (listing,) = (each for each in data.describe() if each.name == name)
    return "\n".join([
        str(listing.sizes),
        f"normalised by mean {data.KNOWN[name].mean} and std {data.KNOWN[name].std}",
        f"found: {listing.found or ('no, but it can be downloaded' if listing.downloadable else 'no')}",
        f"`harness data check {name}` tells whether it is the official one",
    ])  # fmt: skip


def _figure(name: str) -> str:
    return f"{figures.described(name)}\n\nharness plot RUN ... --figure {name}"


def _reproduction(name: str) -> str:
    """Its cells, with what was published and where."""
    cells = REPRODUCTIONS[name].cells()
    wide = max(len(cell.name) for cell in cells)
    lines = []
    for cell in cells:
        doubt = f"unverified: {cell.printed.doubt}" if cell.printed.doubt else ""
        told = "; ".join(filter(None, (cell.printed.source, cell.missing, doubt)))
        lines.append(f"{cell.name:{wide}}  {cell.printed.value:>6g}  {told}")
    return "\n".join([REPRODUCTIONS[name].note, "", *lines, "", f"harness reproduce {name} --only CELL"])


_TOLD: tuple[tuple[Callable[[], Any], Callable[[str], str]], ...] = (  # names of a kind, and what tells of one
    (memory.names, _builder),
    (recipe_names, _recipe),
    (spaces.names, _space),
    (lambda: PRESETS, _preset),
    (data.names, _dataset),
    (figures.names, _figure),
    (lambda: REPRODUCTIONS, _reproduction),
)


def _run(path: Path) -> str:
    from harness.results import rows
    from harness.results.report import page as report
    from harness.results.tables import accuracy as tables

    report.read_json(path / "config.json")  # refused where it is damaged
    parts = [
        (path / name).read_text().strip() for name in ("config.json", "environment.json") if (path / name).is_file()
    ]
    if (path / "rows.csv").is_file():
        try:
            parts += [tables.to_text(table, "md") for table in tables.tables_of(rows.read([path]))]
        except ValueError:
            parts.append("nothing is finished yet")
    return "\n".join(parts)


def _fields(config: Any, prefix: str = "") -> str:
    return "\n".join(f"{prefix}{key} = {value}" for key, value in dotted(config).items())


def _about(find: Callable[[str], Any], name: str, say: Callable[[Any], str]) -> str:
    try:
        return say(find(name))
    except ValueError as error:  # of another package, which is not to hide the others
        return str(error)


def _first_line(thing: Any) -> str:
    return next(iter((inspect.getdoc(thing) or "").splitlines()), "")
