"""A memory's file: what is written is read back exactly, or refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from harness.core import atomic as files
from harness.core.data import KNOWN, DataSet
from harness.core.memory import Memory, from_stored
from harness.core.memory_file import decode, encode, load, save
from harness.core.parametrisation import MultiFormation, Parametrisation
from tests.core.memories import (
    MEAN,
    STD,
    a_set,
    assert_same,
    each_form,
    real_of,
    resolve_form,
    synthetic,
    with_soft,
)


@pytest.fixture
def dataset() -> DataSet:
    return a_set()


def test_synthetic_images_survive_exactly(dataset: DataSet, tmp_path: Path) -> None:
    memory = synthetic()
    save(memory, tmp_path / "m", dataset, {"method": "dm", "seconds": 1.5})
    loaded, card = load(tmp_path / "m", dataset)
    assert torch.equal(loaded.images, memory.images)
    assert torch.equal(loaded.labels, memory.labels)
    assert (loaded.real, loaded.league) == (False, "pixel")
    # 4 images of 3 x 4 x 4 values of 4 bytes
    assert card["budget"] == {"images": 4, "scalars": 192, "bytes": 768}
    assert card["classes"] == [0, 2]
    assert (card["encoding"], card["method"], card["seconds"]) == ("float32", "dm", 1.5)
    assert card["space"] == {"mean": list(MEAN), "std": list(STD)}
    assert (card["dataset"], card["dataset_digest"]) == ("toy", "d" * 64)


def test_real_images_survive_exactly_in_a_byte_a_value(dataset: DataSet, tmp_path: Path) -> None:
    memory = real_of(dataset)
    save(memory, tmp_path / "m", dataset, {})
    loaded, card = load(tmp_path / "m", dataset)
    assert torch.equal(loaded.images, memory.images)
    assert loaded.real
    assert card["encoding"] == "uint8"
    assert card["budget"]["bytes"] == 8 * 48
    assert files.load(tmp_path / "m")[0]["images"].dtype == torch.uint8


@each_form
@pytest.mark.parametrize("has_soft", [False, True])
def test_every_form_survives_exactly(form: Parametrisation, has_soft: bool, dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(resolve_form(form)) if has_soft else resolve_form(form)
    save(memory, tmp_path / "m", dataset, {})
    loaded, card = load(tmp_path / "m", dataset)
    assert_same(loaded, memory)
    assert card["league"] == memory.league
    assert card["parametrisation"]["name"] == form.name
    assert card["budget"] == {"images": len(memory.labels), "scalars": memory.scalars, "bytes": memory.nbytes}
    tensors, _ = files.load(tmp_path / "m")
    assert len(tensors["labels"]) == 4  # those of what is stored
    assert sum(part.numel() for name, part in tensors.items() if name != "labels") == memory.scalars
    assert_same(load(tmp_path / "m", dataset)[0], loaded)


def test_real_images_with_soft_labels_survive_exactly(dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(real_of(dataset))
    save(memory, tmp_path / "m", dataset, {})
    assert_same(load(tmp_path / "m", dataset)[0], memory)


@each_form
def test_another_copy_of_the_data_will_do_where_that_is_allowed(form: Parametrisation, dataset: DataSet) -> None:
    other = replace(dataset, digest="e" * 64)
    memory = resolve_form(form)
    assert_same(decode(*encode(memory, other, {}), dataset, same_copy=False), memory)
    with pytest.raises(ValueError, match=r"^made from toy eeeeeeeeeeee, not from this toy$"):
        decode(*encode(memory, other, {}), dataset)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(a_set(), name="cifar"), "^made from cifar, not from toy$"),
        (a_set(std=(0.25, 0.25, 0.25)), r"^normalised by .*0\.25, 0\.25, 0\.25.*, not by toy's .*0\.2673"),
        (a_set(size=8), r"^expected float32 images of shape \(3, 4, 4\), got images \(4, 3, 8, 8\)"),
    ],
)
def test_but_not_other_data(other: DataSet, message: str, dataset: DataSet) -> None:
    form = MultiFormation(2)
    stored = form.init(torch.zeros(16, *other.image_shape), "noise", Generator().manual_seed(0))
    tensors, card = encode(from_stored(form, stored, torch.tensor([0, 0, 1, 1])), other, {})
    with pytest.raises(ValueError, match=message):
        decode(tensors, card, dataset, same_copy=False)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_byte_of_every_data_set_survives(name: str) -> None:
    known = KNOWN[name]
    dataset = replace(a_set(), mean=known.mean, std=known.std)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, len(known.mean), 1, 1)
    memory = Memory(dataset.normalise(pixels), torch.tensor([0]), real=True)
    assert torch.equal(encode(memory, dataset, {})[0]["images"], pixels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_kept(value: float, dataset: DataSet, tmp_path: Path) -> None:
    memory = synthetic()
    memory.images[1, 0, 0, 0] = value
    with pytest.raises(FloatingPointError, match=r"^memory: an image is not finite$"):
        save(memory, tmp_path / "m", dataset, {})
    assert list(tmp_path.iterdir()) == []


def test_learned_images_that_are_said_to_be_real_are_not_kept(dataset: DataSet, tmp_path: Path) -> None:
    memory = replace(synthetic(), real=True)
    with pytest.raises(
        ValueError, match=r"^memory: marked as real, but its images are not 8-bit pixels; leave real out$"
    ):
        save(memory, tmp_path / "m", dataset, {})
    assert list(tmp_path.iterdir()) == []


def test_a_soft_label_that_is_not_finite_is_not_kept(dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(synthetic())
    assert memory.soft is not None
    memory.soft[1, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"^memory: a soft label is not finite$"):
        save(memory, tmp_path / "m", dataset, {})


def stored(changes: dict[str, Tensor], **card: Any) -> tuple[dict[str, Tensor], files.Card]:
    tensors, its_card = encode(synthetic(), a_set(), {})
    return {**tensors, **changes}, {**its_card, **card}


@pytest.mark.parametrize(
    ("changes", "card", "message"),
    [
        ({}, {"format": 2}, "expected a memory of format 1 .* or float32, got format 2, encoding float32"),
        ({}, {"encoding": "jpeg"}, "expected a memory of format 1 .*, got format 1, encoding jpeg"),
        ({}, {"dataset": "cifar", "dataset_digest": "e" * 64}, "made from cifar eeeeeeeeeeee, not from this toy"),
        ({"images": torch.zeros(4, 3, 8, 8)}, {}, r"float32 images of shape \(3, 4, 4\), got .*\(4, 3, 8, 8\)"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.float64)}, {}, "expected float32 .* got .*torch.float64"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.uint8)}, {}, "expected float32 .* got .*torch.uint8"),
        ({}, {"encoding": "uint8"}, "expected uint8 .* got .*torch.float32"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, {}, r"expected int64 labels in 0 \.\. 2, got torch.int64, 0 to 3"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, {}, r"expected int64 labels in 0 \.\. 2, got torch.int64, -1 to 2"),
        ({"labels": torch.zeros(4)}, {}, "got torch.float32"),
        ({"labels": torch.zeros(0, dtype=torch.int64)}, {}, r"expected labels \(N,\) with N at least 1, got \(0,\)"),
        ({}, {"league": "sport"}, "league 'sport' is unknown"),
        ({}, {"parametrisation": {"name": "wavelets"}}, "parametrisation 'wavelets' is unknown"),
        ({}, {"parametrisation": {"name": "low-rank", "rank": 2}}, "cannot be decoded as low-rank .*'left'"),
        ({}, {"parametrisation": {"name": "multi-formation", "factor": 3}}, "cannot be decoded as multi-formation"),
        ({"left": torch.zeros(4, 3, 4, 1, dtype=torch.float64)}, {}, "torch.float32, torch.float64"),
        ({"soft": torch.ones(4, 3)}, {}, "soft labels belong to the league soft, not pixel"),
        ({"images": torch.full((4, 3, 4, 4), float("nan"))}, {}, "an image is not finite"),
        ({"images": torch.full((4, 3, 4, 4), float("-inf"))}, {}, "an image is not finite"),
        ({"soft": torch.full((4, 3), float("inf"))}, {"league": "soft"}, "a soft label is not finite"),
        ({"soft": torch.ones(4, 2)}, {"league": "soft"}, r"expected float32 soft labels \(N, 3\), got \(4, 2\)"),
        ({"soft": torch.ones(4, 3).long()}, {"league": "soft"}, r"expected float32 .* got \(4, 3\), torch.int64"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, {}, "memory: expected images .* got .*4, 3, 4, 4.* and .*3,"),
    ],
)
def test_a_memory_that_does_not_fit_gets_one_line_with_its_file(
    changes: dict[str, Tensor], card: dict[str, Any], message: str, dataset: DataSet, tmp_path: Path
) -> None:
    files.save(tmp_path / "m", *stored(changes, **card))
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "m", dataset)
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        decode(*stored(changes, **card), dataset)


def test_a_damaged_file_is_told_as_such(dataset: DataSet, tmp_path: Path) -> None:
    save(synthetic(), tmp_path / "m", dataset, {})
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-1])
    with pytest.raises(files.DamagedFileError):
        load(tmp_path / "m", dataset)


@pytest.mark.parametrize("name", ["dataset", "dataset_digest", "league", "space"])
def test_a_card_that_does_not_say_all_is_told_as_such(name: str, dataset: DataSet) -> None:
    tensors, card = stored({})
    del card[name]
    with pytest.raises(ValueError, match=r"^the card or the tensors of the memory are incomplete$"):
        decode(tensors, card, dataset)
