"""Random selection of real images, the baseline of every condensed memory."""

from typing import ClassVar

import torch
from torch import Generator, Tensor

from harness.core.fields import configuration
from harness.core.memory import Budget, Memory
from harness.memory.method import Method, MethodConfig
from harness.memory.shared.sampling import check_enough, draw, rows_by_class


@configuration
class RandomConfig(MethodConfig):
    """No hyper-parameters."""

    per_class: ClassVar[bool] = True  # each class depends on its own images alone


def build(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: RandomConfig = RandomConfig()) -> Memory:
    """Real images of each class, drawn at random.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator; advanced by the call.
    Returns:
        budget.ipc images of each class, drawn without replacement, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    chosen = torch.cat([draw(of_class, budget.ipc, rng) for of_class in rows.values()]).to(images.device)
    return Memory(images[chosen], labels[chosen], real=True)


METHOD = Method(build, RandomConfig())
