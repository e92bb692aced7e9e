"""Real images chosen by greedy k-center on features learned from the step's own data (Sener & Savarese, ICLR 2018).

arXiv:1708.00489. Class by class: the image nearest the class mean, then again and again the one farthest from all that
are chosen. Unlike DeepCore's code, which starts at a random image; as there, no swaps make the radius smaller
afterwards. The embedding network is trained as herding's.
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
    """Rows of `features` (N, D) in the order they become centers, (count,) int64 on the CPU; the first of equals wins.

    The first is the nearest to the mean; each of the others has, when picked, the largest distance to its nearest
    center.
    """
    features = features.cpu().double()
    first = int((features - features.mean(0)).norm(dim=1).argmin())
    order, gap = [first], (features - features[first]).norm(dim=1)  # to the nearest center
    for _ in range(count - 1):
        gap[order[-1]] = -1  # never again, not even where all that is left coincides with a center
        best = int(gap.argmax())
        gap = torch.minimum(gap, (features - features[best]).norm(dim=1))
        order.append(best)
    return torch.tensor(order)
