"""Selection of real images by EL2N, the norm of a network's error early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075; code mansheej/data_diet. The images are scored without augmentation, by networks in eval mode.
"""

import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.fields import configuration
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from harness.memory.method import Method
from harness.memory.shared.scores import EarlyConfig, select_early


@configuration
class EL2NConfig(EarlyConfig):
    """The hyper-parameters that EL2N shares with GraNd."""


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: EL2NConfig = EL2NConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Real images of each class with the smallest (or largest) error early in training."""
    return select_early(error_length, images, labels, budget, rng, cfg, progress)


METHOD = Method(build, EL2NConfig(), frozenset({"progress"}))


def error_length(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the norm of softmax(logits) - one-hot label for each image, (N,), at most sqrt(2).

    Args:
        features: (N, D), unused.
        logits: (N, K).
        labels: (N,) int64, 0 .. K - 1.
    """
    length: Tensor = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).norm(dim=1)
    return length
