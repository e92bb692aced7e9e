"""Real images chosen by greedy k-center on features learned from the step's own data (Sener & Savarese, ICLR 2018).

arXiv:1708.00489. Class by class: the image nearest the class mean, then again and again the one farthest from all that
are chosen. Unlike DeepCore's code, which starts at a random image; as there, no swaps make the radius smaller
afterwards. The embedding network is trained as herding's.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from harness.core.train import TrainConfig
from memory.embedding import embed, trained
from memory.sampling import check_enough, rows_by_class


@dataclass(frozen=True)
class KCenterConfig:
    """The papers do not print how the embedding network is trained; ours is herding's."""

    model: str = "convnet3"  # the embedding network
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=200))

    per_class: ClassVar[bool] = False  # the embedding depends on which classes come together

    def passes(self, classes: int, images: int, ipc: int) -> tuple[int, int]:
        """Images pushed through a network, forward alone and forward and backward, for classes of `images` each."""
        return classes * images, self.train.rounds * classes * images


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: KCenterConfig = KCenterConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """budget.ipc real images of each class, spread over its features; each class in the order picked.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the embedding network.
    Returns:
        Classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    network = trained(cfg.model, images, labels, cfg.train, rng, progress)
    chosen = []
    for of_class in rows.values():
        features = embed(network, images[of_class], cfg.train.compute)
        chosen.append(of_class[k_centers(features, budget.ipc)])
    order = torch.cat(chosen)
    return Memory(images[order], labels[order], real=True)


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
