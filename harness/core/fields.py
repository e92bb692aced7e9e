"""Configurations: frozen dataclasses whose values pydantic checks, and the kinds of values their fields have.

    @configuration
    class DMConfig:
        lr: Positive = 1.0
        "Learning rate of the images."

The text below a field says what the field means; `describe` reads it back, for `harness show` among others.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from harness.core.registry import known

Class = TypeVar("Class")

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]

# Metadata of a field that older versions did not have. Unit keys leave the field out where it has its default, so that
# results of those versions keep their keys.
ADDED_LATER: Mapping[str, object] = {"added_later": True}


def one_of(choices: Collection[str], what: str) -> AfterValidator:
    """Accept a name only if it is one of `choices`; the error calls it `what` and names the nearest choice."""
    return AfterValidator(lambda name: known(name, choices, what))


def satisfies(check: Callable[[str], object]) -> AfterValidator:
    """Accept a name only if `check(name)` raises no ValueError."""

    def accept(name: str) -> str:
        check(name)
        return name

    return AfterValidator(accept)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def configuration(cls: type[Class]) -> type[Class]:
    """Make a class a frozen dataclass whose values are checked when an instance is made.

    Raises:
        ValueError: when an instance is made: a value does not fit its field. The message is one line that names the
            field, what fits and what came.
    """
    settings = ConfigDict(use_attribute_docstrings=True, arbitrary_types_allowed=True, extra="forbid")
    made: Any = dataclass(cls, frozen=True, config=settings)
    check = made.__init__

    def init(self: Any, *values: object, **fields: object) -> None:
        try:
            check(self, *values, **fields)
        except ValidationError as error:
            names = [field.name for field in dataclasses.fields(made) if field.init]
            raise ValueError(explain(error, names=names)) from None

    init.__wrapped__ = check  # type: ignore[attr-defined]  # for its signature
    made.__init__ = init
    return made  # type: ignore[no-any-return]


def describe(cls: type) -> dict[str, str]:
    """What each field of a configuration means, by name; "" for a field that does not say, as of a plain dataclass."""
    meanings = {field.name: "" for field in dataclasses.fields(cls)}
    for base in reversed(cls.__mro__):  # a subclass may give a field another meaning
        for name, field in base.__dict__.get("__pydantic_fields__", {}).items():
            meanings[name] = field.description or meanings[name]
    return meanings


def replace_known(config: Class, values: Mapping[str, object]) -> Class:
    """The configuration with those of `values` that it has a field for."""
    names = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]  # a dataclass, which no type says
    return dataclasses.replace(config, **{name: value for name, value in values.items() if name in names})  # type: ignore[type-var]


LIMITS = ("greater_than_equal", "greater_than", "less_than", "less_than_equal", "finite_number")
# Error type of pydantic -> what fits, in words.
FITS = {
    "greater_than_equal": "at least {ge:g} is needed",
    "greater_than": "a finite number above {gt:g} is needed",
    "less_than": "a number below {lt:g} is needed",
    "less_than_equal": "at most {le:g} is needed",
    "finite_number": "a finite number is needed",
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_parsing": "a number is needed",
    "float_type": "a number is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed",
    "string_type": "text is needed",
    "unexpected_keyword_argument": "no such setting",
    "tuple_type": "several values, separated by commas, are needed",
}


def explain(error: ValidationError, field: str = "", names: Sequence[str] = ()) -> str:
    """The first thing that pydantic found wrong, in one line: the field, what fits and what came.

    Args:
        field: what to call the field, where a single value was checked.
        names: of all fields in their order, where values were given by position.
    """
    found = error.errors(include_url=False)[0]
    if found["type"] == "value_error":  # raised by a check of ours, which names its field
        return found["msg"].removeprefix("Value error, ")
    place = [names[part] if isinstance(part, int) and part < len(names) else part for part in found["loc"][:1]]
    fits = FITS.get(found["type"], found["msg"]).format(**found.get("ctx", {}))
    came = found["input"] if found["type"] in LIMITS else repr(found["input"])
    return f"{field or next(iter(place), 'value')}: {fits}, got {came}"
