import io
import re
from collections import Counter
from pathlib import Path

import pytest
from pandas import DataFrame

from harness.results import rows as rowfiles
from harness.results.tables.collect import tables_of
from harness.results.tables.columns import Layout, Table
from harness.results.tables.condensed import MEMORIES, condense_table
from harness.results.tables.console import Strip, fit, print_tables, split_changes
from harness.results.tables.streams import STREAMS, cl_table
from tests.results import condensed
from tests.results.condensed import CONVNET3, memories, networks
from tests.results.streamed import TWO_BY_TWO, frame, stream, two_orders

REFERENCE = Path(__file__).parents[3] / "results/reference"


def printed(table: DataFrame, layout: Layout, *, details: bool = False, wide: bool = False) -> list[str]:
    file = io.StringIO()
    print_tables([Table(table, layout)], file, details=details, wide=wide)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_table_of_streams() -> None:
    table = cl_table(frame(two_orders(40, 2), two_orders(37, 2, memory="dsa")))
    assert printed(table, STREAMS) == [
        "Class-incremental streams",
        "  dataset cifar100 (official), split test, preset paper, league pixel, steps 5,",
        "  ipc 20, recipe dm, model convnet3",
        "",
        "Accuracy after the last step",
        "  n 2 orders x 1 net, 95 % interval over orders",
        "memory  last accuracy (%)  published   gap",
        "───────────────────────────────────────────",
        "dm      40.0 [38.0, 42.0]       34.4  +5.6",
        "dsa     37.0 [35.0, 39.0]       31.7  +5.3",
        "",
        "Along the stream",
        "memory  average incremental accuracy (%)  forgetting (points)",
        "──────────────────────────────────────────────────────────────",
        "dm                     60.0 [58.0, 62.0]    70.0 [68.0, 72.0]",
        "dsa                    57.0 [55.0, 59.0]    67.0 [65.0, 69.0]",
        "",
    ]


@pytest.mark.parametrize("rows", ["cl-quick", "condense-quick"])
def test_narrow_terminals_break_no_number(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of(rowfiles.read(REFERENCE / rows))
    printed_at = {}
    for width in (80, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        file = io.StringIO()
        print_tables(tables, file, details=True)
        lines = file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in file.getvalue()
        printed_at[width] = Counter(re.findall(r"[-\d.]+ \[[-\d.]+, [-\d.]+\]", file.getvalue()))
    assert printed_at[40] == printed_at[80]


def test_details_add_the_other_columns_and_wide_is_one_table() -> None:
    table = cl_table(frame(stream(TWO_BY_TWO)))
    assert not any("KiB" in line for line in printed(table, STREAMS))
    assert any("KiB / class" in line for line in printed(table, STREAMS, details=True))
    (line,) = [line for line in printed(table, STREAMS, wide=True) if "13.0 [-12.4, 38.4]" in line]
    assert "60.0" in line
    assert "43.0 [17.6, 68.4]" in line


def test_changed_settings_are_columns_of_their_own() -> None:
    changes = "memory.iterations=1000, eval_models=a, b"
    table = condense_table(condensed.frame(networks(), networks({(0, 0): 40.0, (1, 0): 42.0}, changes=changes)))
    lines = printed(table, MEMORIES)
    (heading,) = [line for line in lines if "accuracy (%)" in line]
    assert heading.split()[:2] == ["memory.iterations", "eval_models"]
    assert any(line.split()[:3] == ["1000", "a,", "b"] for line in lines)
    assert split_changes("") == {}


def test_the_costs_of_a_memory_stand_once() -> None:
    both = condensed.frame(networks(), networks(recipe="dc"), memories({0: 10.0, 1: 30.0}, device="a CPU"))
    lines = printed(condense_table(both), MEMORIES)
    assert [line for line in lines if line.startswith("  condensed on")] == ["  condensed on a CPU"]
    assert len([line for line in lines if "120.0" in line]) == 1
    assert len([line for line in lines if "48.0 [35.3, 60.7]" in line]) == 2


def test_no_line_passes_80_columns_and_no_word_breaks() -> None:
    table = condense_table(
        condensed.frame(
            networks(memory="mim-a-method-of-long-name", preset="smoke"),
            networks(memory_model="lenet", model="resnet18-instancenorm", preset="smoke"),
            memories({0: 12.0}, preset="smoke", device="a processor of a very long name"),
        )
    )
    lines = printed(table, MEMORIES, details=True)
    assert max(map(len, lines)) <= 80
    for words in ("(reconstruction)", "mim-a-method-of-long-name", "(smoke:", CONVNET3, "48.0 [35.3, 60.7]"):
        assert any(words in line for line in lines)


def test_answers_that_do_not_fit_go_on_below() -> None:
    def strip(width: int) -> Strip:
        return Strip("", ["x" * width], [False], is_number=False)

    memory, wide, narrow = strip(6), strip(20), strip(5)
    assert fit([memory], [wide, wide, narrow], 40) == [[memory, wide], [memory, wide, narrow]]
    assert fit([memory], [wide, wide, narrow], 80) == [[memory, wide, wide, narrow]]


def test_long_texts_that_do_not_fit_are_numbered() -> None:
    devices = [f"Processor {letter} of a long name, 1 thread" for letter in "AB"]
    parts = [memories({0: 10.0}, memory=name, device=device) for name, device in zip("ab", devices, strict=True)]
    both = condensed.frame(networks(memory="a"), networks(memory="b"), *parts)
    lines = printed(condense_table(both), MEMORIES)
    assert any(line.startswith(f"  condensed on (1) {devices[0]}") for line in lines)
    assert any(line.split()[-2:] == ["(2)", "100"] for line in lines)


def test_markup_in_names_is_printed_as_it_is() -> None:
    table = cl_table(frame(stream(TWO_BY_TWO, memory="[/red] [b]"), stream(TWO_BY_TWO)))
    for wide in (False, True):
        assert any("[/red] [b]" in line for line in printed(table, STREAMS, wide=wide))
