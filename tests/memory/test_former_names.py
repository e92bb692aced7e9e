"""Builders that other packages wrote to version 0.3.0 import `memory.sampling`, and are still found."""

import sys
from pathlib import Path

import pytest
from torch import Generator

from harness import memory
from harness.core.memory import Budget
from tests.memory.toys import a_set

BUILDER = '''
from dataclasses import dataclass
from harness.core.memory import Memory
from memory import random_real
from memory.sampling import rows_by_class

@dataclass(frozen=True)
class Config:
    count: int = 1
    per_class: bool = True

def build(images, labels, budget, rng, cfg=Config()):
    """As it was."""
    assert len(rows_by_class(labels)) > 1
    return random_real.build(images, labels, budget, rng)
'''


def test_a_builder_of_0_3_0_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "written_to_0_3_0.py").write_text(BUILDER)
    info = tmp_path / "older-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: older\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.memories]\nolder = written_to_0_3_0:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = {name for name in sys.modules if name.partition(".")[0] == "memory"}
    method = memory.find("older")
    assert (method.summary, method.config.per_class, method.config.stored) == ("As it was.", True, True)
    assert len(method(*a_set(), Budget(1), Generator().manual_seed(0)).labels) == 3
    assert {name for name in sys.modules if name.partition(".")[0] == "memory"} == before
