import csv
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest
from pandas import DataFrame
from rich.console import Console

from harness.results import rows
from harness.results.statistics.means import summary
from harness.results.tables import accuracy as tables

# Two orders x two networks. Means of the orders 11 and 15; their mean 13, their std sqrt(8) = 2.8284;
# t(df 1) = 12.7062, so the half width is 12.7062 * 2.8284 / sqrt(2) = 25.4124.
TWO_BY_TWO = {("0", 0): 10.0, ("0", 1): 12.0, ("1", 0): 14.0, ("1", 1): 16.0}


def stream(values: dict[tuple[str, int], float], **more: object) -> Iterator[dict[str, object]]:
    setting = {
        "track": "cl", "dataset": "cifar100", "dataset_digest": "d1", "exactness": "official", "preset": "paper",
        "memory": "dm", "league": "pixel", "ipc": 20, "stored_bytes": 100 * 61440, "recipe": "dm", "model": "convnet3",
        "steps": 5, "experience": 4, "classes_seen": 100, "split": "test", "unit": "%",
    } | more  # fmt: skip
    for (order, repeat), value in values.items():
        for metric, shift in (("last_accuracy", 0), ("average_incremental_accuracy", 20), ("forgetting", 30)):
            yield setting | {"order": order, "repeat": repeat, "metric": metric, "value": value + shift}


def frame(*streams: Iterator[dict[str, object]]) -> DataFrame:
    return rows.to_frame(row for part in streams for row in part)


def only(table: DataFrame) -> dict[str, object]:
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def test_n_and_what_varies_stand_in_words() -> None:
    values = {("0", 0): 10.0, ("0", 1): 12.0, ("0", 2): 14.0, ("1", 0): 18.0}
    assert tables.cl_table(frame(stream(values)))[["n", "varies"]].iloc[0].tolist() == ["4 nets in 2 orders", "orders"]
    values = {("listed", 0): 10.0, ("listed", 1): 12.0, ("listed", 2): 14.0}
    assert tables.cl_table(frame(stream(values)))[["n", "varies"]].iloc[0].tolist() == ["1 order x 3 nets", "nets"]


def test_one_value_has_no_interval() -> None:
    assert "[" not in tables.to_text(tables.cl_table(frame(stream({("0", 0): 10.0}))), "md")


def test_networks_a_memory_was_condensed_with_are_not_mixed() -> None:
    table = tables.cl_table(frame(stream({("0", 0): 20.0}), stream({("1", 0): 30.0}, memory_model="convnet-d3-w32")))
    assert table[["memory_model", "last_accuracy"]].to_numpy().tolist() == [["convnet-d3-w32", 30.0], ["", 20.0]]


def test_a_line_of_the_table() -> None:
    line = only(tables.cl_table(frame(stream(TWO_BY_TWO))))
    assert (line["last_accuracy"], line["average_incremental_accuracy"], line["forgetting"]) == (13.0, 33.0, 43.0)
    assert line["forgetting_low"] == pytest.approx(43 - 25.4124, abs=1e-3)
    assert (line["n"], line["varies"], line["note"]) == ("2 orders x 2 nets", "orders", "")
    assert line["stored_kib_per_class"] == 60.0  # 61440 bytes: 20 images of 3072
    assert line["published"] == 34.4  # DM paper, section 3.5, 5 steps
    assert line["difference"] == pytest.approx(13 - 34.4)


@pytest.mark.parametrize(
    "more",
    [{"dataset": "cifar10"}, {"ipc": 10}, {"ipc": None}, {"preset": "quick"}, {"split": "validation"}, {"steps": 20},
     {"memory": "dc"}, {"recipe": "other"}, {"model": "convnet-d3-w32"}],
)  # fmt: skip
def test_an_end_point_published_for_another_setting_is_not_shown(more: dict[str, object]) -> None:
    line = only(tables.cl_table(frame(stream(TWO_BY_TWO, **more))))
    assert math.isnan(float(str(line["published"])))
    assert math.isnan(float(str(line["difference"])))


def test_leagues_stand_apart_and_the_best_comes_first() -> None:
    table = tables.cl_table(
        frame(
            stream({("0", 0): 20.0}, memory="random"),
            stream({("0", 0): 30.0}, memory="dm"),
            stream({("0", 0): 40.0}, memory="lodm", league="storage"),
            stream({("0", 0): 35.0}, memory="dm", steps=10),
            stream({("0", 0): 90.0}, memory="dm", dataset="cifar10"),
            stream({("0", 0): 10.0}, memory="dm", dataset_digest="d2", exactness="jpeg"),
        )
    )
    assert table[["dataset", "exactness", "league", "steps", "memory"]].apply(tuple, axis="columns").tolist() == [
        ("cifar10", "official", "pixel", 5, "dm"),
        ("cifar100", "jpeg", "pixel", 5, "dm"),
        ("cifar100", "official", "pixel", 5, "dm"),
        ("cifar100", "official", "pixel", 5, "random"),
        ("cifar100", "official", "pixel", 10, "dm"),
        ("cifar100", "official", "storage", 5, "lodm"),
    ]
    assert tables.to_text(table, "md").count("| ---: |") >= 4  # a table per block
    assert tables.to_text(table, "latex").count(r"\midrule") == 4  # under the heading, and between four blocks


def test_the_n_of_another_metric_is_told_where_it_is_another() -> None:
    table = tables.cl_table(frame(stream(TWO_BY_TWO), stream(TWO_BY_TWO, memory="full", league="full", ipc=None)))
    counts = table[["memory", "n", "varies", "average_incremental_accuracy_n", "forgetting_n"]].to_numpy().tolist()
    # At the end the networks have seen all the data, whatever the order; along the way they have not.
    assert counts == [["full", "4 nets", "nets", *["2 orders x 2 nets, over orders"] * 2],
                      ["dm", "2 orders x 2 nets", "orders", "", ""]]  # fmt: skip
    caption = tables.to_text(table[table["memory"] == "full"], "md").splitlines()[0]
    assert "n 4 nets, 95 % interval over nets" in caption
    assert "n of forgetting 2 orders x 2 nets, over orders" in caption


def test_metrics_that_are_not_there_stay_empty() -> None:
    some = frame(stream(TWO_BY_TWO))
    line = only(tables.cl_table(some[some["metric"] == "last_accuracy"]))
    assert math.isnan(float(str(line["forgetting"])))
    with pytest.raises(ValueError, match="no stream is finished"):
        tables.cl_table(some[some["metric"] == "forgetting"])


def printed(table: DataFrame, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(tables.to_rich(table))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_smoke_rows_are_marked_everywhere() -> None:
    table = tables.cl_table(frame(stream(TWO_BY_TWO, preset="smoke")))
    texts = [tables.to_text(table, format) for format in ("md", "csv", "latex")]
    assert all("(smoke: not a result)" in text for text in [*texts, printed(table)])
    assert "not a result" not in tables.to_text(tables.cl_table(frame(stream(TWO_BY_TWO))), "md")


def test_text_of_a_small_table() -> None:
    values = {("0", 0): 22.0, ("0", 1): 22.2}  # half width 12.7062 * 0.14142 / sqrt(2) = 1.27062
    table = tables.cl_table(frame(stream(values, steps=10), stream({("0", 0): 20.0}, memory="my_own", steps=10)))
    assert tables.to_text(table, "md").splitlines() == [
        r"dataset cifar100, exactness official, split test, preset paper, league pixel, ipc 20, recipe dm, "
        r"model convnet3",
        "",
        "| steps | memory | last accuracy (%) | average incremental accuracy (%) | forgetting (points) | n "
        "| 95 % interval over | KiB / class | published | gap |",
        "| ---: | --- | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: |",
        "| 10 | dm | 22.1 [20.8, 23.4] | 42.1 [40.8, 43.4] | 52.1 [50.8, 53.4] | 1 order x 2 nets | nets "
        "| 60.0 | 34.6 | -12.5 |",
        r"| 10 | my\_own | 20.0 | 40.0 | 50.0 | 1 order x 1 net | nothing | 60.0 |  |  |",
    ]
    latex = tables.to_text(table, "latex").splitlines()
    assert latex[3] == r"\begin{tabular}{rlrrrllrrr}"
    assert r"10 & my\_own & 20.0 & 40.0 & 50.0 & 1 order x 1 net & nothing & 60.0 &  &  \\" in latex
    assert latex[4] == r"\toprule"
    assert latex[-3:] == [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    assert r"60.0 & 34.6 & $-$12.5 \\" in "\n".join(latex)


def test_odd_characters_survive() -> None:
    odd = "a|b_[/red]&%$#{}~^\\\n\rc"
    one_line = "a|b_[/red]&%$#{}~^\\  c"
    table = tables.cl_table(frame(stream(TWO_BY_TWO, memory=odd)))
    assert r"| a\|b\_\[/red]&%$#{}~^\\  c |" in tables.to_text(table, "md")
    latex = r"a\textbar{}b\_{[}/red{]}\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}  c &"
    assert latex in tables.to_text(table, "latex")
    assert next(csv.DictReader(io.StringIO(tables.to_text(table, "csv"), newline="")))["memory"] == one_line
    assert one_line in printed(table)
    assert "[/red] [b]" in printed(table.rename(columns={"memory": "[/red] [b]"}))


def test_csv_holds_the_numbers_in_full() -> None:
    table = tables.cl_table(frame(stream({("0", 0): 1 / 3})))
    line = next(csv.DictReader(io.StringIO(tables.to_text(table, "csv"))))
    assert float(line["last_accuracy"]) == 1 / 3
    assert (line["last_accuracy_low"], line["preset"], line["dataset_digest"]) == ("", "paper", "d1")


def test_the_terminal_loses_no_number_when_it_is_narrow() -> None:
    table = tables.cl_table(frame(stream(TWO_BY_TWO)))
    for cell in ("13.0", "[-12.4,", "38.4]", "34.4", "-21.4"):  # 13 +- 25.4124; 13 - 34.4
        assert cell in printed(table, width=80)


def test_any_summary_can_be_written() -> None:
    table = summary(frame(stream(TWO_BY_TWO)), "forgetting", by=["memory", "steps"])
    assert "43.0 [17.6, 68.4]" in printed(table)
    assert r"dm & 5 & 43.0 [17.6, 68.4] & 4 & 2 & 2 & 2.8 \\" in tables.to_text(table, "latex")
    assert "| dm | 5 | 43.0 [17.6, 68.4] | 4 | 2 | 2 |" in tables.to_text(table, "md")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="expected md, csv, latex, html, got 'xlsx'"):
        tables.to_text(tables.cl_table(frame(stream(TWO_BY_TWO))), "xlsx")


def two_orders(mean: float, half: float, **more: object) -> Iterator[dict[str, object]]:
    """A stream whose last accuracy has the interval mean +- half: t(df 1) = 12.7062 times half the difference."""
    return stream({("0", 0): mean - half / 12.7062, ("1", 0): mean + half / 12.7062}, **more)


def bold(table: DataFrame) -> list[str]:
    """The cells in bold, which all formats agree on."""
    html = tables.to_text(table, "html")
    found = re.findall(r"<strong>(.*?)</strong>", html)
    assert re.findall(r"\*\*(.*?)\*\*", tables.to_text(table, "md")) == found
    assert re.findall(r"\\textbf\{(.*?)\}", tables.to_text(table, "latex")) == found
    assert ("bold: the best" in html) == bool(found)
    return found


def test_the_best_is_bold_where_its_interval_stands_apart() -> None:
    table = tables.cl_table(frame(two_orders(40, 2), two_orders(35, 2, memory="dsa")))  # 38 .. 42 above 33 .. 37
    # Average accuracy is 20 more; forgetting is not ranked: who learns least has least to forget.
    assert bold(table) == ["40.0 [38.0, 42.0]", "60.0 [58.0, 62.0]"]


@pytest.mark.parametrize(
    "others",
    [
        [two_orders(37, 2, memory="dsa")],  # 35 .. 39 reaches above 38
        [two_orders(36, 1, memory="dsa"), two_orders(30, 20, memory="random")],  # the third's does
        [stream({("0", 0): 20.0}, memory="dsa")],  # one value says nothing of its interval
        [],  # nothing to be better than
        [two_orders(20, 1, memory="dsa", **{name: value})  # each stands alone where it stands
         for name, value in (("league", "storage"), ("preset", "quick"), ("split", "validation"), ("steps", 10),
                             ("dataset", "digits"), ("ipc", 10), ("recipe", "dc"), ("model", "lenet"))],
    ],
)  # fmt: skip
def test_nothing_is_bold_where_intervals_do_not_separate(others: list[Iterator[dict[str, object]]]) -> None:
    assert bold(tables.cl_table(frame(two_orders(40, 2), *others))) == []


def test_networks_of_one_order_make_no_winner() -> None:
    # Intervals of no width, far apart, but of one order each: another may turn them round.
    apart = [stream({("0", 0): value, ("0", 1): value}, memory=memory) for memory, value in (("dm", 40), ("dsa", 10))]
    assert bold(tables.cl_table(frame(*apart))) == []
    assert bold(tables.cl_table(frame(apart[0], two_orders(10, 1, memory="dsa")))) == []


def test_a_single_value_is_never_bold() -> None:
    assert bold(tables.cl_table(frame(stream({("0", 0): 90.0}), two_orders(20, 1, memory="dsa")))) == []


def test_html_is_a_table_per_block_and_escapes_all_it_is_given() -> None:
    odd = "<script>alert('1')</script> & \"<b>\""
    html = tables.to_text(tables.cl_table(frame(two_orders(40, 2, memory=odd), two_orders(9, 2, league=odd))), "html")
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;&lt;b&gt;&quot;" in html
    first, second = ElementTree.fromstring(f"<all>{html}</all>")
    assert [child.tag for child in first] == ["caption", "thead", "tbody"]
    assert second.findtext("caption") is not None
    headings = [cell.text for cell in first.iter("th")]
    assert headings[:3] == ["steps", "memory", "last accuracy (%)"]
    cells = list(first.iter("td"))
    assert [cell.text for cell in cells] == [
        "5", "dm", "9.0 [7.0, 11.0]", "29.0 [27.0, 31.0]", "39.0 [37.0, 41.0]", "60.0", "34.4", "-25.4",
    ]  # fmt: skip
    assert [cell.get("class") for cell in cells][:3] == ["number", None, "number"]


def test_what_was_set_otherwise_than_in_the_preset_stands_beside_the_memory_on_a_line_of_its_own() -> None:
    usual = stream({("0", 0): 30.0, ("1", 0): 32.0})
    changed = stream({("0", 0): 20.0, ("1", 0): 22.0}, changes="memory.iterations=1000")
    table = tables.cl_table(frame(usual, changed))
    assert table[["last_accuracy", "note"]].to_numpy().tolist() == [[31.0, ""], [21.0, "(memory.iterations=1000)"]]
    assert "dm (memory.iterations=1000)" in tables.to_text(table, "md")
