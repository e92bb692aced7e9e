"""Rows of classes, and random draws from them."""

import torch
from torch import Generator, Tensor

from harness.core.memory import Budget


def rows_by_class(labels: Tensor) -> dict[int, Tensor]:
    """Map each class to its rows in `labels` (N,), ascending, on the CPU; classes are in ascending order."""
    labels = labels.cpu()
    order = labels.argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    return dict(zip(classes.tolist(), order.split(counts.tolist()), strict=True))


def renumber(labels: Tensor) -> Tensor:
    """Renumber the K classes of labels (N,) as 0 .. K - 1 in ascending order, for a network with K outputs."""
    local_labels: Tensor = labels.unique(return_inverse=True)[1]
    return local_labels


def draw(rows: Tensor, most: int, rng: Generator) -> Tensor:
    """Draw `most` of the rows (N,) without replacement; all of them, shuffled, if there are fewer."""
    return rows[torch.randperm(len(rows), generator=rng)[:most]]


def check_enough(rows: dict[int, Tensor], budget: Budget) -> None:
    """Raise ValueError if a class has fewer real images than the budget keeps."""
    for c, of_class in rows.items():
        if len(of_class) < budget.ipc:
            raise ValueError(
                f"class {c}: the budget asks for {budget.ipc} images, the data has {len(of_class)}; use a smaller ipc"
            )
