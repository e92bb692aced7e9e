"""Tables to text: markdown, LaTeX, HTML, CSV, the terminal."""

import html
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame, Series
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.results.statistics.means import BLOCK, SETTING
from harness.results.wording import memory_label

HEADINGS = {
    "dataset_digest": "digest",
    "memory_model": "built with",
    "last_accuracy": "last accuracy (%)",
    "average_incremental_accuracy": "average incremental accuracy (%)",
    "average_incremental_accuracy_n": "n of average incremental accuracy",
    "forgetting_n": "n of forgetting",
    "test_accuracy_uint8_n": "n at 8 bits",
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
    "architectures": "n",
    "performance": "accuracy of the selected (%)",
    "spearman_rho_picked_5_percent": "rho, own top 5 %",
    "minutes_device": "minutes on",
    "condensing_minutes": "condensing (min)",
    "condensing_device": "condensed on",
    "published_performance": "published accuracy",
    "published_rho": "published rho",
    "published_minutes": "published minutes",
    "spearman_rho": "rho",
    "spearman_rho_best_20_percent": "rho, best 20 %",
    "spearman_rho_best_5_percent": "rho, best 5 %",
    "kendall_tau_b": "tau-b",
    "regret_at_1": "regret@1 (points)",
    "regret_at_5_percent": "regret@5 % (points)",
    "top_k_agreement_at_5_percent": "agreement@5 %",
    "top_k_agreement_at_20_percent": "agreement@20 %",
    "best_rank_at_5_percent": "best rank@5 %",
    "noise_ceiling": "noise ceiling: rho of half of the truth's trainings with the others",
    "noise_ceiling_best_20_percent": "noise ceiling, best 20 %",
    "halves": "trainings of the truth in the noise ceiling",
    "n_5_percent": "n of 5 %",
    "n_20_percent": "n of 20 %",
    "true_repeats": "repeats of the truth",
    "true_diverged": "of the truth diverged",
    "true_tied": "of the truth tied",
    "at_chance": "at chance",
    "partial_rho": "rho given that",
}
COSTS = (
    "images_per_class", "scalars_per_class", "stored_kib_per_class", "condensing_seconds", "condensing_device",
    "condensing_flop", "peak_mib",
)  # fmt: skip
RANKS = (
    "spearman_rho", "spearman_rho_best_20_percent", "spearman_rho_best_5_percent", "kendall_tau_b", "weighted_tau",
    "noise_ceiling", "noise_ceiling_best_20_percent", "halves",
)  # fmt: skip
PICKS = (
    "selected", "regret_at_1", "regret_at_5_percent", "top_k_agreement_at_5_percent", "top_k_agreement_at_20_percent",
    "best_rank_at_5_percent",
)  # fmt: skip
COUNTS = (
    "n_5_percent", "n_20_percent", "repeats", "true_repeats", "not_shared", "diverged", "true_diverged", "at_chance",
    "tied", "true_tied",
)  # fmt: skip
# Metrics of which the best is set in bold: more is better. Not forgetting: who learns least has least to forget.
RANKED = ("last_accuracy", "average_incremental_accuracy", "test_accuracy", "test_accuracy_uint8")
RIVALS = (*BLOCK, "steps", "ipc", "recipe", "model")  # lines that agree in these are ranked against each other
BOLD = "bold: the best of its setting, its interval over sets or orders apart from those of all others"
# Columns that stand above the table where all lines share them, beside the setting; "" where there is no such thing.
SHARED = ("varies", "n", "average_incremental_accuracy_n", "forgetting_n", "test_accuracy_uint8_n", "minutes_device",
          "condensing_device", "halves")  # fmt: skip
BESIDE = ("note", "changes", "published_std")  # no columns of their own: they stand beside the memory, the value


def to_text(table: DataFrame, format: str) -> str:
    """A table as text: "md", "latex" (booktabs), "html" or "csv".

    In all but csv a mean reads "22.3 [21.0, 23.6]", a published value "48.9 (std 0.6)", what all lines share stands
    above the table, and columns without any value are left out; the best mean of a setting is bold where its interval
    is apart from those of all others, a mean without an interval being apart from none. md and html give each block
    of a track's table a table of its own. csv is the whole table, number by number.

    Raises:
        ValueError: another format.
    """
    if format not in _WRITERS:
        raise ValueError(f"format: expected {', '.join(_WRITERS)}, got {format!r}")
    return _WRITERS[format](table)


def to_rich(table: DataFrame) -> RenderableType:
    """A table for the terminal, with the same cells as `to_text`'s.

    What condensing costs gets a table of its own; so do, of a table of NAS proxies, ranks, picks and counts.
    """
    of_track = (COSTS,) if "condensing_seconds" in table else (RANKS, PICKS, COUNTS) if "repeats" in table else ()
    parts = [[name for name in map(str, table) if re.sub("_(low|high)$", "", name) in part] for part in of_track]
    main = table.drop(columns=[name for part in parts for name in part])
    kept = [name for name in (*SETTING, "architectures", "note") if name in table and name not in ("recipe", "model")]
    return Group(_drawn(main), *(_drawn(table[[*kept, *part]].drop_duplicates(ignore_index=True)) for part in parts))


def to_console(table: DataFrame, file: IO[str]) -> None:
    """Print a table as `to_rich` lays it out.

    On a terminal it is as wide as that; in a pipe or a log, unless COLUMNS says how wide, every line of it is one line.
    """
    console, found = Console(file=file), to_rich(table)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        unwrapped = Measurement.get(console, console.options.update(max_width=sys.maxsize), found).maximum
        console.width = max(console.width, unwrapped)
    console.print(found)


def _drawn(table: DataFrame) -> Table:
    page = _page(table)
    # Text objects, not strings: rich would read [ ] in a string as markup.
    title = Text(page.caption) if page.caption else None
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading, is_number in zip(page.headings, page.is_number, strict=True):
        drawn.add_column(Text(heading), justify="right" if is_number else "left", overflow="fold")
    for line, is_best, ends_block in zip(page.lines, page.is_best, page.ends_block, strict=True):
        cells = [Text(cell, style="bold" if best else "") for cell, best in zip(line, is_best, strict=True)]
        drawn.add_row(*cells, end_section=ends_block)
    return drawn


class _Page(NamedTuple):
    """A table as it is shown: text only, without line breaks or control characters."""

    caption: str  # what all lines share
    headings: list[str]
    is_number: list[bool]
    lines: list[list[str]]
    is_best: list[list[bool]]  # cell by cell
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
        may_be_shared = name in (*SETTING, *SHARED) and name not in ("memory", "steps")
        if name == "n" and pd.api.types.is_numeric_dtype(table[name]):
            may_be_shared = False
        # Selected images need no network, and what is not trained no device.
        different = set(cells) - ({""} if name in ("memory_model", "minutes_device", "condensing_device") else set())
        if may_be_shared and len(different) == 1:
            shared.append(f"{HEADINGS.get(name, name)} {different.pop()}")
        else:
            shown.append((name, cells))
    block = table[[name for name in BLOCK if name in table]]
    is_best = [_is_best(table, name) for name, _ in shown]
    if any(map(any, is_best)):
        shared.append(BOLD)
    return _Page(
        caption=", ".join(shared),
        headings=[_plain(HEADINGS.get(name, name.replace("_", " "))) for name, _ in shown],
        is_number=[pd.api.types.is_numeric_dtype(table[name]) for name, _ in shown],
        lines=[list(line) for line in zip(*(cells for _, cells in shown), strict=True)],
        is_best=[list(line) for line in zip(*is_best, strict=True)],
        ends_block=[this != after for this, after in pairwise([*block.astype(object).to_numpy().tolist(), None])],
    )


def _is_best(table: DataFrame, name: str) -> list[bool]:
    """Which lines hold the best mean of a metric among their rivals, by an interval that overlaps with no other's.

    A run's lines before its last iteration are no rivals. An interval over the networks of one set or order says
    nothing of others: where that is all there is of one of them, there is no best.
    """
    is_best = [False] * len(table)
    names = [name, f"{name}_low", f"{name}_high"]
    if name not in RANKED or not set(names) <= set(table):
        return is_best
    mean, low, high = (table[each].to_numpy() for each in names)
    ranked = table.assign(place=range(len(table)))[_is_last(table) & ~np.isnan(mean)]
    for _, part in ranked.groupby([each for each in RIVALS if each in table], dropna=False):
        first, *rivals = sorted(part["place"], key=lambda place: -mean[place])
        is_told = "varies" not in part or part["varies"].isin(("sets", "orders")).all()
        is_best[first] = bool(rivals) and is_told and all(high[rival] < low[first] for rival in rivals)
    return is_best


def _is_last(table: DataFrame) -> "Series[bool]":
    """Which lines have the most iterations among those that differ in nothing else."""
    if "iterations" not in table:
        return Series(True, index=table.index)
    run = [name for name in SETTING if name in table and name != "iterations"]
    most = table.groupby(run, dropna=False)["iterations"].transform("max")
    return most.isna() | (table["iterations"] == most).fillna(False)


def _shown(table: DataFrame, name: str) -> list[str]:
    low, high = ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")
    write = _FORMATS.get(name, _one_decimal)
    cells = [_number(value, write) if isinstance(value, float) else _plain(value) for value in table[name]]
    if low in table and high in table:
        ends = [(_number(low, write), _number(high, write)) for low, high in zip(table[low], table[high], strict=True)]
        cells = [f"{mean} [{', '.join(end)}]" if all(end) else mean for mean, end in zip(cells, ends, strict=True)]
    if name == "published" and "published_std" in table:
        stds = [_number(value) for value in table["published_std"]]
        cells = [f"{cell} (std {std})" if std else cell for cell, std in zip(cells, stds, strict=True)]
    if name == "memory" and "note" in table:
        cells = [f"{cell} {note}".strip() for cell, note in zip(cells, map(_plain, table["note"]), strict=True)]
    elif name == "memory":
        cells = [memory_label(cell) for cell in cells]
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
    **dict.fromkeys(
        (
            "spearman_rho_picked_5_percent",
            "published_rho",
            *RANKS,
            "top_k_agreement_at_5_percent",
            "top_k_agreement_at_20_percent",
            "partial_rho",
        ),
        "{:.2f}".format,
    ),
    "advantage": "{:+.2f}".format,
    **dict.fromkeys(("p", "p_holm"), "{:.3f}".format),
    **dict.fromkeys(("minutes", "condensing_minutes", "images", "best_rank_at_5_percent", *COUNTS), _rounded),
    **dict.fromkeys(("images_per_class", "scalars_per_class", "condensing_seconds", "peak_mib"), _rounded),
}


def _plain(value: Any) -> str:
    if pd.isna(value):
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()


def _blocks(table: DataFrame) -> list[DataFrame]:
    """The table by data set, split, preset and league."""
    if not (names := [name for name in BLOCK if name in table]):
        return [table]
    return [block for _, block in table.groupby(names, dropna=False, sort=False)]


def _cells(
    page: _Page, escape: Callable[[str], str], number: Callable[[str], str], bold: Callable[[str], str]
) -> list[list[str]]:
    """The cells of a page by line: text escaped, numbers written, the best in bold."""
    lines = []
    for line, is_best in zip(page.lines, page.is_best, strict=True):
        written = [
            number(cell) if is_number else escape(cell) for cell, is_number in zip(line, page.is_number, strict=True)
        ]
        lines.append([bold(cell) if best else cell for cell, best in zip(written, is_best, strict=True)])
    return lines


def _markdown(table: DataFrame) -> str:
    return "\n".join(map(_markdown_block, _blocks(table)))


def _markdown_block(table: DataFrame) -> str:
    page = _page(table)
    rule = ["---:" if is_number else "---" for is_number in page.is_number]
    lines = _cells(page, _escape_markdown, str, "**{}**".format)
    grid = [f"| {' | '.join(line)} |" for line in (map(_escape_markdown, page.headings), rule, *lines)]
    return "\n".join([*([_escape_markdown(page.caption), ""] if page.caption else []), *grid, ""])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|`*_<\[])", r"\\\1", text)


def _latex(table: DataFrame) -> str:
    page = _page(table)
    columns = "".join("r" if is_number else "l" for is_number in page.is_number)
    lines = [" & ".join(map(_escape_latex, page.headings)) + r" \\", r"\midrule"]
    written = _cells(page, _escape_latex, lambda cell: cell.replace("-", "$-$"), r"\textbf{{{}}}".format)
    for number, (cells, ends_block) in enumerate(zip(written, page.ends_block, strict=True), start=1):
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


def _html(table: DataFrame) -> str:
    return "".join(map(_html_block, _blocks(table)))


def _html_block(table: DataFrame) -> str:
    page = _page(table)
    kinds = [' class="number"' if is_number else "" for is_number in page.is_number]

    def row(tag: str, cells: Sequence[str]) -> str:
        written = (f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(written)}</tr>"

    return "\n".join([
        "<table>", *([f"<caption>{html.escape(page.caption)}</caption>"] if page.caption else []),
        f"<thead>{row('th', list(map(html.escape, page.headings)))}</thead>", "<tbody>",
        *(row("td", cells) for cells in _cells(page, html.escape, html.escape, "<strong>{}</strong>".format)),
        "</tbody>", "</table>", "",
    ])  # fmt: skip


def _csv(table: DataFrame) -> str:
    # A carriage return inside a cell would be written unquoted and read back as the end of a line.
    plain = {str(name): table[name].map(_plain) for name in table if not pd.api.types.is_numeric_dtype(table[name])}
    return table.assign(**plain).to_csv(index=False, lineterminator="\n")


_WRITERS: dict[str, Callable[[DataFrame], str]] = {"md": _markdown, "csv": _csv, "latex": _latex, "html": _html}
