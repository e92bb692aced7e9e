"""Real images chosen by how often a network forgets them while it is trained (Toneva et al., ICLR 2019).

arXiv:1812.05159; code mtoneva/example_forgetting. An image is forgotten when it was classified rightly the last time it
was shown and is not this time. As in the authors' code, what counts is the answer, before the update, to the image as
it is shown, augmented where the recipe augments; and one that is never learned counts as forgotten every epoch.
DeepCore leaves the latter out, so that there the hardest images count as the easiest.
"""

from typing import Annotated, ClassVar

import torch
from torch import Generator, Tensor

from harness.core.fields import configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, ExtendedProgress, Progress, State
from harness.core.recipes import TrainConfig
from harness.memory.method import Method, MethodConfig, Passes, Presets, Settings
from harness.memory.shared.embedding import quick_on_all, trained
from harness.memory.shared.sampling import check_enough, renumbered, rows_by_class
from harness.memory.shared.scores import KEEP, select


@configuration
class ForgettingConfig(MethodConfig):
    """The number of epochs is the authors' and DeepCore's; the rest of the training is the recipe `dm`."""

    model: str = "convnet3"
    "The network whose forgetting is counted."
    train: TrainConfig = TrainConfig(epochs=200)
    "Training of that network."
    keep: Annotated[str, one_of(KEEP, "keep")] = "hard"
    "Images to keep: hard for the most forgotten, as published, or easy for the least."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 20},
        "smoke": {"train.epochs": 2},
    }

    def preset(self, name: str, track: str) -> Settings:
        return quick_on_all(name, track, {"train.epochs": 5}) or self.presets.get(name, {})

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
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the network, the order of equal counts, which are many.
    Returns:
        budget.ipc images of each class, the best first, classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = times_forgotten(images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


METHOD = Method(build, ForgettingConfig(), frozenset({"progress"}))


def times_forgotten(
    images: Tensor, labels: Tensor, cfg: ForgettingConfig, rng: Generator, progress: Progress = SILENT
) -> Tensor:
    """How often each image is forgotten while a network is trained, (N,) int64; every epoch if it is never learned."""
    record = Record(renumbered(labels))
    along = ExtendedProgress(progress, record.keep, record.restore)
    trained(cfg.model, images, labels, cfg.train, rng, along, record.observe)
    return record.times_forgotten(cfg.train.rounds)


class Record:
    """What became of N images with labels 0 .. K - 1, (N,), each time they were shown."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.right = torch.zeros_like(labels, dtype=torch.bool)  # when last shown
        self.learned = torch.zeros_like(labels, dtype=torch.bool)  # right at least once
        self.forgotten = torch.zeros_like(labels)  # times

    def observe(self, rows: Tensor, logits: Tensor) -> None:
        """A batch is shown: different rows (B,) and the logits (B, K) they are given."""
        rows = rows.to(self.labels.device, non_blocking=True)
        right = logits.argmax(1) == self.labels[rows]
        self.forgotten[rows] += self.right[rows] & ~right
        self.learned[rows] |= right
        self.right[rows] = right

    def times_forgotten(self, epochs: int) -> Tensor:
        """After `epochs`, in each of which every image was shown once, (N,) int64."""
        return self.forgotten.masked_fill(~self.learned, epochs)

    def keep(self) -> State:
        """The record so far."""
        return {f"forgetting.{name}": getattr(self, name) for name in ("right", "learned", "forgotten")}

    def restore(self, state: State) -> None:
        """Put back what `keep` kept."""
        for name in ("right", "learned", "forgotten"):
            getattr(self, name).copy_(state[f"forgetting.{name}"])
