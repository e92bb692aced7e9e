import io
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from avalanche.evaluation import metrics
from avalanche.logging import TextLogger
from avalanche.training.plugins import EvaluationPlugin
from torch import Generator, Tensor, nn

from harness.core import augment, compute, models
from harness.core.data import DataSet
from harness.core.memory import Budget
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.core.train import fit
from harness.memory import random_real
from harness.scenarios.strategy import RightByClass, condense_with
from harness.scenarios.stream import split
from tests.memory.toys import noted_precisions
from tests.scenarios.small_streams import (
    IPC,
    MODEL,
    ORDER,
    RECIPE,
    STEPS,
    Weights,
    new_buffer,
    new_strategy,
    same,
    stream_weights,
    weights_of,
)

# --- the oracle: the same learner as a plain loop over tensors, from the papers' formulas ---------------------------


def plain_memories(toy_set: DataSet) -> list[tuple[Tensor, Tensor]]:
    """The memory after each step, its classes in the order of the stream, each step's classes ascending."""
    rng, images, labels, memories = Generator().manual_seed(1), [], [], []
    for classes in split(ORDER, STEPS):
        for c in sorted(classes):
            rows = (toy_set.train_labels == c).nonzero().flatten()
            chosen = rows[torch.randperm(len(rows), generator=rng)[:IPC]]
            images.append((toy_set.train_images[chosen].float() / 255 - 0.5) / 0.25)
            labels.append(toy_set.train_labels[chosen])
        memories.append((torch.cat(images), torch.cat(labels)))
    return memories


def plain_network(images: Tensor, labels: Tensor, toy_set: DataSet, cfg: TrainConfig) -> nn.Module:
    """SGD with momentum and weight decay, E + 1 epochs, a tenth of the rate and no momentum after epoch E // 2 + 1."""
    name = (0, "listed", 0, len(labels.unique()))
    network = models.build(MODEL, toy_set.image_shape, 10, generator("weights", *name))
    rng, weights, velocity = generator("batches", *name), [*network.parameters()], dict[int, Tensor]()
    for epoch in range(cfg.epochs + 1):
        if epoch == cfg.epochs // 2 + 2:
            velocity.clear()
        rate = cfg.lr if epoch <= cfg.epochs // 2 + 1 else cfg.lr * 0.1
        for rows in torch.randperm(len(labels), generator=rng).split(cfg.batch_size):
            batch = augment.apply(cfg.augment, images[rows], augment.draw_batch(cfg.augment, len(rows), rng))
            loss = F.cross_entropy(network(batch), labels[rows])
            for number, gradient in enumerate(torch.autograd.grad(loss, weights)):
                with torch.no_grad():  # add(..., alpha) rounds once where * and + round twice
                    step = gradient.add(weights[number], alpha=cfg.weight_decay)
                    velocity[number] = velocity[number] * cfg.momentum + step if number in velocity else step
                    weights[number].add_(velocity[number], alpha=-rate)
    return network


def accuracies(network: nn.Module, toy_set: DataSet, t: int) -> list[float]:
    """Accuracy on each experience up to t, in %."""
    row = []
    for classes in split(ORDER, STEPS)[: t + 1]:
        rows = torch.isin(toy_set.test_labels, torch.tensor(classes))
        guesses = network(toy_set.normalise(toy_set.test_images[rows])).argmax(1)
        row.append(100 * (guesses == toy_set.test_labels[rows]).double().mean().item())
    return row


def test_the_strategy_is_the_plain_loop_bit_for_bit(toy_set: DataSet, stream: Any) -> None:
    counts = RightByClass(10)
    strategy = new_strategy(toy_set, plugins=[counts])
    for t, (images, labels) in enumerate(plain_memories(toy_set)):
        strategy.train(stream.train_stream[t], eval_streams=[])
        strategy.eval(stream.test_stream[: t + 1])
        assert strategy.memory.tensors()[0].equal(images)
        assert strategy.memory.tensors()[1].equal(labels)

        plain = plain_network(images, labels, toy_set, RECIPE)
        assert same(weights_of(strategy.model), weights_of(plain))
        fitted = models.build(
            MODEL, toy_set.image_shape, 10, generator("weights", 0, "listed", 0, len(labels.unique()))
        )
        fit(fitted, images, labels, RECIPE, generator("batches", 0, "listed", 0, len(labels.unique())))
        assert same(weights_of(strategy.model), weights_of(fitted))

        matrix = [100 * float(counts.right[c].sum() / counts.total[c].sum()) for c in split(ORDER, STEPS)[: t + 1]]
        assert matrix == pytest.approx(accuracies(plain, toy_set, t))


@pytest.mark.parametrize("evaluations", [1, 3])
def test_evaluations_change_nothing(toy_set: DataSet, stream: Any, evaluations: int) -> None:
    undisturbed = stream_weights(new_strategy(toy_set), stream, steps=3)
    shown = metrics.accuracy_metrics(minibatch=True, epoch=True, stream=True)
    watched = new_strategy(toy_set, evaluator=EvaluationPlugin(*shown, loggers=[TextLogger(io.StringIO())]))
    evaluated = stream_weights(watched, stream, steps=3, evaluations=evaluations)
    assert all(map(same, undisturbed, evaluated))


def test_the_global_generator_changes_nothing(toy_set: DataSet, stream: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = stream_weights(new_strategy(toy_set), stream, steps=2)
        torch.manual_seed(2)
        assert all(map(same, first, stream_weights(new_strategy(toy_set), stream, steps=2)))


# --- the memory -----------------------------------------------------------------------------------------------------


def test_the_memory_grows_by_the_budget_and_old_images_stay(toy_set: DataSet, stream: Any) -> None:
    strategy, kept = new_strategy(toy_set), torch.zeros(0, 1, 8, 8)
    for t in range(STEPS):
        strategy.train(stream.train_stream[t], eval_streams=[])
        images, labels = strategy.memory.tensors()
        assert Counter(labels.tolist()) == dict.fromkeys(ORDER[: 2 * t + 2], IPC)
        assert images[: len(kept)].equal(kept)
        kept = images
        assert strategy.memory.max_size == len(strategy.memory.buffer) == len(labels)
        assert strategy.memory.nbytes == len(labels) * 64  # real images, one byte a pixel
        assert [int(label) for _, label, _ in strategy.memory.buffer] == labels.tolist()


def test_a_class_is_kept_once(toy_set: DataSet, stream: Any) -> None:
    buffer = new_buffer()
    buffer.post_adapt(None, stream.train_stream[0])
    with pytest.raises(ValueError, match=r"memory: classes \[1, 3\] were kept already"):
        buffer.post_adapt(None, stream.train_stream[0])


def test_a_condensed_memory_cannot_be_resized(toy_set: DataSet) -> None:
    with pytest.raises(NotImplementedError, match="build one with another ipc"):
        new_buffer().resize(None, 5)


class Augmented(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of ones, classes 0 and 1."""

    targets = [0, 1] * 4

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.ones(1, 8, 8), self.targets[row]


def test_condensing_reads_images_that_are_not_augmented() -> None:
    from avalanche.benchmarks import nc_benchmark

    transforms = {"train": (torch.neg, None), "eval": (None, None)}
    train = as_classification_dataset(Augmented(), transform_groups=transforms)
    experience = nc_benchmark(train, train, 1, False, fixed_class_order=[0, 1]).train_stream[0]
    assert experience.dataset[0][0].max() == -1  # what the strategy would train on is augmented
    condense = condense_with(random_real.build, Budget(4), Generator().manual_seed(0), random_real.RandomConfig())
    memory = condense(experience)
    assert memory.images.equal(torch.ones(8, 1, 8, 8))
    assert memory.labels.tolist() == [0] * 4 + [1] * 4


# --- fresh networks -------------------------------------------------------------------------------------------------


class FirstWeights(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is not typed
    """The weights each experience's training starts from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Weights] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append(weights_of(strategy.model))


def first_weights(toy_set: DataSet, stream: Any, seed: tuple[Any, ...]) -> list[Weights]:
    plugin = FirstWeights()
    stream_weights(new_strategy(toy_set, seed=seed, plugins=[plugin], recipe=replace(RECIPE, epochs=1)), stream, 2)
    return plugin.seen


def test_steps_and_repeats_start_from_weights_of_their_own(toy_set: DataSet, stream: Any) -> None:
    first, again, other = (first_weights(toy_set, stream, (0, "0", repeat)) for repeat in (0, 0, 1))
    assert all(map(same, first, again))
    name = "features.0.weight"
    drawn = [weights[name] for weights in (*first, *other)]
    assert not any(drawn[i].equal(drawn[j]) for i in range(4) for j in range(i))


def test_weights_are_redrawn_in_place(toy_set: DataSet, stream: Any) -> None:
    strategy = new_strategy(toy_set)
    model, places = strategy.model, [weight.data_ptr() for weight in strategy.model.parameters()]
    stream_weights(strategy, stream, steps=2)
    assert strategy.model is model
    assert [weight.data_ptr() for weight in strategy.model.parameters()] == places
    assert strategy.optimizer.param_groups[0]["params"][0].data_ptr() == places[0]


# --- resuming inside an experience ----------------------------------------------------------------------------------


class KilledError(Exception):
    pass


class Killing(Progress):
    """Keeps a state after `rounds` epochs, and is killed some epochs later."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.kept: State = {}

    def tick(self, done: int, total: int, state: Any) -> None:
        if done == self.rounds:
            self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
        if done == self.rounds + 1:
            raise KilledError


class Resuming(Progress):
    def __init__(self, kept: State) -> None:
        self.kept = kept
        self.ticks: list[tuple[int, int]] = []

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Any) -> None:
        self.ticks.append((done, total))


@pytest.mark.parametrize("rounds", [1, 3, 4])  # before, at and after the drop of the learning rate
def test_an_interrupted_experience_goes_on_bit_for_bit(rounds: int, toy_set: DataSet, stream: Any) -> None:
    experience, whole = stream.train_stream[0], new_strategy(toy_set)
    whole.train(experience, eval_streams=[])
    killing = Killing(rounds)
    with pytest.raises(KilledError):
        new_strategy(toy_set, progress=killing).train(experience, eval_streams=[])
    resuming = Resuming(killing.kept)
    resumed = new_strategy(toy_set, progress=resuming)
    resumed.train(experience, eval_streams=[])
    assert same(weights_of(whole.model), weights_of(resumed.model))
    assert resuming.ticks == [(done, 6) for done in range(rounds + 1, 7)]


def test_a_loss_that_is_not_finite_is_an_error(toy_set: DataSet, stream: Any) -> None:
    with pytest.raises(FloatingPointError, match="training: the loss is nan in epoch"):
        new_strategy(toy_set, recipe=replace(RECIPE, lr=1e30)).train(stream.train_stream[0], eval_streams=[])


# --- what is counted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_networks_train_in_tf32_and_are_judged_in_float32(
    dtype: str, toy_set: DataSet, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, seen = noted_precisions(monkeypatch), []
    model = models.build(MODEL, toy_set.image_shape, 10, Generator().manual_seed(99))
    model.features[0].register_forward_hook(lambda module, *_: seen.append((module.training, stack[-1])))
    strategy = new_strategy(toy_set, model=model, recipe=replace(RECIPE, dtype=dtype))
    strategy.train(stream.train_stream[0], eval_streams=[])
    strategy.eval(stream.test_stream[:1])
    assert set(seen) == {(True, dtype), (False, "float32")}


def test_fast_forms_are_judged_as_all_evaluations(
    toy_set: DataSet, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, torch.Size]] = []

    def noted(network: nn.Module, method: str, form: str, images: Tensor) -> compute.Batch:
        asked.append((method, form, images.shape[1:]))
        assert not network.training
        return network

    monkeypatch.setattr(compute, "evaluation_form", noted)
    strategy = new_strategy(toy_set, recipe=replace(RECIPE, dtype="bfloat16"))
    strategy.train(stream.train_stream[0], eval_streams=[])
    assert asked == []
    strategy.eval(stream.test_stream[:2])
    assert asked == [("forward", "eager", toy_set.image_shape)]


def test_counts_agree_with_the_accuracies_of_avalanche(toy_set: DataSet, stream: Any) -> None:
    evaluator = EvaluationPlugin(
        metrics.accuracy_metrics(experience=True, stream=True), loggers=[TextLogger(io.StringIO())]
    )
    counts = RightByClass(10)
    strategy = new_strategy(toy_set, plugins=[counts], evaluator=evaluator)
    for t in range(3):
        strategy.train(stream.train_stream[t], eval_streams=[])
        shown = strategy.eval(stream.test_stream[: t + 1])
        seen = ORDER[: 2 * t + 2]
        assert counts.total.tolist() == [4 if c in seen else 0 for c in range(10)]
        assert not any(counts.right[c] for c in set(range(10)) - set(seen))
        whole = shown["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
        assert float(counts.right.sum() / counts.total.sum()) == pytest.approx(whole)
        for s, classes in enumerate(split(ORDER, STEPS)[: t + 1]):
            accuracy = shown[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{s:03}"]
            assert float(counts.right[classes].sum() / counts.total[classes].sum()) == pytest.approx(accuracy)


def test_all_outputs_compete_for_every_image(toy_set: DataSet, stream: Any) -> None:
    """The head has an output for each class from the first step on; none is masked."""
    counts = RightByClass(10)
    strategy = new_strategy(toy_set, plugins=[counts])
    strategy.train(stream.train_stream[0], eval_streams=[])
    with torch.no_grad():
        strategy.model.classifier.bias[7] = math.inf  # unseen: wins every image
    strategy.eval(stream.test_stream[:1])
    assert (int(counts.right.sum()), int(counts.total.sum())) == (0, 8)
