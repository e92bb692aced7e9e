"""Comparison of rows with published numbers, cell by cell.

Readers of a table of verdicts get the rule as `RULE` has it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pandas import DataFrame, Series
from scipy import special

from harness.results.published.reproductions import PICKED, Cell, Printed
from harness.results.published.values import SHORT
from harness.results.statistics import comparisons
from harness.results.statistics.means import WHOLE
from harness.results.tables import search as nas_tables
from harness.results.tables.columns import Column, Layout, Question, Table, is_last_of_run
from harness.results.tables.condensed import CONDENSED, condense_table
from harness.results.tables.streams import cl_table
from harness.results.wording import quantity

WITHIN, ABOVE, BELOW = "within", "above", "below"
UNDECIDED = "undecided"  # no interval that could decide, or one that is too wide
NOT_JUDGED = "not judged"  # rows of another preset than paper
ONE_VALUE = "one value, no interval"
TOO_WIDE = "our interval is wider than that of one set may be"
UNPUBLISHED = "unpublished"  # we have a number, they have none
NOT_RUN = "not run"
NORMAL = float(special.ndtri(0.975))  # 1.96
THEIR_SETS = 5
COLUMNS = (
    "cell", "track", "metric", "preset", "exactness", "published", "published_std", "ours", "ours_low", "ours_high",
    "difference", "allowance", "n", "varies", "verdict", "note", "source",
)  # fmt: skip
RULE = (
    "Ours is within where it lies no further from the printed value than chance, at 95 %, and rounding can take it. "
    "Chance is the root of the sum of the squares of two half-widths: that of our interval over sets or orders, and "
    "theirs, 1.96 x the printed standard deviation / sqrt(5). They had 5 sets; networks share a set and vary with it, "
    "so 100 networks are not 100 independent values. Where only networks vary in ours, because there is one set or one "
    "order, their interval says nothing of other sets: 1.96 x the printed deviation stands in for it, and where none "
    "is printed either, the cell is undecided. So is one value, which has no interval at all. A wide interval of few "
    "sets does not make a number hold: if it is wider than 1.96 x the printed deviation, which one set is allowed, a "
    "number that would be within is undecided. Networks trained on all the data share no set, and their interval "
    "counts. So does the interval over the repeats of an architecture that a search selects, though another proxy set "
    "may select another one. Rounding is half the last printed digit, or what is said of a value read off a figure."
)
NOT_THE_PAPERS = (
    "PRESET {preset}: THESE ARE NOT THE PAPER'S NUMBERS. Networks are narrower and schedules shorter than published, "
    "so no verdict is given; the same command with --preset paper gives one."
)

SHOWN = ("paper", "ours", "95 % interval", "n", "verdict", "note")
VERDICTS = Layout(
    "Verdicts",
    (Column("cell"), Column("metric"), *map(Column, SHOWN)),
    (Question("Our numbers beside the published ones", SHOWN),),
    settings=("cell", "metric"),
)


@dataclass(frozen=True)
class Wanted:
    """A cell, and the values that rows of its run have in the columns that tell runs apart."""

    cell: Cell
    preset: str
    columns: Mapping[str, object]  # a missing value is None
    missing: str = ""  # why there is no run


def judge(wanted: Sequence[Wanted], rows: DataFrame) -> DataFrame:
    """Compare published numbers with ours: one line for each cell, in the order given.

    Args:
        wanted: the cells.
        rows: as `rows.read` gives them, of any runs; those of no cell are ignored.
    Returns:
        `COLUMNS`: the printed value and standard deviation; our mean with the ends of its 95 % interval; difference
        (ours minus theirs); allowance (see `allowance`); n in words and varies, what our interval is over, both of the
        cell's own metric; verdict, "not judged" under another preset than paper; note, why a cell is not run or its
        published value doubted.
    Raises:
        ValueError: rows of several runs fit one cell.
    """
    ours = rows[rows["preset"].isin([each.preset for each in wanted])]
    ours = ours[ours["dataset"].isin([each.cell.settings["dataset"] for each in wanted])]
    tables = {
        track: make(ours).replace({"model": SHORT, "memory_model": SHORT})
        for track, (has_results, make) in TABLES.items()
        if has_results(ours)
    }
    return DataFrame([_judge_cell(each, tables.get(each.cell.track)) for each in wanted], columns=list(COLUMNS))


def allowance(half: float, printed: Printed) -> float:
    """How far our mean may be from a printed value by chance (95 %) and rounding.

    Args:
        half: half the width of our 95 % interval over sets or orders; NaN where there is none.
        printed: the published number.
    Returns:
        nan where neither side has an interval or a deviation.
    """
    ours = NORMAL * printed.std if math.isnan(half) else half
    theirs = 0.0 if math.isnan(printed.std) else NORMAL * printed.std / math.sqrt(THEIR_SETS)
    return printed.reading + math.hypot(ours, theirs)


def is_too_wide(half: float, printed: Printed) -> bool:
    """Whether half of our interval is wider than the printed deviation allows one set.

    With such an interval few sets would be within where one set is not. Never, if no deviation is printed.
    """
    return half > NORMAL * printed.std


def decide(difference: float, allowed: float) -> str:
    """The verdict on a difference, ours minus the published value, under an `allowance`."""
    if math.isnan(difference):
        return UNPUBLISHED
    if math.isnan(allowed):
        return UNDECIDED
    # Sums of decimals: 24.8 - 24.7 exceeds 0.1 in the last bit.
    if abs(difference) <= allowed + 1e-9:
        return WITHIN
    return ABOVE if difference > 0 else BELOW


def to_table(table: DataFrame) -> Table:
    """Convert verdicts to a table as people read it: paper, ours, interval, n, verdict and notes."""
    lines = []
    for line in table.to_dict("records"):
        digits = _decimals(line["published"], line["metric"])
        ends = [_text(line[end], digits) for end in ("ours_low", "ours_high")]
        std = "" if math.isnan(line["published_std"]) else f" (std {line['published_std']:g})"
        lines.append({
            "cell": line["cell"],
            "metric": line["metric"].replace("_", " "),
            "paper": _text(line["published"], digits) + std,
            "ours": _text(line["ours"], digits),
            "95 % interval": " to ".join(filter(None, ends)),
            "n": line["n"],
            "verdict": line["verdict"],
            "note": line["note"],
        })  # fmt: skip
    page = DataFrame(lines)
    return Table(page if page["metric"].nunique() > 1 else page.drop(columns="metric"), VERDICTS)


def count_verdicts(table: DataFrame) -> str:
    """The number of cells with each verdict, such as "3 within, 1 below" or "8 not judged (quick preset)"."""
    said = table["verdict"].mask(table["verdict"] == NOT_JUDGED, NOT_JUDGED + " (" + table["preset"] + " preset)")
    return ", ".join(f"{number} {verdict}" for verdict, number in said.value_counts(sort=False).items())


def caption(preset: str) -> str:
    """The text above a table of verdicts: a warning that it is no reproduction, under another preset than paper."""
    return "" if preset == "paper" else NOT_THE_PAPERS.format(preset=preset)


def _text(value: float, decimals: int) -> str:
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def _decimals(published: float, metric: str) -> int:
    """Digits after the point, as printed."""
    if metric == PICKED:
        return 2
    return 1 if math.isnan(published) else len(str(published).partition(".")[2])


def _judge_cell(wanted: Wanted, table: DataFrame | None) -> dict[str, object]:
    cell, printed = wanted.cell, wanted.cell.printed
    doubt = f"published value unverified: {printed.doubt}" if printed.doubt else ""
    line: dict[str, object] = {
        "cell": cell.name, "track": cell.track, "metric": cell.metric, "preset": wanted.preset, "exactness": "",
        "published": printed.value, "published_std": printed.std, "n": "", "varies": "", "verdict": NOT_RUN,
        "note": ", ".join(filter(None, (wanted.missing, doubt))), "source": printed.source,
        **dict.fromkeys(("ours", "ours_low", "ours_high", "difference", "allowance"), math.nan),
    }  # fmt: skip
    if wanted.missing or table is None or (found := _find_line(wanted, table)) is None:
        return line
    ours, low, high = (float(found[f"{cell.metric}{end}"]) for end in ("", "_low", "_high"))
    difference = ours - printed.value
    n, varies = (str(found.get(f"{cell.metric}_{name}") or found[name]) for name in ("n", "varies"))
    is_own = varies not in ("nets", "nothing") or found["memory"] == WHOLE
    has_interval = not math.isnan(low) and not math.isnan(high)
    half = (high - low) / 2 if is_own else math.nan
    allowed = allowance(half, printed) if has_interval else math.nan
    verdict = decide(difference, allowed) if wanted.preset == "paper" else NOT_JUDGED
    too_wide = verdict == WITHIN and is_too_wide(half, printed)
    notes = (
        "" if found["exactness"] in ("", "official") else f"data {found['exactness']}",
        "" if has_interval else ONE_VALUE if varies == "nothing" else "no interval",
        TOO_WIDE if too_wide else "",
        doubt,
    )
    return line | {
        "exactness": found["exactness"], "ours": ours, "ours_low": low, "ours_high": high, "difference": difference,
        "allowance": allowed, "n": n, "varies": varies, "verdict": UNDECIDED if too_wide else verdict,
        "note": ", ".join(filter(None, notes)),
    }  # fmt: skip


def _find_line(wanted: Wanted, table: DataFrame) -> "Series | None":
    """Find the line of a track's table that belongs to a cell."""
    fits = Series(True, index=table.index)
    for column, value in wanted.columns.items():
        fits &= (table[column].isna() if value is None else table[column] == value).fillna(False).astype(bool)
    found = table[fits & table[wanted.cell.metric].notna()]
    if len(found) < 2:
        return None if found.empty else found.iloc[0]
    differ = [f"{name} {_join_values(found[name])}" for name in found if found[name].nunique(dropna=False) > 1]
    raise ValueError(f"{wanted.cell.name}: rows of {len(found)} runs fit it; select one of {'; '.join(differ[:3])}")


def _join_values(values: Iterable[object]) -> str:
    return " or ".join(dict.fromkeys(str(value) for value in values))


def _has_streams(rows: DataFrame) -> bool:
    return bool(((rows["track"] == "cl") & (rows["metric"] == "last_accuracy")).any())


def _has_sets(rows: DataFrame) -> bool:
    return bool(((rows["track"] == "condense") & (rows["metric"] == "test_accuracy")).any())


def _condensed_memories(rows: DataFrame) -> DataFrame:
    table = condense_table(rows)
    return table[is_last_of_run(table, CONDENSED)]


def _searches(rows: DataFrame) -> DataFrame:
    """The table of searches, with the n of each of its metrics: repeats of the selected, architectures of a rho."""
    table = nas_tables.nas_table(rows)
    has_several = table["performance_low"].notna()
    return table.assign(
        n="",
        varies="",
        performance_n=[f"{quantity(repeats, 'repeat')} of the selected" for repeats in table["true_repeats"]],
        performance_varies=["repeats" if several else "nothing" for several in has_several],
        **{f"{PICKED}_n": [quantity(number, "architecture") for number in table["n_5_percent"]]},
        **{f"{PICKED}_varies": "architectures"},
    )


# Track -> a function that says whether rows have results of it, and one that makes its table. For each metric of the
# track's cells the table has the mean, `_low` and `_high`, and n and varies, or a metric's own as `_n` and `_varies`.
TABLES: Mapping[str, tuple[Callable[[DataFrame], bool], Callable[[DataFrame], DataFrame]]] = {
    "cl": (_has_streams, cl_table),
    "condense": (_has_sets, _condensed_memories),
    "nas": (comparisons.has_results, _searches),
}
