"""Text becomes typed values of configurations, reached by dotted names."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.config import change
from harness.config.settings import parse


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int = 1
    flag: bool = False
    name: str = "a"
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        (3.0, int, 3),
        ("1e-3", float, 0.001),
        (2, float, 2.0),
        ("TRUE", bool, True),
        (False, bool, False),
        ("dm", str, "dm"),
        ("4", tuple[int, ...], (4,)),
        ("0-4", tuple[int, ...], (0, 1, 2, 3, 4)),
        ("0-2, 7", tuple[int, ...], (0, 1, 2, 7)),
        ([1, 2], tuple[int, ...], (1, 2)),
        (5, tuple[int, ...], (5,)),
        ("none", int | None, None),
        ("6", int | None, 6),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(text: Any, hint: Any, value: Any) -> None:
    found = parse(text, hint, "key")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "fits"),
    [
        ("3.5", int, "a whole number is needed"),
        (3.5, int, "a whole number is needed"),
        (True, int, "a whole number is needed"),
        ("ten", float, "a number is needed"),
        (True, float, "a number is needed"),
        ("perhaps", bool, "true or false is needed"),
        ("0-x", tuple[int, ...], "numbers such as 0 or 0,2 or 0-4 are needed"),
        ("a,b", tuple[int, ...], "numbers such as 0 or 0,2 or 0-4 are needed"),
    ],
)
def test_a_value_of_another_type_is_refused(text: Any, hint: Any, fits: str) -> None:
    with pytest.raises(ValueError, match=rf"^key: {fits}, got "):
        parse(text, hint, "key")


def test_settings_reach_nested_fields() -> None:
    assert change(Outer(), {"count": "2", "inner.rate": "0.25"}) == Outer(count=2, inner=Inner(0.25))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"--set: 'inner.rat' is unknown \(did you mean 'inner.rate'\?"):
        change(Outer(), {"inner.rat": 1})
    with pytest.raises(ValueError, match=r"--set: 'counts' is unknown \(did you mean 'count'\?"):
        change(Outer(), {"counts": 1})
    with pytest.raises(ValueError, match=r"--set: 'count.x' is unknown"):
        change(Outer(), {"count.x": 1})
