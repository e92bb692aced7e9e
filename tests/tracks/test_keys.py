"""The names of results: work that version 0.3.0 began is found, and so gone on with, by every later version."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from harness.commands import run as runs
from harness.config import RUNS, assemble

# Track, preset and settings -> how many units, and the first 16 hex digits of the SHA-256 of all their keys, sorted and
# written one after another. Counted by version 0.3.0 (commit e497603), on digits, in the eager form, in float32.
KEYS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("cl", "paper", {"memory": "dm", "ipc": 5}, 155, "d6e6af6bf63f46c6"),
    ("cl", "quick", {"memory": "random", "steps": 5}, 11, "911108e96454814c"),
    ("cl", "smoke", {"memory": "herding", "steps": 2}, 4, "9f1533bfdd5eceae"),
    ("cl", "paper", {"memory": "full"}, 150, "ac0ab06f342e0a87"),
    ("condense", "paper", {"memory": "dsa", "ipc": 1}, 205, "3004b114ac60743a"),
    ("condense", "paper", {"memory": "dc", "model": "convnet3-bn", "ipc": 10}, 205, "36f304ca3de87490"),
    ("condense", "quick", {"memory": "dcc", "ipc": 1}, 14, "5b3fa6543496116a"),
    ("condense", "paper", {"memory": "idc", "ipc": 10, "recipe": "idc"}, 205, "cf8451370c7c46a8"),
    ("condense", "quick", {"memory": "lo-dm", "ipc": 10}, 8, "69d9064b507f9623"),
    ("condense", "quick", {"memory": "mim-dsa", "ipc": 10}, 14, "e687795529335390"),
    ("condense", "quick", {"memory": "el2n", "ipc": 10}, 8, "e41c087c8a07a5f8"),
    ("condense", "quick", {"memory": "mmd-pixel", "ipc": 10, "memory.lr": "1.0"}, 14, "4d85cfe091379c87"),
    (
        "condense",
        "paper",
        {"memory": "dm", "at": "10,20", "memory.iterations": "40", "ipc": 1},
        615,
        "041b00728493a960",
    ),
    ("condense", "quick", {"memory": "kcenter", "ipc": 2}, 8, "1390d0a4b26ac64a"),
    ("condense", "quick", {"memory": "grand", "ipc": 2}, 8, "4b5a55ab64f62b01"),
    ("condense", "quick", {"memory": "forgetting", "ipc": 2}, 8, "187a4cfb3a0f69d5"),
    ("nas", "smoke", {"memory": "dsa"}, 9, "130a7914740592a2"),
    ("nas", "quick", {"memory": "early-stopping", "ipc": 10, "archs": "width=32,depth<=2"}, 48, "d631da9d8001971f"),
]


@pytest.mark.parametrize(("track", "preset", "settings", "count", "digest"), KEYS)
def test_keys_are_those_of_0_3_0(
    track: str, preset: str, settings: dict[str, Any], count: int, digest: str, tmp_path: Path
) -> None:
    fixed = {"dataset": "digits", "compute": "eager", "real_dtype": "float32"}
    prepared = runs.prepare(assemble(RUNS[track], preset, fixed | settings), runs.Options(out=tmp_path, device="cpu"))
    keys = sorted(unit.key for unit in prepared.plan.units)
    assert (len(keys), hashlib.sha256("".join(keys).encode()).hexdigest()[:16]) == (count, digest)
