"""Which of several entries of a published file are judged."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.config import to_plain
from harness.config.runs import FileMemory
from harness.core.data import DataSet
from harness.core.foreign import FileConfig, describe, explain_choice, load, resolve
from tests.core.foreign.published_sets import learned

LABELS = torch.arange(3).repeat_interleave(2)  # class by class, as sets are read


def save(path: Path, entries: list[Tensor]) -> Path:
    torch.save({"data": [[images, LABELS] for images in entries]}, path)
    return path


def draw_path(steps: int, size: float) -> list[Tensor]:
    """One set that moves a step of this size at random between snapshots."""
    images = [learned(0)]
    for step in range(steps):
        images.append(images[-1] + size * learned(step + 1))
    return images


@pytest.mark.parametrize("count", [2, 3, 5])
def test_independent_sets_are_all_judged(count: int, tmp_path: Path, dataset: DataSet) -> None:
    path = save(tmp_path / "res.pt", [learned(seed) for seed in range(count)])
    assert describe(path, dataset)[0] == count
    assert resolve(path, dataset, FileConfig()) == FileConfig()
    said = explain_choice(path, dataset, FileConfig())
    assert said == (
        f"{path}: its {count} entries are judged as independent sets; they look like independent sets; "
        "for one of them: --set memory.set=N, or -1 for the last"
    )


@pytest.mark.parametrize(("steps", "size"), [(1, 0.1), (2, 1.0), (4, 1.0), (10, 0.3)])
def test_of_snapshots_the_last_is_judged(steps: int, size: float, tmp_path: Path, dataset: DataSet) -> None:
    images = draw_path(steps, size)
    path = save(tmp_path / "res.pt", images)
    (memory,) = load(path, dataset)
    assert torch.equal(memory.images, images[-1])
    assert resolve(path, dataset, FileConfig()) == FileConfig(set="-1")
    said = explain_choice(path, dataset, FileConfig())
    assert f"entry {steps} of 0 .. {steps} is judged alone; they look like snapshots of one set; if they are" in said


def test_the_user_may_say_which(tmp_path: Path, dataset: DataSet) -> None:
    images = draw_path(3, 0.1)
    path = save(tmp_path / "res.pt", images)
    for text, numbers in (("all", [0, 1, 2, 3]), ("0", [0]), ("-1", [3]), ("-4", [0]), ("2", [2])):
        cfg = FileConfig(set=text)
        assert resolve(path, dataset, cfg) == cfg
        loaded = load(path, dataset, cfg)
        assert [memory.images.tolist() for memory in loaded] == [images[number].tolist() for number in numbers]


def test_an_entry_that_is_not_there(tmp_path: Path, dataset: DataSet) -> None:
    path = save(tmp_path / "res.pt", [learned(0), learned(1)])
    for text in ("2", "-3"):
        with pytest.raises(ValueError, match=rf"memory\.set: expected an entry of 0 \.\. 1, .*, got {text}$"):
            load(path, dataset, FileConfig(set=text))
    with pytest.raises(
        ValueError, match=r"^set: expected the number of an entry, -1 for the last, or all, got 'last'$"
    ):
        FileConfig(set="last")


def test_entries_of_other_labels_are_independent(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "res.pt"
    torch.save({"data": [[learned(0), LABELS], [learned(0), LABELS.flip(0)]]}, path)
    assert describe(path, dataset)[0] == 2


def test_a_file_of_one_entry_leaves_no_choice(tmp_path: Path, dataset: DataSet) -> None:
    assert explain_choice(save(tmp_path / "res.pt", [learned(0)]), dataset, FileConfig()) == ""


def test_the_default_is_left_out_of_names() -> None:
    assert to_plain(FileMemory()) == {"space": "declared", "factor": 1}
    assert to_plain(FileMemory(set="-1")) == {"space": "declared", "factor": 1, "set": "-1"}
