"""What the methods that rank real images by a score share: who is kept, and scores of networks early in training."""

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
from harness.memory.shared.embedding import embed, quick_on_all, trained
from harness.memory.shared.sampling import check_enough, draw, renumbered, rows_by_class

KEEP = ("easy", "hard")
Score = Callable[[Tensor, Tensor, Tensor], Tensor]  # features (N, D), logits (N, K), labels 0 .. K - 1 (N,) -> (N,)


def select(images: Tensor, labels: Tensor, scores: Tensor, budget: Budget, rng: Generator, *, highest: bool) -> Memory:
    """The budget.ipc images of each class with the highest scores (N,), or the lowest; the best first.

    Equal scores, which are many where a score counts, come in an order drawn from `rng`.

    Raises:
        ValueError: a class has fewer than budget.ipc images; a score is NaN.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    scores = scores.cpu()
    if missing := int(scores.isnan().sum()):
        raise ValueError(f"scores: {missing} of {len(scores)} are NaN; nothing can be ranked by them")
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
    """How EL2N and GraNd score: alike, so that their rows differ by the formula alone.

    20 epochs, for both scores, are unverified: recalled from the paper's text, not seen in code. The learning rate does
    not fall, whatever `train.schedule` says: in the authors' scripts it first does at epoch 60.

    The condensation papers print no direction; their numbers at 1 image per class are above random ones, which the
    hardest images do not reach (unverified). For pruning, Paul et al. keep the hard ones.
    """

    runs: Count = 10
    "Networks that the score is averaged over: by default the least that the authors' readme recommends."
    model: str = "convnet3"
    "The network that scores."
    train: TrainConfig = TrainConfig(epochs=20, schedule="constant")
    "Training of each network; its learning rate never falls."
    keep: Annotated[str, one_of(KEEP, "keep")] = "easy"
    "Images to keep: easy for the lowest scores, or hard for the highest."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 5, "runs": 3},
        "smoke": {"train.epochs": 1, "runs": 1},
    }

    @property
    def early(self) -> TrainConfig:
        """The first epochs of a longer training."""
        return replace(self.train, schedule="constant")

    def preset(self, name: str, track: str) -> Settings:
        return quick_on_all(name, track, {"train.epochs": 2, "runs": 3}) or self.presets.get(name, {})

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        once = self.runs * classes * images
        return Passes(once, self.early.rounds * once)


class _Run(Progress):
    """The progress of one of several trainings, as a part of them all; keeps the sum of the scores before it."""

    def __init__(self, progress: Progress, run: int, runs: int, total: Tensor, kept: State | None) -> None:
        self.progress, self.run, self.runs, self.total, self.kept = progress, run, runs, total, kept

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        more = {"scores.run": torch.tensor(self.run), "scores.total": self.total}
        self.progress.tick(self.run * total + done, self.runs * total, lambda: state() | more)


def select_early(
    score: Score, images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: EarlyConfig, progress: Progress
) -> Memory:
    """budget.ipc real images of each class with the lowest (or highest) mean score early in training, the best first.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the networks, the order of equal scores.
    Returns:
        Classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = mean_score(score, images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


def mean_score(
    score: Score, images: Tensor, labels: Tensor, cfg: EarlyConfig, rng: Generator, progress: Progress
) -> Tensor:
    """The mean of every image's score over networks drawn and trained one after the other, (N,) float64 on the CPU.

    A state kept by `progress` holds the run, the sum of the scores before it, and how far its training is.
    """
    total, first, kept = torch.zeros(len(images), dtype=torch.float64), 0, progress.resume()
    if kept is not None:
        total, first = kept["scores.total"].clone(), int(kept["scores.run"])
    for run in range(first, cfg.runs):
        part = _Run(progress, run, cfg.runs, total, kept if run == first else None)
        network = trained(cfg.model, images, labels, cfg.early, rng, part)
        total = total + _scores(score, network, images, renumbered(labels), cfg.train.compute).cpu().double()
    return total / cfg.runs


@torch.no_grad()
def _scores(score: Score, network: models.Network, images: Tensor, local: Tensor, form: str) -> Tensor:
    parts = []
    for some, theirs in zip(images.split(tuning.EVALUATED), local.split(tuning.EVALUATED), strict=True):
        features = embed(network, some, form)
        parts.append(score(features, network.classifier(features), theirs))
    return torch.cat(parts)
