"""The rooms of the library and their arrows, as docs/architecture.md draws them, are those of the code."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("memory", "nas", "results", "scenarios")  # folders at the top that are installed inside harness
FILES = {  # dotted name -> file; links are not followed
    f"{prefix}{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}".removesuffix(".__init__"): path
    for folder, prefix in (("harness", ""), *((folder, "harness.") for folder in TOP))
    for path in sorted((ROOT / folder).rglob("*.py"))
}
each_module = pytest.mark.parametrize("module", sorted(FILES))


def read_rooms() -> dict[str, set[str]]:
    """Room -> rooms that it may import, from the table under the header `| room | may import |`."""
    rooms: dict[str, set[str]] = {}
    _, _, table = (ROOT / "docs" / "architecture.md").read_text().partition("| room | may import |\n")
    for line in table.splitlines()[1:]:
        if not line.startswith("|"):
            break
        room, *others = re.findall(r"`([\w.]+)`", line)
        rooms[room] = set(others)
    return rooms


ROOMS = read_rooms()


def room_of(module: str) -> str:
    """The room with the longest name that `module` lies in."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, as dotted names; `from a import b` gives a.b if that is a module, else a."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else str(node.module) for name in names)


def test_every_room_exists_and_every_package_has_one() -> None:
    assert len(ROOMS) > 10
    assert not [room for room in ROOMS if room not in FILES]
    assert not set().union(*ROOMS.values()) - ROOMS.keys()
    packages = {".".join(module.split(".")[:2]) for module in FILES}
    assert packages <= ROOMS.keys()


def test_rooms_do_not_import_each_other_in_circles() -> None:
    graphlib.TopologicalSorter(ROOMS).prepare()
    layers = [f"harness.{layer}" for layer in ("core", "config", "execution", "tracks", "commands", "cli")]
    for number, layer in enumerate(layers):
        assert not ROOMS[layer] & {*layers[number + 1 :]}


@each_module
def test_a_module_imports_what_its_room_may(module: str) -> None:
    room = room_of(module)
    ours = [name for name in imports(FILES[module]) if f"{name}.".startswith("harness.")]
    assert not [name for name in ours if room_of(name) not in {room, *ROOMS[room]}]


def memory_layer(module: str) -> int:
    """The layer of a module of harness.memory: method, then shared, the methods, around, and the registry on top."""
    name = module.removeprefix("harness.memory").removeprefix(".").partition(".")[0]
    return {"method": 0, "shared": 1, "around": 3, "": 4}.get(name, 2)


@each_module
def test_layers_of_memory_import_downwards(module: str) -> None:
    if room_of(module) == "harness.memory":
        ours = [
            name
            for name in imports(FILES[module])
            if f"{name}.".startswith("harness.") and room_of(name) == "harness.memory"
        ]
        assert not [name for name in ours if memory_layer(name) > memory_layer(module)]


@each_module
def test_only_streams_import_avalanche(module: str) -> None:
    if room_of(module) != "harness.scenarios":
        assert not [name for name in imports(FILES[module]) if f"{name}.".startswith("avalanche.")]


@each_module
def test_results_need_no_torch(module: str) -> None:
    heavy = {"torch", "torchvision", "avalanche", "safetensors"}
    if room_of(module) == "harness.results":
        assert not [name for name in imports(FILES[module]) if name.partition(".")[0] in heavy]


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ["torch", "pandas", "numpy", "scipy", "matplotlib", "sklearn", "avalanche"]
    heavy += [f"harness.{room}" for room in ("core", "config", "execution", "tracks", "memory", "nas", "results")]
    code = f"import sys, harness.cli; print(*sorted(set({heavy}) & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert loaded.split() == []
