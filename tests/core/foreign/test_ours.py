"""A memory's file of ours stands for a set that others condensed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from harness.core import atomic as files
from harness.core.data import DataSet
from harness.core.foreign import FileConfig, describe, load
from harness.core.memory import Memory, from_stored
from harness.core.memory_file import encode, save
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels
from tests.core.foreign.published_sets import LABELS, refusal

# --- ours -----------------------------------------------------------------------------------------------------------


def ours(form: Parametrisation, labels: list[int]) -> Memory:
    real = torch.zeros(len(labels) * form.views, 3, 4, 4)
    return from_stored(form, form.init(real, "noise", Generator().manual_seed(0)), torch.tensor(labels))


@pytest.mark.parametrize("form", [Pixels(), LowRank(1), MultiFormation(2)], ids=str)
def test_a_memory_of_ours_is_read_class_by_class(form: Parametrisation, tmp_path: Path, dataset: DataSet) -> None:
    path, memory = tmp_path / "m.safetensors", ours(form, [2, 2, 0, 0, 1, 1])
    save(memory, path, replace(dataset, digest="e" * 64), {})  # from another copy of the data
    (loaded,) = load(path, dataset)
    views = 2 * form.views
    assert loaded.labels.tolist() == [0] * views + [1] * views + [2] * views
    assert torch.equal(loaded.images, torch.cat([memory.images[views:], memory.images[:views]]))
    assert (loaded.form, loaded.league, set(loaded.stored)) == (memory.form, memory.league, set(memory.stored))


@pytest.mark.parametrize(
    ("form", "stored", "ipc"),
    # a stored image of 48 numbers is one of the budget, whatever it decodes into; factors of rank 1 take 24
    [(Pixels(), 2, 2), (MultiFormation(2), 2, 2), (LowRank(1), 4, 2), (LowRank(1), 3, 2), (LowRank(1), 1, 1)],
)
def test_a_file_of_ours_is_described_by_its_budget(
    form: Parametrisation, stored: int, ipc: int, tmp_path: Path, dataset: DataSet
) -> None:
    save(ours(form, [0] * stored + [1] * stored + [2] * stored), tmp_path / "m.safetensors", dataset, {})
    assert describe(tmp_path / "m.safetensors", dataset) == (1, ipc)


def test_soft_labels_count_in_what_a_file_is_described_by(tmp_path: Path, dataset: DataSet) -> None:
    # 2 images of 48 numbers of each class are the budget of 2; with 3 probabilities beside each, that of 3.
    hard = ours(Pixels(), [0, 0, 1, 1, 2, 2])
    save(replace(hard, league="soft", soft=torch.full((6, 3), 1 / 3)), tmp_path / "m.safetensors", dataset, {})
    assert describe(tmp_path / "m.safetensors", dataset) == (1, 3)


def test_real_images_of_ours_stay_real(tmp_path: Path, dataset: DataSet) -> None:
    images = dataset.normalise(torch.arange(6 * 48, dtype=torch.int64).remainder(256).byte().view(6, 3, 4, 4))
    save(Memory(images, LABELS, real=True), tmp_path / "m.safetensors", dataset, {})
    (loaded,) = load(tmp_path / "m.safetensors", dataset)
    assert loaded.real
    assert torch.equal(loaded.images, images[[1, 4, 2, 5, 0, 3]])


@pytest.mark.parametrize("cfg", [FileConfig("normalised"), FileConfig(factor=2)])
def test_a_file_of_ours_needs_no_settings(cfg: FileConfig, tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "m.safetensors"
    save(ours(Pixels(), [0, 1, 2]), path, dataset, {})
    said = refusal(path, dataset, cfg)
    assert said == "the file of a memory states how it is stored; leave memory.space and memory.factor out"


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        ([0, 1, 2], {"dataset": "cifar10"}, "made from cifar10, not from toy"),
        ([0, 1, 2], {"space": {"mean": [0.5], "std": [0.5]}}, "normalised by {'mean': [0.5], 'std': [0.5]}, not by "),
        ([0, 1], {}, "expected equally many images of each of the 3 classes of toy, got 0 to 1 of a class"),
        ([0, 1, 2, 2], {}, "expected equally many images of each of the 3 classes of toy, got 1 to 2 of a class"),
        ([0, 1, 2], {"league": "sport"}, "memory: league 'sport' is unknown; choose from "),
        ([0, 1, 2], {"format": 7}, "expected a memory of format 1 with encoding uint8 or float32, got format 7, "),
    ],
)
def test_a_file_of_ours_that_does_not_fit(
    labels: list[int], changes: dict[str, Any], message: str, tmp_path: Path, dataset: DataSet
) -> None:
    tensors, card = encode(ours(Pixels(), labels), dataset, {})
    files.save(tmp_path / "m.safetensors", tensors, card | changes)
    assert refusal(tmp_path / "m.safetensors", dataset).startswith(message)


def test_a_file_of_ours_is_finite(tmp_path: Path, dataset: DataSet) -> None:
    tensors, card = encode(ours(LowRank(1), [0, 1, 2]), dataset, {})
    tensors["left"][0, 0, 0, 0] = float("nan")
    files.save(tmp_path / "m.safetensors", tensors, card)
    assert refusal(tmp_path / "m.safetensors", dataset) == "an image is not finite"


def test_a_damaged_file_of_ours(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "m.safetensors"
    save(ours(Pixels(), [0, 1, 2]), path, dataset, {})
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path, dataset).startswith("damaged, or not a file of this harness")
