"""What holds for every name in BUILDERS, tested the day it is listed."""

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from harness import memory
from harness.core import registry
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Pixels
from harness.core.progress import Progress
from harness.core.recipes import TrainConfig
from harness.memory import BUILDERS, full, random_real
from tests.memory.toys import Killed, check_resumes, seeded

CLASSES = [2, 5, 7]
EVERYTHING = {"full"}  # the budget does not bind
UNALTERED = {"cscore", "el2n", "forgetting", "full", "grand", "herding", "kcenter", "random"}  # real images
DECODED = {"idc": 4, "lo-dc": 2, "lo-dm": 2, "lo-dsa": 2}  # images of 8 x 8 in the numbers of one
RESUMABLE = {name for name, method in BUILDERS.items() if "progress" in method.takes}

each = pytest.mark.parametrize("name", sorted(BUILDERS))
each_budgeted = pytest.mark.parametrize("name", sorted(BUILDERS.keys() - EVERYTHING))
Quick = Callable[[str], Callable[..., Memory]]

SMALL: dict[str, Any] = {
    "iterations": 2,
    "updates": 2,
    "epochs": 1,
    "runs": 2,
    "trained": 8,
    "from_iteration": 1,
    "real_batch": 4,
    "network_batch": 4,
    "model": "convnet1-w4",
}


def shrunk(cfg: Any, scores: Path) -> Any:
    """A configuration that ends at once, down to those inside it."""
    small = dict(SMALL, scores=str(scores))
    values = {field.name: getattr(cfg, field.name) for field in fields(cfg)}
    change = {name: small[name] for name, value in values.items() if name in small}
    if "host" in values:
        change["host"] = shrunk(values["host"], scores)
    if isinstance(train := values.get("train"), TrainConfig):
        change["train"] = replace(train, epochs=1, batch_size=16)
    return replace(cfg, **change)


@pytest.fixture
def quick(tmp_path: Path) -> Quick:
    """Name -> the builder with a configuration that ends at once."""
    scores = tmp_path / "scores.csv"
    scores.write_text("0.5\n" * 27)
    return lambda name: partial(BUILDERS[name], cfg=shrunk(BUILDERS[name].config, scores))


@pytest.fixture
def toy() -> tuple[Tensor, Tensor]:
    """Nine images of each of three classes with global ids, taking turns, unsorted."""
    return torch.randn(27, 3, 8, 8, generator=seeded(0)), torch.tensor([7, 2, 5]).repeat(9)


# --- budgets ---------------------------------------------------------------------------------------------------------


@each_budgeted
@pytest.mark.parametrize("ipc", [1, 2, 9])
def test_the_budget_is_used_and_never_exceeded(name: str, ipc: int, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    built = quick(name)(*toy, Budget(ipc), seeded(7))
    images = ipc * DECODED.get(name, 1)  # as networks see them
    assert built.labels.tolist() == [c for c in CLASSES for _ in range(images)]
    assert built.images.shape == (3 * images, 3, 8, 8)
    assert built.scalars == 3 * ipc * 3 * 8 * 8
    assert built.league == ("storage" if name in DECODED else "pixel")
    assert (built.form == Pixels()) is (name not in DECODED)
    if built.stored:
        assert torch.equal(built.form.decode(dict(built.stored)), built.images)


@each
def test_a_configuration_says_how_many_images_it_decodes_into(name: str) -> None:
    cfg = BUILDERS[name].config
    decoded = cfg.decoded(1, (3, 8, 8))
    assert decoded == DECODED.get(name, 1)


@each_budgeted
def test_classes_of_different_sizes_get_as_many_images(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    images = torch.cat([images, torch.randn(3, 3, 8, 8, generator=seeded(1))])[3:]  # 27 again, for the scores
    labels = torch.cat([labels, torch.tensor([5, 5, 5])])[3:]  # now 8, 8 and 11 of them
    built = quick(name)(images, labels, Budget(2), seeded(7))
    assert built.labels.tolist() == [c for c in CLASSES for _ in range(2 * DECODED.get(name, 1))]


# --- what goes in and what comes out ---------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_memory_has_the_images_dtype_and_no_graph(
    name: str, dtype: torch.dtype, quick: Quick, toy: tuple[Tensor, Tensor]
) -> None:
    images, labels = toy[0].to(dtype), toy[1]
    built = quick(name)(images, labels, Budget(2), seeded(7))
    assert (built.images.dtype, built.images.device) == (images.dtype, images.device)
    assert (built.labels.dtype, built.labels.device) == (labels.dtype, labels.device)
    assert not built.images.requires_grad
    assert built.images.isfinite().all()
    assert all(part.dtype == dtype and not part.requires_grad for part in built.stored.values())


@each
def test_inputs_are_untouched_and_so_is_the_global_generator(
    name: str, quick: Quick, toy: tuple[Tensor, Tensor]
) -> None:
    images, labels = toy
    before, unused = (images.clone(), labels.clone()), torch.get_rng_state()
    built = quick(name)(images, labels, Budget(2), seeded(7))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert images.grad is None
    assert torch.equal(torch.get_rng_state(), unused)
    if name not in EVERYTHING:
        built.images.zero_()  # not a view of the data
        assert torch.equal(images, before[0])


@each
def test_the_same_seed_gives_the_same_memory(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    first, second = (quick(name)(*toy, Budget(2), seeded(7)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


@each_budgeted
def test_another_seed_gives_another_memory(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    memories = [quick(name)(*toy, Budget(2), seeded(seed)).images for seed in range(5)]
    assert any(not torch.equal(memories[0], other) for other in memories[1:])


@each_budgeted
def test_what_other_builders_do_meanwhile_does_not_matter(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    expected = quick(name)(*toy, Budget(2), seeded(7)).images  # networks are shared by all builders of a process
    other = "herding" if name.endswith("dm") else "dm"
    quick(other)(*toy, Budget(1), seeded(3))
    assert torch.equal(quick(name)(*toy, Budget(2), seeded(7)).images, expected)


@each_budgeted
def test_other_classes_matter_unless_independent(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    others = torch.where((labels == 7).view(-1, 1, 1, 1), torch.randn(images.shape, generator=seeded(1)), images)
    first, second = (quick(name)(some, labels, Budget(2), seeded(7)) for some in (images, others))
    kept = first.labels != 7
    same = torch.allclose(first.images[kept], second.images[kept], rtol=0, atol=1e-6)
    if BUILDERS[name].config.per_class:
        assert same
    elif name not in UNALTERED:  # of which others may be chosen, or not
        assert not same


# --- interrupted -----------------------------------------------------------------------------------------------------


def test_whatever_learns_or_trains_survives_a_kill() -> None:
    assert BUILDERS.keys() - RESUMABLE == {"cscore", "full", "random"}


@pytest.mark.parametrize("name", sorted(RESUMABLE))
def test_an_interrupted_build_goes_on_bit_for_bit(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    def build(rng: Generator, progress: Progress) -> Memory:
        return quick(name)(*toy, Budget(2), rng, progress=progress)

    whole = Killed(0)
    build(seeded(1), whole)
    for rounds in range(1, len(whole.done) + 1):
        check_resumes(build, rounds)


# --- errors, kinds, configurations -----------------------------------------------------------------------------------


@each_budgeted
def test_too_few_images_are_named(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
    images, labels = toy
    with pytest.raises(ValueError, match=r"^class 5: the budget asks for 9 images, the data has 8; use a smaller ipc$"):
        quick(name)(images[:-1], labels[:-1], Budget(9), seeded(7))


@each
def test_real_means_images_of_the_data(name: str, quick: Quick, toy: tuple[Tensor, Tensor]) -> None:
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
def test_configurations_are_frozen_and_declare_independence(name: str) -> None:
    cfg = BUILDERS[name].config
    assert isinstance(cfg.per_class, bool)
    assert cfg == BUILDERS[name].config
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
    with pytest.raises(ValueError, match=r"^epochs: at least 1 is needed, got 0$"):
        full.FullConfig(epochs=0)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf])
@each
def test_settings_of_every_builder_are_checked(name: str, wrong: float) -> None:
    def is_refused(cfg: Any, field: str) -> bool:
        try:
            replace(cfg, **{field: wrong})
        except ValueError as error:
            return field in str(error) and "\n" not in str(error)
        return False

    def check(cfg: Any) -> None:
        names = {f.name for f in fields(cfg)}
        counts = {"iterations", "updates", "epochs", "runs", "trained", "rank", "factor"}
        counts |= {"real_batch", "synthetic_batch", "network_batch", "batch_size"}
        for field in names & {"lr", "network_lr", *counts}:
            assert is_refused(cfg, field), f"{type(cfg).__name__}.{field} may be {wrong}"
        for field in names & {"momentum", "weight_decay", "from_iteration", "from_update"}:
            assert is_refused(cfg, field) == (wrong != 0), f"{type(cfg).__name__}.{field} may be {wrong}"
        if "momentum" in names:
            with pytest.raises(ValueError, match="momentum: a number below 1 is needed, got 1"):
                replace(cfg, momentum=1.0)
        if "init" in names:
            with pytest.raises(ValueError, match=r"^init: 'ones' is unknown; choose from "):
                replace(cfg, init="ones")
        for nested in ("host", "train", "term"):
            if nested in names:
                check(getattr(cfg, nested))

    check(memory.find(name).config)


# --- names -----------------------------------------------------------------------------------------------------------


@each
def test_a_name_finds_its_builder(name: str) -> None:
    assert memory.find(name) is BUILDERS[name]
    assert name in memory.names()


def test_plug_ins_go_around_any_builder_that_fits() -> None:
    for name in ("lo-dcc", "lo-dsac", "mim-dc", "mim-dcc"):
        assert name not in BUILDERS
        assert memory.find(name).config.host == BUILDERS[name.partition("-")[2]].config
    with pytest.raises(
        ValueError, match=r"^lo: herding cannot store its images in another form; lo- can be used with dc, dcc, "
    ):
        memory.find("lo-herding")
    with pytest.raises(ValueError, match=r"^mim: random accepts no additional loss; mim- can be used with dc, dcc, "):
        memory.find("mim-random")
    with pytest.raises(ValueError, match=r"^memory: 'lo-hering' is unknown \(did you mean 'herding'\?\); "):
        memory.find("lo-hering")


@pytest.mark.parametrize(
    ("name", "hint"), [("hering", " (did you mean 'herding'?)"), ("randm", " (did you mean 'random'?)"), ("zzz", "")]
)
def test_an_unknown_name_gets_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is unknown") as caught:
        memory.find(name)
    assert str(caught.value) == f"memory: {name!r} is unknown{hint}; choose from {', '.join(memory.names())}"


def test_other_packages_offer_builders(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, value = "theirs", "their_package:build"

        def load(self) -> object:
            return random_real.build

    def entry_points(group: str, name: str = "theirs") -> list[Entry]:
        assert group == "harness.memories"
        return [Entry()] if name == "theirs" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert memory.find("theirs").build is random_real.build
    assert memory.names() == sorted([*BUILDERS, "theirs"])
    with pytest.raises(ValueError, match="'other' is unknown"):
        memory.find("other")
