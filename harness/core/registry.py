"""Things by name: ours in a table, those of other packages through an entry-point group."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TypeVar

from harness.core.reading import join_lines

Thing = TypeVar("Thing")


def names(ours: Mapping[str, object], group: str) -> list[str]:
    """Every name that can be asked for, those of other packages included."""
    return sorted({*ours, *(entry.name for entry in entry_points(group=group))})


def find(name: str, ours: Mapping[str, Thing], group: str, what: str, besides: Collection[str] = ()) -> Thing:
    """The thing of that name: ours, or what another package offers in an entry-point group.

    Args:
        besides: what else may be asked for, elsewhere; for the message alone.
    Raises:
        ValueError: there is none, and the message names the nearest; or another package's cannot be imported.
    """
    if name in ours:
        return ours[name]
    for entry in entry_points(group=group, name=name):
        try:
            thing: Thing = entry.load()
            return thing
        except Exception as error:  # whatever another package's module raises when it is imported
            reason = f"{type(error).__name__}: {join_lines(error)}"
            raise ValueError(f"{what}: {name!r} cannot be loaded from {entry.value} ({reason})") from error
    raise unknown(name, dict.fromkeys((*names(ours, group), *besides)), what)


def known(name: str, choices: Collection[str], what: str) -> str:
    """`name` if it is one of `choices`.

    Raises:
        ValueError: it is not, and the message names the nearest.
    """
    if name in choices:
        return name
    raise unknown(name, choices, what)


def unknown(name: str, choices: Collection[str], what: str, hint_cutoff: float = 0.6) -> ValueError:
    """The error that says a name is unknown, names the nearest, and all there are."""
    near = get_close_matches(name.lower(), list(choices), 1, hint_cutoff)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"{what}: {name!r} is unknown{hint}; choose from {', '.join(choices)}")
