"""Who imports whom: the picture in style.md, section 2, held true."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"harness", "memory", "nas", "results", "scenarios"}
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))  # links are not followed

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def imports(path: Path, *, outside_functions: bool = False) -> Iterator[str]:
    """The modules a file imports, as dotted names; `from a import b` gives a and a.b."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_for_types(node)
        if not (outside_functions and inside):
            todo += ast.iter_child_nodes(node)


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def allowed(path: Path) -> tuple[str, ...]:
    """What of ours a file may import."""
    package, *rest = path.relative_to(ROOT).parts
    if package != "harness":
        return ("harness.results",) if package == "results" else ("harness.core", f"harness.{package}")
    return ("harness.core",) if rest[0] == "core" else ("harness",)


def test_there_are_files_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == OURS


@each_file
def test_arrows_point_down(path: Path) -> None:
    ours = [name for name in imports(path) if within(name, ("harness",))]
    right = [name for name in ours if within(name, allowed(path))]
    # `from a import b` gives a as well: where a.b is right, a is no import of its own.
    assert not [name for name in ours if name not in right and not any(within(other, (name,)) for other in right)]


@each_file
def test_only_streams_import_avalanche(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] != "scenarios":
        assert not [name for name in imports(path) if within(name, ("avalanche",))]


@each_file
def test_results_need_no_torch(path: Path) -> None:
    heavy = ("torch", "torchvision", "avalanche", "safetensors")
    if path.relative_to(ROOT).parts[0] == "results":
        assert not [name for name in imports(path) if within(name, heavy)]


FRONT = [ROOT / "harness" / "__init__.py", *sorted((ROOT / "harness" / "cli").glob("[!d]*.py"))]


@pytest.mark.parametrize("path", FRONT, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_front_imports_nothing_heavy_until_used(path: Path) -> None:
    theirs, ours = (
        ("torch", "pandas", "matplotlib", "numpy", "scipy"),
        ("harness.config", "harness.core", "harness.tracks"),
    )
    heavy = (*theirs, *ours, "harness.memory", "harness.results", "harness.scenarios")
    assert not [name for name in imports(path, outside_functions=True) if within(name, heavy)]
