from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import augment, models, train
from harness.core.compute import tuning
from harness.core.progress import Progress, State
from harness.core.recipes import RECIPES, TrainConfig
from harness.core.train import count_correct_by_class, fit, iterate_batches, training_form
from tests.core.draws import seeded
from tests.core.training import CFG, SHAPE, new_network

CPU = torch.device("cpu")


def weights_of(network: nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


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
        assert count_correct_by_class(network, images, labels, 2).tolist() == [20, 20]
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])
    assert torch.equal(torch.get_rng_state(), unused)
    assert torch.equal(images, before)


def test_an_epoch_has_every_image_once_in_a_new_order(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = torch.arange(40.0).view(40, 1, 1, 1), torch.arange(40)
    rng, orders = seeded(0), []
    for _ in range(3):
        epoch = list(iterate_batches(images, labels, replace(CFG, augment="none"), rng))
        assert [len(part) for part, _, _ in epoch] == [16, 16, 8]
        assert all(torch.equal(part.flatten().long(), theirs) for part, theirs, _ in epoch)
        assert all(torch.equal(theirs, rows) for _, theirs, rows in epoch)  # labels and rows are the same here
        orders.append(torch.cat([theirs for _, theirs, _ in epoch]).tolist())
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
        list(iterate_batches(*stripes, CFG, rng))
    assert len(active) == 24
    assert all((rows == rows[0]).all() and rows[0].sum() == 1 for rows in active)
    assert len({int(rows[0].nonzero()) for rows in active}) > 2  # not always the same


# --- soft labels, CutMix, an observer ---------------------------------------------------------------------------------


def test_soft_labels_that_are_one_hot_train_as_hard_ones(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes
    hard, soft = new_network(), new_network()
    fit(hard, images, labels, CFG, seeded(2))
    fit(soft, images, F.one_hot(labels, 2).float(), CFG, seeded(2))
    for ours, theirs in zip(weights_of(soft), weights_of(hard), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_soft_labels_that_say_the_opposite_train_the_opposite(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes
    network = new_network()
    fit(network, images, F.one_hot(1 - labels, 2).float(), replace(CFG, epochs=20, lr=0.02), seeded(3))
    assert count_correct_by_class(network, images, labels, 2).tolist() == [0, 0]


def test_cutmix_mixes_images_and_targets_by_the_same_share() -> None:
    """Images of one value, their class: a mixed one's mean is its expected class."""
    labels = torch.arange(40)
    images = labels.float().view(40, 1, 1, 1).expand(40, 1, 8, 8)
    cfg, rng = replace(CFG, augment="none", cutmix=1.0), seeded(0)
    probabilities = F.one_hot(labels, 40).float()
    mixed = 0
    for _ in range(5):
        for some, theirs, rows in iterate_batches(images, probabilities, cfg, rng):
            torch.testing.assert_close(theirs.sum(1), torch.ones(len(rows)))
            torch.testing.assert_close(some.mean((1, 2, 3)), theirs @ labels.float(), rtol=1e-4, atol=1e-4)
            mixed += int((theirs.max(1).values < 1).sum())
    assert mixed > 50  # of 200; some boxes are empty, some partners are the image itself


@pytest.mark.parametrize("soft", [False, True])
def test_a_network_learns_under_cutmix(soft: bool, stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes
    recipe = replace(RECIPES["idc"]("cifar10", models.parse("convnet3")), epochs=30, batch_size=16)
    network = new_network()
    fit(network, images, F.one_hot(labels, 2).float() if soft else labels, recipe, seeded(3))
    assert count_correct_by_class(network, images, labels, 2).tolist() == [20, 20]


@pytest.mark.parametrize("model", ["convnet1-w4", "convnet1-w4-bn", "mlp", "resnet18-bn"])
def test_mixed_targets_have_a_probability_per_output(model: str) -> None:
    network = models.scratch(model, SHAPE, 7, CPU)
    found = train.encode_targets(torch.tensor([6, 0]), network, replace(CFG, cutmix=0.5))
    assert found.tolist() == [[0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    assert found.dtype == torch.float32
    assert train.encode_targets(found, network, replace(CFG, cutmix=0.5)) is found
    assert train.encode_targets(torch.tensor([6, 0]), network, CFG).tolist() == [6, 0]


def test_an_observer_sees_every_row_before_its_update(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes
    cfg = replace(CFG, augment="none", batch_size=32)
    observed: list[tuple[Tensor, Tensor]] = []
    network, fresh = new_network(), new_network()
    fit(network, images, labels, cfg, seeded(2), observe=lambda rows, logits: observed.append((rows, logits)))
    assert [len(rows) for rows, _ in observed] == [32, 8] * cfg.rounds
    for epoch in range(cfg.rounds):
        rows = torch.cat([rows for rows, _ in observed[2 * epoch : 2 * epoch + 2]])
        assert sorted(rows.tolist()) == list(range(40))
    assert all(logits.shape == (len(rows), 2) and not logits.requires_grad for rows, logits in observed)
    first_rows, first_logits = observed[0]
    with torch.no_grad():
        torch.testing.assert_close(first_logits, fresh(images[first_rows]))
    unobserved = new_network()
    fit(unobserved, images, labels, cfg, seeded(2))
    assert same(weights_of(unobserved), weights_of(network))


def test_counts_by_class() -> None:
    guesses = torch.tensor([0, 1, 1, 2, 2, 2])
    right = count_correct_by_class(
        lambda part: F.one_hot(guesses, 4).float(), torch.zeros(6), torch.tensor([0, 0, 1, 2, 2, 1]), 4
    )
    assert right.tolist() == [1, 1, 2, 0]
    assert right.dtype == torch.int64


def test_counts_by_class_over_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EVALUATED", 1024)
    images = torch.arange(2500.0)
    labels = torch.arange(2500) % 5

    def logits(part: Tensor) -> Tensor:
        return F.one_hot(part.long() % 5, 5).float()

    assert count_correct_by_class(logits, images, labels, 5).tolist() == [500] * 5


# --- interrupted, compiled, not finite -------------------------------------------------------------------------------


class KilledError(Exception):
    pass


class Killing(Progress):
    """Keeps the state after `rounds` rounds and stops there."""

    def __init__(self, rounds: int, of: int = CFG.rounds) -> None:
        self.rounds, self.of = rounds, of
        self.kept: State | None = None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        assert total == self.of
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


@pytest.mark.parametrize("rounds", [1, 3, 4])  # the drops are at the starts of the fourth and the fifth
def test_an_interrupted_schedule_goes_on_bit_for_bit(rounds: int, stripes: tuple[Tensor, Tensor]) -> None:
    cfg = replace(CFG, epochs=5, schedule="idc", cutmix=0.5)
    whole, resumed, resuming = new_network(), new_network(seed=9), seeded(8)
    fit(whole, *stripes, cfg, seeded(2))
    killing = Killing(rounds, cfg.rounds)
    with pytest.raises(KilledError):
        fit(new_network(), *stripes, cfg, seeded(2), killing)
    fit(resumed, *stripes, cfg, resuming, Resuming(killing.kept))
    assert same(weights_of(resumed), weights_of(whole))


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


def test_the_compiled_gradient_in_bfloat16_is_close(stripes: tuple[Tensor, Tensor]) -> None:
    images, labels = stripes  # 40: a chunk of 32 and one filled up
    network = new_network()

    def gradient(cfg: TrainConfig) -> Tensor:
        loss = F.cross_entropy(training_form(network, cfg, CPU)(images), labels)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])

    eager = gradient(CFG)
    compiled = gradient(replace(CFG, compute="compiled", dtype="bfloat16"))
    assert eager.norm() > 0.1
    assert (compiled - eager).norm() / eager.norm() < 0.03


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
