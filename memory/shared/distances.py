"""Distances between the gradients of real and synthetic images."""

from collections.abc import Callable

import torch
from torch import Tensor

Gradients = dict[str, Tensor]  # weight's name -> (K, *its shape): one gradient for each of K classes


Distance = Callable[[Gradients, Gradients], Tensor]  # real, synthetic -> their distance, summed over classes


def rows_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """1 - cosine, summed over the output rows of every weight of two dimensions or more: DC's formula.

    What has one dimension counts nothing: biases, the affine weights of batch, group and instance norms. A layer norm's
    are of three, and count by channel, as in the authors' code.
    """
    parts = []
    for name, theirs in real.items():
        if theirs.ndim > 2:
            a, b = theirs.flatten(2), synthetic[name].flatten(2)  # (K, out, in)
            parts.append((1 - (a * b).sum(2) / (a.norm(dim=2) * b.norm(dim=2) + 1e-6)).sum())
    return torch.stack(parts).sum()


def cosine_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """1 - cosine of all weights' gradients put in one vector, biases included."""
    a, b = _in_one(real), _in_one(synthetic)
    cosines: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)
    return (1 - cosines).sum()


def squared_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Squared distance of all weights' gradients, biases included."""
    return (_in_one(real) - _in_one(synthetic)).square().sum()


def absolute_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Sum of the absolute differences of all weights' gradients, biases included."""
    return (_in_one(real) - _in_one(synthetic)).abs().sum()


def _in_one(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], 1)  # (K, all weights)


DISTANCES: dict[str, Distance] = {
    "rows": rows_distance,
    "cos": cosine_distance,
    "mse": squared_distance,
    "l1": absolute_distance,
}
