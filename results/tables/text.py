"""Tables to Markdown, LaTeX, HTML and CSV."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from jinja2 import Environment
from pandas import DataFrame

from harness.results.tables.columns import Table
from harness.results.tables.page import Page, lay_out, plain

HTML = """\
<table>
{% if page.sentences %}
<caption>{{ page.sentences }}</caption>
{% endif %}
<thead><tr>
{%- for heading in page.headings -%}
<th{% if page.is_number[loop.index0] %} class="number"{% endif %}>{{ heading }}</th>
{%- endfor -%}
</tr></thead>
<tbody>
{% for line, is_best in zip(page.lines, page.is_best) %}
<tr>
{%- for cell in line -%}
<td{% if page.is_number[loop.index0] %} class="number"{% endif %}>
{%- if is_best[loop.index0] %}<strong>{{ cell }}</strong>{% else %}{{ cell }}{% endif -%}
</td>
{%- endfor -%}
</tr>
{% endfor %}
</tbody>
</table>
"""
LATEX_SIGNS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def to_text(table: Table, format: str) -> str:
    """A table as text: "md", "latex" (booktabs), "html" or "csv".

    In all but csv a mean reads "22.3 [21.0, 23.6]", a published value "48.9 (std 0.6)", what all lines share stands
    above the table, and columns without any value are left out. The best mean of a setting is bold where its interval
    is apart from all others; a mean without an interval is apart from none. Each block of a table (data set, split,
    preset and league) has a table of its own. csv is the whole table, number by number.

    Raises:
        ValueError: another format.
    """
    if format == "csv":
        return to_csv(table.frame)
    if format not in WRITERS:
        raise ValueError(f"format: expected md, csv, latex, html, got {format!r}")
    separator = "\n" if format == "md" else ""
    return separator.join(WRITERS[format](lay_out(block)) for block in split_blocks(table))


def split_blocks(table: Table) -> list[Table]:
    """The table by data set, split, preset and league."""
    if not (names := [name for name in table.layout.block if name in table.frame]):
        return [table]
    blocks = table.frame.groupby(names, dropna=False, sort=False)
    return [Table(block.reset_index(drop=True), table.layout) for _, block in blocks]


def to_csv(frame: DataFrame) -> str:
    """All columns of a frame, numbers in full."""
    # A carriage return inside a cell would be written unquoted and read back as the end of a line.
    text = {str(name): frame[name].map(plain) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])}
    return frame.assign(**text).to_csv(index=False, lineterminator="\n")


def _write_markdown(page: Page) -> str:
    def row(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [row([_escape_markdown(heading) for heading in page.headings])]
    lines.append(row(["---:" if is_number else "---" for is_number in page.is_number]))
    for line, best in zip(page.lines, page.is_best, strict=True):
        cells = [
            cell if is_number else _escape_markdown(cell) for cell, is_number in zip(line, page.is_number, strict=True)
        ]
        lines.append(row([f"**{cell}**" if is_best else cell for cell, is_best in zip(cells, best, strict=True)]))
    caption = [_escape_markdown(page.caption), ""] if page.caption else []
    return "\n".join([*caption, *lines, ""])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|`*_<\[])", r"\\\1", text)


def _write_latex(page: Page) -> str:
    columns = "".join("r" if is_number else "l" for is_number in page.is_number)
    cells = DataFrame(page.lines)
    for place, is_number in enumerate(page.is_number):
        cells[place] = cells[place].map((lambda cell: cell.replace("-", "$-$")) if is_number else _escape_latex)
    headings = [_escape_latex(heading) for heading in page.headings]
    styler = cells.style.hide(axis="index").format_index(lambda place: headings[int(str(place))], axis="columns")
    styler = styler.apply(lambda _: np.where(page.is_best, "textbf:--rwrap;", ""), axis=None)
    caption = _escape_latex(page.caption) or None
    return str(styler.to_latex(column_format=columns, hrules=True, position_float="centering", caption=caption))


def _escape_latex(text: str) -> str:
    # A cell that begins with [ would be read as the optional argument of the \\ before it.
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def _write_html(page: Page) -> str:
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return template.from_string(HTML).render(page=page, zip=zip)


WRITERS: dict[str, Callable[[Page], str]] = {"md": _write_markdown, "latex": _write_latex, "html": _write_html}
