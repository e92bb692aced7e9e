"""Settings: the fields of configurations by dotted names, given as text or values. Knows nothing of runs.

A configuration is a frozen dataclass, ours (`harness.core.fields.configuration`) or a plain one of another package's.
A nested one is reached by dots: "memory.host.lr". The suffix `_config` of a field's name is left out.
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
    """A configuration has no field of that name; the message names the nearest one and all there are."""

    def __init__(self, key: str, choices: list[str]) -> None:
        super().__init__(str(unknown(key, choices, "--set", 0.5)))
        self.key, self.choices = key, choices


def change(config: Config, settings: Settings, prefix: str = "") -> Config:
    """The configuration with `settings` in place, each of them converted to its field's type and checked.

    They are put in place together, so that fields which depend on each other, such as a search space and a filter of
    its architectures, may be given in any order.

    Args:
        prefix: what the settings' names begin with, before the names of the configuration's fields.
    Raises:
        UnknownSettingError: there is no such field.
        ValueError: a value does not fit its field, or the fields do not fit each other.
    """
    changed: Config = _change(config, {key.removeprefix(prefix): (key, value) for key, value in settings.items()})
    return changed


def _change(config: Any, settings: Mapping[str, tuple[str, object]]) -> Any:
    """`change`, where each setting has its name within this configuration and, for messages, its whole name."""
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
            raise UnknownSettingError(key, sorted(outer + name for name in dotted(config)))
        if dot:
            nested.setdefault(head, {})[rest] = key, value
        else:
            values[head] = parse(value, hints[head], key)
    values |= {head: _change(getattr(config, head), inner) for head, inner in nested.items()}
    return replace(config, **values) if values else config


def parse(value: object, hint: object, key: str) -> object:
    """A value, which may be text, as one of type `hint`.

    Raises:
        ValueError: it is none; the message calls it `key`.
    """
    if value == "none" and type(None) in typing.get_args(hint):
        return None
    kind, given = _without_none(hint), value
    if isinstance(value, bool) and kind is not bool and kind is not Any:
        value = str(value)  # true is no number, though Python counts it as 1
    if typing.get_origin(kind) is tuple:
        value = _split(value, typing.get_args(kind)[0])
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        if kind == tuple[int, ...]:
            raise ValueError(f"{key}: numbers such as 0 or 0,2 or 0-4 are needed, got {given!r}") from None
        raise ValueError(explain(error, key)) from None


_adapter = functools.cache(TypeAdapter)


def _without_none(hint: object) -> object:
    """The type of a field that is not None, without what is annotated to it."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _split(value: object, kind: type) -> list[object] | tuple[object, ...]:
    """Several values written as text: "0,2" or "0-4" for whole numbers, "a,b" for names."""
    if not isinstance(value, str):
        return value if isinstance(value, list | tuple) else [value]
    several: list[object] = []
    for part in map(str.strip, value.split(",")):
        first, dash, last = part.partition("-")
        is_range = kind is int and dash and first.isdecimal() and last.isdecimal()
        several += range(int(first), int(last) + 1) if is_range else [part]
    return several


def dotted(config: "DataclassInstance", prefix: str = "") -> dict[str, object]:
    """Every field of a configuration by its dotted name, as `--set` knows it."""
    flat: dict[str, object] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name.removesuffix(SUFFIX)
        if is_dataclass(value) and not isinstance(value, type):
            flat |= dotted(value, f"{name}.")
        elif not field.name.endswith(SUFFIX):
            flat[name] = value
    return flat


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON-able values, by the fields' own names.

    A field declared with `harness.core.fields.ADDED_LATER` is left out where it has its default.
    """
    values = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if not field.metadata.get("added_later") or getattr(config, field.name) != field.default
    }
    return {
        name: plain(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def restore(default: Config, values: Mapping[str, object]) -> Config:
    """The configuration of the type of `default` that `plain` made `values` from."""
    return change(default, flatten(values))


def flatten(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Values nested in mappings, as in a TOML file, by their dotted names."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
