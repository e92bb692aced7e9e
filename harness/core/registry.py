"""Objects by name: those of this package in a table, those of other packages by an entry-point group."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TypeVar

from harness.core.reading import join_lines

Thing = TypeVar("Thing")


def names(builtin: Mapping[str, object], group: str) -> list[str]:
    """Return all names, sorted, including those that other packages offer."""
    return sorted({*builtin, *(entry.name for entry in entry_points(group=group))})


def find(name: str, builtin: Mapping[str, Thing], group: str, what: str, besides: Collection[str] = ()) -> Thing:
    """Return the object called `name`, from `builtin` or from the entry-point group of other packages.

    Args:
        name: its name.
        builtin: the objects of this package, by name.
        group: the entry-point group.
        what: the kind of object, for the message of an error.
        besides: further names to list in the message.
    Raises:
        ValueError: the name is unknown, and the message suggests the nearest; or the object cannot be imported.
    """
    if name in builtin:
        return builtin[name]
    for entry in entry_points(group=group, name=name):
        try:
            thing: Thing = entry.load()
            return thing
        except Exception as error:  # whatever another package's module raises when it is imported
            reason = f"{type(error).__name__}: {join_lines(error)}"
            raise ValueError(f"{what}: {name!r} cannot be loaded from {entry.value} ({reason})") from error
    raise unknown(name, dict.fromkeys((*names(builtin, group), *besides)), what)


def known(name: str, choices: Collection[str], what: str) -> str:
    """Return `name` if it is one of `choices`.

    Raises:
        ValueError: it is not one of them; the message suggests the nearest.
    """
    if name in choices:
        return name
    raise unknown(name, choices, what)


def unknown(name: str, choices: Collection[str], what: str, hint_cutoff: float = 0.6) -> ValueError:
    """Return the error for an unknown name, which suggests the nearest choice and lists all."""
    near = get_close_matches(name.lower(), list(choices), 1, hint_cutoff)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"{what}: {name!r} is unknown{hint}; choose from {', '.join(choices)}")
