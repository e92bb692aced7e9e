"""Settings: new values for the fields of a configuration, by dotted names, as text or as values.

A configuration is a frozen dataclass, which may come from `harness.core.fields.configuration` or from another package.
Dots lead to the fields of nested configurations: "memory.host.lr". Names leave out the suffix `_config` of a field.
"""

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.core.fields import explain
from harness.core.registry import unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = Mapping[str, object]  # dotted name of a field -> text or value, such as {"memory.iterations": "300"}
Config = TypeVar("Config")
SUFFIX = "_config"


class UnknownSettingError(ValueError):
    """A configuration has no field of the given name; the message names the nearest field, or all fields."""

    def __init__(self, key: str, choices: list[str]) -> None:
        super().__init__(str(unknown(key, choices, "--set", 0.5)))
        self.key, self.choices = key, choices


def change(config: Config, settings: Settings, prefix: str = "") -> Config:
    """Return the configuration with new values, which are converted to the types of their fields and checked.

    All values are set at the same time, so that fields which depend on each other, such as a search space and a filter
    for its architectures, can be given in any order.

    Args:
        prefix: a prefix of the names in `settings`, which the names of fields do not have.
    Raises:
        UnknownSettingError: the configuration has no such field.
        ValueError: a value does not fit its field, or the fields contradict each other.
    """
    changed: Config = _change(config, {key.removeprefix(prefix): (key, value) for key, value in settings.items()})
    return changed


def _change(config: Any, settings: Mapping[str, tuple[str, object]]) -> Any:
    """Change a configuration. `settings` has names in this configuration -> (full name for messages, value)."""
    values: dict[str, object] = {}
    nested: dict[str, dict[str, tuple[str, object]]] = {}
    hints = typing.get_type_hints(type(config), include_extras=True)
    names = {field.name for field in fields(config)}
    for path, (key, value) in settings.items():
        head, dot, rest = path.partition(".")
        if dot and head + SUFFIX in names:
            head += SUFFIX
        if head not in names or (dot and not is_dataclass(getattr(config, head))):
            outer = key.removesuffix(path)
            raise UnknownSettingError(key, sorted(outer + name for name in to_dotted(config)))
        if dot:
            nested.setdefault(head, {})[rest] = key, value
        else:
            values[head] = parse(value, hints[head], key)
    values |= {head: _change(getattr(config, head), inner) for head, inner in nested.items()}
    return replace(config, **values) if values else config


def parse(value: object, hint: object, key: str) -> object:
    """Convert a value, which may be text, to type `hint`.

    Raises:
        ValueError: the value does not fit the type; the message begins with `key`.
    """
    if value == "none" and type(None) in typing.get_args(hint):
        return None
    kind, given = _remove_none(hint), value
    if isinstance(value, bool) and kind is not bool and kind is not Any:
        value = str(value)  # pydantic would accept True as the number 1
    if typing.get_origin(kind) is tuple:
        value = _split(value, typing.get_args(kind)[0])
    try:
        return _make_adapter(hint).validate_python(value)
    except ValidationError as error:
        if kind == tuple[int, ...]:
            raise ValueError(f"{key}: numbers such as 0 or 0,2 or 0-4 are needed, got {given!r}") from None
        raise ValueError(explain(error, key)) from None


_make_adapter = functools.cache(TypeAdapter)


def _remove_none(hint: object) -> object:
    """Return the type of a field without None and without annotations."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _split(value: object, kind: type) -> list[object] | tuple[object, ...]:
    """Split text into values: "0,2" or "0-4" for whole numbers, "a,b" for names."""
    if not isinstance(value, str):
        return value if isinstance(value, list | tuple) else [value]
    values: list[object] = []
    for part in map(str.strip, value.split(",")):
        first, dash, last = part.partition("-")
        is_range = kind is int and dash and first.isdecimal() and last.isdecimal()
        values += range(int(first), int(last) + 1) if is_range else [part]
    return values


def to_dotted(config: "DataclassInstance", prefix: str = "") -> dict[str, object]:
    """Return the values of all fields of a configuration, and of nested ones, by the dotted names of `--set`."""
    flat: dict[str, object] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name.removesuffix(SUFFIX)
        if is_dataclass(value) and not isinstance(value, type):
            flat |= to_dotted(value, f"{name}.")
        elif not field.name.endswith(SUFFIX):
            flat[name] = value
    return flat


def to_plain(config: Any) -> dict[str, Any]:
    """Convert a configuration to nested dictionaries that convert to JSON, by the names of the fields.

    A field with the metadata `harness.core.fields.ADDED_LATER` is left out if it has its default.
    """
    values = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if not field.metadata.get("added_later") or getattr(config, field.name) != field.default
    }
    return {
        name: to_plain(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def restore(default: Config, values: Mapping[str, object]) -> Config:
    """Restore a configuration of the type of `default` from the `values` that `to_plain` returned."""
    return change(default, flatten(values))


def flatten(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values of nested mappings, as in a TOML file, by dotted names."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
