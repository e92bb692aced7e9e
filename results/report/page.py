"""Runs as one HTML page that needs nothing else: how they were made, tables, figures, pictures, and what is missing.

The page contains its style, its script and every figure. It loads nothing, and its policy forbids it to. Text of rows
and configurations is escaped, also in the figures.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from pandas import DataFrame, Series

from harness.results.figures.captions import data_in_words
from harness.results.report.figures import draw_figures
from harness.results.report.runs import Facts, Store
from harness.results.statistics.means import BLOCK
from harness.results.tables import text
from harness.results.tables.collect import tables_of
from harness.results.tables.columns import Table
from harness.results.tables.page import columns_with_values
from harness.results.wording import SMOKE, memory_label, quantity

GENERATOR = "harness report"  # marks a page as ours
# The columns that make a line of "what was run".
MADE_OF = (
    "track", "dataset", "dataset_digest", "exactness", "split", "preset", "memory", "changes", "league", "ipc",
    "recipe", "model", "memory_model", "steps", "space",
)  # fmt: skip
OWN = ("track", "memory", "networks trained", "their hours")  # columns of each line, even if all lines agree
SEARCHED = "architectures"  # in the place of the names of the networks of a search
MOST_COLUMNS = 24  # of a table; a wider one does not fit on paper
RESULTS = ("last_accuracy", "test_accuracy", "score")  # rows without any of these have no table yet
TABLES = {"cl": "Class-incremental streams", "condense": "Condensed sets", "nas": "Architecture search"}


def render(rows: DataFrame, runs: Sequence[Facts] = (), store: Store = Store(), complaints: Sequence[str] = ()) -> str:
    """Write the report as HTML; the same arguments give the same text.

    Args:
        rows: as `rows.read` gives them.
        runs: the facts about the runs of these rows.
        store: the unfinished work in the store of these runs.
        complaints: what went wrong when the rows were read.
    """
    drawn, omitted = draw_figures(rows)
    tables, complaints_of_tables = _make_tables(rows)
    shared, settings = _list_settings(rows)
    script = _resource("report.js")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(_resource("report.html.j2")).render(
        generator=GENERATOR,
        policy_of_script=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=Markup(script),  # ours
        title=_title(rows),
        smoke=SMOKE if (rows["preset"] == "smoke").any() else "",
        shared=shared,
        settings=settings,
        tables=tables,
        drawn=drawn,
        omitted=omitted,
        runs=runs,
        store=store,
        complaints=[*complaints, *complaints_of_tables],
    )


def _title(rows: DataFrame) -> str:
    if rows.empty:
        return "Runs without a result yet"
    datasets = ", ".join(sorted(rows["dataset"].unique()))
    return f"{datasets}: {' and '.join(sorted(TABLES.get(track, track).lower() for track in rows['track'].unique()))}"


def _make_tables(rows: DataFrame) -> tuple[list[tuple[str, Markup]], list[str]]:
    """(heading, HTML) of each league of the table of each track, and why a track with results has no table."""
    tables: list[Table] = []
    complaints = []
    for track, name in TABLES.items():
        own = rows[rows["track"] == track]
        if not own["metric"].isin(RESULTS).any():
            continue
        try:
            tables += tables_of(own)
        except ValueError as error:
            complaints.append(f"{name}: no table ({error})")
    return [league for table in tables for league in _split_leagues(table)], complaints


def _split_leagues(table: Table) -> Iterator[tuple[str, Markup]]:
    """(heading, HTML) of each league of a table."""
    shared = [column for column in BLOCK if column in table.frame]
    for block, part in table.frame.groupby(shared, dropna=False, sort=False):
        setting = {column: str(value) for column, value in zip(shared, block, strict=True)}
        data = data_in_words(setting["dataset"], setting["exactness"])
        league = f", league {setting['league']}" if setting.get("league") else ""
        heading = f"{table.layout.title}: {data}, preset {setting['preset']}{league}"
        block_table = replace(table, frame=part.reset_index(drop=True))
        for title, narrow in _split_questions(block_table):
            yield f"{heading}. {title}" if title else heading, Markup(text.to_text(narrow, "html"))  # escaped there


def _split_questions(table: Table) -> Iterator[tuple[str, Table]]:
    """A table, or if it is wider than a page one table for each of its questions, with its title."""
    columns = columns_with_values(table)
    if len(columns) <= MOST_COLUMNS:
        yield "", table
        return
    answers = {name for question in table.layout.questions for name in question.columns}
    for question in table.layout.questions:
        if any(column.name in question.columns for column in columns):
            kept = [column for column in columns if column.name in question.columns or column.name not in answers]
            yield question.title, replace(table, layout=replace(table.layout, columns=tuple(kept)))


def _list_settings(rows: DataFrame) -> tuple[str, list[dict[str, str]]]:
    """List what was run and what it took: the values that all settings share, in words, and a line per setting.

    A unit is counted once, even if it belongs to several settings.
    """
    lines = []
    # A search trains hundreds of architectures, which are one line.
    searched = rows.assign(model=rows["model"].mask(rows["track"] == "nas", SEARCHED), searched=rows["model"])
    for setting, part in searched[searched["recipe"] != ""].groupby(list(MADE_OF), dropna=False, sort=True):
        of = {name: str(value).replace("<NA>", "") for name, value in zip(MADE_OF, setting, strict=True)}
        units = part[part["key"] != ""].drop_duplicates("key")
        lines.append({
            "track": of["track"],
            "memory": memory_label(of["memory"]),
            "changes": of["changes"],
            "data set": data_in_words(of["dataset"], of["exactness"]),
            "digest": of["dataset_digest"][:12],
            "split": of["split"],
            "preset": of["preset"],
            "league": of["league"],
            "images per class": of["ipc"],
            "steps": of["steps"],
            "space": of["space"],
            "recipe": of["recipe"],
            "network": quantity(part["searched"].nunique(), "architecture") if of["model"] == SEARCHED else of["model"],
            "built with": of["memory_model"],
            "networks trained": str(len(units)),
            "their hours": f"{units['wall_seconds'].sum() / 3600:.2g}" if units["wall_seconds"].notna().all() else "",
            "device": _join_values(part["device"]),
            "form": _join_values(part["compute"]),
            "torch": _join_values(part["torch"]),
            "harness": _join_values(part["version"]),
        })  # fmt: skip
    names = list(lines[0]) if lines else []
    shared = [name for name in names if len({line[name] for line in lines}) == 1 and name not in OWN]
    in_words = ", ".join(f"{name} {lines[0][name]}" for name in shared if lines[0][name])
    return in_words, [{name: value for name, value in line.items() if name not in shared} for line in lines]


def _join_values(values: "Series[str]") -> str:
    return "; ".join(sorted(filter(None, values.unique())))


def _resource(name: str) -> str:
    return (resources.files("harness.results.report") / name).read_text(encoding="utf-8")
