"""Configurations: frozen dataclasses whose values pydantic checks, and the types of their fields.

    @configuration
    class DMConfig:
        lr: Positive = 1.0
        "Learning rate of the images."

The text below a field is its description, which `describe` returns, for `harness show` among others.
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
    """Return a validator that accepts only `choices`; its error calls the value `what` and names the nearest choice."""
    return AfterValidator(lambda name: known(name, choices, what))


def satisfies(check: Callable[[str], object]) -> AfterValidator:
    """Return a validator that accepts a name if `check(name)` raises no ValueError."""

    def accept(name: str) -> str:
        check(name)
        return name

    return AfterValidator(accept)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def configuration(cls: type[Class]) -> type[Class]:
    """Turn a class into a frozen dataclass that checks the values of its fields; a class decorator.

    Creating an instance with a value that does not fit its field raises a ValueError. The message is one line that
    names the field, the expected value and the given one.
    """
    settings = ConfigDict(use_attribute_docstrings=True, arbitrary_types_allowed=True, extra="forbid")
    config_class: Any = dataclass(cls, frozen=True, config=settings)
    pydantic_init = config_class.__init__

    def init(self: Any, *values: object, **fields: object) -> None:
        try:
            pydantic_init(self, *values, **fields)
        except ValidationError as error:
            names = [field.name for field in dataclasses.fields(config_class) if field.init]
            raise ValueError(explain(error, names=names)) from None

    init.__wrapped__ = pydantic_init  # type: ignore[attr-defined]  # for its signature
    config_class.__init__ = init
    return config_class  # type: ignore[no-any-return]


def describe(cls: type) -> dict[str, str]:
    """Return the description of each field of a configuration, by name; "" for a field without one."""
    descriptions = {field.name: "" for field in dataclasses.fields(cls)}
    for base in reversed(cls.__mro__):  # a subclass may describe an inherited field anew
        for name, field in base.__dict__.get("__pydantic_fields__", {}).items():
            descriptions[name] = field.description or descriptions[name]
    return descriptions


def replace_known(config: Class, values: Mapping[str, object]) -> Class:
    """Return the configuration with new values, ignoring the names in `values` that are not its fields."""
    names = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]  # a dataclass
    return dataclasses.replace(config, **{name: value for name, value in values.items() if name in names})  # type: ignore[type-var]


# Error types whose input is a number, which is shown as it is.
LIMITS = ("greater_than_equal", "greater_than", "less_than", "less_than_equal", "finite_number")
# Error type of pydantic -> description of the expected value.
EXPECTED = {
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
    """Describe the first error that pydantic found in one line: the field, the expected value and the given one.

    Args:
        field: the name of the field if a single value was checked.
        names: the names of all fields in order, for values that were given by position.
    """
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # raised by a validator of this package, whose message names the field
        return first["msg"].removeprefix("Value error, ")
    place = [names[part] if isinstance(part, int) and part < len(names) else part for part in first["loc"][:1]]
    expected = EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    given = first["input"] if first["type"] in LIMITS else repr(first["input"])
    return f"{field or next(iter(place), 'value')}: {expected}, got {given}"
