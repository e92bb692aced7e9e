"""Selection of real images by herding (Welling, ICML 2009) on features learned from the data of the step.

As in iCaRL (Rebuffi et al., CVPR 2017), each pick is the image that brings the mean of the selected features closest to
the class mean. The hyper-parameters of the embedding network are not published for this setting; ours are the recipe
`dm` for 200 epochs.
"""

import torch
from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from harness.memory.method import Method
from harness.memory.shared.embedding import EmbeddingConfig, choose


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: EmbeddingConfig = EmbeddingConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Real images of each class whose mean feature is close to the class mean."""
    return choose(images, labels, budget, rng, cfg, progress, herd)


METHOD = Method(build, EmbeddingConfig(), frozenset({"progress"}))


def herd(features: Tensor, count: int) -> Tensor:
    """Return the rows that herding selects, in order, (count,) int64 on the CPU.

    Selection k + 1 is the row i, not yet selected, that minimises |(k + 1) mean - sum of the selected - features_i|.
    The first of equal rows is selected.

    Args:
        features: (N, D).
        count: number of rows to select, at most N.
    """
    features = features.cpu().double()
    mean, picked = features.mean(0), torch.zeros(len(features), dtype=torch.bool)
    total, order = torch.zeros_like(mean), []
    for k in range(count):
        distance = ((k + 1) * mean - total - features).norm(dim=1)
        best = int(distance.masked_fill(picked, float("inf")).argmin())
        picked[best] = True
        total += features[best]
        order.append(best)
    return torch.tensor(order)
