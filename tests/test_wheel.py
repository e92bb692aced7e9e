"""What is installed works from any directory, package data included."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness import memory

ROOT = Path(__file__).parents[1]
# Folder of each package in the tree -> in the wheel.
PACKAGES = {
    str(path.parent.relative_to(ROOT)): str(
        Path("harness", path.parent.relative_to(ROOT / "harness" if top == "harness" else ROOT))
    )
    for top in ("harness", "memory", "nas", "results", "scenarios")
    for path in sorted((ROOT / top).rglob("*.py"))
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, unpacked; built from a copy, to leave nothing in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for package in {package.partition("/")[0] for package in PACKAGES}:
        ignored = shutil.ignore_patterns("__pycache__", "condense-*", "gallery")
        shutil.copytree(ROOT / package, tree / package, symlinks=True, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(tree)], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("condensation_harness-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def run(unpacked: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_the_wheel(package: str, unpacked: Path) -> None:
    expected = {path.name for path in (ROOT / package).glob("*.py")}
    assert {path.name for path in (unpacked / PACKAGES[package]).glob("*.py")} == expected


def test_package_data_are_in_the_wheel(unpacked: Path) -> None:
    published = {path.name for path in (ROOT / "results" / "published").glob("*.csv")}
    assert published
    assert {path.name for path in (unpacked / "harness" / "results" / "published").glob("*.csv")} == published
    assert (unpacked / "harness" / "py.typed").is_file()
    report = unpacked / "harness" / "results" / "report"
    assert {path.name for path in report.glob("report.*")} == {"report.js", "report.html.j2"}


def test_the_published_numbers_are_found_from_any_directory(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "from harness.results.published import values as v; print(v.__file__); print(len(v.published_end_points()) > 0)"
    )
    where, found = run(unpacked, tmp_path, "-c", code).split()
    assert Path(where).is_relative_to(unpacked)
    assert found == "True"


def test_the_command_works_from_any_directory(unpacked: Path, tmp_path: Path) -> None:
    lines = run(unpacked, tmp_path, "-m", "harness.cli", "ls", "memories").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == sorted(memory.BUILDERS)
    assert not any(tmp_path.iterdir())
