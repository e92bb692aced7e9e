import base64
import hashlib
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures import registry, selection
from harness.results.figures.registry import Plot
from harness.results.report import figures as report_figures
from harness.results.report import page
from harness.results.report.figures import draw_figures
from harness.results.report.page import render
from harness.results.report.runs import Facts, Picture, Store
from tests.results import searched
from tests.results.condensed import frame, memories, networks
from tests.results.report.html import Read
from tests.results.searched import alike, trained

EVIL = "<script>alert(1)</script>"
ROWS = [*networks(), *networks(memory="dsa"), *networks(memory="idc", league="storage")]


def blank(track: str, metric: str) -> Plot:
    """A figure of one preset, split and ipc, `full` apart, that is blank: drawing a real one takes a second."""

    def data(rows: DataFrame) -> DataFrame:
        chosen = selection.choose_rows(rows, track, metric)
        for column in ("preset", "split", "ipc"):
            selection.refuse_several(chosen, column)
        return rows[["memory", "ipc", "value"]]

    def draw(_: DataFrame) -> Figure:
        """A blank figure of one setting."""
        return Figure(figsize=(1, 1))

    return Plot(data, draw)


BLANK = {"of_streams": blank("cl", "seen_accuracy"), "of_sets": blank("condense", "test_accuracy")}
DRAWN = {"condense_accuracy": registry.FIGURES["condense_accuracy"]}


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FIGURES", BLANK)


@pytest.fixture(scope="module")
def drawn_page() -> str:
    """The report of ROWS with a real figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "FIGURES", DRAWN)
        return render(frame(ROWS), [Facts("run", {}, pictures=[Picture("a", b"png")])])


def test_it_needs_nothing_but_itself(drawn_page: str) -> None:
    read = Read(drawn_page)
    for _, attributes in read.tags:
        for name in ("src", "href", "xlink:href"):
            if (address := attributes.get(name)) is not None:
                assert address.startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import", drawn_page)
    # Nothing is fetched, and no script runs but the one whose digest the page names.
    (policy,) = [tag["content"] or "" for tag in read.all("meta") if tag.get("http-equiv")]
    script = drawn_page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_same_rows_give_the_same_page(drawn_page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FIGURES", DRAWN)
    assert render(frame(ROWS), [Facts("run", {}, pictures=[Picture("a", b"png")])]) == drawn_page


def test_leagues_have_tables_of_their_own() -> None:
    read = Read(render(frame(ROWS)))
    assert read.text.index("league pixel") < read.text.index("league storage")
    assert "Condensed sets: cifar10, preset paper, league pixel" in read.text
    assert len([table for table in read.all("table") if table.get("class") != "fields"]) == 3  # and what was run


def test_a_search_has_all_its_tables() -> None:
    truth, proxies = alike((50, 60, 70, 80, 90)), [alike((20, 30, 25, 40, 45)), alike((20, 25, 30, 45, 40))]
    search = searched.frame(trained("full", truth), trained("dm", proxies[0]), trained("dsa", proxies[1]))
    made, refused = page._make_tables(search)
    assert refused == []
    headings = [heading for heading, _ in made]
    assert "Architecture search: cifar10, preset paper, league pixel. Which architecture the proxy selects" in headings
    # Of two proxies, of whatever leagues.
    assert "Architecture search, one proxy against another: cifar10, preset paper" in headings
    assert "Architecture search, given an axis: cifar10, preset paper, league pixel" in headings


def test_a_refused_table_is_reported_and_others_stay() -> None:
    truth = alike((50, 60, 70))
    both = trained("full", truth), trained("full", truth, recipe="nas", key="other")
    everything = pd.concat([frame(ROWS), searched.frame(*both)], ignore_index=True)
    made, refused = page._make_tables(everything)
    assert [heading for heading, _ in made if heading.startswith("Condensed sets")]
    (reason,) = refused
    assert reason.startswith("Architecture search: no table (the truth was trained in several ways: recipe dm and nas")
    assert reason.replace("'", "&#39;") in render(everything)


def test_no_table_is_wider_than_paper() -> None:
    search = searched.frame(trained("full", alike((50, 60, 70, 80, 90))), trained("dm", alike((20, 30, 25, 40, 45))))
    content = render(search)
    widths = [table.count("<th") for table in re.findall(r"<table>.*?</table>", content, re.DOTALL)]
    assert len(widths) > 5
    assert max(widths) <= page.MOST_COLUMNS
    assert "section { break-before: page; }" in content.partition("@media print")[2]


def test_the_architectures_of_a_search_are_one_line() -> None:
    search = searched.frame(trained("full", alike((50, 60, 70, 80, 90))), trained("dm", alike((20, 30, 25, 40, 45))))
    _, lines = page._list_settings(search)
    assert {(line["memory"], line["networks trained"]) for line in lines} == {("full", "5"), ("dm", "5")}
    assert "network 5 architectures" in page._list_settings(search)[0]


def test_captions_are_sentences(blank_figures: None) -> None:
    (one,), _ = draw_figures(frame(networks()))
    assert one.caption == "This figure (of-sets) shows a blank figure of one setting."
    assert "All lines share dataset cifar10, " in render(frame(ROWS))


def test_what_was_run_is_told_once() -> None:
    said, lines = page._list_settings(frame(ROWS, memories({0: 60.0, 1: 60.0})))
    assert [(line["memory"], line["networks trained"]) for line in lines] == [("dm", "0"), ("dsa", "0"), ("idc", "0")]
    assert "data set cifar10, digest d1, split test, preset paper, images per class 10, recipe dm" in said
    timed = [row | {"key": str(number), "wall_seconds": 1800.0} for number, row in enumerate(networks(uint8=None))]
    _, (line,) = page._list_settings(frame(timed, timed))
    assert (line["networks trained"], line["their hours"]) == ("4", "2")  # four halves of an hour, told twice


@pytest.mark.parametrize("field", ["memory", "dataset", "changes", "recipe", "exactness", "league", "device"])
def test_what_rows_say_is_text(field: str) -> None:
    read = Read(render(frame(networks(uint8=None, **{field: EVIL}), networks(uint8=None, memory="dsa"))))  # type: ignore[arg-type]
    assert len(read.all("script")) == 1
    assert EVIL in read.text


def test_what_runs_say_is_text() -> None:
    facts = Facts(EVIL, {EVIL: EVIL}, {EVIL: EVIL}, [EVIL], [Picture(EVIL, b"")])
    content = render(frame(ROWS), [facts], Store([(EVIL, EVIL)], 1), [EVIL])
    assert EVIL not in content
    # Name, configuration, environment, missing, caption, failure, complaint: each at least once.
    assert content.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert len(Read(content).all("script")) == 1


# --- figures --------------------------------------------------------------------------------------------------------


def test_what_may_not_stand_in_one_figure_is_drawn_apart(blank_figures: None) -> None:
    drawn, left_out = draw_figures(
        frame(networks(), networks(preset="quick"), networks(preset="quick", split="validation"))
    )
    assert [(each.name, each.of) for each in drawn] == [
        ("of-sets", "preset paper"),
        ("of-sets", "preset quick, split test"),
        ("of-sets", "preset quick, split validation"),
    ]
    assert [(each.name, each.of) for each in left_out] == [("of-streams", "")]  # said once, not for every part
    assert left_out[0].reason == "none of the 24 rows is a seen_accuracy of track cl"


def test_the_whole_data_stand_in_each_part(blank_figures: None) -> None:
    full = networks(memory="full", league="full", ipc=None, iterations=None, memory_model="")
    drawn, _ = draw_figures(frame(networks(), networks(ipc=50), full))
    assert [each.of for each in drawn] == ["ipc 10", "ipc 50"]
    assert all("full," in each.csv for each in drawn)


def test_there_are_no_more_figures_than_one_can_look_at(blank_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_figures, "MOST_FIGURES", 2)
    drawn, left_out = draw_figures(frame(*(networks(ipc=ipc) for ipc in (1, 10, 50))))
    assert [each.of for each in drawn] == ["ipc 1", "ipc 10"]
    assert [(each.of, each.reason) for each in left_out if each.name == "of-sets"] == [
        ("ipc 50", "there are 2 of it already; report fewer runs at once")
    ]


def test_a_figures_numbers_are_beside_it(blank_figures: None) -> None:
    rows = frame(networks())
    (one,), _ = draw_figures(rows)
    assert one.csv == BLANK["of_sets"].data(rows).to_csv(index=False)
    assert base64.b64decode(one.csv_uri.partition(",")[2]).decode() == one.csv
    assert f'href="{one.csv_uri}"' in render(rows)


def test_names_in_a_figure_are_its_own(drawn_page: str) -> None:
    identifiers = [attributes["id"] for _, attributes in Read(drawn_page).tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    referred = re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', drawn_page)
    assert referred
    assert {first or second for first, second in referred} <= set(identifiers)
