import io
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from avalanche.evaluation import metrics
from avalanche.logging import InteractiveLogger, TensorboardLogger, TextLogger
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    GDumbPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    ReplayPlugin,
)
from avalanche.training.supervised import Naive
from torch import Generator, nn

from harness.core import models
from harness.core.data import DataSet
from harness.scenarios.strategy import MemoryOnly, RightByClass
from harness.scenarios.stream import NormalisedImages
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
)

FAMILIES = {
    "accuracy": partial(
        metrics.accuracy_metrics,
        minibatch=True, epoch=True, epoch_running=True, experience=True, trained_experience=True, stream=True,
    ),
    "accuracy matrix": metrics.accuracy_matrix_metrics,
    "amca": metrics.amca_metrics,
    "backward transfer": partial(metrics.bwt_metrics, experience=True, stream=True),
    "class accuracy": partial(metrics.class_accuracy_metrics, epoch=True, experience=True, stream=True),
    "confusion matrix": partial(metrics.confusion_matrix_metrics, num_classes=10, save_image=False, stream=True),
    "cpu": partial(metrics.cpu_usage_metrics, epoch=True),
    "disk": partial(metrics.disk_usage_metrics, epoch=True),
    "forgetting": partial(metrics.forgetting_metrics, experience=True, stream=True),
    "forward transfer": partial(metrics.forward_transfer_metrics, experience=True, stream=True),
    "images": partial(metrics.images_samples_metrics, n_rows=2, n_cols=2),
    "label repartition": metrics.labels_repartition_metrics,
    "loss": partial(metrics.loss_metrics, minibatch=True, epoch=True, experience=True, stream=True),
    "mac": partial(metrics.MAC_metrics, epoch=True),
    "mean scores": metrics.mean_scores_metrics,
    "ram": partial(metrics.ram_usage_metrics, epoch=True),
    "timing": partial(metrics.timing_metrics, epoch=True, experience=True),
    "top-k": partial(metrics.topk_acc_metrics, top_k=2, epoch=True, experience=True, stream=True),
}  # fmt: skip
QUICK = replace(RECIPE, epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def untouched(toy_set: DataSet, stream: Any) -> list[Weights]:
    return stream_weights(new_strategy(toy_set, recipe=QUICK), stream, steps=2)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_metrics_attach_and_change_nothing(
    family: str, toy_set: DataSet, stream: Any, untouched: list[Weights]
) -> None:
    evaluator = EvaluationPlugin(FAMILIES[family](), loggers=[TextLogger(io.StringIO())])
    every = 0 if family == "forward transfer" else -1  # which asserts a periodic evaluation
    strategy = new_strategy(toy_set, recipe=QUICK, evaluator=evaluator, eval_every=every)
    assert all(map(same, untouched, stream_weights(strategy, stream, steps=2, evaluations=1)))
    assert evaluator.get_all_metrics() or evaluator.get_last_metrics()


def test_the_text_logger_writes(toy_set: DataSet, stream: Any) -> None:
    text = io.StringIO()
    evaluator = EvaluationPlugin(metrics.accuracy_metrics(stream=True), loggers=[TextLogger(text), InteractiveLogger()])
    stream_weights(new_strategy(toy_set, recipe=QUICK, evaluator=evaluator), stream, steps=1, evaluations=1)
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in text.getvalue()


def test_the_tensorboard_logger_writes(toy_set: DataSet, stream: Any, tmp_path: Path) -> None:
    logger = TensorboardLogger(tmp_path)
    evaluator = EvaluationPlugin(metrics.accuracy_metrics(stream=True), loggers=[logger])
    stream_weights(new_strategy(toy_set, recipe=QUICK, evaluator=evaluator), stream, steps=1, evaluations=1)
    logger.writer.close()
    assert any(path.stat().st_size > 0 for path in tmp_path.rglob("events.out.tfevents.*"))


def test_task_labels_are_told_to_be_ignored(toy_set: DataSet) -> None:
    images = as_classification_dataset(NormalisedImages(toy_set.train_images, toy_set.train_labels, toy_set))
    tasks = nc_benchmark(images, images, n_experiences=2, task_labels=True, fixed_class_order=ORDER)
    strategy = new_strategy(toy_set, recipe=QUICK)
    strategy.train(tasks.train_stream[0], eval_streams=[])  # task 0
    with pytest.warns(UserWarning, match=r"ignores task labels \(here 1\): it trains one classifier of all classes"):
        strategy.train(tasks.train_stream[1], eval_streams=[])


class Counting(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is not typed
    """How often each callback is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        for name in dir(SupervisedPlugin):
            if name.startswith(("before_", "after_")):
                setattr(self, name, partial(self.count, name))

    def count(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.calls[name] += 1


def test_a_custom_plugin_gets_every_callback(toy_set: DataSet, stream: Any) -> None:
    plugin = Counting()
    stream_weights(new_strategy(toy_set, plugins=[plugin]), stream, steps=2, evaluations=1)
    epochs = RECIPE.epochs + 1
    iterations = epochs * (1 + 2)  # 6 and 12 images in batches of 8
    expected = {
        "before_training": 2, "after_training": 2,
        "before_train_dataset_adaptation": 2, "after_train_dataset_adaptation": 2,
        "before_training_exp": 2, "after_training_exp": 2,
        "before_training_epoch": 2 * epochs, "after_training_epoch": 2 * epochs,
        "before_training_iteration": iterations, "after_training_iteration": iterations,
        "before_forward": iterations, "after_forward": iterations,
        "before_backward": iterations, "after_backward": iterations,
        "before_update": iterations, "after_update": iterations,
        "before_eval": 2, "after_eval": 2,
        "before_eval_dataset_adaptation": 3, "after_eval_dataset_adaptation": 3,
        "before_eval_exp": 3, "after_eval_exp": 3,
        "before_eval_iteration": 3, "after_eval_iteration": 3,  # 8 images an experience, 16 a batch
        "before_eval_forward": 3, "after_eval_forward": 3,
    }  # fmt: skip
    assert plugin.calls == expected


class Rates(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is not typed
    """Notes the learning rate of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.rates.append(strategy.optimizer.param_groups[0]["lr"])


def with_scheduler(strategy: MemoryOnly) -> MemoryOnly:
    strategy.plugins.append(LRSchedulerPlugin(torch.optim.lr_scheduler.StepLR(strategy.optimizer, 1, gamma=0.5)))
    return strategy


def test_a_scheduler_plugin_moves_a_constant_rate(toy_set: DataSet, stream: Any) -> None:
    recipe = replace(RECIPE, schedule="constant", epochs=3)
    strategy = with_scheduler(new_strategy(toy_set, recipe=recipe, plugins=[noted := Rates()]))
    stream_weights(strategy, stream, steps=2)
    assert noted.rates == pytest.approx([0.05, 0.025, 0.0125] * 2)


def test_a_plugin_that_would_have_no_effect_is_refused(toy_set: DataSet, stream: Any) -> None:
    with pytest.raises(ValueError, match=r"^LRSchedulerPlugin: the recipe's schedule 'dm' sets the learning rate; "):
        stream_weights(with_scheduler(new_strategy(toy_set)), stream, steps=1)
    with pytest.raises(ValueError, match=r"^a plugin has replaced the training data or the network \(GDumbPlugin does"):
        stream_weights(new_strategy(toy_set, plugins=[GDumbPlugin(6)]), stream, steps=2)


@pytest.mark.filterwarnings("ignore:Call to deprecated function update")  # Avalanche's own plugin calls it
def test_replay_adds_real_images_to_the_memory(toy_set: DataSet, stream: Any) -> None:
    strategy = new_strategy(toy_set, recipe=QUICK, plugins=[ReplayPlugin(20), trained := LabelsTrainedOn()])
    strategy.train(stream.train_stream[0], eval_streams=[])
    with pytest.warns(UserWarning, match="^a plugin has replaced the loader: its images come without the recipe's"):
        strategy.train(stream.train_stream[1], eval_streams=[])
    assert trained.by_experience == [set(ORDER[:2]), set(ORDER[:4])]


@pytest.mark.parametrize("plugin", [partial(EWCPlugin, 0.4), partial(LwFPlugin, 1.0, 2.0)], ids=["ewc", "lwf"])
def test_regularising_plugins_attach_and_act(
    plugin: Any, toy_set: DataSet, stream: Any, untouched: list[Weights]
) -> None:
    after = stream_weights(new_strategy(toy_set, recipe=QUICK, plugins=[plugin()]), stream, steps=2)
    assert same(after[0], untouched[0])  # nothing to remember yet
    assert not same(after[1], untouched[1])


class LabelsTrainedOn(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is not typed
    def __init__(self) -> None:
        super().__init__()
        self.by_experience: list[set[int]] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.by_experience.append(set())

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.by_experience[-1] |= set(strategy.mb_y.tolist())


@pytest.mark.filterwarnings("ignore:Call to deprecated function update")  # Avalanche's own plugin calls it
def test_a_condensed_buffer_serves_avalanches_replay(toy_set: DataSet, stream: Any) -> None:
    buffer = new_buffer()
    model = models.build(MODEL, toy_set.image_shape, 10, Generator().manual_seed(0))
    replay = ReplayPlugin(mem_size=buffer.max_size, storage_policy=buffer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No loggers specified")
        evaluator = EvaluationPlugin()
    naive = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[replay, trained := LabelsTrainedOn()],
        evaluator=evaluator,
    )
    for t in range(2):
        naive.train(stream.train_stream[t], eval_streams=[])
    assert Counter(buffer.buffer.targets) == dict.fromkeys(ORDER[:4], IPC)
    assert trained.by_experience == [set(ORDER[:2]), set(ORDER[:4])]  # new ones, then new and remembered ones


def test_early_stopping_with_patience_1_ends_above_chance(toy_set: DataSet, stream: Any) -> None:
    evaluator = EvaluationPlugin(metrics.accuracy_metrics(stream=True), loggers=[TextLogger(io.StringIO())])
    counts = RightByClass(10)
    strategy = new_strategy(
        toy_set,
        recipe=replace(RECIPE, epochs=60, augment="none"),
        plugins=[EarlyStoppingPlugin(1, "test_stream"), counts],
        evaluator=evaluator,
        eval_every=1,
    )
    epochs = []
    for t in range(STEPS):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Metric Top1_Acc_Stream used by the EarlyStopping plugin")
            strategy.train(stream.train_stream[t], eval_streams=[stream.test_stream[: t + 1]])
        epochs.append(strategy.clock.train_exp_epochs)
        strategy.eval(stream.test_stream[: t + 1])
        chance = 1 / (2 * t + 2)
        assert float(counts.right.sum() / counts.total.sum()) > 1.5 * chance
    assert max(epochs) < 61  # it did stop
