"""Classes in a set of labels: their rows, draws from them without replacement, and their numbers."""

import torch
from torch import Generator, Tensor

from harness.core.memory import Budget


def rows_by_class(labels: Tensor) -> dict[int, Tensor]:
    """Class -> its rows in `labels` (N,), ascending, on the CPU; classes ascending."""
    labels = labels.cpu()
    order = labels.argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    return dict(zip(classes.tolist(), order.split(counts.tolist()), strict=True))


def renumbered(labels: Tensor) -> Tensor:
    """The labels (N,) numbered 0 .. K - 1, classes ascending: those of a head for these classes only."""
    local: Tensor = labels.unique(return_inverse=True)[1]
    return local


def draw(rows: Tensor, most: int, rng: Generator) -> Tensor:
    """`most` of `rows` without replacement, or all of them, shuffled, where there are fewer."""
    return rows[torch.randperm(len(rows), generator=rng)[:most]]


def check_enough(rows: dict[int, Tensor], budget: Budget) -> None:
    """Raise ValueError where a class has fewer real images than the budget keeps."""
    for c, of_class in rows.items():
        if len(of_class) < budget.ipc:
            raise ValueError(
                f"class {c}: the budget asks for {budget.ipc} images, the data has {len(of_class)}; use a smaller ipc"
            )
