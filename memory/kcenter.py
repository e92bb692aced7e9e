"""Selection of real images by greedy k-center on learned features (Sener & Savarese, ICLR 2018, arXiv:1708.00489).

The features are learned from the data of the step by a network that is trained as for herding. In each class, the
first center is the image nearest to the class mean, and each further center is the image farthest from its nearest
center.
DeepCore's code starts at a random image instead; as there, no swaps reduce the radius afterwards.
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
    """Real images of each class that lie far apart from each other in feature space."""
    return choose(images, labels, budget, rng, cfg, progress, k_centers)


METHOD = Method(build, EmbeddingConfig(), frozenset({"progress"}))


def k_centers(features: Tensor, count: int) -> Tensor:
    """Return the rows that become centers, in order, (count,) int64 on the CPU.

    The first center is the row nearest to the mean. Each further center is the row with the largest distance to its
    nearest center. The first of equal rows is selected.

    Args:
        features: (N, D).
        count: number of centers, at most N.
    """
    features = features.cpu().double()
    first = int((features - features.mean(0)).norm(dim=1).argmin())
    order, distance = [first], (features - features[first]).norm(dim=1)  # to the nearest center
    for _ in range(count - 1):
        distance[order[-1]] = -1  # a center is not selected again, even if all other rows coincide with centers
        best = int(distance.argmax())
        distance = torch.minimum(distance, (features - features[best]).norm(dim=1))
        order.append(best)
    return torch.tensor(order)
