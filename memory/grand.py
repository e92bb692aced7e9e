"""Selection of real images by GraNd, the norm of their loss's gradient early in training (Paul et al., NeurIPS 2021).

arXiv:2107.07075. The gradient is taken with respect to the last layer, as in DeepCore, and not with respect to all
weights, as in the authors' code. The loss is the one that the network is trained on; DeepCore's applies the softmax
twice.
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
    """The hyper-parameters that GraNd shares with EL2N."""


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
    """Return the norm of each image's gradient of the cross-entropy with respect to the last layer, (N,).

    With respect to the biases, the gradient is the error p - y; with respect to the weights, it is the outer product of
    this error with the features.

    Args:
        features: (N, D).
        logits: (N, K).
        labels: (N,) int64, 0 .. K - 1.
    """
    return error_length(features, logits, labels) * (1 + features.square().sum(1)).sqrt()
