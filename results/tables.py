"""Rows to means with their intervals, and means to text."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd
from pandas import DataFrame
from rich import box
from rich.table import Table
from rich.text import Text
from scipy import special

# What makes a line of a table. Values that differ in any of it never enter one mean.
BLOCK = ("dataset", "exactness", "dataset_digest", "split", "preset", "league")  # never mixed in one ranking
SETTING = (*BLOCK, "steps", "memory", "changes", "ipc", "recipe", "model")
NEVER_POOLED = ("track", *SETTING, "unit", "arch")

SMOKE = "(smoke: not a result)"

# The setting the published end points hold for, as our rows name it, and their names for our memories.
PUBLISHED_FOR = {"dataset": "cifar100", "split": "test", "preset": "paper", "ipc": 20, "recipe": "dm"}
PUBLISHED_MODELS = ("convnet3", "convnet-d3-w128-instancenorm-relu-avgpooling")  # one network, short and in full
PUBLISHED_NAMES = {"random": "GDumb+random", "herding": "GDumb+herding", "dsa": "GDumb+DSA", "dm": "GDumb+DM"}

HEADINGS = {
    "dataset_digest": "digest",
    "last_accuracy": "last accuracy (%)",
    "average_incremental_accuracy": "average incremental accuracy (%)",
    "forgetting": "forgetting (points)",
    "difference": "gap",
    "varies": "95 % interval over",
    "stored_kib_per_class": "KiB / class",
}


class Estimate(NamedTuple):
    """What some values of one metric say about its mean; see `summary`."""

    mean: float
    low: float
    high: float
    n: int
    n_orders: int
    n_nets: int
    varies: str
    std: float


def summary(rows: DataFrame, metric: str, by: Sequence[str]) -> DataFrame:
    """Mean of a metric with its 95 % interval, one line per setting.

    The interval is Student's t over the highest unit that varies. With several class orders the networks inside
    each order are averaged first, and the interval is over the means of the orders, df = orders - 1. Networks of one
    order share the order and the memory, so they vary together: pooling 5 orders x 3 networks as 15 independent
    values, as the published standard deviations do, understates the uncertainty. With a single order the interval
    is over its networks, and then says nothing of other orders.

    Args:
        rows: as `rows.read` gives them. Rows whose value is missing are left out, and not counted in n.
        metric: which metric.
        by: the columns that make a setting.
    Returns:
        The columns `by`, then mean, low and high (ends of the interval), n (values), n_orders, n_nets (most networks
        in one order), varies ("orders", "nets" or "nothing": what the interval is over) and std (sample standard
        deviation, ddof 1, of those units). With one value low, high and std are missing, never 0.
    Raises:
        ValueError: no row has the metric, or a setting would mix what must not be: two data sets, splits, presets,
            leagues, memories ..., or two values of one network.
    """
    chosen = rows[rows["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(rows["metric"].unique())) or "none"
        raise ValueError(f"metric: none of the {len(rows)} rows is {metric}; there are: {known}")
    lines = [
        (*setting, *_estimate(part, metric)) for setting, part in chosen.groupby(list(by), dropna=False, sort=True)
    ]
    table = DataFrame(lines, columns=[*by, *Estimate._fields])
    return table.astype({column: rows[column].dtype for column in by})


def t_interval(values: "Sequence[float] | pd.Series[float]") -> tuple[float, float]:
    """The 95 % interval of the mean of independent values by Student's t; (nan, nan) for fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    mean = math.fsum(values) / n
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return mean - half, mean + half


def cl_table(rows: DataFrame) -> DataFrame:
    """One line per data set, split, preset, league, memory, budget, recipe, model and number of steps.

    Lines of one data set, split, preset and league stand together, ordered by steps, then by last accuracy, best
    first. Unfinished streams, which have no last accuracy yet, are left out.

    Args:
        rows: as `rows.read` gives them; those of other tracks are ignored.
    Returns:
        The setting; last_accuracy, average_incremental_accuracy and forgetting, each the mean with `_low` and
        `_high` beside it (`summary`); n in words; varies; stored_kib_per_class at the last experience; published
        and difference (ours minus theirs) where an end point was published for exactly that setting; note, which
        marks rows that are no result.
    Raises:
        ValueError: no stream of track cl is finished.
    """
    streams = rows[rows["track"] == "cl"]
    finished = streams[streams["metric"] == "last_accuracy"]
    if finished.empty:
        raise ValueError(f"none of the {len(rows)} rows is a last_accuracy of track cl: no stream is finished")
    keys = list(SETTING)
    table = summary(finished, "last_accuracy", keys)
    table["n"] = [
        n_in_words(n, orders, nets) for n, orders, nets in table[["n", "n_orders", "n_nets"]].itertuples(index=False)
    ]
    table = table.rename(columns={"mean": "last_accuracy", "low": "last_accuracy_low", "high": "last_accuracy_high"})
    for metric in ("average_incremental_accuracy", "forgetting"):
        names = {"mean": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
        if (streams["metric"] == metric).any():
            other = summary(streams, metric, keys)[[*keys, *names]].rename(columns=names)
            table = table.merge(other, on=keys, how="left")
        else:
            table[list(names.values())] = math.nan
    kib = (finished["stored_bytes"] / finished["classes_seen"] / 1024).astype("float64")
    stored = finished.assign(stored_kib_per_class=kib).groupby(keys, dropna=False)["stored_kib_per_class"].mean()
    table = table.merge(stored.reset_index(), on=keys, how="left")
    table["published"] = _published_for(table)
    table["difference"] = table["last_accuracy"] - table["published"]
    changes = [f"({text})" if text else "" for text in table["changes"]]
    smoke = [SMOKE if preset == "smoke" else "" for preset in table["preset"]]
    table["note"] = [f"{change} {mark}".strip() for change, mark in zip(changes, smoke, strict=True)]
    measured = [f"{name}{end}" for name in ("last_accuracy", "average_incremental_accuracy", "forgetting")
                for end in ("", "_low", "_high")]  # fmt: skip
    order = [*BLOCK, "steps", "last_accuracy", "memory", "ipc", "recipe", "model"]
    table = table.sort_values(order, ascending=[name != "last_accuracy" for name in order], ignore_index=True)
    return table[[*keys, *measured, "n", "varies", "stored_kib_per_class", "published", "difference", "note"]]


def published_end_points() -> DataFrame:
    """The published last accuracies (%), as steps, memory (our name for the method) and value.

    CIFAR-100, 20 images per class, DM's ConvNet and recipe (Zhao & Bilen, WACV 2023, section 3.5); their standard
    deviations were not printed.
    """
    with (resources.files("results") / "published" / "cl_final_accuracy.csv").open(encoding="utf-8") as file:
        published = pd.read_csv(file)
    published = published[(published["dataset"].str.lower() == "cifar100") & (published["ipc"] == 20)]
    ours = {theirs: memory for memory, theirs in PUBLISHED_NAMES.items()}
    points = DataFrame(
        {"steps": published["steps"], "memory": published["method"].map(ours), "value": published["mean"]}
    )
    return points.dropna().reset_index(drop=True)


def to_text(table: DataFrame, format: str) -> str:
    """A table as text: "md", "latex" (booktabs) or "csv".

    In md and latex a mean reads "22.3 [21.0, 23.6]", what all lines share stands above the table, and columns
    without any value are left out; md gives each block of `cl_table` a table of its own. csv is the whole table,
    number by number.

    Raises:
        ValueError: another format.
    """
    if format not in _WRITERS:
        raise ValueError(f"format: expected {', '.join(_WRITERS)}, got {format!r}")
    return _WRITERS[format](table)


def to_rich(table: DataFrame) -> Table:
    """A table for the terminal, with the same cells as `to_text`'s."""
    page = _page(table)
    # Text objects, not strings: rich would read [ ] in a string as markup.
    title = Text(page.caption) if page.caption else None
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading, is_number in zip(page.headings, page.is_number, strict=True):
        drawn.add_column(Text(heading), justify="right" if is_number else "left", overflow="fold")
    for line, ends_block in zip(page.lines, page.ends_block, strict=True):
        drawn.add_row(*map(Text, line), end_section=ends_block)
    return drawn


def n_in_words(n: int, n_orders: int, n_nets: int) -> str:
    """How many values, and of what: "2 orders x 2 nets"; "3 nets in 2 orders" where the orders differ."""
    orders = "1 order" if n_orders == 1 else f"{n_orders} orders"
    if n == n_orders * n_nets:
        return f"{orders} x {n_nets} {'net' if n_nets == 1 else 'nets'}"
    return f"{n} nets in {orders}"


def _estimate(part: DataFrame, metric: str) -> Estimate:
    for column in NEVER_POOLED:
        if len(found := part[column].unique()) > 1:
            raise ValueError(f"{metric}: a mean over {column} {_listed(found)}; select one, or put {column} in `by`")
    if (twice := part.duplicated(["order", "repeat"])).any():
        order, repeat = part.loc[twice, ["order", "repeat"]].iloc[0]
        raise ValueError(f"{metric}: order {order}, repeat {repeat} has several values; `by` does not tell them apart")
    present = part.dropna(subset=["value"])
    orders = present.groupby("order")["value"].agg(["mean", "size"])
    if len(orders) > 1:
        units, varies = orders["mean"], "orders"
    else:
        units, varies = present["value"], "nets" if len(present) > 1 else "nothing"
    n_nets = int(orders["size"].max()) if len(orders) else 0
    std = float(units.std(ddof=1))
    return Estimate(float(units.mean()), *t_interval(units), len(present), len(orders), n_nets, varies, std)


def _listed(values: Iterable[Any]) -> str:
    return " and ".join(sorted("(missing)" if pd.isna(value) or value == "" else str(value) for value in values))


def _published_for(table: DataFrame) -> "pd.Series[float]":
    end_points = published_end_points()
    points = dict(zip(zip(end_points["steps"], end_points["memory"], strict=True), end_points["value"], strict=True))
    same = table["model"].isin(PUBLISHED_MODELS)
    for column, value in PUBLISHED_FOR.items():
        same &= (table[column] == value).fillna(False).astype(bool)
    found = [points.get(setting, math.nan) for setting in zip(table["steps"], table["memory"], strict=True)]
    return pd.Series(found, index=table.index, dtype="float64").where(same)


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
        if name in ends or name in ("note", "changes") or not any(cells):  # both stand beside the memory
            continue
        if (
            name == "dataset_digest"
            and "dataset" in table
            and (table.groupby("dataset")["dataset_digest"].nunique() < 2).all()
        ):
            continue
        may_be_shared = name in (*SETTING, "varies", "n") and name not in ("memory", "steps")
        if may_be_shared and len(set(cells)) == 1 and not (name == "n" and pd.api.types.is_numeric_dtype(table[name])):
            shared.append(f"{HEADINGS.get(name, name)} {cells[0]}")
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
    sign = "+" if name == "difference" else ""
    cells = [_number(value, sign) if isinstance(value, float) else _plain(value) for value in table[name]]
    if low in table and high in table:
        ends = [(_number(low), _number(high)) for low, high in zip(table[low], table[high], strict=True)]
        cells = [f"{mean} [{', '.join(end)}]" if all(end) else mean for mean, end in zip(cells, ends, strict=True)]
    if name == "memory" and "note" in table:
        cells = [f"{cell} {note}".strip() for cell, note in zip(cells, map(_plain, table["note"]), strict=True)]
    return cells


def _number(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.1f}"


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
