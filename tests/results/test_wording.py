import pytest

from harness.results.wording import memory_label, memory_note, quantity


def test_reconstructions_are_marked() -> None:
    assert memory_label("mim-dm") == "mim-dm (reconstruction)"
    assert memory_label("dm") == "dm"
    assert memory_label("own-mim-dm") == "own-mim-dm"


def test_one_is_no_plural() -> None:
    assert [quantity(n, "net") for n in (0, 1, 2)] == ["0 nets", "1 net", "2 nets"]
    assert [quantity(n, "image per class") for n in (1, 10)] == ["1 image per class", "10 images per class"]


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
    assert memory_note(memory, changes, preset) == said
