"""The rank statistics of a search as JSON, for programs that start a run."""

import math
from collections.abc import Mapping

from pandas import DataFrame

from harness.results.tables.search import STATISTICS

Number = float | int | None
Record = dict[str, str | Number | dict[str, Number]]

# Statistics of the best twentieth or fifth of the architectures, by the ends of their names.
PARTS = {"5_percent": "n_5_percent", "20_percent": "n_20_percent"}
CEILINGS = ("noise_ceiling", "noise_ceiling_of_mean", "noise_ceiling_best_20_percent")


def rank_records(table: DataFrame) -> list[Record]:
    """A record for each line of `nas_table`, with None for missing and infinite numbers.

    Returns:
        The setting (dataset, preset, space, memory, league, ipc, changes, note), n (architectures), and each of
        `STATISTICS` as value, low and high (ends of the 95 % interval over architectures) and n (architectures in it);
        weighted_tau; the noise ceilings of the truth; performance, the true accuracy (%) of the selected architecture
        with low, high and n (its repeats), and selected, its name. The statistics of the truth with itself are None.
    """
    return [_record({str(name): value for name, value in line.items()}) for line in table.to_dict("records")]


def _record(line: Mapping[str, object]) -> Record:
    record: Record = {name: str(line[name]) for name in ("dataset", "preset", "space", "memory", "league", "changes")}
    record |= {"ipc": _number(line["ipc"]), "note": str(line["note"]), "n": _number(line["architectures"])}
    for name in STATISTICS:
        of = next((column for end, column in PARTS.items() if name.endswith(end)), "architectures")
        record[name] = _interval(line, name, of)
    record |= {name: _number(line[name]) for name in ("weighted_tau", *CEILINGS)}
    record["halves"] = str(line["halves"])
    record["performance"] = _interval(line, "performance", "true_repeats")
    record["selected"] = str(line["selected"])
    return record


def _interval(line: Mapping[str, object], name: str, of: str) -> dict[str, Number]:
    ends = {end: _number(line[f"{name}_{end}"]) for end in ("low", "high")}
    return {"value": _number(line[name]), **ends, "n": _number(line[of])}


def _number(value: object) -> Number:
    """A number, or None if it is missing or infinite."""
    if isinstance(value, int):
        return value
    return float(value) if isinstance(value, float) and math.isfinite(value) else None
