"""`harness ls`: the names of what there is, each with one line about it."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from harness import memory
from harness.commands import figures, run_directories
from harness.config import PRESETS
from harness.core import data
from harness.core.recipes import find_recipe, list_recipes
from harness.core.registry import known
from harness.nas import space as spaces
from harness.results.published.reproductions import REPRODUCTIONS

Thing = TypeVar("Thing")
Lines = list[tuple[str, str]]  # (name, one line about it)

KINDS = {
    "memories": "methods that condense or select a memory; --memory, --proxy",
    "recipes": "ways to train a network on a memory; --recipe",
    "presets": "sizes of a run, from seconds to the papers' protocol; --preset",
    "datasets": "image data; --dataset",
    "spaces": "search spaces of architectures; --space",
    "figures": "figures that `harness plot` draws from runs",
    "reproductions": "published tables that `harness reproduce` carries out",
    "runs": "runs under --out, with their state and result",
}


def list_kind(kind: str, out: Path = Path("runs")) -> Lines:
    """List everything of a kind by name; the kind `runs` lists the run directories in `out`.

    Raises:
        ValueError: an unknown kind.
    """
    known(kind, KINDS, "ls")
    if kind == "memories":
        return _list_registered(memory.names(), memory.find, lambda method: method.summary)
    if kind == "recipes":
        return _list_registered(list_recipes(), find_recipe, summarise)
    if kind == "spaces":
        return _list_registered(spaces.names(), spaces.find, lambda space: space.about)
    if kind == "presets":
        return [(name, preset.note) for name, preset in PRESETS.items()]
    if kind == "datasets":
        return [(listing.name, describe_place(listing)) for listing in data.describe()]
    if kind == "figures":
        return sorted(figures.about().items())
    if kind == "reproductions":
        return [(name, reproduction.note) for name, reproduction in REPRODUCTIONS.items()]
    return [(path.name, run_directories.summarise(path)) for path in run_directories.find(out)]


def list_kinds(out: Path = Path("runs")) -> Lines:
    """List the kinds, with the number of things of each."""
    counts = {
        "memories": len(memory.names()),
        "recipes": len(list_recipes()),
        "presets": len(PRESETS),
        "datasets": len(data.names()),
        "spaces": len(spaces.names()),
        "figures": len(figures.names()),
        "reproductions": len(REPRODUCTIONS),
        "runs": len(run_directories.find(out)),
    }
    return [(kind, f"{counts[kind]:>3}  {about}") for kind, about in KINDS.items()]


def describe_place(listing: data.Listing) -> str:
    """Say where the images of a data set are, or how to get them."""
    if listing.found:
        return f"here: {listing.found}"
    return "not here; downloaded when first used" if listing.downloadable else "not here; name its directory by --data"


def summarise(documented: object) -> str:
    """The first line of a docstring; "" without one."""
    return next(iter((inspect.getdoc(documented) or "").splitlines()), "")


def _list_registered(names: Iterable[str], find: Callable[[str], Thing], about: Callable[[Thing], str]) -> Lines:
    """List what a registry has; another package's entry point that cannot be loaded is listed with its error."""
    lines = []
    for name in names:
        try:
            lines.append((name, about(find(name))))
        except ValueError as error:
            lines.append((name, str(error)))
    return lines
