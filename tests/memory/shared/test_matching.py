"""Gradient matching, and DC and DSA, which are little more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import augment, models
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import LowRank, Parametrisation, Pixels
from harness.core.progress import Progress
from harness.memory import dc, dsa
from harness.memory.dc import DCConfig
from harness.memory.dsa import DSAConfig
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.matching import GradientMatchingConfig
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import Synthetic, real_batches
from tests.memory import plain_matching
from tests.memory.shared.matched import cut, matching
from tests.memory.toys import FOUR, SHAPE, a_set, check_resumes, not_finite, seeded

SMALL: dict[str, Any] = dict(
    iterations=2, updates=3, epochs=2, lr=0.5, real_batch=8, network_lr=0.1, network_batch=4, model="convnet2-w4"
)
DC, DSA = DCConfig(**SMALL), DSAConfig(**SMALL)
Build = Callable[..., Memory]
each_method = pytest.mark.parametrize(("build", "cfg"), [(dc.METHOD, DC), (dsa.METHOD, DSA)], ids=["dc", "dsa"])


# --- the plain loops -------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize(
    ("ipc", "chunk", "change"),
    [
        (1, 64, {}),
        (3, 64, {}),  # all classes in one group
        (3, 6, {}),  # two classes, then one; real batches of 8 in two parts, the last one short
        (3, 1, {}),  # fewer images than one class has
        (3, 64, {"epochs": 1, "network_batch": 256, "momentum": 0.0}),
        (2, 7, {"model": "convnet1-w4-gn-leakyrelu-max", "real_batch": 3}),
        (2, 7, {"model": "convnet2-w4-ln-sigmoid"}),  # which vmap gets wrong
        (2, 64, {"model": "mlp"}),
        (2, 64, {"model": "convnet2-w4-bn"}),
        (2, 4, {"model": "convnet2-w4-bn", "batchnorm": "exact"}),
        (2, 4, {"distance": "cos"}),
        (2, 4, {"distance": "mse"}),
        (2, 4, {"distance": "l1"}),
        (2, 64, {"augment": "crop_rotate"}),
        (2, 64, {"init": "real"}),
        (2, 64, {"init": "noise"}),
    ],
)
def test_the_plain_loops_are_followed(
    build: Build,
    cfg: GradientMatchingConfig,
    ipc: int,
    chunk: int,
    change: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(chunk, monkeypatch)
    images, labels = a_set(dtype=torch.float64)
    cfg, rngs = replace(cfg, **change), (seeded(1), seeded(1))
    memory = build(images, labels, Budget(ipc), rngs[0], cfg)
    expected = plain_matching.build(images, labels, ipc, rngs[1], cfg)
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)
    assert (memory.images - start(images, labels, ipc, cfg)).abs().max() > 1e-2  # it did move
    assert memory.labels.tolist() == [2] * ipc + [5] * ipc + [7] * ipc
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


@each_method
@pytest.mark.parametrize("init", ["noise", "real"])
@pytest.mark.parametrize(("ipc", "rank"), [(1, 2), (3, 2), (3, 3)])  # 2, 6 and 4 images of a class
def test_the_gradient_passes_through_low_rank_factors(
    build: Build, cfg: GradientMatchingConfig, init: str, ipc: int, rank: int
) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg, form = replace(cfg, init=init), LowRank(rank)
    memory = build(images, labels, Budget(ipc), seeded(1), cfg, form=form)
    expected = plain_matching.build(images, labels, ipc, seeded(1), cfg, rank=rank)
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)
    assert (memory.images - start(images, labels, ipc, cfg, form)).abs().max() > 1e-2


def start(
    images: Tensor, labels: Tensor, ipc: int, cfg: GradientMatchingConfig, form: Parametrisation = Pixels()
) -> Tensor:
    """The images of seed 1 before the first update."""
    begun = Synthetic(images, labels, Budget(ipc), seeded(1), form=form, start=cfg.init, lr=1.0, momentum=0.0)
    return begun.memory().images


# --- the loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "loops"),
    [
        (1, (1, 1)),
        (2, (10, 50)),
        (10, (10, 50)),
        (11, (20, 25)),
        (20, (20, 25)),
        (30, (30, 20)),
        (40, (40, 15)),
        (45, (50, 10)),
        (50, (50, 10)),
        (100, (50, 10)),  # above the last one listed
    ],
)
def test_the_loops_are_the_published_ones(ipc: int, loops: tuple[int, int]) -> None:
    for cfg in (DCConfig().for_setting("cifar10", ipc), DCConfig().with_loops(ipc)):
        assert (cfg.updates, cfg.epochs) == loops
    assert DCConfig(updates=7).for_setting("cifar10", ipc) == DCConfig(updates=7, epochs=loops[1])
    assert DCConfig(epochs=7).for_setting("cifar10", ipc) == DCConfig(updates=loops[0], epochs=7)


def test_the_loops_of_dsa_have_two_exceptions() -> None:
    def loops(dataset: str, ipc: int) -> tuple[int | None, int | None]:
        cfg = DSAConfig().for_setting(dataset, ipc)
        return cfg.updates, cfg.epochs

    assert loops("cifar100", 50) == (10, 10)
    assert loops("cifar10", 100) == (100, 2)
    assert loops("cifar10", 50) == loops("cifar100", 100) == (50, 10)
    assert loops("cifar100", 10) == (10, 50)
    assert DSAConfig(updates=3).for_setting("cifar10", 100) == DSAConfig(updates=3, epochs=2)


@each_method
def test_a_builder_takes_the_loops_of_its_budget(
    build: Build, cfg: GradientMatchingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    monkeypatch.setattr(
        gradient_matching, "fit", lambda network, images, labels, inner, rng: trained.append(inner.epochs)
    )
    open_loops = replace(cfg, iterations=2, updates=None, epochs=None)
    build(*a_set(), Budget(1), seeded(1), open_loops)
    assert trained == []  # with one image per class the network is never trained
    build(*a_set(), Budget(2), seeded(1), open_loops)
    assert trained == [50] * 9 * 2  # between each two of ten updates


@each_method
def test_the_network_trains_between_updates_by_plain_descent(
    build: Build, cfg: GradientMatchingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []

    def fit(network: nn.Module, images: Tensor, labels: Tensor, inner: Any, rng: object) -> None:
        assert not images.requires_grad
        seen.append((labels.tolist(), inner.lr, inner.momentum, inner.weight_decay, inner.batch_size, inner.augment))
        assert (inner.rounds, inner.drops, inner.cutmix) == (2, (), 0)

    monkeypatch.setattr(gradient_matching, "fit", fit)
    build(*a_set(), Budget(2), seeded(1), cfg)
    assert seen == [([0, 0, 1, 1, 2, 2], 0.1, 0.0, 0.0, 4, cfg.augment)] * 4


def test_classes_have_augmentations_of_their_own() -> None:
    # The published code seeds by a clock that stands still within a class or two on a fast device.
    parameters = augment.draw_shared(augment.DSA, 50, seeded(0))
    assert len({tuple(row) for row in parameters.values.flatten(1).tolist()}) == 50
    assert len(parameters.active.unique(dim=0)) == 6
    one = torch.randn(1, *SHAPE, generator=seeded(1))
    twins = real_batches(augment.DSA, one, [torch.tensor([0, 0])] * 50, parameters)
    assert all(torch.equal(twin[0], twin[1]) for twin in twins)  # the images of a class share theirs
    assert len(torch.stack([twin[0] for twin in twins]).flatten(1).unique(dim=0)) > 30  # a flip has but two outcomes


# --- what comes of it ------------------------------------------------------------------------------------------------


def unmet_loss(images: Tensor, labels: Tensor, synthetic: Tensor, strategy: str, together: bool = False) -> float:
    """The matching loss in networks and under augmentations that the condensing did not meet."""
    classes, total = len(labels.unique()), 0.0
    owner = torch.arange(classes).repeat_interleave(len(synthetic) // classes)
    match = matching(images, classes, "convnet2-w8")
    for seed in range(5):
        models.draw_weights(match.network, seeded(100 + seed))
        parameters = augment.draw_shared(strategy, classes, seeded(200 + seed))
        real = real_batches(strategy, images, list(rows_by_class(labels).values()), parameters)
        seen = augment.apply(strategy, synthetic, parameters.of(owner)).requires_grad_()
        backward = match.backward_together if together else match.backward
        total += backward(seen, match.real_gradients(real)).item()
    return total


@pytest.mark.parametrize(
    ("build", "cfg", "share"), [(dc.METHOD, DCConfig(), 0.7), (dsa.METHOD, DSAConfig(), 0.85)], ids=["dc", "dsa"]
)
def test_the_loss_falls(build: Build, cfg: GradientMatchingConfig, share: float) -> None:
    images, labels = a_set(FOUR)
    cfg = replace(cfg, iterations=10, updates=4, epochs=3, lr=1.0, real_batch=30, model="convnet2-w8")
    before = unmet_loss(images, labels, start(images, labels, 2, cfg), cfg.augment)
    after = unmet_loss(images, labels, build(images, labels, Budget(2), seeded(1), cfg).images, cfg.augment)
    assert after < share * before


def test_half_precision_of_the_real_side_changes_little() -> None:
    images, labels = a_set()
    begun = start(images, labels, 2, DC)
    moves = [
        dc.METHOD(images, labels, Budget(2), seeded(1), replace(DC, real_dtype=dtype)).images - begun
        for dtype in ("float32", "bfloat16")
    ]
    assert not torch.equal(*moves)
    assert F.cosine_similarity(moves[0].flatten(), moves[1].flatten(), 0) > 0.98


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 6])  # of two networks with three updates each
@pytest.mark.parametrize("batchnorm", ["reference", "exact"])
def test_an_interrupted_build_keeps_its_networks_statistics(rounds: int, batchnorm: str) -> None:
    cfg = replace(DSA, model="convnet1-w4-bn", batchnorm=batchnorm)  # without batch norm: see test_builders.py

    def resumable(rng: Generator, progress: Progress) -> Memory:
        return dsa.METHOD(*a_set(), Budget(2), rng, cfg, progress)

    check_resumes(resumable, rounds)


@each_method
def test_images_that_are_not_finite_are_an_error(build: Build, cfg: GradientMatchingConfig) -> None:
    message = r"^gradient matching: the images are not finite after update 0; use a smaller lr$"
    with pytest.raises(FloatingPointError, match=message):
        build(*not_finite(), Budget(2), seeded(1), replace(cfg, updates=1))
    with pytest.raises(FloatingPointError, match=r"^training: the loss is nan in epoch 0; a smaller lr may help$"):
        build(*not_finite(), Budget(2), seeded(1), cfg)


# --- configured ------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers() -> None:
    for cfg in (DCConfig(), DSAConfig()):
        assert (cfg.iterations, cfg.lr, cfg.momentum, cfg.real_batch) == (1000, 0.1, 0.5, 256)
        assert (cfg.network_lr, cfg.network_batch, cfg.model, cfg.distance) == (0.01, 256, "convnet3", "rows")
        assert (cfg.batchnorm, cfg.per_class) == ("reference", False)
    assert (DCConfig().init, DCConfig().augment) == ("noise", "none")
    assert (DSAConfig().init, DSAConfig().augment) == ("real", "color_crop_cutout_flip_scale_rotate")


def test_passes_count_the_images_of_all_updates() -> None:
    cfg = DCConfig().for_setting("cifar10", 10)
    assert cfg.total == 10_000
    # methods.md 4.2: 25.6M real images and 45M to train networks on (1000 x 9 x 50 x 100), both forward and backward;
    # three times 1000 x 10 x 100 for the second derivative.
    assert cfg.real_passes(classes=10, images=5000) == 25_600_000
    assert cfg.count_matched(classes=10, images=10) == 1_000_000
    assert cfg.passes(classes=10, images=5000, ipc=10) == (0, 25_600_000 + 45_000_000 + 3_000_000)
    assert cfg.real_passes(classes=10, images=100) == 10_000_000  # all 100 of each class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, r"^iterations: at least 1 is needed, got 0$"),
        ({"updates": 0}, r"^updates: at least 1 is needed, got 0$"),
        ({"epochs": 0}, r"^epochs: at least 1 is needed, got 0$"),
        ({"real_batch": 0}, r"^real_batch: at least 1 is needed, got 0$"),
        ({"network_batch": 0}, r"^network_batch: at least 1 is needed, got 0$"),
        ({"distance": "kl"}, r"^distance: 'kl' is unknown; choose from rows, cos, mse, l1$"),
        ({"batchnorm": "none"}, r"^batchnorm: 'none' is unknown; choose from reference, exact$"),
        ({"augment": "blur"}, r"^augment: 'blur' is unknown"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DC, **change)


def test_an_unknown_start_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^init: 'zeros' is unknown; choose from real, noise$"):
        dc.METHOD(*a_set(), Budget(1), seeded(1), replace(DC, init="zeros"))
