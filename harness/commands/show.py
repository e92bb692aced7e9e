"""`harness show`: a page about anything that `harness ls` lists, about a network, a run or a memory file.

A page is made of lines that fit 80 columns wherever their content allows it.
"""

import importlib
import inspect
import json
import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from harness import memory
from harness.commands import figures, run_directories
from harness.commands.listings import describe_place
from harness.config import PRESETS, RUNS, assemble, to_dotted
from harness.core import atomic as files
from harness.core import data, models
from harness.core.fields import describe
from harness.core.recipes import find_recipe, list_recipes
from harness.core.registry import known
from harness.memory.method import MethodConfig
from harness.nas import space as spaces
from harness.results.published.reproductions import REPRODUCTIONS, Cell
from harness.results.wording import quantity

Lines = Iterator[str]

WIDTH = 80
COLOUR, CLASSES = (3, 32, 32), 10  # the images and classes of CIFAR-10, for which sizes and costs are given
FOLLOWS_THE_RUN = ("compute", "real_dtype")  # fields of nested configurations that take the run's own value
LEAGUES = {
    "pixel": "pixel: as many images as the budget says, ranked with all such memories",
    "storage": "storage: more images in the bytes of the budget, ranked apart",
    "full": "full: all real images, a reference beside the memories",
}


def show(name: str) -> str:
    """Return the page about a run directory, a memory file, a network, or anything that `harness ls` lists.

    Raises:
        ValueError: nothing has this name.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return "\n".join(run_directories.describe(path))
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(
                f"{name}: expected a file that harness wrote; `run condense --memory file:{name}` evaluates other files"
            )
        return json.dumps(files.load(path)[1], indent=2)
    pages = [
        "\n".join(page(name)) for names, page in PAGES if name in names()
    ]  # a method and a recipe may share a name
    if pages:
        return "\n\n".join(pages)
    try:
        return "\n".join(network_page(name))
    except ValueError:
        if path.is_dir():
            raise ValueError(f"{name}: holds no config.json, so it is no run; name a directory inside --out") from None
        known(name, sorted({*(each for names, _ in PAGES for each in names()), "convnet3"}), "show")
        raise


def wrap(text: str, indent: str = "  ") -> list[str]:
    """Break a text into lines of at most `WIDTH` columns at its spaces; words are never broken."""
    lines = [
        textwrap.wrap(paragraph, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
                      break_on_hyphens=False)
        for paragraph in re.split(r"\n\s*\n", text.strip())
    ]  # fmt: skip
    return "\n\n".join("\n".join(paragraph) for paragraph in lines).splitlines()


# --- one page for each kind ----------------------------------------------------------------------------------------


def method_page(name: str) -> Lines:
    """A memory method: what it does and its source, its league and cost, its hyper-parameters, its presets' values."""
    method = memory.find(name)
    config = assemble(RUNS["condense"], "paper", {"memory": name, "ipc": "10"}).method
    yield f"{name}: a memory method"
    yield from wrap(_description(method.build) if not method.about else method.about)
    if source := inspect.getdoc(importlib.import_module(type(method.config).__module__)):
        yield from ("", "SOURCE", *wrap(source))
    yield from ("", "LEAGUE", *wrap(LEAGUES[_league(config)]))
    yield from ("", "COST", *wrap(_cost(config)))
    yield from wrap(f"`harness estimate condense --memory {name}` gives the time on this machine.")
    yield from ("", "HYPER-PARAMETERS for CIFAR-10, 10 images per class; --set NAME=VALUE changes one")
    yield from list_settings(config, "memory.")
    yield from ("", "PRESETS change")
    for preset in PRESETS:
        if preset != "paper":
            yield from _preset_of_method(preset, name)
    yield from ("", f"harness run condense --memory {name} --preset quick")


def recipe_page(name: str) -> Lines:
    """A recipe: what it does, its settings."""
    recipe = find_recipe(name)
    yield f"{name}: a recipe, how a network is trained on a memory"
    yield from wrap(_description(recipe))
    yield from ("", "SETTINGS for CIFAR-10; --set NAME=VALUE changes one")
    yield from list_settings(recipe("cifar10", models.parse("convnet3")), "recipe.")
    yield from ("", f"harness run condense --recipe {name} --preset quick")


def preset_page(name: str) -> Lines:
    """A preset: what it changes from the preset paper, of runs, of recipes and of each memory method."""
    yield f"{name}: a preset"
    yield from wrap(PRESETS[name].note)
    if name == "paper":
        yield from wrap("Every setting has the published value; `harness show METHOD` lists them.")
        return
    yield from ("", "RUNS AND RECIPES, where they differ from the preset paper")
    for track, run in RUNS.items():
        changed = _difference(name, track, {"memory": run().memory})
        own = {key: value for key, value in changed.items() if not key.startswith("memory.") and key != "preset"}
        yield from _hanging(f"{track}:", _as_settings(own))
    yield from ("", "MEMORY METHODS, where they differ from the preset paper (at 10 images per class)")
    by_change: dict[str, list[str]] = {}
    for method in memory.names():
        for track, change in _changes_of_method(name, method).items():
            by_change.setdefault(change, []).append(method + track)
    for change, methods in by_change.items():
        yield from _hanging(f"{', '.join(methods)}:", change or "nothing")
    yield from ("", f"harness run condense --memory dm --preset {name}")


def space_page(name: str) -> Lines:
    """A search space: its axes, and a line for each architecture with its size and cost."""
    space = spaces.find(name)
    yield f"{name}: a search space of {quantity(len(space), 'architecture')}"
    yield from wrap(space.about)
    yield from ("", "AXES, for --archs")
    yield from (f"  {axis} = {', '.join(map(str, values))}" for axis, values in space.axes.items())
    yield from ("", "ARCHITECTURES, for images of 3 x 32 x 32 in 10 classes")
    yield f"{'id':>4}  {'params':>9}  {'MACs':>11}  network"
    for arch in space:
        parameters = spaces.count_parameters(arch.model, COLOUR, CLASSES)
        macs = spaces.count_macs(arch.model, COLOUR, CLASSES)
        yield f"{arch.id:>4}  {parameters:>9,}  {macs:>11,}  {arch.model}"


def dataset_page(name: str) -> Lines:
    """A data set: its size, its normalisation, and where it is."""
    (listing,) = (each for each in data.describe() if each.name == name)
    sizes, layout = listing.sizes, data.KNOWN[name]
    yield f"{name}: a data set of {sizes.classes} classes"
    yield f"  images: {sizes.train:,} train and {sizes.test:,} test, {' x '.join(map(str, sizes.shape))}"
    yield f"  normalisation: mean {layout.mean}"
    yield f"                 std  {layout.std}"
    yield f"  {describe_place(listing)}"
    yield from ("", f"harness data check {name}    tells whether it is the official data")


def figure_page(name: str) -> Lines:
    """A figure: what it shows and how to draw it."""
    yield f"{name}: a figure"
    yield from wrap(_without_sections(figures.describe(name)))
    yield from ("", f"harness plot RUN... --figure {name}")


def reproduction_page(name: str) -> Lines:
    """A published table: its cells and the published values, by their source."""
    cells = REPRODUCTIONS[name].cells()
    yield f"{name}: a published table of {quantity(len(cells), 'cell')}"
    yield from wrap(REPRODUCTIONS[name].note)
    width = max(len(cell.name) for cell in cells)
    source = None
    for cell in cells:
        if cell.printed.source != source:
            source = cell.printed.source
            yield from ("", *wrap(f"PUBLISHED VALUES{f', {source}' if source else ''}", ""))
        value = "" if math.isnan(cell.printed.value) else f"{cell.printed.value:g}"
        yield f"  {cell.name:{width}}  {value:>6}".rstrip()
        for note in _notes(cell):
            yield from wrap(note, " " * 8)
    yield from ("", f"harness reproduce {name} --preset quick --only CELL")


def network_page(name: str) -> Lines:
    """A network: its full name, and its size for CIFAR-10.

    Raises:
        ValueError: no network has this name.
    """
    full = str(models.parse(name))
    yield f"{name}: a network"
    yield f"  {full}"
    yield f"  for images of 3 x 32 x 32 in 10 classes: {spaces.count_parameters(full, COLOUR, CLASSES):,} parameters,"
    yield f"  {spaces.count_macs(full, COLOUR, CLASSES):,} multiply-adds an image"


PAGES: tuple[tuple[Callable[[], Collection[str]], Callable[[str], Lines]], ...] = (  # the names of a kind, and its page
    (memory.names, method_page),
    (list_recipes, recipe_page),
    (spaces.names, space_page),
    (lambda: PRESETS, preset_page),
    (data.names, dataset_page),
    (figures.names, figure_page),
    (lambda: REPRODUCTIONS, reproduction_page),
)


# --- parts of a page ------------------------------------------------------------------------------------------------


def _description(documented: object) -> str:
    return _without_sections(inspect.getdoc(documented) or "")


def _without_sections(doc: str) -> str:
    """A docstring without what only callers need: its sections Args, Returns and Raises."""
    return re.split(r"^(?:Args|Returns|Raises|Attributes):", doc, maxsplit=1, flags=re.MULTILINE)[0]


def list_settings(config: Any, prefix: str) -> Lines:
    """The settings of a configuration, nested ones included: name, default and type, and below them the meaning."""
    meanings = describe(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from list_settings(value, f"{prefix}{field.name}.")
        elif field.name not in FOLLOWS_THE_RUN:
            yield f"  {prefix}{field.name} = {_as_typed(value)}  ({type(value).__name__})"
            yield from wrap(meanings[field.name], " " * 6)


def _as_typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _league(config: MethodConfig) -> str:
    if not config.stored:
        return "full"
    return "pixel" if config.decoded(10, COLOUR) == 10 else "storage"


def _cost(config: MethodConfig) -> str:
    """The images that a method pushes through networks for CIFAR-10 at 10 images per class."""
    counted = config.passes(CLASSES, 5000, 10)
    if counted is None:
        return "Next to nothing, or not declared by the method."
    forward, both = counted
    passes = [f"{forward:,} forward"] * (forward > 0) + [f"{both:,} forward and backward"]
    return f"Images that pass through networks for CIFAR-10, 10 images per class: {', '.join(passes)}."


def _difference(preset: str, track: str, settings: dict[str, str]) -> dict[str, object]:
    """The settings of a run of CIFAR-10 under a preset that differ from those under the preset paper."""
    given = {"dataset": "cifar10", **settings}
    usual, own = (to_dotted(assemble(RUNS[track], each, given)) for each in ("paper", preset))
    return {key: value for key, value in own.items() if value != usual.get(key) and not _follows_the_run(key)}


def _follows_the_run(key: str) -> bool:
    name = key.rpartition(".")[2]
    return "." in key and (name in FOLLOWS_THE_RUN or name == "model")


def _changes_of_method(preset: str, method: str) -> dict[str, str]:
    """What a preset sets of a method: "" -> its settings, or by track where these differ: " (cl)" -> settings."""
    by_track = {}
    for track in (track for track, run in RUNS.items() if method not in run.without_builder):
        changed = _difference(preset, track, {"memory": method, "ipc": "10"})
        by_track[f" ({track})"] = _as_settings(
            {key.removeprefix("memory."): value for key, value in changed.items() if key.startswith("memory.")}
        )
    changes = set(by_track.values())
    return {"": changes.pop()} if len(changes) == 1 else by_track


def _preset_of_method(preset: str, method: str) -> Lines:
    for track, change in _changes_of_method(preset, method).items():
        yield from _hanging(f"{preset}{track}:", change or "nothing")


def _as_settings(values: dict[str, object]) -> str:
    return ", ".join(f"{key}={_as_typed(value)}" for key, value in values.items())


def _hanging(heading: str, text: str) -> Iterable[str]:
    """A text that follows its heading; further lines are indented."""
    return textwrap.wrap(f"{heading} {text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 6,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _notes(cell: Cell) -> Lines:
    """Why a cell has no run, and why its published value is in doubt."""
    if cell.missing:
        yield f"cannot be run: {cell.missing}"
    if cell.printed.doubt:
        yield f"unverified: {cell.printed.doubt}"
