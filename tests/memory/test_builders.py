"""What holds for every name in BUILDERS, tested the day it is listed."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

import memory
from harness.core.memory import Budget, Memory
from harness.core.train import TrainConfig
from memory import BUILDERS, default_config, full, random_real

CLASSES = [2, 5, 7]
EVERYTHING = {"full"}  # the budget does not bind
UNALTERED = {"full", "herding", "random"}  # real images

each = pytest.mark.parametrize("name", sorted(BUILDERS))
each_budgeted = pytest.mark.parametrize("name", sorted(BUILDERS.keys() - EVERYTHING))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def quick(name: str) -> Callable[[Tensor, Tensor, Budget, Generator], Memory]:
    """The builder with a configuration that ends at once."""
    cfg = default_config(BUILDERS[name])
    small = {
        "iterations": 2,
        "real_batch": 4,
        "model": "convnet1-w4",
        "train": TrainConfig(epochs=1, batch_size=16),
    }
    cfg = replace(cfg, **{field.name: small[field.name] for field in fields(cfg) if field.name in small})
    return partial(BUILDERS[name], cfg=cfg)


@pytest.fixture
def toy() -> tuple[Tensor, Tensor]:
    """Nine images of each of three classes with global ids, taking turns, unsorted."""
    return torch.randn(27, 3, 8, 8, generator=seeded(0)), torch.tensor([7, 2, 5]).repeat(9)


@each_budgeted
@pytest.mark.parametrize("ipc", [1, 2, 9])
def test_ipc_images_of_each_class_ascending(name: str, ipc: int, toy: tuple[Tensor, Tensor]) -> None:
    built = quick(name)(*toy, Budget(ipc), seeded(7))
    assert built.labels.tolist() == [c for c in CLASSES for _ in range(ipc)]
    assert built.images.shape == (3 * ipc, 3, 8, 8)


@each
def test_dtype_and_device_are_the_images_own_and_nothing_is_attached(name: str, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    built = quick(name)(images, labels, Budget(2), seeded(7))
    assert (built.images.dtype, built.images.device) == (images.dtype, images.device)
    assert (built.labels.dtype, built.labels.device) == (labels.dtype, labels.device)
    assert not built.images.requires_grad
    assert built.images.isfinite().all()


@each
def test_inputs_are_untouched_and_so_is_the_global_generator(name: str, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    before, unused = (images.clone(), labels.clone()), torch.get_rng_state()
    built = quick(name)(images, labels, Budget(2), seeded(7))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), unused)
    if name not in EVERYTHING:
        built.images.zero_()  # not a view of the data
        assert torch.equal(images, before[0])


@each
def test_the_same_seed_gives_the_same_memory(name: str, toy: tuple[Tensor, Tensor]) -> None:
    first, second = (quick(name)(*toy, Budget(2), seeded(7)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


@each_budgeted
def test_another_seed_gives_another_memory(name: str, toy: tuple[Tensor, Tensor]) -> None:
    memories = [quick(name)(*toy, Budget(2), seeded(seed)).images for seed in range(5)]
    assert any(not torch.equal(memories[0], other) for other in memories[1:])


@each_budgeted
def test_too_few_images_are_named(name: str, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    with pytest.raises(ValueError, match=r"^class 5: the budget asks for 9 images, the data has 8; use a smaller ipc$"):
        quick(name)(images[:-1], labels[:-1], Budget(9), seeded(7))


@each
def test_real_means_images_of_the_data(name: str, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    built = quick(name)(images, labels, Budget(3), seeded(7))
    assert built.real == (name in UNALTERED)
    of_class: dict[int, list[Tensor]] = {c: list(images[labels == c]) for c in CLASSES}
    found = [
        sum(torch.equal(image, real) for real in of_class[c])
        for image, c in zip(built.images, built.labels.tolist(), strict=True)
    ]
    assert found == [1 if name in UNALTERED else 0] * len(built.labels)


@each
def test_configurations_are_frozen_and_say_whether_classes_are_independent(name: str) -> None:
    cfg = default_config(BUILDERS[name])
    assert isinstance(cfg.per_class, bool)
    assert cfg == default_config(BUILDERS[name])
    with pytest.raises(FrozenInstanceError):
        cfg.anything = 1


def test_random_draws_without_replacement(toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    for seed in range(5):
        built = random_real.build(images, labels, Budget(6), seeded(seed))
        assert len(built.images.flatten(1).unique(dim=0)) == 18
    everything = random_real.build(images, labels, Budget(9), seeded(0))
    assert torch.equal(everything.images.flatten(1).unique(dim=0), images.flatten(1).unique(dim=0))


def test_full_is_all_images_as_they_come(toy: tuple[Tensor, Tensor]) -> None:
    rng = seeded(7)
    built = full.build(*toy, Budget(1), rng)
    assert torch.equal(built.images, toy[0])
    assert torch.equal(built.labels, toy[1])
    assert torch.equal(rng.get_state(), seeded(7).get_state())
    with pytest.raises(ValueError, match=r"^full: epochs is at least 1, got 0$"):
        full.FullConfig(epochs=0)


# --- names -----------------------------------------------------------------------------------------------------------


@each
def test_a_name_finds_its_builder(name: str) -> None:
    assert memory.find(name) is BUILDERS[name]
    assert name in memory.names()


@pytest.mark.parametrize(
    ("name", "hint"), [("hering", "did you mean 'herding'? "), ("randm", "did you mean 'random'? "), ("zzz", "")]
)
def test_an_unknown_name_gets_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is unknown") as caught:
        memory.find(name)
    assert str(caught.value) == f"memory: {name!r} is unknown; {hint}Known: {', '.join(memory.names())}"


def test_other_packages_offer_builders(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "theirs"

        def load(self) -> object:
            return random_real.build

    def entry_points(group: str, name: str = "theirs") -> list[Entry]:
        assert group == "harness.memories"
        return [Entry()] if name == "theirs" else []

    monkeypatch.setattr(memory, "entry_points", entry_points)
    assert memory.find("theirs") is random_real.build
    assert memory.names() == sorted([*BUILDERS, "theirs"])
    with pytest.raises(ValueError, match="'other' is unknown"):
        memory.find("other")
