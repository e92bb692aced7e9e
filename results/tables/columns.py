"""How a table is shown: its columns, each with a heading and a format, and the questions they answer.

The functions that make a table declare its layout beside it; whatever writes tables reads the layout alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pandas import DataFrame, Series

Format = Callable[[float], str]


def one_decimal(value: float) -> str:
    """22.3"""
    return f"{value:.1f}"


def two_decimals(value: float) -> str:
    """0.68"""
    return f"{value:.2f}"


def three_decimals(value: float) -> str:
    """0.004"""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """+0.7"""
    return f"{value:+.1f}"


def signed_two_decimals(value: float) -> str:
    """+0.07"""
    return f"{value:+.2f}"


def rounded(value: float) -> str:
    """The digits that matter: two below 1, none from 100 on or of a whole number, else one decimal."""
    if abs(value) < 1:
        return f"{value:.2g}"
    return f"{value:.0f}" if value >= 100 or value == round(value) else one_decimal(value)


def rounded_if_small(value: float) -> str:
    """One decimal, but two digits below 1."""
    return rounded(value) if value < 1 else one_decimal(value)


def scientific(value: float) -> str:
    """3.2e15, not 3.2e+15"""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    A column whose frame also has `NAME_low` and `NAME_high` shows them as an interval: "22.3 [21.0, 23.6]".
    """

    name: str  # in the frame
    heading: str = ""  # by default the name with spaces
    format: Format = one_decimal  # of numbers that are not whole
    is_shared: bool = False  # stands above the table where all lines agree in it
    is_optional: bool = False  # lines without a value agree with all others
    is_ranked: bool = False  # the best is set in bold: more is better
    std: str = ""  # a column of standard deviations, written as "48.9 (std 0.6)"
    note: str = ""  # a column of notes, written after the value

    @property
    def title(self) -> str:
        """What stands at the head of the column."""
        return self.heading or self.name.replace("_", " ")


@dataclass(frozen=True)
class Question:
    """A question to a table, and the columns that answer it."""

    title: str
    columns: tuple[str, ...]
    is_detail: bool = False  # shown by --details alone
    ignores: tuple[str, ...] = ()  # settings that the answer does not depend on


@dataclass(frozen=True)
class Layout:
    """The columns of a table in their order, settings first."""

    title: str
    columns: tuple[Column, ...]
    questions: tuple[Question, ...] = ()  # in the order in which a terminal shows them
    settings: tuple[str, ...] = ()  # the columns that tell lines apart
    block: tuple[str, ...] = ()  # the settings that are never mixed in one ranking
    rivals: tuple[str, ...] = ()  # lines that agree in these settings are ranked against each other
    is_detail: bool = False  # the whole table is shown by --details alone


# The settings of a run, as every table shows them.
SETTINGS = (
    *(Column(name, is_shared=True) for name in ("dataset", "exactness")),
    Column("dataset_digest", "digest", is_shared=True),
    *(Column(name, is_shared=True) for name in ("split", "preset", "league", "space")),
    Column("steps"),
    Column("ipc", is_shared=True),
    Column("memory", note="note"),
    Column("recipe", is_shared=True),
    Column("memory_model", "built with", is_shared=True, is_optional=True),  # selected images need no network
    Column("model", is_shared=True),
    Column("iterations", is_shared=True),
)


@dataclass(frozen=True)
class Table:
    """Numbers in full, and how they are shown."""

    frame: DataFrame
    layout: Layout


def is_last_of_run(frame: DataFrame, settings: tuple[str, ...]) -> "Series[bool]":
    """Which lines have the most iterations among those that agree in all other settings.

    Args:
        frame: one line per setting; without a column `iterations`, every line is the last of its run.
        settings: the columns that tell lines apart, `iterations` among them.
    """
    if "iterations" not in frame:
        return Series(True, index=frame.index)
    run = [name for name in settings if name in frame and name != "iterations"]
    most = frame.groupby(run, dropna=False)["iterations"].transform("max")
    return (most.isna() | (frame["iterations"] == most)).fillna(False).astype(bool)


def write_number(value: float, write: Format) -> str:
    """A number in a format; "" for a missing one."""
    return "" if math.isnan(value) else write(value)
