"""Real images chosen by herding (Welling, ICML 2009) on features learned from the step's own data.

As in iCaRL (Rebuffi et al., CVPR 2017): pick after pick, the image that brings the mean of the chosen features nearest
to the class mean. The embedding network's hyper-parameters are not published for this setting; ours are the recipe of
the evaluation for 200 epochs.
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
class HerdingConfig:
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
    cfg: HerdingConfig = HerdingConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """budget.ipc real images of each class, classes ascending, each class in the order picked.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the embedding network.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    network = trained(cfg.model, images, labels, cfg.train, rng, progress)
    chosen = []
    for of_class in rows.values():
        features = embed(network, images[of_class], cfg.train.compute)
        chosen.append(of_class[herd(features, budget.ipc)])
    order = torch.cat(chosen)
    return Memory(images[order], labels[order], real=True)


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
