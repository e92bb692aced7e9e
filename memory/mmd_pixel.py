"""Memory condensed by matching mean pixels: linear MMD in pixel space (DM, appendix B.2).

There is no network and no augmentation. The loss changes only the mean image of each class, whatever images it starts
from.
"""

from typing import ClassVar

import torch
from torch import Generator, Tensor

from harness.core.fields import Count, Momentum, Positive, configuration
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Pixels, Start
from harness.core.progress import SILENT, Progress
from harness.memory.dm import mean_gap
from harness.memory.method import Method, MethodConfig, Passes, Presets
from harness.memory.shared.sampling import draw
from harness.memory.shared.synthetic import Draws, Synthetic, learn


@configuration
class MMDPixelConfig(MethodConfig):
    """The optimiser and the batches of DM."""

    iterations: Count = 20_000
    "Updates of the synthetic images."
    lr: Positive = 1.0
    "Learning rate of the images, for SGD in normalised units."
    momentum: Momentum = 0.5
    "Momentum of the images' SGD."
    real_batch: Count = 256
    "Real images of each class in an iteration."
    init: Start = "real"
    "Initial images: real or noise."

    per_class: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 800, "real_batch": 64, "lr": 0.05},
        "smoke": {"iterations": 3, "real_batch": 16},
    }

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        """Return zeros, because there is no network."""
        return Passes(0, 0)


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
        batch = [draw(rows, cfg.real_batch, rng).to(images.device, non_blocking=True) for rows in synthetic.rows]
        real_means = torch.stack([images[rows].mean(0) for rows in batch])
        synthetic_means = synthetic.images.unflatten(0, (synthetic.classes, synthetic.ipc)).mean(1)
        mean_gap(real_means, synthetic_means).backward()
        synthetic.step()

    return learn(synthetic, draws, cfg.iterations, update, progress, "mmd-pixel")


METHOD = Method(build, MMDPixelConfig(), frozenset({"progress"}))
