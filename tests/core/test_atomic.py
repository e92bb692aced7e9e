import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from harness.core.atomic import DamagedFileError, load, save, write_bytes

TENSORS = {
    "images": torch.arange(24, dtype=torch.float32).view(2, 3, 2, 2) / 7,
    "labels": torch.tensor([3, -1]),
    "done": torch.tensor(5),  # no dimensions
    "none": torch.zeros(0, 4),
    "mask": torch.tensor([True, False]),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}
CARD = {"name": "dm", "ipc": 10, "lr": 0.1 + 0.2, "classes": [3, 1], "of": {"ü": None}}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path / "new" / "folder" / "a.safetensors", TENSORS, CARD)
    tensors, card = load(tmp_path / "new" / "folder" / "a.safetensors")
    assert same(tensors, TENSORS)
    assert card == CARD


def test_views_and_gradients_are_written_as_values(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    parts = {"column": whole[:, 1], "row": whole[2], "turned": whole.T, "weight": whole.clone().requires_grad_()}
    save(tmp_path / "a", parts, {})
    tensors, _ = load(tmp_path / "a")
    assert same(tensors, {name: part.detach() for name, part in parts.items()})


STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda tensor: tensor,
    "turned": lambda tensor: tensor.transpose(0, -1),
    "every second": lambda tensor: tensor[::2],
    "one column": lambda tensor: tensor[..., :1],
    "repeated": lambda tensor: tensor[:1].expand(3, *tensor.shape[1:]),
    "one element": lambda tensor: tensor.flatten()[:1].as_strided((1, 1), (7, 3)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("strides", STRIDES)
def test_any_shape_stride_and_type_is_written(strides: str, dtype: torch.dtype, tmp_path: Path) -> None:
    for shape in [(1,), (5,), (1, 1), (4, 3), (1, 6), (2, 1, 3), (3, 2, 4, 4), (1, 1, 1, 1)]:
        tensor = STRIDES[strides]((torch.arange(math.prod(shape)) % 2).view(shape).to(dtype))
        save(tmp_path / "a", {"tensor": tensor}, {})
        assert same(load(tmp_path / "a")[0], {"tensor": tensor})


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for _ in range(5):
        save(tmp_path / "a", TENSORS, CARD)
        save(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(CARD.items())))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a: no such file$"):
        load(tmp_path / "a")


def test_what_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # in the way of the file, once it is whole
    with pytest.raises(IsADirectoryError) as caught:
        write_bytes(tmp_path / "a", b"content")
    assert str(caught.value) == f"[Errno 21] Is a directory: '{tmp_path / 'a'}'"
    assert [*tmp_path.iterdir()] == [tmp_path / "a"]


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    content = (tmp_path / "a").read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1}:
        (tmp_path / "a").write_bytes(content[:length])
        with pytest.raises(DamagedFileError, match=r"^[^\n]*a: damaged, or not a file of this harness"):
            load(tmp_path / "a")


def test_a_file_altered_anywhere_is_damaged_or_says_the_same(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    content = (tmp_path / "a").read_bytes()
    complaints = []
    for place in range(len(content)):
        (tmp_path / "a").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            tensors, card = load(tmp_path / "a")
        except DamagedFileError as error:
            complaints.append(str(error))
        else:
            assert same(tensors, TENSORS)
            assert card == CARD
    assert len(complaints) > len(content) - 40  # all but the blanks that fill the header up, and the like
    assert not any("\n" in complaint for complaint in complaints)


def test_an_altered_value_is_told_from_a_cut_file(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    content = bytearray((tmp_path / "a").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DamagedFileError, match="a: damaged: its digest differs from the stored one"):
        load(tmp_path / "a")


@pytest.mark.parametrize("metadata", [None, {"card": "{}"}, {"harness": "{"}, {"harness": '{"card": "{}"}'}])
def test_a_safetensors_file_of_others_is_not_ours(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(to_bytes(TENSORS, metadata))
    with pytest.raises(DamagedFileError, match="damaged, or not a file of this harness"):
        load(tmp_path / "a")


def test_another_card_does_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    content = (tmp_path / "a").read_bytes()
    assert content.count(b": 10,") == 1  # the card's ipc
    (tmp_path / "a").write_bytes(content.replace(b": 10,", b": 20,"))
    with pytest.raises(DamagedFileError, match="its digest differs"):
        load(tmp_path / "a")


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    save(tmp_path / "a", {}, {"second": True})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert load(tmp_path / "a") == ({}, {"second": True})


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_what_is_written_is_whole_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    rename = Path.replace

    def watched(self: Path, target: Path) -> Path:
        assert not target.exists()
        seen.append(self.read_bytes())
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_bytes(tmp_path / "a", b"content")
    assert seen == [b"content"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_card_that_is_not_json_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / "a", TENSORS, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_other_programs_can_read_the_tensors_and_the_card(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, CARD)
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(json.loads(header["__metadata__"]["harness"])["card"]) == CARD
    assert same(from_bytes(content), TENSORS)


def test_a_file_that_cannot_be_read_just_now_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", {}, {})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.core.atomic.safe_open", refuse)
    with pytest.raises(PermissionError):
        load(tmp_path / "a")
