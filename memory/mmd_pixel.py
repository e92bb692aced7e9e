"""Memory whose pixels match the real ones in the mean: linear MMD in pixel space (DM, appendix B.2).

No network and no augmentation: from real images, it only moves every class's mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from harness.core.checks import check_counts, check_sgd
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import STARTS, Pixels
from harness.core.progress import SILENT, Progress
from harness.core.registry import known
from harness.memory.dm import mean_gap
from harness.memory.shared.sampling import draw
from harness.memory.shared.synthetic import Draws, Synthetic, learn


@dataclass(frozen=True)
class MMDPixelConfig:
    """DM's optimiser and batches."""

    iterations: int = 20_000  # updates of the synthetic images
    lr: float = 1.0
    momentum: float = 0.5
    real_batch: int = 256  # real images per class and iteration
    init: str = "real"  # real or noise

    per_class: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts(self, "iterations", "real_batch")
        check_sgd(self)
        known(self.init, STARTS, "init")

    @property
    def total(self) -> int:
        """Updates of the images."""
        return self.iterations

    def passes(self, classes: int, images: int, ipc: int) -> tuple[int, int]:
        """No network sees an image."""
        return 0, 0

    def for_setting(self, dataset: str, ipc: int) -> "MMDPixelConfig":
        return self


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: MMDPixelConfig = MMDPixelConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Synthetic images whose mean pixels match the real ones, class by class."""
    form = Pixels()
    synthetic = Synthetic(images, labels, budget, rng, form=form, start=cfg.init, lr=cfg.lr, momentum=cfg.momentum)
    draws = Draws.of(rng, images.device)

    def update(_: int) -> None:
        drawn = [draw(rows, cfg.real_batch, rng).to(images.device, non_blocking=True) for rows in synthetic.rows]
        means = [images[rows].mean(0) for rows in drawn]
        own = synthetic.images.unflatten(0, (synthetic.classes, synthetic.ipc)).mean(1)
        mean_gap(torch.stack(means), own).backward()
        synthetic.step()

    return learn(synthetic, draws, cfg.iterations, update, progress, "mmd-pixel")
