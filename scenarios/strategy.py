"""GDumb with a condensed memory, as an ordinary Avalanche strategy.

At each experience, the strategy condenses the new classes, appends them to the growing memory, draws a fresh network
and trains it on the memory alone (Prabhu et al., ECCV 2020; with condensed memory: Zhao & Bilen, WACV 2023, section
3.5).
All plugins, metrics and loggers of Avalanche can be attached.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from avalanche.benchmarks import DatasetExperience
from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.flat_data import ConstantSequence
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger, TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.templates import SupervisedTemplate
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset

from harness.core import compute
from harness.core.memory import Budget, Builder, Memory, join, to_cpu
from harness.core.models import draw_weights
from harness.core.progress import SILENT, Progress
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.core.train import (
    check_finite,
    collect_state,
    encode_targets,
    iterate_batches,
    make_optimizer,
    restore_state,
    set_learning_rate,
    training_form,
)

Condense = Callable[[DatasetExperience], Memory]  # an experience -> the memory of its classes


def condense_with(
    builder: Builder, budget: Budget, rng: Generator, cfg: object, device: torch.device | str = "cpu"
) -> Condense:
    """Return a function that applies a builder, on a device, to the images of an experience without augmentation."""

    def condense(experience: DatasetExperience) -> Memory:
        samples = list(experience.dataset.eval())
        images = torch.stack([sample[0] for sample in samples]).to(device)
        labels = torch.tensor([int(sample[1]) for sample in samples], device=device)
        return to_cpu(builder(images, labels, budget, rng, cfg))

    return condense


class Samples(Dataset[tuple[Tensor, int]]):
    """Images with their labels as plain numbers, which is how the data sets of Avalanche have them."""

    def __init__(self, images: Tensor, labels: list[int]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.images[row], self.labels[row]


class CondensedBuffer(ExemplarsBuffer):  # type: ignore[misc]  # Avalanche is not typed
    """The memory of all experiences so far, as tensors and as an Avalanche data set.

    Args:
        condense: gives the memory of the classes of an experience.
        device: where `tensors` puts images and labels.
    """

    def __init__(self, condense: Condense, device: torch.device | str = "cpu") -> None:
        super().__init__(max_size=0)
        self.condense, self.device = condense, torch.device(device)
        self._parts: list[Memory] = []

    def post_adapt(self, agent: SupervisedTemplate, exp: DatasetExperience) -> None:
        """Condense the classes of an experience and append them."""
        self.append(self.condense(exp))

    def append(self, memory: Memory) -> None:
        """Add the memory of new classes; the images of earlier classes do not change.

        Raises:
            ValueError: a class is in the memory already.
        """
        if repeated := {c for part in self._parts for c in part.labels.tolist()} & set(memory.labels.tolist()):
            raise ValueError(f"memory: classes {sorted(repeated)} were kept already")
        self._parts.append(memory)
        whole = join(self._parts)
        self.max_size = len(whole.labels)
        samples = Samples(whole.images, whole.labels.tolist())
        self.buffer = TaskAwareSupervisedClassificationDataset(
            [samples],
            data_attributes=[
                DataAttribute(whole.labels.tolist(), "targets"),
                DataAttribute(ConstantSequence(0, self.max_size), "targets_task_labels", use_in_getitem=True),
            ],
        )

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return all images (N, C, H, W) and labels (N,), experience after experience, on the device of the buffer."""
        whole = join(self._parts)
        return whole.images.to(self.device), whole.labels.to(self.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the memory as it is stored."""
        return sum(part.nbytes for part in self._parts)

    def resize(self, strategy: SupervisedTemplate, new_size: int) -> None:
        """Raise NotImplementedError, because a part of a condensed set is no condensed set of that size."""
        raise NotImplementedError("a condensed memory cannot be resized; build one with another ipc")


class TensorLoader:
    """A data loader over tensors on the device; each batch is [images, labels, task labels], as Avalanche expects."""

    def __init__(self, images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator) -> None:
        self.images, self.labels, self.cfg, self.rng = images, labels, cfg, rng
        self._tasks = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.cfg.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for images, labels, _ in iterate_batches(self.images, self.labels, self.cfg, self.rng):
            yield [images, labels, self._tasks[: len(labels)]]


class MemoryOnly(SupervisedTemplate):  # type: ignore[misc]  # Avalanche is not typed
    """Train a freshly drawn network on the memory alone, experience after experience.

    Args:
        model: the network; its weights are redrawn in place for every experience, so references to it stay valid.
        memory: the growing memory, which condenses the classes of an experience before the network trains on it.
        recipe: epochs, optimiser, augmentation and form of computing.
        seed: of weights and batches, together with the number of classes seen; two streams with the same memory of
            the same classes therefore train the same network.
        progress: saves checkpoints within the training of an experience.
        kwargs: arguments of Avalanche's template (plugins, evaluator, eval_mb_size, eval_every, device ...).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        memory: CondensedBuffer,
        recipe: TrainConfig,
        seed: tuple[object, ...],
        progress: Progress = SILENT,
        **kwargs: object,
    ) -> None:
        super().__init__(
            model=model,
            optimizer=make_optimizer(model, recipe),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=recipe.batch_size,
            train_epochs=recipe.rounds,
            **kwargs,
        )
        self.memory, self.recipe, self.seed, self.progress = memory, recipe, seed, progress
        self._initial_model, self._memory_dataset = model, memory.buffer
        self._epoch = 0  # within this experience; Avalanche's clock does not count epochs before a restart
        self._rng = generator(*seed)
        self._fast_training = training_form(model, recipe, self.device)
        self._fast_evaluation: compute.Batch | None = None  # made with the first batch, whose size it needs

    def train_dataset_adaptation(self, **kwargs: object) -> None:
        if tasks := set(self.experience.task_labels) - {0}:
            warnings.warn(
                f"this strategy ignores task labels (here {', '.join(map(str, sorted(tasks)))}): it trains one "
                "classifier of all classes, on the memory, as task 0",
                stacklevel=2,
            )
        self.memory.post_adapt(self, self.experience)
        self.adapted_dataset = self._memory_dataset = self.memory.buffer.train()

    def make_train_dataloader(self, **kwargs: object) -> None:
        """Load the memory from tensors.

        Raises:
            ValueError: a plugin has replaced the data or the network, or sets the rate that the recipe sets.
        """
        if self.adapted_dataset is not self._memory_dataset or self.model is not self._initial_model:
            raise ValueError(
                "a plugin has replaced the training data or the network (GDumbPlugin does); this strategy draws its "
                "own network and trains it on its memory alone: attach the plugin to Naive"
            )
        if self.recipe.drops and any(isinstance(plugin, LRSchedulerPlugin) for plugin in self.plugins):
            raise ValueError(
                f"LRSchedulerPlugin: the recipe's schedule {self.recipe.schedule!r} sets the learning rate; "
                "leave the plugin out or take schedule='constant'"
            )
        self._rng = generator("batches", *self.seed, self._classes_seen())
        images, labels = self.memory.tensors()
        self.dataloader = TensorLoader(images, encode_targets(labels, self.model, self.recipe), self.recipe, self._rng)

    def check_model_and_optimizer(self, **kwargs: object) -> None:
        """Draw fresh weights in place and clear the optimiser, or restore both from a checkpoint."""
        super().check_model_and_optimizer(reset_optimizer_state=True, **kwargs)
        draw_weights(self.model, generator("weights", *self.seed, self._classes_seen()))
        self.optimizer.state.clear()
        state = self.progress.resume()
        self._epoch = 0 if state is None else restore_state(state, self.model, self.optimizer, self._rng)
        set_learning_rate(self.optimizer, self.recipe, self._epoch)
        self.train_epochs = self.recipe.rounds - self._epoch
        self.clock.train_iterations += self._epoch * len(self.dataloader)  # loggers count on from the checkpoint
        self.evaluator.reset_last_metrics()  # EarlyStopping would compare with the last experience and undo the redraw

    def training_epoch(self, **kwargs: object) -> None:
        """Run an epoch of Avalanche in the data type of the recipe."""
        if not isinstance(self.dataloader, TensorLoader):
            warnings.warn(
                "a plugin has replaced the loader: its images come without the recipe's augmentation", stacklevel=2
            )
        with compute.precision(self.recipe.dtype, self.device):
            super().training_epoch(**kwargs)

    def _before_training_epoch(self, **kwargs: object) -> None:
        if self.recipe.drops:  # a constant rate is left to plugins
            set_learning_rate(self.optimizer, self.recipe, self._epoch)
        super()._before_training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: object) -> None:
        check_finite(self.loss, self._epoch, self.recipe)
        self._epoch += 1
        super()._after_training_epoch(**kwargs)
        self.progress.tick(
            self._epoch, self.recipe.rounds, lambda: collect_state(self.model, self.optimizer, self._rng, self._epoch)
        )

    def forward(self) -> Tensor:
        """Return the logits of the batch in the recipe's form of computing; in eager float32, by Avalanche's call."""
        if self.recipe.compute == "eager" and self.recipe.dtype == "float32":
            logits: Tensor = super().forward()
            return logits
        if self.is_training:
            return self._fast_training(self.mb_x)
        if self._fast_evaluation is None:
            form = compute.evaluation_form(self.model, "forward", self.recipe.compute, self.mb_x)
            self._fast_evaluation = form
        return self._fast_evaluation(self.mb_x)

    def skip(self, experiences: int, iterations: int) -> None:
        """Advance the counters of loggers.

        Args:
            experiences: number of experiences that are skipped.
            iterations: number of training batches of these experiences.
        """
        self.clock.train_exp_counter += experiences
        self.clock.train_iterations += iterations

    def _classes_seen(self) -> int:
        """Return how many classes the memory holds."""
        return len(set(self.memory.buffer.targets))


def evaluator(logger: str | None = None, directory: Path = Path()) -> EvaluationPlugin:
    """Return an evaluation plugin that logs accuracy and loss.

    Args:
        logger: "text" (to stderr), "tensorboard" (to `directory`), or None to log nothing.
        directory: for TensorBoard.
    """
    if logger is None:
        return EvaluationPlugin(loggers=[BaseLogger()])  # without any, it warns that nothing will be logged
    to = TextLogger(sys.stderr) if logger == "text" else TensorboardLogger(str(directory))
    shown = accuracy_metrics(epoch=True, experience=True, stream=True), loss_metrics(epoch=True)
    return EvaluationPlugin(*shown, loggers=[to])


class RightByClass(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is not typed
    """Count all images and the correctly classified images of each class in an evaluation, (K,) int64 each."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.right = torch.zeros(num_classes, dtype=torch.int64)
        self.total = torch.zeros(num_classes, dtype=torch.int64)

    def before_eval(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        self.right.zero_()
        self.total.zero_()

    def after_eval_iteration(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        labels, predictions = strategy.mb_y.cpu(), strategy.mb_output.argmax(1).cpu()
        self.right += torch.bincount(labels[labels == predictions], minlength=len(self.right))
        self.total += torch.bincount(labels, minlength=len(self.total))
