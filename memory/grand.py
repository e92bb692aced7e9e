"""Real images chosen by GraNd, the length of their loss's gradient early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075. As in DeepCore the gradient is that by the last layer, not by all weights as in the authors' code.
Unlike DeepCore, whose loss takes the softmax twice here, it is that of the loss the network is trained on.
"""

from torch import Generator, Tensor

from harness.core.fields import configuration
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from harness.memory.el2n import error_length
from harness.memory.method import Method
from harness.memory.shared.scores import EarlyConfig, select_early


@configuration
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
    """Real images of each class with the smallest (or largest) gradient early in training."""
    return select_early(gradient_length, images, labels, budget, rng, cfg, progress)


METHOD = Method(build, GraNdConfig(), frozenset({"progress"}))


def gradient_length(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Length of each image's gradient of the cross-entropy by the last layer's weights and biases, (N,).

    The gradient by the biases is the error p - y, that by the weights its outer product with the features (N, D).
    """
    return error_length(features, logits, labels) * (1 + features.square().sum(1)).sqrt()
