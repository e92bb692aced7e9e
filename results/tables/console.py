"""Tables on a terminal: one table for each question, as narrow as 80 columns, or one wide table."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import IO

import pandas as pd
from pandas import Series
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from harness.results.tables.columns import Column, Question, Table
from harness.results.tables.page import (
    BOLD,
    cells_of,
    columns_with_values,
    find_best,
    lay_out,
    plain,
    shared_value,
)
from harness.results.tables.text import split_blocks

GAP = 2  # spaces between two columns
LONG = 20  # characters of a text from which on numbers may stand in its place
CHANGE = re.compile(r"(?:^|, )([A-Za-z_][\w.]*)=")  # in "memory.iterations=1000, eval_models=a, b"


def print_tables(tables: Iterable[Table], file: IO[str], *, details: bool = False, wide: bool = False) -> None:
    """Print tables, each as one table for each of its questions.

    Settings that all lines share stand above a table, and each changed setting is a column. No word and no number is
    broken: where the columns of a question do not fit side by side, its table goes on below, with the same lines; where
    not even one column fits beside the settings, each line of the table is a paragraph.

    Args:
        tables: the tables of some rows.
        file: where to; a file that is no terminal has 80 columns, or as many as COLUMNS says.
        details: answer the questions of detail as well.
        wide: print each table as one table, whose lines are not wrapped.
    """
    console = Console(file=file)
    for table in tables:
        if wide:
            whole = draw_whole(table)
            width = Measurement.get(console, console.options.update(max_width=10_000), whole).maximum
            Console(file=file, width=max(width, console.width)).print(whole)
        elif details or not table.layout.is_detail:
            console.print(draw_questions(table, console.width, details=details))


def draw_whole(table: Table) -> RenderableType:
    """Draw one table of all columns, with the values that all lines share as its title."""
    page = lay_out(table)
    # Text objects, not strings: rich would read [ ] in a string as markup.
    title = Text(page.caption) if page.caption else None
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading, is_number in zip(page.headings, page.is_number, strict=True):
        grid.add_column(Text(heading), justify="right" if is_number else "left", no_wrap=True)
    for line, is_best, ends_block in zip(page.lines, page.is_best, page.ends_block, strict=True):
        grid.add_row(*map(_cell, line, is_best), end_section=ends_block)
    return grid


def draw_questions(table: Table, width: int, *, details: bool = False) -> RenderableType:
    """What all lines share, then for each question a table of each block.

    Args:
        table: the lines of a table.
        width: the columns of the terminal.
        details: whether to answer the questions of detail as well.
    """
    table = spread_changes(table)
    common, columns = share(table, table.layout.settings)
    others = [column.name for column in columns]
    parts: list[RenderableType] = [Text(table.layout.title, style="bold")]
    if common:
        parts.append(_indent(join_shared(common), width))
    parts.append(Text())
    for question in table.layout.questions:
        blocks = [] if question.is_detail and not details else split_blocks(table)
        answers = [answer for block in blocks if (answer := draw_answer(block, question, others, width))]
        if answers:
            parts += [Text(question.title, style="underline"), *answers]
    return Group(*parts)


def spread_changes(table: Table) -> Table:
    """The table with a column for each setting that any line changes, in the place of `changes`."""
    frame, layout = table.frame, table.layout
    if "changes" not in frame:
        return table
    of_lines = [split_changes(changes) for changes in frame["changes"]]
    names = list(dict.fromkeys(name for changes in of_lines for name in changes))
    changed = {name: Series([changes.get(name, "") for changes in of_lines], frame.index, dtype=str) for name in names}
    of_notes = frame["note"] if "note" in frame else [""] * len(frame)
    notes = [_strip_changes(note, changes) for note, changes in zip(of_notes, frame["changes"], strict=True)]
    columns = [column for column in layout.columns if column.name not in names]
    at = [column.name for column in columns].index("memory") + 1
    columns[at:at] = [Column(name, name, is_shared=True) for name in names]
    settings = [each for name in layout.settings for each in (names if name == "changes" else [name])]
    return Table(frame.assign(note=notes, **changed), replace(layout, columns=tuple(columns), settings=tuple(settings)))


def _strip_changes(note: str, changes: str) -> str:
    """A note without the changes, which have columns of their own."""
    return " ".join(note.replace(f"({changes})", "").split()) if changes else note


def split_changes(changes: str) -> dict[str, str]:
    """Setting -> value, of "memory.iterations=1000, model=lenet"."""
    _, *parts = CHANGE.split(changes)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def share(table: Table, names: Iterable[str]) -> tuple[list[tuple[Column, str]], list[Column]]:
    """The columns in which all lines agree, each with its value, and the other columns.

    All settings may be shared, the memory of a line alone excepted; of other columns, those that say so.
    """
    columns = {column.name: column for column in columns_with_values(table)}
    common: list[tuple[Column, str]] = []
    others: list[Column] = []
    for column in (columns[name] for name in names if name in columns):
        is_shared = column.is_shared or (column.name in table.layout.settings and len(table.frame) > 1)
        value = shared_value(cells_of(table.frame, column), column) if is_shared else ""
        if value:
            common.append((column, value))
        else:
            others.append(column)
    return common, others


def join_shared(common: Sequence[tuple[Column, str]]) -> str:
    """ "dataset cifar10 (official), preset paper"."""
    values = {column.name: value for column, value in common}
    exactness = f" ({values['exactness']})" if {"dataset", "exactness"} <= set(values) else ""
    return ", ".join(
        f"{column.title} {value}{exactness if column.name == 'dataset' else ''}"
        for column, value in common
        if not (exactness and column.name == "exactness")
    )


@dataclass(frozen=True)
class Strip:
    """A column of a table on a terminal."""

    heading: str
    cells: list[str]
    is_best: list[bool]
    is_number: bool

    @property
    def natural(self) -> int:
        """The width at which nothing wraps."""
        return max(map(len, (self.heading, *self.cells)))

    @property
    def least(self) -> int:
        """The width of the longest word; a number with its interval is one word."""
        words = [*self.heading.split(), *(self.cells if self.is_number else " ".join(self.cells).split())]
        return max(map(len, words), default=0)


def draw_answer(block: Table, question: Question, names: Sequence[str], width: int) -> RenderableType | None:
    """Draw the lines of a block that answer a question, below the values that they share; None if there are none."""
    settings = [name for name in names if name not in question.ignores]
    part = select_lines(block, question, settings)
    if not len(part.frame):
        return None
    common, columns = share(part, (*settings, *question.columns))
    strips = [_strip(part, column) for column in columns if column.name in settings]
    answers = [_strip(part, column) for column in columns if column.name not in settings]
    if not strips:  # a line alone has its memory at its head
        memory = next(column for column in columns_with_values(part) if column.name == "memory")
        common = [(column, value) for column, value in common if column != memory]
        strips = [_strip(part, memory)]
    bold = [BOLD] if any(any(strip.is_best) for strip in answers) else []
    numbered, numbered_answers, legends = number_long_cells(strips, answers, width)
    tables = fit(numbered, numbered_answers, width)
    if all(sum(strip.least + GAP for strip in each) <= width for each in tables):
        body: list[RenderableType] = [_grid(each, width) for each in tables]
    else:
        body, legends = _paragraphs(strips, answers, width), []
    above = ", ".join([*filter(None, [join_shared(common)]), *legends, *bold])
    return Group(*([_indent(above, width)] if above else []), *body, Text())


def _indent(text: str, width: int, by: int = 2) -> RenderableType:
    """Indent a text; a word that is too long for a line, such as the name of a network, is broken at its hyphens."""
    most = width - by
    pieces = (piece for word in text.split(" ") for piece in ([word] if len(word) <= most else _hyphenate(word, most)))
    return Padding(Text(" ".join(pieces)), (0, 0, 0, by), expand=False)


def _hyphenate(word: str, most: int) -> list[str]:
    return textwrap.wrap(word, most, break_long_words=False, break_on_hyphens=True)


def _paragraphs(settings: list[Strip], answers: list[Strip], width: int) -> list[RenderableType]:
    """Draw each line of a table as a paragraph: its settings, and below them a line for each answer."""
    parts: list[RenderableType] = []
    for place in range(len(settings[0].cells)):
        head = ", ".join(f"{strip.heading} {strip.cells[place]}" for strip in settings if strip.cells[place])
        parts.append(_indent(head, width, by=0))
        for strip in answers:
            if cell := strip.cells[place]:
                parts.append(
                    Padding(Text(f"{strip.heading}  ") + _cell(cell, strip.is_best[place]), (0, 0, 0, 2), expand=False)
                )
    return parts


def select_lines(block: Table, question: Question, settings: Sequence[str]) -> Table:
    """The lines that have a value in a column of the question, each once."""
    columns = [column for column in columns_with_values(block) if column.name in question.columns]
    measured = [cells_of(block.frame, column) for column in columns if not column.is_shared]
    has_value = [any(cells) for cells in zip(*measured, strict=True)] if measured else [False] * len(block.frame)
    lines = block.frame[has_value]
    keys = [name for name in (*settings, *(column.name for column in columns)) if name in lines]
    again = lines[keys].astype(str).duplicated()
    return Table(lines[~again].reset_index(drop=True), block.layout)


def _strip(table: Table, column: Column) -> Strip:
    is_number = pd.api.types.is_numeric_dtype(table.frame[column.name])
    return Strip(plain(column.title), cells_of(table.frame, column), find_best(table, column), is_number)


def number_long_cells(
    settings: list[Strip], answers: list[Strip], width: int
) -> tuple[list[Strip], list[Strip], list[str]]:
    """The strips with numbers in the place of long texts, and a legend for each of them.

    Texts of answers, such as names of devices, are numbered where they would wrap; those of settings, such as names of
    networks, where no answer would fit beside them.
    """
    legends: list[str] = []

    def number(strip: Strip) -> Strip:
        texts = list(dict.fromkeys(filter(None, strip.cells)))
        legends.append(f"{strip.heading} {', '.join(f'({n}) {text}' for n, text in enumerate(texts, start=1))}")
        return replace(strip, cells=[f"({texts.index(cell) + 1})" if cell else "" for cell in strip.cells])

    if sum(strip.natural + GAP for strip in (*settings, *answers)) > width:
        answers = [number(strip) if not strip.is_number and strip.natural > LONG else strip for strip in answers]
    widest = max((strip.least for strip in answers), default=0) + GAP
    for place in sorted(range(len(settings)), key=lambda place: -settings[place].natural):
        if sum(strip.least + GAP for strip in settings) + widest > width and settings[place].natural > LONG:
            settings = [number(strip) if at == place else strip for at, strip in enumerate(settings)]
    return settings, answers, legends


def fit(settings: list[Strip], answers: list[Strip], width: int) -> list[list[Strip]]:
    """The answers in as few tables as fit the width, each with the settings before them."""
    tables: list[list[Strip]] = []
    for strip in answers:
        if tables and sum(each.least + GAP for each in (*tables[-1], strip)) <= width:
            tables[-1].append(strip)
        else:
            tables.append([*settings, strip])
    return tables


def _grid(strips: list[Strip], width: int) -> Grid:
    widths = [strip.natural for strip in strips]
    while sum(widths) + GAP * len(widths) > width:
        place = max(range(len(strips)), key=lambda place: (widths[place] > strips[place].least, widths[place]))
        widths[place] -= 1
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for strip, own in zip(strips, widths, strict=True):
        grid.add_column(Text(strip.heading), justify="right" if strip.is_number else "left", width=own)
    for place in range(len(strips[0].cells)):
        grid.add_row(*(_cell(strip.cells[place], strip.is_best[place]) for strip in strips))
    return grid


def _cell(cell: str, is_best: bool) -> Text:
    return Text(cell, style="bold" if is_best else "")
