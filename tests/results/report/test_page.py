import base64
import hashlib
import json
import re
import warnings
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from pandas import DataFrame
from PIL import Image

from harness.cli import main
from harness.commands import report as reports
from harness.core import memory, memory_file
from harness.core.data import DataSet
from harness.results import rows as rowfiles
from harness.results.figures import registry, selection
from harness.results.figures.registry import Plot
from harness.results.report import page as report
from harness.results.report.page import Facts, Picture, Store, figures, missing, page
from tests.results import searched
from tests.results.condensed import CONVNET3, frame, memories, networks
from tests.results.files import write_rows
from tests.results.searched import alike, trained

EVIL = "<script>alert(1)</script>"
ROWS = [*networks(), *networks(memory="dsa"), *networks(memory="idc", league="storage")]


def blank(track: str, metric: str) -> Plot:
    """A figure of one preset, split and ipc, `full` apart, that is blank: drawing a real one takes a second."""

    def draw(rows: DataFrame) -> Figure:
        chosen = selection.chosen_rows(rows, track, metric)
        for column in ("preset", "split", "ipc"):
            selection.refuse_several(chosen, column)
        return Figure(figsize=(1, 1))

    return Plot(draw, lambda rows: rows[["memory", "ipc", "value"]])


BLANK = {"of_streams": blank("cl", "seen_accuracy"), "of_sets": blank("condense", "test_accuracy")}
DRAWN = {"condense_accuracy": registry.FIGURES["condense_accuracy"]}


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn where a test is of them; `main` shows warnings its own way, for good."""
    monkeypatch.setattr(registry, "FIGURES", {})
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FIGURES", BLANK)


@pytest.fixture(scope="module")
def drawn_page() -> str:
    """The report of ROWS with a real figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "FIGURES", DRAWN)
        return page(frame(ROWS), [Facts("run", {}, pictures=[Picture("a", b"png")])])


class Read(HTMLParser):
    """A page as a browser would take it apart: tags with their attributes, and the text outside style and script."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside not in ("style", "script") else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


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
    assert page(frame(ROWS), [Facts("run", {}, pictures=[Picture("a", b"png")])]) == drawn_page


def test_leagues_have_tables_of_their_own() -> None:
    read = Read(page(frame(ROWS)))
    assert read.text.index("league pixel") < read.text.index("league storage")
    assert "Condensed sets: cifar10, preset paper, league pixel" in read.text
    assert len([table for table in read.all("table") if table.get("class") != "fields"]) == 3  # and what was run


def test_a_search_has_all_its_tables() -> None:
    truth, proxies = alike((50, 60, 70, 80, 90)), [alike((20, 30, 25, 40, 45)), alike((20, 25, 30, 45, 40))]
    search = searched.frame(trained("full", truth), trained("dm", proxies[0]), trained("dsa", proxies[1]))
    made, refused = report._tables(search)
    assert refused == []
    headings = [heading for heading, _ in made]
    assert "Architecture search: cifar10, preset paper, league pixel" in headings
    # Of two proxies, of whatever leagues.
    assert "Architecture search, one proxy against another: cifar10, preset paper" in headings
    assert "Architecture search, given an axis: cifar10, preset paper, league pixel" in headings


def test_a_table_that_is_refused_is_told_and_takes_no_other_with_it() -> None:
    truth = alike((50, 60, 70))
    both = trained("full", truth), trained("full", truth, recipe="nas", key="other")
    everything = pd.concat([frame(ROWS), searched.frame(*both)], ignore_index=True)
    made, refused = report._tables(everything)
    assert [heading for heading, _ in made if heading.startswith("Condensed sets")]
    (reason,) = refused
    assert reason.startswith("Architecture search: no table (the truth was trained in several ways: recipe dm and nas")
    assert reason.replace("'", "&#39;") in page(everything)


def test_what_was_run_is_told_once() -> None:
    said, lines = report._made(frame(ROWS, memories({0: 60.0, 1: 60.0})))
    assert [(line["memory"], line["networks trained"]) for line in lines] == [("dm", "0"), ("dsa", "0"), ("idc", "0")]
    assert "data set cifar10, digest d1, split test, preset paper, images per class 10, recipe dm" in said
    timed = [row | {"key": str(number), "wall_seconds": 1800.0} for number, row in enumerate(networks(uint8=None))]
    _, (line,) = report._made(frame(timed, timed))
    assert (line["networks trained"], line["their hours"]) == ("4", "2")  # four halves of an hour, told twice


@pytest.mark.parametrize("field", ["memory", "dataset", "changes", "recipe", "exactness", "league", "device"])
def test_what_rows_say_is_text(field: str) -> None:
    read = Read(page(frame(networks(uint8=None, **{field: EVIL}), networks(uint8=None, memory="dsa"))))  # type: ignore[arg-type]
    assert len(read.all("script")) == 1
    assert EVIL in read.text


def test_what_runs_say_is_text() -> None:
    facts = Facts(EVIL, {EVIL: EVIL}, {EVIL: EVIL}, [EVIL], [Picture(EVIL, b"")])
    content = page(frame(ROWS), [facts], Store([(EVIL, EVIL)], 1), [EVIL])
    assert EVIL not in content
    # Name, configuration, environment, missing, caption, failure, complaint: each at least once.
    assert content.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert len(Read(content).all("script")) == 1


# --- figures --------------------------------------------------------------------------------------------------------


def test_what_may_not_stand_in_one_figure_is_drawn_apart(blank_figures: None) -> None:
    drawn, left_out = figures(frame(networks(), networks(preset="quick"), networks(preset="quick", split="validation")))
    assert [(each.name, each.of) for each in drawn] == [
        ("of-sets", "preset paper"),
        ("of-sets", "preset quick, split test"),
        ("of-sets", "preset quick, split validation"),
    ]
    assert [(each.name, each.of) for each in left_out] == [("of-streams", "")]  # said once, not for every part
    assert left_out[0].reason == "none of the 24 rows is a seen_accuracy of track cl"


def test_the_whole_data_stand_in_each_part(blank_figures: None) -> None:
    full = networks(memory="full", league="full", ipc=None, iterations=None, memory_model="")
    drawn, _ = figures(frame(networks(), networks(ipc=50), full))
    assert [each.of for each in drawn] == ["ipc 10", "ipc 50"]
    assert all("full," in each.csv for each in drawn)


def test_there_are_no_more_figures_than_one_can_look_at(blank_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_FIGURES", 2)
    drawn, left_out = figures(frame(*(networks(ipc=ipc) for ipc in (1, 10, 50))))
    assert [each.of for each in drawn] == ["ipc 1", "ipc 10"]
    assert [(each.of, each.reason) for each in left_out if each.name == "of-sets"] == [
        ("ipc 50", "there are 2 of it already; report fewer runs at once")
    ]


def test_a_figures_numbers_are_beside_it(blank_figures: None) -> None:
    rows = frame(networks())
    (one,), _ = figures(rows)
    assert one.csv == BLANK["of_sets"].data(rows).to_csv(index=False)
    assert base64.b64decode(one.csv_uri.partition(",")[2]).decode() == one.csv
    assert f'href="{one.csv_uri}"' in page(rows)


def test_names_in_a_figure_are_its_own(drawn_page: str) -> None:
    identifiers = [attributes["id"] for _, attributes in Read(drawn_page).tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    referred = re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', drawn_page)
    assert referred
    assert {first or second for first, second in referred} <= set(identifiers)


# --- what is missing ------------------------------------------------------------------------------------------------

STREAMS = {"orders": [0, 1], "class_order": [], "nets": 2}
SETS = {"sets": 2, "nets": 2, "eval_models": []}


def test_networks_of_a_stream_without_a_result() -> None:
    rows = rowfiles.to_frame(
        {"track": "cl", "metric": metric, "order": order, "repeat": repeat, "value": 1.0}
        for metric, order, repeat in (("last_accuracy", 0, 0), ("last_accuracy", 1, 1), ("seen_accuracy", 0, 1))
    )
    assert missing(STREAMS, rows) == ["order 0, network 1", "order 1, network 0"]
    assert missing(STREAMS | {"class_order": [1, 0]}, rows) == ["order listed, network 0", "order listed, network 1"]


def test_networks_of_sets_without_a_result() -> None:
    rows = frame(networks({(0, 0): 46.0, (1, 1): 51.0}))
    assert missing(SETS, rows) == ["set 0, network 1", "set 1, network 0"]
    assert missing(SETS, frame(networks())) == []
    on_the_way = frame(networks(iterations=1000), networks({(0, 0): 46.0}, iterations=20000))
    lacking = ["set 0, network 1", "set 1, network 0", "set 1, network 1"]
    for config in ({"iterations": 20000}, {"host": {"iterations": 2000, "updates": 10}}):
        assert missing(SETS | {"at": [1000], "memory_config": config}, on_the_way) == lacking
    two = SETS | {"sets": 1, "nets": 1, "eval_models": [CONVNET3, "mlp"]}
    assert missing(two, frame(networks({(0, 0): 46.0}))) == ["set 0, network 0 of 1 of 2 architectures"]


def test_networks_of_a_search_without_a_result() -> None:
    rows = rowfiles.to_frame(
        {"track": "nas", "metric": metric, "memory": "dm", "arch": "7", "repeat": repeat, "value": value}
        for metric, repeat, value in (("test_accuracy", 0, 40.0), ("test_accuracy", 1, None), ("diverged", 1, 1.0))
    )
    lacking = missing({"nets": 2, "space": "convnet720"}, rows, [("dm", "7"), ("full", "7")])
    assert lacking == ["architecture 7 on full, network 0", "architecture 7 on full, network 1"]


def test_a_search_trains_each_architecture_on_the_proxy_and_on_all_images(tmp_path: Path) -> None:
    search = {"preset": "paper", "space": "convnet720", "archs": "", "subset": 2, "truth": "run"}
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "file:there/mine.safetensors"}))
    trained, wrong = reports.searched(tmp_path)
    assert wrong == []
    assert [proxy for proxy, _ in trained] == ["file:mine.safetensors"] * 2 + ["full"] * 2
    assert trained[0][1] != trained[1][1]
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "macs", "truth": "tabular"}))
    assert reports.searched(tmp_path) == ([], [])
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "dm", "space": "theirs"}))
    trained, (complaint,) = reports.searched(tmp_path)
    assert trained == []
    assert "what is missing of it is not known (space: 'theirs' is unknown" in complaint


def test_failures_are_those_of_the_store_beside(tmp_path: Path) -> None:
    units = tmp_path / "units"
    (units / "ab").mkdir(parents=True)
    (units / "ab" / "abcd.error.txt").write_text("Traceback\n  file\nRuntimeError: out of memory\n")
    (units / "ab" / "abce.error.txt").write_text("")
    (units / "ab" / "abcf.checkpoint.safetensors").touch()
    for suffix in (".error.txt", ".safetensors"):  # failed here, done elsewhere
        (units / "ab" / f"abcg{suffix}").touch()
    failed = [("units/ab/abcd.error.txt", "RuntimeError: out of memory"), ("units/ab/abce.error.txt", "")]
    assert report.store_of([units, units]) == Store(failed, 1)
    assert "RuntimeError: out of memory" in Read(page(frame(networks()), store=Store(failed))).text


# --- run directories and the command --------------------------------------------------------------------------------


def run_directory(path: Path, rows: list[dict[str, object]] | None, **configuration: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(SETS | {"memory_config": {"lr": 0.5, "train": {}}} | configuration))
    if rows is not None:
        write_rows(rows, path / "rows.csv")
    return path


def test_a_run_tells_its_configuration_and_what_it_lacks(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", networks({(0, 0): 46.0}))
    (run / "environment.json").write_text('{"torch": "2.x"}')
    facts = report.facts_of(run)
    assert facts is not None
    assert facts.configuration == {"sets": 2, "nets": 2, "eval_models": "", "memory.lr": 0.5}
    assert (facts.environment, len(facts.missing)) == ({"torch": "2.x"}, 3)
    assert report.facts_of(tmp_path) is None


def test_the_command_writes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "runs" / "run", networks())
    output = tmp_path / "here" / "report.html"
    assert main(["report", str(run), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    assert "Nothing: every network" in Read(output.read_text()).text
    assert main(["report", str(run), "-o", str(output)]) == 0  # an earlier report may be replaced


def test_another_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "runs" / "run", networks())
    output = tmp_path / "mine.html"
    output.write_text("mine")
    assert main(["report", str(run), "-o", str(output)]) == 2
    assert output.read_text() == "mine"
    assert "is there and is no report of ours; name another file by --output" in capsys.readouterr().err


def test_a_run_without_a_result_yet_has_a_report(tmp_path: Path) -> None:
    for name, rows in (("begun", []), ("claimed", None)):
        run = run_directory(tmp_path / name / "run", rows)
        read = Read(reports.write([run], tmp_path / "report.html").read_text())
        assert "Nothing is finished: no row is a result." in read.text
        assert "networks without a result yet: 4" in read.text


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    good = run_directory(tmp_path / "good", networks())
    bad = run_directory(tmp_path / "bad", networks())
    (bad / "rows.csv").write_text("cut shor")
    with pytest.warns(UserWarning, match=r"bad/rows\.csv: damaged, its rows are left out"):
        page = reports.write([good, bad], tmp_path / "report.html")
    assert f"{bad / 'rows.csv'}: damaged, its rows are left out" in Read(page.read_text()).text


def test_no_rows_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "r.html")]) == 2
    assert "nowhere: no such file or directory" in capsys.readouterr().err


# --- memories -------------------------------------------------------------------------------------------------------


def kept(run: Path, dataset: DataSet, *, real: bool) -> None:
    """Two images of each of two classes, all of one value: a quarter and three quarters of white, in 8 bits."""
    values = (torch.tensor([64, 64, 191, 191]) / 255).view(-1, 1, 1, 1).expand(4, 1, 8, 8)
    images = (values - dataset.mean[0]) / dataset.std[0]
    made = memory.Memory(images.contiguous(), torch.tensor([0, 0, 1, 1]), real=real)
    memory_file.save(made, run / "memories" / "set-0.safetensors", dataset, {"builder": "dm", "ipc": 2})


@pytest.mark.parametrize("real", [True, False])
def test_memories_are_shown_as_networks_see_them(tmp_path: Path, toy_set: DataSet, real: bool) -> None:
    kept(tmp_path, toy_set, real=real)
    ((picture,), wrong) = reports.pictures_of(tmp_path)
    assert (picture.caption, wrong) == ("dm, toy, 2 images per class", [])
    shown = np.asarray(Image.open(BytesIO(picture.png)).convert("L")).astype(int)
    # Each of the two values fills two squares of some 45 pixels.
    assert [int((abs(shown - grey) <= 1).sum()) > 2 * 40**2 for grey in (64, 191, 128)] == [True, True, False]
    assert max(shown.shape) < 400


def test_a_memory_that_cannot_be_shown_is_named(tmp_path: Path, toy_set: DataSet) -> None:
    kept(tmp_path, toy_set, real=False)
    path = tmp_path / "memories" / "set-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    pictures, (wrong,) = reports.pictures_of(tmp_path)
    assert pictures == []
    assert wrong.startswith(f"set-0.safetensors of {tmp_path.name}: cannot be shown (")
