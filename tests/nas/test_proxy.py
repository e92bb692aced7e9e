from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator

from harness.core import models
from harness.core.data import DataSet
from harness.core.progress import SILENT, Progress, State
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.nas import proxy
from harness.nas.proxy import LabelledImages, Score

RECIPE = TrainConfig(epochs=4, lr=0.1, batch_size=25, augment="none", schedule="nas")
MODEL = "convnet-d1-w8"


def labelled(toy_set: DataSet, part: str) -> LabelledImages:
    images, labels = (
        (toy_set.train_images, toy_set.train_labels) if part == "train" else (toy_set.test_images, toy_set.test_labels)
    )
    return toy_set.normalise(images), labels


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def scored(toy_set: DataSet, recipe: TrainConfig = RECIPE, **settings: Any) -> Score | None:
    train, test = labelled(toy_set, "train"), labelled(toy_set, "test")
    return proxy.score(MODEL, train, train, test, 10, recipe, seeded(0), seeded(1), **settings)


def test_the_score_equals_that_of_a_plain_loop(toy_set: DataSet) -> None:
    images, labels = (part.double() if part.is_floating_point() else part for part in labelled(toy_set, "train"))
    held_out, held_labels = (part.double() if part.is_floating_point() else part for part in labelled(toy_set, "test"))
    score = proxy.score(
        MODEL,
        (images, labels),
        (held_out, held_labels),
        (held_out, held_labels),
        10,
        RECIPE,
        seeded(0),
        seeded(1),
        curve_every=2,
    )

    network = models.build(MODEL, (1, 8, 8), 10, seeded(0)).double()
    rng, velocity = seeded(1), [torch.zeros_like(weight) for weight in network.parameters()]
    curve = []
    for epoch in range(4):
        lr = 0.1 if epoch < 2 else 0.01  # divided by ten half-way
        for rows in torch.randperm(120, generator=rng).split(25):
            loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for weight, gradient, v in zip(network.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(gradient + 5e-4 * weight)
                    weight.sub_(lr * v)
        if epoch % 2:
            curve.append([epoch + 1, int((network(held_out).argmax(1) == held_labels).sum())])
    assert score is not None
    assert score.curve.tolist() == curve
    assert score.test == curve[-1][1]
    assert score.test > 10  # of 40: more than chance, so the agreement means something


def test_the_curve_has_the_epochs_asked_for_and_the_last(toy_set: DataSet) -> None:
    scores = {every: scored(toy_set, replace(RECIPE, epochs=5), curve_every=every) for every in (0, 1, 2, 7)}
    epochs = {every: score.curve[:, 0].tolist() for every, score in scores.items() if score is not None}
    assert epochs == {0: [5], 1: [1, 2, 3, 4, 5], 2: [2, 4, 5], 7: [5]}
    ends = {int(score.curve[-1, 1]) for score in scores.values() if score is not None}
    assert len(ends) == 1  # an evaluation does not change the training


def test_batch_norm_is_evaluated_with_running_statistics(toy_set: DataSet) -> None:
    train, test = labelled(toy_set, "train"), labelled(toy_set, "test")
    model = f"{MODEL}-bn"
    scores = [
        proxy.score(model, train, test, test, 10, RECIPE, seeded(0), seeded(1), curve_every=every) for every in (0, 1)
    ]
    network = models.build(model, (1, 8, 8), 10, seeded(0))
    fit(network, *train, RECIPE, seeded(1))
    right = int((network.eval()(test[0]).argmax(1) == test[1]).sum())
    assert [score.test for score in scores if score is not None] == [right, right]


@pytest.mark.parametrize(
    ("norm", "form", "is_channels_last"),
    [("bn", "eager float32", True), ("nn", "eager bfloat16", True), ("nn-nopooling", "eager float32", False),
     ("in", "eager float32", False), ("in-max", "eager float32", True), ("in-max", "eager bfloat16", False),
     ("gn", "eager float32", False), ("gn", "compiled bfloat16", True), ("bn-nopooling", "compiled float32", True),
     ("ln-max", "eager float32", False), ("ln", "compiled float32", False)],
)  # fmt: skip
def test_channels_last_is_taken_where_it_is_fast(norm: str, form: str, is_channels_last: bool) -> None:
    network = models.build(f"convnet-d2-w8-{norm}", (3, 8, 8), 10, seeded(0)).double()
    images = torch.randn(4, 3, 8, 8, generator=seeded(1), dtype=torch.double)
    before = network(images)
    gradients = torch.autograd.grad(before.square().sum(), list(network.parameters()))
    compute, dtype = form.split()
    moved = proxy.choose_memory_format(network, replace(RECIPE, compute=compute, dtype=dtype))
    filters = next(weight for name, weight in moved.named_parameters() if weight.ndim == 4)
    assert filters.is_contiguous(memory_format=torch.channels_last) is is_channels_last
    after = moved(images)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(torch.autograd.grad(after.square().sum(), list(moved.parameters())), gradients)


def test_a_training_that_diverges_has_no_score(toy_set: DataSet) -> None:
    assert scored(toy_set, replace(RECIPE, lr=1e30)) is None


class KilledError(Exception):
    pass


class Interrupted(Progress):
    """Keeps the state after `kill` epochs and interrupts the training there."""

    def __init__(self, kill: int) -> None:
        self.kill, self.kept = kill, None

    kept: State | None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        if done == self.kill:
            self.kept = {name: part.clone() for name, part in state().items()}
            raise KilledError


class Resumed(Progress):
    def __init__(self, kept: State) -> None:
        self.kept = kept

    def resume(self) -> State:
        return self.kept


def test_a_resumed_training_gives_the_same_score(toy_set: DataSet) -> None:
    rows = proxy.early_stopping_rows(120, 30, 4, seeded(2))
    uninterrupted = scored(toy_set, curve_every=1, epoch_rows=rows)
    interrupted = Interrupted(3)
    with pytest.raises(KilledError):
        scored(toy_set, curve_every=1, epoch_rows=rows, progress=interrupted)
    assert interrupted.kept is not None
    resumed = scored(toy_set, curve_every=1, epoch_rows=rows, progress=Resumed(interrupted.kept))
    assert uninterrupted is not None
    assert resumed is not None
    assert resumed.curve.tolist() == uninterrupted.curve.tolist()
    assert resumed.test == uninterrupted.test


def test_early_stopping_passes_over_all_images_in_turn() -> None:
    # 4 epochs of 5 images out of 8 are 20 rows: two passes and half of a third one.
    rows = proxy.early_stopping_rows(8, 5, 4, seeded(0))
    order = torch.cat([rows(epoch) for epoch in range(4)]).tolist()
    assert [len(rows(epoch)) for epoch in range(4)] == [5, 5, 5, 5]
    assert sorted(order[:8]) == sorted(order[8:16]) == list(range(8))
    assert len(set(order[16:])) == 4
    assert order[:8] != order[8:16]  # each pass is shuffled anew


def test_early_stopping_makes_the_updates_of_a_proxy_set(toy_set: DataSet) -> None:
    # 40 images in batches of 25 are two updates an epoch, both on a proxy set and with early stopping.
    seen: list[int] = []
    train = labelled(toy_set, "train")
    network = models.build(MODEL, (1, 8, 8), 10, seeded(0))
    rows = proxy.early_stopping_rows(120, 40, 4, seeded(2))
    fit(network, *train, RECIPE, seeded(1), SILENT, lambda some, _: seen.append(len(some)), rows)
    assert seen == [25, 15] * 4
