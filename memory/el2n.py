"""Real images chosen by EL2N, the length of a network's error early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075; code mansheej/data_diet. Scored are the images as they are, not augmented, in eval mode.
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
    """Nothing beyond what it shares with GraNd."""


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
    """|softmax(logits) - one-hot label| of each image, (N,), at most sqrt 2; the features (N, D) do not matter."""
    length: Tensor = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).norm(dim=1)
    return length
