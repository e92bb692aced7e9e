"""Small memories of every form, for tests."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from harness.core.data import DataSet
from harness.core.memory import Memory, from_stored
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


def a_set(size: int = 4, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> DataSet:
    rng = Generator().manual_seed(0)
    images = torch.randint(256, (12, len(mean), size, size), generator=rng).to(torch.uint8)
    labels = torch.arange(12) % 3
    return DataSet("toy", images, labels, images[:3], labels[:3], ("a", "b", "c"), mean, std, "d" * 64, "official")


def real_of(dataset: DataSet) -> Memory:
    order = dataset.train_labels.argsort(stable=True)[:8]
    return Memory(dataset.normalise(dataset.train_images[order]), dataset.train_labels[order], real=True)


def synthetic(seed: int = 0, classes: tuple[int, ...] = (0, 2)) -> Memory:
    images = 3 * torch.randn(2 * len(classes), 3, 4, 4, generator=Generator().manual_seed(seed))
    return Memory(images, torch.tensor(classes).repeat_interleave(2))


FORMS: list[Parametrisation] = [Pixels(), LowRank(1), MultiFormation(2)]
each_form = pytest.mark.parametrize("form", FORMS, ids=str)


def resolve_form(form: Parametrisation, classes: tuple[int, ...] = (0, 2), seed: int = 0) -> Memory:
    """Two stored images of each class."""
    labels = torch.tensor(classes).repeat_interleave(2)
    real = torch.zeros(len(labels) * form.views, 3, 4, 4)
    return from_stored(form, form.init(real, "noise", Generator().manual_seed(seed)), labels)


def with_soft(memory: Memory, classes: int = 3) -> Memory:
    soft = torch.rand(len(memory.labels), classes, generator=Generator().manual_seed(9))
    return replace(memory, league="soft", soft=soft / soft.sum(1, keepdim=True))


def assert_same(first: Memory, second: Memory) -> None:
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.real, first.league, first.form) == (second.real, second.league, second.form)
    assert set(first.stored) == set(second.stored)
    assert all(torch.equal(part, second.stored[name]) for name, part in first.stored.items())
    assert (first.soft is None) == (second.soft is None)
    assert torch.equal(first.targets, second.targets)
