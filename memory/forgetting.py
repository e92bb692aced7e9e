"""Selection of real images by how often a network forgets them during its training (Toneva et al., ICLR 2019).

arXiv:1812.05159; code mtoneva/example_forgetting. An image is forgotten when it is classified correctly in one epoch
and incorrectly in the next. As in the authors' code, the prediction is that of the training batch itself, before
its update and with the recipe's augmentation, and an image that is never classified correctly counts as forgotten in
every epoch. DeepCore omits the latter, and so counts the hardest images as the easiest.
"""

from typing import Annotated, ClassVar

import torch
from torch import Generator, Tensor

from harness.core.fields import configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, ExtendedProgress, Progress, State
from harness.core.recipes import TrainConfig
from harness.memory.method import Method, MethodConfig, Passes, Presets, Settings
from harness.memory.shared.embedding import quick_settings, train_network
from harness.memory.shared.sampling import check_enough, renumber, rows_by_class
from harness.memory.shared.scores import KEEP, select


@configuration
class ForgettingConfig(MethodConfig):
    """The number of epochs is that of the authors and of DeepCore; the rest of the training is the recipe `dm`."""

    model: str = "convnet3"
    "The network that is trained."
    train: TrainConfig = TrainConfig(epochs=200)
    "Training of that network."
    keep: Annotated[str, one_of(KEEP, "keep")] = "hard"
    "Images to keep: hard (forgotten most, as published) or easy (forgotten least)."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 20},
        "smoke": {"train.epochs": 2},
    }

    def preset(self, name: str, track: str) -> Settings:
        return quick_settings(name, track, {"train.epochs": 5}) or self.presets.get(name, {})

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        return Passes(0, self.train.rounds * classes * images)


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: ForgettingConfig = ForgettingConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Real images of each class that a network forgets most (or least) often while it trains.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator; it draws the weights and the training of the network, and orders images of equal count, of
            which there are many.
        cfg: hyper-parameters.
        progress: reports epochs and saves checkpoints.
    Returns:
        budget.ipc images of each class, from the best score to the worst, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = count_forgetting(images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


METHOD = Method(build, ForgettingConfig(), frozenset({"progress"}))


def count_forgetting(
    images: Tensor, labels: Tensor, cfg: ForgettingConfig, rng: Generator, progress: Progress = SILENT
) -> Tensor:
    """Train a network and count the forgetting events of each image, (N,) int64.

    An image that is never classified correctly counts one event for each epoch.
    """
    record = ForgettingRecord(renumber(labels))
    progress = ExtendedProgress(progress, record.state, record.restore)
    train_network(cfg.model, images, labels, cfg.train, rng, progress, record.observe)
    return record.count(cfg.train.rounds)


class ForgettingRecord:
    """Forgetting events of N images during a training.

    Args:
        labels: (N,) int64, 0 .. K - 1.
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.right = torch.zeros_like(labels, dtype=torch.bool)  # classified correctly in the latest batch
        self.learned = torch.zeros_like(labels, dtype=torch.bool)  # classified correctly at least once
        self.forgotten = torch.zeros_like(labels)  # number of forgetting events

    def observe(self, rows: Tensor, logits: Tensor) -> None:
        """Record the predictions of a training batch.

        Args:
            rows: (B,) int64, the images of the batch, without repetition.
            logits: (B, K).
        """
        rows = rows.to(self.labels.device, non_blocking=True)
        right = logits.argmax(1) == self.labels[rows]
        self.forgotten[rows] += self.right[rows] & ~right
        self.learned[rows] |= right
        self.right[rows] = right

    def count(self, epochs: int) -> Tensor:
        """Return the number of forgetting events of each image, (N,) int64; `epochs` if it was never learned."""
        return self.forgotten.masked_fill(~self.learned, epochs)

    def state(self) -> State:
        """Return the tensors of a checkpoint."""
        return {f"forgetting.{name}": getattr(self, name) for name in ("right", "learned", "forgotten")}

    def restore(self, state: State) -> None:
        """Restore the record from a checkpoint."""
        for name in ("right", "learned", "forgotten"):
            getattr(self, name).copy_(state[f"forgetting.{name}"])
