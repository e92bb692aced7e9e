"""Tables to text: markdown, LaTeX, CSV, the terminal."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd
from pandas import DataFrame
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.estimates import BLOCK, SETTING
from results.notes import marked

HEADINGS = {
    "dataset_digest": "digest",
    "memory_model": "built with",
    "last_accuracy": "last accuracy (%)",
    "average_incremental_accuracy": "average incremental accuracy (%)",
    "forgetting": "forgetting (points)",
    "test_accuracy": "accuracy (%)",
    "test_accuracy_uint8": "at 8 bits (%)",
    "std_between_sets": "std of sets",
    "std_within_sets": "std of nets",
    "difference": "gap",
    "varies": "95 % interval over",
    "images_per_class": "images / class",
    "scalars_per_class": "scalars / class",
    "stored_kib_per_class": "KiB / class",
    "condensing_seconds": "condensing (s)",
    "condensing_flop": "FLOP",
    "peak_mib": "peak MiB",
}
COSTS = (
    "images_per_class", "scalars_per_class", "stored_kib_per_class", "condensing_seconds", "condensing_flop",
    "peak_mib",
)  # fmt: skip
BESIDE = ("note", "changes", "published_std")  # no columns of their own: they stand beside the memory, the value


def to_text(table: DataFrame, format: str) -> str:
    """A table as text: "md", "latex" (booktabs) or "csv".

    In md and latex a mean reads "22.3 [21.0, 23.6]", a published value "48.9 (std 0.6)", what all lines share stands
    above the table, and columns without any value are left out; md gives each block of a track's table a table of its
    own. csv is the whole table, number by number.

    Raises:
        ValueError: another format.
    """
    if format not in _WRITERS:
        raise ValueError(f"format: expected {', '.join(_WRITERS)}, got {format!r}")
    return _WRITERS[format](table)


def to_rich(table: DataFrame) -> RenderableType:
    """A table for the terminal, with the same cells as `to_text`'s; what condensing costs gets a table of its own."""
    if "condensing_seconds" not in table:
        return _drawn(table)
    kept = [name for name in (*SETTING, "note", *COSTS) if name in table and name not in ("recipe", "model")]
    return Group(_drawn(table.drop(columns=list(COSTS))), _drawn(table[kept].drop_duplicates(ignore_index=True)))


def _drawn(table: DataFrame) -> Table:
    page = _page(table)
    # Text objects, not strings: rich would read [ ] in a string as markup.
    title = Text(page.caption) if page.caption else None
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading, is_number in zip(page.headings, page.is_number, strict=True):
        drawn.add_column(Text(heading), justify="right" if is_number else "left", overflow="fold")
    for line, ends_block in zip(page.lines, page.ends_block, strict=True):
        drawn.add_row(*map(Text, line), end_section=ends_block)
    return drawn


class _Page(NamedTuple):
    """A table as it is shown: text only, without line breaks or control characters."""

    caption: str  # what all lines share
    headings: list[str]
    is_number: list[bool]
    lines: list[list[str]]
    ends_block: list[bool]  # this line is the last of its data set, split, preset and league


def _page(table: DataFrame) -> _Page:
    ends = {"low", "high"} if "mean" in table else set()
    ends |= {f"{name}{end}" for name in table for end in ("_low", "_high") if f"{name}{end}" in table}
    shared, shown = [], []
    for name in map(str, table):
        cells = _shown(table, name)
        if name in ends or name in BESIDE or not any(cells):
            continue
        if (
            name == "dataset_digest"
            and "dataset" in table
            and (table.groupby("dataset")["dataset_digest"].nunique() < 2).all()
        ):
            continue
        may_be_shared = name in (*SETTING, "varies", "n") and name not in ("memory", "steps")
        if name == "n" and pd.api.types.is_numeric_dtype(table[name]):
            may_be_shared = False
        different = set(cells) - ({""} if name == "memory_model" else set())  # selected images need no network
        if may_be_shared and len(different) == 1:
            shared.append(f"{HEADINGS.get(name, name)} {different.pop()}")
        else:
            shown.append((name, cells))
    block = table[[name for name in BLOCK if name in table]]
    return _Page(
        caption=", ".join(shared),
        headings=[_plain(HEADINGS.get(name, name.replace("_", " "))) for name, _ in shown],
        is_number=[pd.api.types.is_numeric_dtype(table[name]) for name, _ in shown],
        lines=[list(line) for line in zip(*(cells for _, cells in shown), strict=True)],
        ends_block=[this != after for this, after in pairwise([*block.astype(object).to_numpy().tolist(), None])],
    )


def _shown(table: DataFrame, name: str) -> list[str]:
    low, high = ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")
    write = _FORMATS.get(name, _one_decimal)
    cells = [_number(value, write) if isinstance(value, float) else _plain(value) for value in table[name]]
    if low in table and high in table:
        ends = [(_number(low), _number(high)) for low, high in zip(table[low], table[high], strict=True)]
        cells = [f"{mean} [{', '.join(end)}]" if all(end) else mean for mean, end in zip(cells, ends, strict=True)]
    if name == "published" and "published_std" in table:
        stds = [_number(value) for value in table["published_std"]]
        cells = [f"{cell} (std {std})" if std else cell for cell, std in zip(cells, stds, strict=True)]
    if name == "memory" and "note" in table:
        cells = [f"{cell} {note}".strip() for cell, note in zip(cells, map(_plain, table["note"]), strict=True)]
    elif name == "memory":
        cells = [marked(cell) for cell in cells]
    return cells


def _one_decimal(value: float) -> str:
    return f"{value:.1f}"


def _number(value: float, write: Callable[[float], str] = _one_decimal) -> str:
    return "" if math.isnan(value) else write(value)


def _rounded(value: float) -> str:
    """No decimals from 100 on or where they say nothing, two digits below 1, else one decimal."""
    if abs(value) < 1:
        return f"{value:.2g}"
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"


def _scientific(value: float) -> str:
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"  # 3.2e15, not 3.2e+15


_FORMATS: dict[str, Callable[[float], str]] = {
    "difference": "{:+.1f}".format,
    "stored_kib_per_class": lambda kib: _rounded(kib) if kib < 1 else _one_decimal(kib),
    "condensing_flop": _scientific,
    **dict.fromkeys(("images_per_class", "scalars_per_class", "condensing_seconds", "peak_mib"), _rounded),
}


def _plain(value: Any) -> str:
    if pd.isna(value):
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()


def _markdown(table: DataFrame) -> str:
    if not (names := [name for name in BLOCK if name in table]):
        return _markdown_block(table)
    blocks = [block for _, block in table.groupby(names, dropna=False, sort=False)]
    return "\n".join(map(_markdown_block, blocks))


def _markdown_block(table: DataFrame) -> str:
    page = _page(table)
    rule = ["---:" if is_number else "---" for is_number in page.is_number]
    lines = [
        [cell if is_number else _escape_markdown(cell) for cell, is_number in zip(line, page.is_number, strict=True)]
        for line in page.lines
    ]
    grid = [f"| {' | '.join(line)} |" for line in (map(_escape_markdown, page.headings), rule, *lines)]
    return "\n".join([*([_escape_markdown(page.caption), ""] if page.caption else []), *grid, ""])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|`*_<\[])", r"\\\1", text)


def _latex(table: DataFrame) -> str:
    page = _page(table)
    columns = "".join("r" if is_number else "l" for is_number in page.is_number)
    lines = [" & ".join(map(_escape_latex, page.headings)) + r" \\", r"\midrule"]
    for number, (line, ends_block) in enumerate(zip(page.lines, page.ends_block, strict=True), start=1):
        cells = [
            cell.replace("-", "$-$") if is_number else _escape_latex(cell)
            for cell, is_number in zip(line, page.is_number, strict=True)
        ]
        lines.append(" & ".join(cells) + r" \\")
        if ends_block and number < len(page.lines):
            lines.append(r"\midrule")
    return "\n".join([
        r"\begin{table}", r"\centering", *([rf"\caption{{{_escape_latex(page.caption)}}}"] if page.caption else []),
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


_LATEX_SIGNS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def _escape_latex(text: str) -> str:
    # A cell that begins with [ would be read as the optional argument of the \\ before it.
    return "".join(_LATEX_SIGNS.get(sign, sign) for sign in text)


def _csv(table: DataFrame) -> str:
    # A carriage return inside a cell would be written unquoted and read back as the end of a line.
    plain = {str(name): table[name].map(_plain) for name in table if not pd.api.types.is_numeric_dtype(table[name])}
    return table.assign(**plain).to_csv(index=False, lineterminator="\n")


_WRITERS: dict[str, Callable[[DataFrame], str]] = {"md": _markdown, "csv": _csv, "latex": _latex}
