"""Real images chosen by GraNd, the length of their loss's gradient early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075. As in DeepCore the gradient is that by the last layer, not by all weights as in the authors' code.
Unlike DeepCore, whose loss takes the softmax twice here, it is that of the loss the network is trained on.
"""

from dataclasses import dataclass

from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from memory.el2n import error_length
from memory.sampling import check_enough, rows_by_class
from memory.scores import EarlyConfig, mean_score, select


@dataclass(frozen=True)
class GraNdConfig(EarlyConfig):
    """Nothing beyond what it shares with EL2N."""


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: GraNdConfig = GraNdConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """budget.ipc real images of each class with the least (or largest) gradient early in training, the best first.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the networks, the order of equal scores.
    Returns:
        Classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    check_enough(rows_by_class(labels), budget)
    scores = mean_score(gradient_length, images, labels, cfg, rng, progress)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "hard")


def gradient_length(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Length of each image's gradient of the cross-entropy by the last layer's weights and biases, (N,).

    The gradient by the biases is the error p - y, that by the weights its outer product with the features (N, D).
    """
    return error_length(features, logits, labels) * (1 + features.square().sum(1)).sqrt()
