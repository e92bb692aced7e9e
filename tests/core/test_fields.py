"""Configurations check themselves, in one line that names the field, and say what their fields mean."""

import inspect
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Annotated

import pytest

from harness.core.fields import Count, Momentum, Positive, configuration, describe, one_of, replace_known


@configuration
class Inner:
    rate: Positive = 0.5
    "Step size."


@configuration
class Outer:
    count: Count = 1
    "How many."
    limit: Count | None = None
    momentum: Momentum = 0.5
    kind: Annotated[str, one_of(("real", "noise"), "kind")] = "real"
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ValueError("count: 13 brings bad luck")


@configuration
class Wider(Outer):
    more: str = "a"
    "What is added."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: at least 1 is needed, got 0"),
        ({"count": "x"}, "count: a whole number is needed, got 'x'"),
        ({"limit": 0}, "limit: at least 1 is needed, got 0"),
        ({"momentum": 1.0}, "momentum: a number below 1 is needed, got 1.0"),
        ({"kind": "rael"}, "kind: 'rael' is unknown (did you mean 'real'?); choose from real, noise"),
        ({"count": 13}, "count: 13 brings bad luck"),
        ({"cuont": 1}, "cuont: no such setting, got 1"),
    ],
)
def test_a_wrong_value_is_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        replace(Wider(), **values)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_values_by_position_are_named_too() -> None:
    with pytest.raises(ValueError, match=r"^limit: at least 1 is needed, got -1$"):
        Outer(2, -1)
    with pytest.raises(ValueError, match=r"^rate: a finite number above 0 is needed, got 0$"):
        Inner(0)


def test_it_is_a_frozen_dataclass_of_values() -> None:
    assert Outer(inner=Inner(0.25)) == replace(Outer(), inner=Inner(0.25))
    assert len({Outer(), Outer(1), Wider()}) == 2
    assert pickle.loads(pickle.dumps(Wider(2))) == Wider(2)
    assert list(inspect.signature(Inner).parameters) == ["rate"]
    with pytest.raises(FrozenInstanceError):
        Outer().count = 2  # type: ignore[misc]


def test_fields_say_what_they_mean() -> None:
    said = {"count": "How many.", "limit": "", "momentum": "", "kind": "", "inner": "", "more": "What is added."}
    assert describe(Wider) == said


def test_only_known_fields_are_replaced() -> None:
    assert replace_known(Inner(), {"rate": 2.0, "other": 1}) == Inner(2.0)
