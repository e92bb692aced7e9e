"""The pages of the documentation: tables are those of the rows, links lead somewhere, the front page is short."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "results" / "reference" / "README.md"])

spec = importlib.util.spec_from_file_location("write_tables", ROOT / "scripts" / "write_tables.py")
assert spec is not None
assert spec.loader is not None
write_tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_tables)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{path}: {target} does not exist"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{path}: {target} names no heading"


def test_tables_are_those_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` shows warnings its own way, for good
    page = (ROOT / "docs" / "results.md").read_text()
    assert len(write_tables.BLOCK.findall(page)) == 3
    assert write_tables.rewrite(page) == page, "run `make tables`"


def test_numbers_of_the_front_page_stand_in_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    table = (ROOT / "README.md").read_text().partition("| job |")[2].partition("\n\n")[0]
    rows = re.findall(r"\| (\d[\d.]*)(?: %)? \| (\[[^\]]*\]) \|", table)
    assert len(rows) == 6
    for value, interval in rows:
        assert f"{value} {interval}" in results


def test_the_front_page_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 10_240
