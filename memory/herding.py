"""Real images chosen by herding (Welling, ICML 2009) on features learned from the step's own data.

As in iCaRL (Rebuffi et al., CVPR 2017): pick after pick, the image that brings the mean of the chosen features nearest
to the class mean. The embedding network's hyper-parameters are not published for this setting; ours are the recipe
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
    """Real images of each class whose mean feature is nearest to that of the class."""
    return choose(images, labels, budget, rng, cfg, progress, herd)


METHOD = Method(build, EmbeddingConfig(), frozenset({"progress"}))


def herd(features: Tensor, count: int) -> Tensor:
    """Rows of `features` (N, D) in the order herding picks them, (count,) int64 on the CPU; the first of equals wins.

    Pick k + 1 is the row i not yet picked with the least |(k + 1) mean - sum of the picked - features_i|.
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
