"""Real images chosen by EL2N, the length of a network's error early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075; code mansheej/data_diet. Scored are the images as they are, not augmented, in eval mode.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from memory.sampling import check_enough, rows_by_class
from memory.scores import EarlyConfig, mean_score, select


@dataclass(frozen=True)
class EL2NConfig(EarlyConfig):
    """Nothing beyond what it shares with GraNd."""


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: EL2NConfig = EL2NConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """budget.ipc real images of each class with the least (or largest) error early in training; the first is the best.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the networks, the order of equal scores.
    Returns:
        Classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = mean_score(error_length, images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


def error_length(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """|softmax(logits) - one-hot label| of each image, (N,), at most sqrt 2; the features (N, D) do not matter."""
    length: Tensor = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).norm(dim=1)
    return length
