from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from harness.core import files
from harness.core.data import KNOWN, DataSet
from harness.core.memory import Budget, Memory, decode, encode, join, load, of_classes, save

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


def a_set(size: int = 4, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> DataSet:
    rng = Generator().manual_seed(0)
    images = torch.randint(256, (12, len(mean), size, size), generator=rng).to(torch.uint8)
    labels = torch.arange(12) % 3
    return DataSet("toy", images, labels, images[:3], labels[:3], ("a", "b", "c"), mean, std, "d" * 64, "official")


@pytest.fixture
def dataset() -> DataSet:
    return a_set()


def real_of(dataset: DataSet) -> Memory:
    order = dataset.train_labels.argsort(stable=True)[:8]
    return Memory(dataset.normalise(dataset.train_images[order]), dataset.train_labels[order], real=True)


def synthetic(seed: int = 0, classes: tuple[int, ...] = (0, 2)) -> Memory:
    images = 3 * torch.randn(2 * len(classes), 3, 4, 4, generator=Generator().manual_seed(seed))
    return Memory(images, torch.tensor(classes).repeat_interleave(2))


def test_a_budget_has_at_least_one_image() -> None:
    assert Budget(1).ipc == 1
    with pytest.raises(ValueError, match=r"^ipc: at least 1 image per class is needed, got 0$"):
        Budget(0)


@pytest.mark.parametrize(("images", "labels"), [((4, 3, 4), (4,)), ((4, 3, 4, 4), (3,)), ((4, 3, 4, 4), (4, 1))])
def test_images_and_labels_must_fit(images: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^memory: expected images \(N, C, H, W\) and labels \(N,\), got "):
        Memory(torch.zeros(images), torch.zeros(labels, dtype=torch.int64))


def test_bytes_are_one_a_value_for_real_and_four_for_synthetic_images() -> None:
    images, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    assert Memory(images, labels, real=True).nbytes == 96
    assert Memory(images, labels).nbytes == 384


def test_join_keeps_the_order() -> None:
    first, second = synthetic(0, (2, 0)), synthetic(1, (1,))
    joined = join([first, second])
    assert joined.labels.tolist() == [2, 2, 0, 0, 1, 1]
    assert torch.equal(joined.images, torch.cat([first.images, second.images]))
    assert not joined.real


def test_a_join_is_real_only_if_all_parts_are(dataset: DataSet) -> None:
    real = real_of(dataset)
    assert join([real, real]).real
    assert not join([real, synthetic()]).real
    assert join([replace(real, league="soft")]).league == "soft"


def test_of_classes_keeps_the_order_asked_for() -> None:
    memory = replace(synthetic(0, (2, 0, 1)), real=True, league="storage")
    part = of_classes(memory, [1, 2])
    assert part.labels.tolist() == [1, 1, 2, 2]
    assert torch.equal(part.images, memory.images[[4, 5, 0, 1]])
    assert part.real
    assert part.league == "storage"
    assert of_classes(memory, [2, 0, 1]).labels.tolist() == memory.labels.tolist()


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


def stored(changes: dict[str, Tensor], **card: Any) -> tuple[dict[str, Tensor], files.Card]:
    tensors, its_card = encode(synthetic(), a_set(), {})
    return {**tensors, **changes}, {**its_card, **card}


@pytest.mark.parametrize(
    ("changes", "card", "message"),
    [
        ({}, {"format": 2}, "a memory of format 1, encoded uint8 or float32, fits; got format 2, encoding float32"),
        ({}, {"encoding": "jpeg"}, "a memory of format 1, .* fits; got format 1, encoding jpeg"),
        ({}, {"dataset": "cifar", "dataset_digest": "e" * 64}, "made from cifar eeeeeeeeeeee, not from this toy"),
        ({"images": torch.zeros(4, 3, 8, 8)}, {}, r"images of shape \(3, 4, 4\), float32 fit; got .*\[3, 8, 8\]"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.float64)}, {}, "float32 fit; got .*torch.float64"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.uint8)}, {}, "float32 fit; got .*torch.uint8"),
        ({}, {"encoding": "uint8"}, "uint8 fit; got .*torch.float32"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, {}, r"labels int64 in 0 \.\. 2 fit; got torch.int64, up to 3"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, {}, r"labels int64 in 0 \.\. 2 fit"),
        ({"labels": torch.zeros(4)}, {}, "got torch.float32"),
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
