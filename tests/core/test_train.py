from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import augment, models, train
from harness.core.progress import Progress, State
from harness.core.train import RECIPES, TrainConfig, batches, correct_by_class, fit, set_rate, training_form

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
CFG = TrainConfig(epochs=5, lr=0.05, batch_size=16)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def new_network(norm: str = "in", seed: int = 0) -> models.ConvNet:
    return models.build(f"convnet1-w4-{norm}", SHAPE, 2, seeded(seed))


@pytest.fixture(scope="module")
def stripes() -> tuple[Tensor, Tensor]:
    """40 images: rows that alternate (class 0), or columns that do (class 1), under noise."""
    labels = torch.arange(40) % 2
    rows = torch.tensor([1.0, -1.0]).repeat(4).view(8, 1).expand(3, 8, 8)
    images = torch.stack([rows, rows.mT])[labels]
    return images + 0.3 * torch.randn(40, *SHAPE, generator=seeded(1)), labels


def weights_of(network: nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_the_recipe_is_that_of_the_papers() -> None:
    # methods.md 5: SGD .01, momentum .9, decay 5e-4, batch 256, 1000 + 1 epochs, x .1 after the one of index 501
    dm = RECIPES["dm"]
    assert (dm.epochs, dm.lr, dm.momentum, dm.weight_decay, dm.batch_size) == (1000, 0.01, 0.9, 5e-4, 256)
    assert dm.augment == "color_crop_cutout_flip_scale_rotate"
    assert (dm.rounds, dm.drop) == (1001, 502)
    group = train.optimizer_for(new_network(), dm).param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"], group["dampening"]) == (0.9, 5e-4, False, 0)


@pytest.mark.parametrize(
    ("epochs", "at_full_rate", "at_a_tenth"),
    [(1, 2, 0), (2, 3, 0), (3, 3, 1), (4, 4, 1), (5, 4, 2), (300, 152, 149), (1000, 502, 499)],
)
def test_learning_rates(epochs: int, at_full_rate: int, at_a_tenth: int) -> None:
    cfg = TrainConfig(epochs=epochs, lr=0.5)
    optimizer = train.optimizer_for(new_network(), cfg)
    rates = []
    for epoch in range(cfg.rounds):
        set_rate(optimizer, cfg, epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5] * at_full_rate + [0.05] * at_a_tenth
    assert rates[: epochs // 2 + 2] == [0.5] * min(epochs // 2 + 2, cfg.rounds)  # up to index epochs // 2 + 1


def test_momentum_is_forgotten_at_the_drop_and_only_there() -> None:
    optimizer = train.optimizer_for(new_network(), CFG)
    kept = []
    for epoch in range(CFG.rounds):
        set_rate(optimizer, CFG, epoch)
        kept.append(len(optimizer.state) > 0)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert kept == [False, True, True, True, False, True]  # afresh at the start and in epoch 5 // 2 + 2 = 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"^recipe: epochs and batch_size are at least 1, got 0 and 256$"),
        ({"batch_size": 0}, r"^recipe: epochs and batch_size are at least 1, got 1000 and 0$"),
        ({"lr": 0.0}, r"^recipe: lr is above 0, got 0.0$"),
        ({"lr": float("nan")}, r"^recipe: lr is above 0, got nan$"),
        ({"augment": "color_blur"}, r"^augment: 'blur' is unknown"),
    ],
)
def test_a_recipe_checks_itself(change: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["dm"], **change)  # type: ignore[arg-type]


# --- fit -------------------------------------------------------------------------------------------------------------


def plain_fit(network: nn.Module, images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator) -> None:
    """The reference script's loop, as methods.md 5 tells it."""

    def sgd(lr: float) -> torch.optim.SGD:
        return torch.optim.SGD(network.parameters(), lr=lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)

    optimizer = sgd(cfg.lr)
    network.train()
    for epoch in range(cfg.epochs + 1):
        order = torch.randperm(len(images), generator=rng)
        for first in range(0, len(images), cfg.batch_size):
            rows = order[first : first + cfg.batch_size]
            parameters = augment.draw_batch(cfg.augment, len(rows), rng)
            loss = F.cross_entropy(network(augment.apply(cfg.augment, images[rows], parameters)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch == cfg.epochs // 2 + 1:
            optimizer = sgd(cfg.lr * 0.1)


@pytest.mark.parametrize(
    ("norm", "cfg"),
    [
        ("in", CFG),
        ("bn", CFG),
        ("in", replace(CFG, epochs=4, batch_size=256)),
        ("in", replace(CFG, augment="none", epochs=1)),
    ],
)
def test_fit_is_the_plain_loop_bit_for_bit(norm: str, cfg: TrainConfig, stripes: tuple[Tensor, Tensor]) -> None:
    ours, plain = new_network(norm), new_network(norm)
    start, rngs = weights_of(plain), (seeded(2), seeded(2))
    fit(ours, *stripes, cfg, rngs[0])
    plain_fit(plain, *stripes, cfg, rngs[1])
    assert same(weights_of(ours), weights_of(plain))
    assert not same(weights_of(ours), start)
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


def test_fit_learns_and_depends_on_its_generator_alone(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes
    unused, before = torch.get_rng_state(), images.clone()
    trained = []
    for seed in (3, 3, 4):
        network = new_network()
        fit(network, images, labels, replace(CFG, epochs=20, lr=0.02), seeded(seed))
        trained.append(weights_of(network))
        assert correct_by_class(network, images, labels, 2).tolist() == [20, 20]
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])
    assert torch.equal(torch.get_rng_state(), unused)
    assert torch.equal(images, before)


def test_an_epoch_has_every_image_once_in_a_new_order(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = torch.arange(40.0).view(40, 1, 1, 1), torch.arange(40)
    rng, orders = seeded(0), []
    for _ in range(3):
        epoch = list(batches(images, labels, replace(CFG, augment="none"), rng))
        assert [len(part) for part, _ in epoch] == [16, 16, 8]
        assert all(torch.equal(part.flatten().long(), theirs) for part, theirs in epoch)
        orders.append(torch.cat([theirs for _, theirs in epoch]).tolist())
        assert sorted(orders[-1]) == list(range(40))
    assert all(one != other for one, other in pairwise([list(range(40)), *orders]))


def test_a_batch_is_augmented_by_one_operation(stripes: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    active: list[Tensor] = []
    apply = augment.apply

    def watched(strategy: str, images: Tensor, parameters: augment.Parameters) -> Tensor:
        active.append(parameters.active)
        return apply(strategy, images, parameters)

    monkeypatch.setattr(augment, "apply", watched)
    rng = seeded(0)
    for _ in range(8):
        list(batches(*stripes, CFG, rng))
    assert len(active) == 24
    assert all((rows == rows[0]).all() and rows[0].sum() == 1 for rows in active)
    assert len({int(rows[0].nonzero()) for rows in active}) > 2  # not always the same


def test_counts_by_class() -> None:
    guesses = torch.tensor([0, 1, 1, 2, 2, 2])
    right = correct_by_class(
        lambda part: F.one_hot(guesses, 4).float(), torch.zeros(6), torch.tensor([0, 0, 1, 2, 2, 1]), 4
    )
    assert right.tolist() == [1, 1, 2, 0]
    assert right.dtype == torch.int64


def test_counts_by_class_over_several_parts() -> None:
    images = torch.arange(2500.0)  # parts of 1024
    labels = torch.arange(2500) % 5

    def logits(part: Tensor) -> Tensor:
        return F.one_hot(part.long() % 5, 5).float()

    assert correct_by_class(logits, images, labels, 5).tolist() == [500] * 5


# --- interrupted, compiled, not finite -------------------------------------------------------------------------------


class KilledError(Exception):
    pass


class Killing(Progress):
    """Keeps the state after `rounds` rounds and stops there."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.kept: State | None = None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        assert total == CFG.rounds
        if done == self.rounds:
            self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
            raise KilledError


class Resuming(Progress):
    def __init__(self, kept: State | None) -> None:
        self.kept = kept
        self.done: list[int] = []

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.done.append(done)


@pytest.mark.parametrize("norm", ["in", "bn"])
@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 6])  # the drop is at the start of the fifth
def test_an_interrupted_fit_goes_on_bit_for_bit(norm: str, rounds: int, stripes: tuple[Tensor, Tensor]) -> None:
    whole, rng = new_network(norm), seeded(2)
    fit(whole, *stripes, CFG, rng)
    killing = Killing(rounds)
    with pytest.raises(KilledError):
        fit(new_network(norm), *stripes, CFG, seeded(2), killing)
    resumed, resuming, resumed_rng = new_network(norm, seed=9), Resuming(killing.kept), seeded(8)
    fit(resumed, *stripes, CFG, resumed_rng, resuming)
    assert same(weights_of(resumed), weights_of(whole))
    assert resuming.done == list(range(rounds + 1, 7))
    assert torch.equal(resumed_rng.get_state(), rng.get_state())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03)])
def test_the_compiled_gradient_is_the_eager_one(dtype: str, tolerance: float, stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes  # 40: a chunk of 32 and one filled up
    network = new_network()

    def gradient(cfg: TrainConfig) -> Tensor:
        loss = F.cross_entropy(training_form(network, cfg, CPU)(images), labels)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])

    eager = gradient(CFG)
    compiled = gradient(replace(CFG, compute="compiled", dtype=dtype))
    assert eager.norm() > 0.1
    assert (compiled - eager).norm() / eager.norm() < tolerance


def test_a_compiled_fit_follows_the_eager_one(stripes: tuple[Tensor, Tensor]) -> None:
    cfg = replace(CFG, epochs=2, lr=0.01)
    eager, compiled = new_network(), new_network()
    fit(eager, *stripes, cfg, seeded(2))
    fit(compiled, *stripes, replace(cfg, compute="compiled"), seeded(2))
    for ours, theirs in zip(weights_of(compiled), weights_of(eager), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def not_finite(images: Tensor) -> Iterator[tuple[Tensor, TrainConfig, str]]:
    yield images * float("nan"), CFG, "training: the loss is nan in epoch 0; a smaller lr may help"
    yield images, replace(CFG, lr=1e30), "training: the loss is nan in epoch 5; a smaller lr may help"  # the last


def test_a_loss_that_is_not_finite_is_an_error(stripes: tuple[Tensor, Tensor]) -> None:
    for images, cfg, message in not_finite(stripes[0]):
        with pytest.raises(FloatingPointError) as caught:
            fit(new_network(), images, stripes[1], replace(cfg, batch_size=256), seeded(0))
        assert str(caught.value) == message
