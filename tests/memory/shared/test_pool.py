"""Networks drawn at random or trained to a band of accuracy."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from harness import config, memory
from harness.config import CondenseRun
from harness.core import augment, compute, data, models
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress, State
from harness.core.recipes import TrainConfig
from harness.core.train import count_correct_by_class, fit
from harness.execution.units import Unit
from harness.memory import dm
from harness.memory.dm import DMConfig
from harness.memory.shared import pool
from harness.memory.shared.pool import Networks, band
from harness.memory.shared.synthetic import Draws
from harness.tracks.memories import count_condensing_flop, plan_memory
from tests.memory.toys import FOUR, SHAPE, KilledError, a_set, seeded

CFG = DMConfig(
    iterations=4, lr=0.5, real_batch=8, model="convnet2-w4", networks="trained:50-100", augment="none", pool_size=3
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement of the accuracy every 20 images."""
    monkeypatch.setattr(pool, "ROUND", 20)
    monkeypatch.setattr(pool, "RECIPE", replace(pool.RECIPE, batch_size=10, lr=0.01))


def networks(wanted: str, model: str = "convnet2-w4", seed: int = 1, size: int = 3) -> Networks:
    images, labels = a_set(FOUR)
    return Networks(wanted, size, model, "none", images, labels, Draws.of(seeded(seed), images.device))


def target(model: str = "convnet2-w4") -> models.Network:
    return models.build(model, SHAPE, 1, seeded(9))


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random", None),
        ("trained:20-30", (20.0, 30.0)),
        ("trained:0-100", (0.0, 100.0)),
        ("trained:2.5-3.5", (2.5, 3.5)),
    ],
)
def test_bands(name: str, expected: tuple[float, float] | None) -> None:
    assert band(name) == expected


@pytest.mark.parametrize(
    "name", ["trained", "trained:30", "trained:30-20", "trained:20-20", "trained:20-101", "trained:-5-20", "noise", ""]
)
def test_what_is_no_band_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"^networks: expected random, or trained:LO-HI with LO < HI in percent, got "):
        band(name)
    with pytest.raises(ValueError, match=r"^networks: expected random"):
        DMConfig(networks=name)


# --- draws -----------------------------------------------------------------------------------------------------------


def test_random_networks_are_drawn_anew_and_never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "fit", None)
    some, rng, network = networks("random"), seeded(1), target()
    for _ in range(3):
        some.draw(network)
        expected = models.build("convnet2-w4", SHAPE, 1, rng)
        assert all(torch.equal(w, expected.state_dict()[name]) for name, w in network.state_dict().items())


def weights(network: models.Network) -> tuple[float, ...]:
    return tuple(network.features[0].weight.flatten().tolist())  # type: ignore[operator]


def test_a_pool_is_trained_once_and_drawn_from() -> None:
    some, network, drawn = networks("trained:50-100"), target(), set()
    classifier = network.classifier.weight.clone()
    some.fill(SILENT, 30)
    for _ in range(30):
        some.draw(network)
        drawn.add(weights(network))
    assert len(some.trained) == 3
    assert len(drawn) == 3
    assert torch.equal(network.classifier.weight, classifier)  # it has another number of classes
    assert all(not name.startswith("classifier") for state in some.trained for name in state)


def test_what_is_drawn_can_be_changed_without_changing_the_pool() -> None:
    some, network = networks("trained:50-100"), target()
    some.fill(SILENT, 1)
    some.draw(network)
    kept = [{name: part.clone() for name, part in state.items()} for state in some.trained]
    models.draw_weights(network, seeded(0))
    for state, before in zip(some.trained, kept, strict=True):
        assert all(torch.equal(part, before[name]) for name, part in state.items())


class Measured:
    """What a pool measures and trains on, recorded through the functions that it calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float] = ()) -> None:
        self.looks: list[tuple[float, Tensor]] = []  # an accuracy, and the images that it was measured on
        self.trained_on: list[Tensor] = []
        self.weights: list[Tensor] = []  # before each training
        self.accuracies = itertools.cycle(accuracies)  # given in the place of the measured ones, one after the other
        monkeypatch.setattr(pool, "count_correct_by_class", self.given if accuracies else self.correct)
        monkeypatch.setattr(pool, "fit", self.fit)

    def given(self, logits: compute.Batch, images: Tensor, labels: Tensor, classes: int) -> Tensor:
        return torch.tensor([next(self.accuracies) / 100 * len(labels)])

    def correct(self, logits: compute.Batch, images: Tensor, labels: Tensor, classes: int) -> Tensor:
        torch.testing.assert_close(logits(images)[:1], logits(images[:1]))  # whatever else is in the batch
        right = count_correct_by_class(logits, images, labels, classes)
        self.looks.append((100 * int(right.sum()) / len(labels), images))
        return right

    def fit(self, network: models.Network, images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator) -> None:
        self.trained_on.append(images)
        self.weights.append(network.state_dict()["features.0.weight"].clone())
        fit(network, images, labels, cfg, rng)


@pytest.mark.parametrize("model", ["convnet2-w4", "convnet2-w4-bn"])
@pytest.mark.parametrize("wanted", ["trained:30-60", "trained:60-100"])
def test_accuracies_lie_in_the_band_on_images_held_out(
    wanted: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(monkeypatch)
    low, high = band(wanted) or (0.0, 0.0)
    for seed in range(3):
        measured.looks.clear()
        measured.trained_on.clear()
        networks(wanted, model, seed, size=1).fill(SILENT, 1)
        assert any(low <= accuracy <= high for accuracy, _ in measured.looks)
        held = {tuple(image.flatten().tolist()) for image in measured.looks[0][1]}
        assert len(held) == 12  # a tenth of 120
        assert all(len(images) == 20 for images in measured.trained_on)
        assert not held & {tuple(image.flatten().tolist()) for images in measured.trained_on for image in images}


def test_a_pool_lies_over_the_whole_band(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: Counter[int] = Counter()
    for seed in range(50):
        measured = Measured(monkeypatch, [10, 20, 30, 40, 50, 60, 70, 80])
        networks("trained:20-70", seed=seed, size=1).fill(SILENT, 1)
        stopped[len(measured.trained_on)] += 1
    assert set(stopped) == {2, 3, 4, 5, 6}  # at 30 to 70 %
    assert max(stopped.values()) <= 20  # of 50, where a fifth is expected


def test_a_leap_over_the_value_takes_the_last_one_in_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, some = Measured(monkeypatch, [10, 20.5, 90]), networks("trained:20-70", size=1)
    some.fill(SILENT, 1)
    assert len(measured.trained_on) == 2
    assert torch.equal(some.trained[0]["features.0.weight"], measured.weights[1])  # at 20.5 %


@pytest.mark.parametrize("accuracies", [[10, 90], [10, 15, 18]])
def test_a_band_out_of_reach_is_an_error(accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MOST_ROUNDS", 2)
    measured = Measured(monkeypatch, accuracies)
    message = rf"^networks: 10 networks were trained, and none .* 20-70 % .* last {accuracies[-1]}.0 % at the end; use"
    with pytest.raises(ValueError, match=message):
        networks("trained:20-70").fill(SILENT, 1)
    assert len(measured.trained_on) == 10 * (len(accuracies) - 1)


# --- in a method -----------------------------------------------------------------------------------------------------


def test_classes_are_no_longer_apart() -> None:
    assert not CFG.per_class
    assert DMConfig().per_class


def test_matching_happens_in_the_pools_networks() -> None:
    images, labels = a_set(FOUR)
    seen: list[tuple[float, ...]] = []
    whole = dm.MeanMatching.backward

    def backward(self: dm.MeanMatching, pixels: Tensor, rows: list[Tensor], parameters: augment.Parameters) -> Tensor:
        seen.append(weights(self.network))
        return whole(self, pixels, rows, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dm.MeanMatching, "backward", backward)
        dm.build(images, labels, Budget(2), seeded(1), replace(CFG, iterations=12))
    assert 1 < len(set(seen)) <= 3


class KilledAt(Progress):
    """Stops at its tick `number`, counted from 0, keeping the state; with `kept` and `parts`, goes on from there."""

    def __init__(
        self, number: int | None = None, kept: State | None = None, parts: dict[str, State] | None = None
    ) -> None:
        self.number, self.kept, self.parts = number, kept, parts or {}
        self.done: list[tuple[int, int]] = []

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.done.append((done, total))
        if len(self.done) - 1 == self.number:
            self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
            raise KilledError

    def cache(self, name: str, make: Callable[[], State]) -> State:
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]


def test_a_killed_build_goes_on_and_trains_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = replace(CFG, model="convnet2-w4-bn")  # whose running statistics are part of the state
    trainings: list[int] = []

    def counted(*args: Any) -> None:
        trainings.append(len(args[1]))
        fit(*args)

    def built(rng: Generator, progress: Progress) -> Memory:
        return dm.build(*a_set(FOUR), Budget(2), rng, cfg, progress)

    monkeypatch.setattr(pool, "fit", counted)
    whole, rng = KilledAt(), seeded(1)
    expected, once = built(rng, whole), len(trainings)
    updates = [(3 + done, 3 + CFG.iterations) for done in range(1, CFG.iterations + 1)]
    assert whole.done[-CFG.iterations :] == updates  # the three networks count first
    assert len(whole.done) == once + CFG.iterations  # a tick after every round of a network's training
    assert once > 3
    assert all(done < 3 for done, _ in whole.done[:once])
    ends = [number for number in range(once) if whole.done[number][0] < whole.done[number + 1][0]]  # of a network each
    assert len(ends) > 1  # a network may be in the band before it is trained
    for number in sorted({0, *ends, *(end + 1 for end in ends), len(whole.done) - 1}):
        trainings.clear()
        killed, again = KilledAt(number), seeded(1)
        with pytest.raises(KilledError):
            built(seeded(1), killed)
        assert killed.kept is not None
        assert all(name.startswith("training.") for name in killed.kept) == (number < once)  # no network of the pool
        models.scratch.cache_clear()
        resumed = KilledAt(kept=killed.kept, parts=killed.parts)
        made = built(again, resumed)
        assert torch.equal(made.images, expected.images)
        assert len(trainings) == once
        assert resumed.done == whole.done[number + 1 :]
        assert torch.equal(again.get_state(), rng.get_state())


def test_a_later_attempt_goes_on_where_it_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(accuracies: list[float], progress: Progress) -> tuple[Networks, Measured]:
        measured, some = Measured(monkeypatch, accuracies), networks("trained:20-70", size=1)
        with suppress(KilledError):
            some.fill(progress, 1)
        return some, measured

    leaps_twice = [10.0, 90.0, 15.0, 91.0, 12.0, 13.0, 70.0]
    whole, _ = fill(leaps_twice, SILENT)
    killed = KilledAt(2)  # after the first round of the third attempt
    fill(leaps_twice, killed)
    resumed, measured = fill([13.0, 70.0], KilledAt(kept=killed.kept))
    assert len(measured.trained_on) == 1
    assert torch.equal(resumed.trained[0]["features.0.weight"], whole.trained[0]["features.0.weight"])


# --- in a key ---------------------------------------------------------------------------------------------------------


def test_the_pool_is_trained_under_the_methods_augmentation() -> None:
    images, labels = a_set(FOUR)
    draws = Draws.of(seeded(1), images.device)
    some = Networks("trained:50-100", 1, "convnet2-w4", augment.DSA_WITHOUT_FLIP, images, labels, draws)
    assert some.recipe.augment == augment.DSA_WITHOUT_FLIP


@pytest.mark.parametrize("builder", ["dm", "mim-dm", "lo-dm"])
def test_how_a_pool_is_trained_is_part_of_the_key(builder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data.load("digits")

    def unit(wanted: str) -> Unit:
        run = config.assemble(CondenseRun, "smoke", {"memory": builder, "dataset": "digits", "networks": wanted})
        return plan_memory(run, dataset, "set 0", [0, 1], {})

    trained, random = unit("trained:50-100"), unit("random")
    assert trained.spec["beyond"]["pool"]["networks"] == 2  # what smoke sets, if the network is chosen by --networks
    cfg = memory.find(builder).config
    assert count_condensing_flop(cfg, dataset, random.spec) is not None
    assert count_condensing_flop(cfg, dataset, trained.spec) is None  # how long the pool trains is not known before
    assert "beyond" not in random.spec  # which keeps the keys of what is there
    monkeypatch.setattr(pool, "RECIPE", replace(pool.RECIPE, lr=0.5))
    assert unit("trained:50-100").key != trained.key
    assert unit("random").key == random.key
