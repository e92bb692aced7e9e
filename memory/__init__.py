"""Memory builders: every method on one screen.

A builder is a function `build(images, labels, budget, rng, cfg) -> Memory` whose `cfg` defaults to its frozen
configuration. One that takes long also accepts `progress`, and then survives a kill. Another package offers builders
through the entry-point group `harness.memories`.
"""

import inspect
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from harness.core.memory import Builder
from memory import dm, full, herding, random_real

BUILDERS: dict[str, Builder] = {
    "dm": dm.build,
    "full": full.build,
    "herding": herding.build,
    "random": random_real.build,
}


def names() -> list[str]:
    """Every builder that can be asked for, those of other packages included."""
    return sorted({*BUILDERS, *(entry.name for entry in entry_points(group="harness.memories"))})


def find(name: str) -> Builder:
    """The builder of that name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name in BUILDERS:
        return BUILDERS[name]
    for entry in entry_points(group="harness.memories", name=name):
        builder: Builder = entry.load()
        return builder
    near = get_close_matches(name, names(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"memory: {name!r} is unknown; {hint}Known: {', '.join(names())}")


def default_config(builder: Builder) -> Any:
    """The frozen configuration a builder works with unless given another."""
    return inspect.signature(builder).parameters["cfg"].default
