import pytest

from results.notes import marked, note


def test_reconstructions_are_marked() -> None:
    assert marked("mim-dm") == "mim-dm (reconstruction)"
    assert marked("dm") == "dm"
    assert marked("own-mim-dm") == "own-mim-dm"


@pytest.mark.parametrize(
    ("memory", "changes", "preset", "said"),
    [
        ("dm", "", "paper", ""),
        ("dm", "memory.lr=1", "quick", "(memory.lr=1)"),
        ("mim-dm", "", "paper", "(reconstruction)"),
        ("mim-dm", "memory.lr=1", "smoke", "(reconstruction) (memory.lr=1) (smoke: not a result)"),
    ],
)
def test_what_is_said_beside_a_memory(memory: str, changes: str, preset: str, said: str) -> None:
    assert note(memory, changes, preset) == said
