import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest
from pandas import DataFrame

from harness.results.tables.columns import Table
from harness.results.tables.streams import STREAMS, cl_table
from harness.results.tables.text import to_text
from tests.results.streamed import TWO_BY_TWO, frame, stream, two_orders


def test_one_value_has_no_interval() -> None:
    assert "[" not in to_text(Table(cl_table(frame(stream({("0", 0): 10.0}))), STREAMS), "md")


def test_text_of_a_small_table() -> None:
    values = {("0", 0): 22.0, ("0", 1): 22.2}  # half width 12.7062 * 0.14142 / sqrt(2) = 1.27062
    table = cl_table(frame(stream(values, steps=10), stream({("0", 0): 20.0}, memory="my_own", steps=10)))
    assert to_text(Table(table, STREAMS), "md").splitlines() == [
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
    latex = to_text(Table(table, STREAMS), "latex").splitlines()
    assert latex[3] == r"\begin{tabular}{rlrrrllrrr}"
    assert r"10 & my\_own & 20.0 & 40.0 & 50.0 & 1 order x 1 net & nothing & 60.0 &  &  \\" in latex
    assert latex[4] == r"\toprule"
    assert latex[-3:] == [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    assert r"60.0 & 34.6 & $-$12.5 \\" in "\n".join(latex)


def test_odd_characters_survive() -> None:
    odd = "a|b_[/red]&%$#{}~^\\\n\rc"
    one_line = "a|b_[/red]&%$#{}~^\\  c"
    table = cl_table(frame(stream(TWO_BY_TWO, memory=odd)))
    assert r"| a\|b\_\[/red]&%$#{}~^\\  c |" in to_text(Table(table, STREAMS), "md")
    latex = r"a\textbar{}b\_{[}/red{]}\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}  c &"
    assert latex in to_text(Table(table, STREAMS), "latex")
    assert next(csv.DictReader(io.StringIO(to_text(Table(table, STREAMS), "csv"), newline="")))["memory"] == one_line


def test_csv_holds_the_numbers_in_full() -> None:
    table = cl_table(frame(stream({("0", 0): 1 / 3})))
    line = next(csv.DictReader(io.StringIO(to_text(Table(table, STREAMS), "csv"))))
    assert float(line["last_accuracy"]) == 1 / 3
    assert (line["last_accuracy_low"], line["preset"], line["dataset_digest"]) == ("", "paper", "d1")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="expected md, csv, latex, html, got 'xlsx'"):
        to_text(Table(cl_table(frame(stream(TWO_BY_TWO))), STREAMS), "xlsx")


def bold(table: DataFrame) -> list[str]:
    """The cells in bold, which all formats agree on."""
    html = to_text(Table(table, STREAMS), "html")
    found = re.findall(r"<strong>(.*?)</strong>", html)
    assert re.findall(r"\*\*(.*?)\*\*", to_text(Table(table, STREAMS), "md")) == found
    assert re.findall(r"\\textbf\{(.*?)\}", to_text(Table(table, STREAMS), "latex")) == found
    assert ("Bold is the best mean of its setting" in html) == bool(found)
    return found


def test_the_best_is_bold_where_its_interval_stands_apart() -> None:
    table = cl_table(frame(two_orders(40, 2), two_orders(35, 2, memory="dsa")))  # 38 .. 42 above 33 .. 37
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
    assert bold(cl_table(frame(two_orders(40, 2), *others))) == []


def test_networks_of_one_order_make_no_winner() -> None:
    # Intervals of no width, far apart, but of one order each: another may turn them round.
    apart = [stream({("0", 0): value, ("0", 1): value}, memory=memory) for memory, value in (("dm", 40), ("dsa", 10))]
    assert bold(cl_table(frame(*apart))) == []
    assert bold(cl_table(frame(apart[0], two_orders(10, 1, memory="dsa")))) == []


def test_a_single_value_is_never_bold() -> None:
    assert bold(cl_table(frame(stream({("0", 0): 90.0}), two_orders(20, 1, memory="dsa")))) == []


def test_html_is_a_table_per_block_and_escapes_all_it_is_given() -> None:
    odd = "<script>alert('1')</script> & \"<b>\""
    html = to_text(Table(cl_table(frame(two_orders(40, 2, memory=odd), two_orders(9, 2, league=odd))), STREAMS), "html")
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &#34;&lt;b&gt;&#34;" in html
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


def test_smoke_rows_are_marked_everywhere() -> None:
    table = cl_table(frame(stream(TWO_BY_TWO, preset="smoke")))
    texts = [to_text(Table(table, STREAMS), format) for format in ("md", "csv", "latex")]
    assert all("(smoke: not a result)" in text for text in texts)
    assert "not a result" not in to_text(Table(cl_table(frame(stream(TWO_BY_TWO))), STREAMS), "md")
