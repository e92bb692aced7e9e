"""The report in a real browser: it opens without a complaint, asks for nothing, and its tables sort."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from harness.commands import report
from harness.results.figures import registry
from tests import browser
from tests.results.condensed import memories, networks
from tests.results.files import write_rows

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no chromium here")

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "cl-quick"
EVIL = "<script>document.title='owned'</script>"
EVIL_PICTURE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(page: browser.Page, tmp_path_factory: pytest.TempPathFactory) -> browser.Page:
    """The report of the reference streams, open."""
    page.open(report.write([REFERENCE], tmp_path_factory.mktemp("report") / "report.html"))
    return page


def column(page: browser.Page, table: int, heading: str) -> list[str]:
    """The cells of a column as they stand."""
    found: list[str] = page.evaluate(
        f"""(() => {{ const table = document.querySelectorAll("#tables table")[{table}];
        const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === {heading!r});
        return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent); }})()"""
    )
    return found


def click(page: browser.Page, table: int, heading: str) -> None:
    page.evaluate(
        f"""[...document.querySelectorAll("#tables table")[{table}].tHead.rows[0].cells]
        .find((cell) => cell.textContent === {heading!r}).click()"""
    )


def test_it_opens_without_a_complaint_and_asks_for_nothing(reference: browser.Page) -> None:
    assert reference.evaluate("document.readyState") == "complete"
    assert reference.evaluate("document.querySelectorAll('#tables table').length") == 2  # the leagues full and pixel
    assert reference.complaints == []
    outside = [address for address in reference.requests if not address.startswith("data:")]
    assert [Path(address).name for address in outside] == ["report.html"]  # itself


def test_figures_are_drawn_apart(reference: browser.Page) -> None:
    boxes = reference.evaluate(
        "[...document.querySelectorAll('#figures svg')].map((e) => e.getBoundingClientRect().width)"
    )
    assert boxes
    assert min(boxes) > 300
    identifiers = reference.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(identifiers)) == len(identifiers)
    # What a figure refers to by its name is in the page.
    assert reference.evaluate(
        "[...document.querySelectorAll('use')].every((e) => document.querySelector(e.getAttribute('xlink:href')))"
    )


def test_a_click_sorts_by_number_and_another_turns_it_round(reference: browser.Page) -> None:
    heading, before = "last accuracy (%)", column(reference, 1, "last accuracy (%)")
    numbers = [float(cell.split()[0]) for cell in before]
    assert numbers != sorted(numbers)
    click(reference, 1, heading)
    assert [float(cell.split()[0]) for cell in column(reference, 1, heading)] == sorted(numbers)
    assert reference.evaluate("document.querySelectorAll('th[aria-sort=ascending]').length") == 1
    click(reference, 1, heading)
    assert [float(cell.split()[0]) for cell in column(reference, 1, heading)] == sorted(numbers, reverse=True)


def test_a_click_sorts_names(reference: browser.Page) -> None:
    click(reference, 1, "memory")
    assert column(reference, 1, "memory") == ["dm", "dm", "herding", "herding", "random", "random"]


def test_lines_stay_whole(reference: browser.Page) -> None:
    def lines() -> set[tuple[str, ...]]:
        headings = ("steps", "memory", "last accuracy (%)", "forgetting (points)")
        return set(zip(*(column(reference, 1, heading) for heading in headings), strict=True))

    before = lines()
    click(reference, 1, "forgetting (points)")
    assert lines() == before


def test_it_can_be_pictured(reference: browser.Page) -> None:
    picture = Image.open(BytesIO(reference.screenshot()))
    assert picture.size[0] == 1200
    assert picture.size[1] > 1500
    colours = picture.convert("RGB").resize((60, 60)).getcolors(3600) or []
    assert len(colours) > 20  # not an empty page


def test_what_rows_say_is_text(page: browser.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*networks(memory=EVIL, changes=EVIL_PICTURE, recipe=EVIL), *memories({0: 1.0, 1: 2.0}, memory=EVIL)]
    write_rows(rows, tmp_path / "rows.csv")
    monkeypatch.setattr(registry, "FIGURES", {"condense_accuracy": registry.FIGURES["condense_accuracy"]})
    page.complaints.clear()
    page.open(report.write([tmp_path / "rows.csv"], tmp_path / "evil.html"))
    assert "owned" not in page.evaluate("document.title")
    told = page.evaluate("document.querySelector('#tables').textContent")
    assert EVIL in told
    assert EVIL_PICTURE in told
    assert page.evaluate("document.querySelectorAll('script').length") == 1  # ours
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('#figures svg').length") == 1
    assert page.evaluate("document.querySelectorAll('svg script, svg image, svg foreignObject').length") == 0
    assert page.complaints == []
