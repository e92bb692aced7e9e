"""Selection of real images by a score, and scores of networks early in training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from torch import Generator, Tensor

from harness.core import models
from harness.core.compute import tuning
from harness.core.fields import Count, configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.memory.method import MethodConfig, Passes, Presets, Settings
from harness.memory.shared.embedding import embed, quick_settings, train_network
from harness.memory.shared.sampling import check_enough, draw, renumber, rows_by_class

KEEP = ("easy", "hard")
Score = Callable[[Tensor, Tensor, Tensor], Tensor]  # features (N, D), logits (N, K), labels 0 .. K - 1 (N,) -> (N,)


def select(images: Tensor, labels: Tensor, scores: Tensor, budget: Budget, rng: Generator, *, highest: bool) -> Memory:
    """Select the images of each class with the highest or the lowest scores.

    Images of equal score, of which there are many if scores are counts, are ordered at random.

    Args:
        images: (N, C, H, W).
        labels: (N,) int64.
        scores: (N,).
        budget: images kept per class.
        rng: CPU generator of the order of equal scores.
        highest: whether the highest scores are kept.
    Returns:
        budget.ipc images of each class, from the best score to the worst, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images, or a score is NaN.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    scores = scores.cpu()
    if missing := int(scores.isnan().sum()):
        raise ValueError(f"scores: {missing} of {len(scores)} are NaN; they cannot be ranked")
    chosen = []
    for of_class in rows.values():
        shuffled = draw(of_class, len(of_class), rng)
        ranking = scores[shuffled].argsort(stable=True, descending=highest)
        chosen.append(shuffled[ranking[: budget.ipc]])
    order = torch.cat(chosen).to(images.device)
    return Memory(images[order], labels[order], real=True)


# --- networks early in training -------------------------------------------------------------------------------------


@configuration
class EarlyConfig(MethodConfig):
    """The hyper-parameters of EL2N and GraNd, whose results differ by the score alone.

    The number of epochs, 20 for both scores, is unverified: it is recalled from the paper's text and was not seen in
    code. The learning rate is constant, whatever `train.schedule` is: the authors' scripts drop it at epoch 60 first.

    The condensation papers do not print which end they keep. Their accuracies at 1 image per class are above those of
    random images, which the hardest images do not reach (unverified). For pruning, Paul et al. keep the hard ones.
    """

    runs: Count = 10
    "Number of networks that the score is averaged over; the default is the least that the authors' readme recommends."
    model: str = "convnet3"
    "The network that scores."
    train: TrainConfig = TrainConfig(epochs=20, schedule="constant")
    "Training of each network; its learning rate is constant."
    keep: Annotated[str, one_of(KEEP, "keep")] = "easy"
    "Images to keep: easy (lowest scores) or hard (highest scores)."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 5, "runs": 3},
        "smoke": {"train.epochs": 1, "runs": 1},
    }

    @property
    def early(self) -> TrainConfig:
        """The first epochs of a longer training, in which the learning rate is constant."""
        return replace(self.train, schedule="constant")

    def preset(self, name: str, track: str) -> Settings:
        return quick_settings(name, track, {"train.epochs": 2, "runs": 3}) or self.presets.get(name, {})

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        once = self.runs * classes * images
        return Passes(once, self.early.rounds * once)


class _Run(Progress):
    """The progress of one of several trainings; its checkpoints also hold the sum of the scores of earlier ones."""

    def __init__(self, progress: Progress, run: int, runs: int, total: Tensor, checkpoint: State | None) -> None:
        self.progress, self.run, self.runs, self.total, self.checkpoint = progress, run, runs, total, checkpoint

    def resume(self) -> State | None:
        return self.checkpoint

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        more = {"scores.run": torch.tensor(self.run), "scores.total": self.total}
        self.progress.tick(self.run * total + done, self.runs * total, lambda: state() | more)


def select_early(
    score: Score, images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: EarlyConfig, progress: Progress
) -> Memory:
    """Select the images of each class with the lowest (or highest) mean score of networks early in training.

    Args:
        score: the score of an image by a network.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator of the weights and the training of the networks, and of the order of equal scores.
        cfg: hyper-parameters.
        progress: reports epochs and saves checkpoints.
    Returns:
        budget.ipc images of each class, from the best score to the worst, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = mean_score(score, images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


def mean_score(
    score: Score, images: Tensor, labels: Tensor, cfg: EarlyConfig, rng: Generator, progress: Progress
) -> Tensor:
    """Return the mean score of each image over networks that are trained one after the other, (N,) float64 on the CPU.

    A checkpoint holds the number of the training, the state of that training, and the sum of the scores before it.
    """
    total, first, checkpoint = torch.zeros(len(images), dtype=torch.float64), 0, progress.resume()
    if checkpoint is not None:
        total, first = checkpoint["scores.total"].clone(), int(checkpoint["scores.run"])
    for run in range(first, cfg.runs):
        run_progress = _Run(progress, run, cfg.runs, total, checkpoint if run == first else None)
        network = train_network(cfg.model, images, labels, cfg.early, rng, run_progress)
        scores = _score_images(score, network, images, renumber(labels), cfg.train.compute)
        total = total + scores.cpu().double()
    return total / cfg.runs


@torch.no_grad()
def _score_images(score: Score, network: models.Network, images: Tensor, labels: Tensor, form: str) -> Tensor:
    scores = []
    batches = zip(images.split(tuning.EVALUATED), labels.split(tuning.EVALUATED), strict=True)
    for batch_images, batch_labels in batches:
        features = embed(network, batch_images, form)
        scores.append(score(features, network.classifier(features), batch_labels))
    return torch.cat(scores)
