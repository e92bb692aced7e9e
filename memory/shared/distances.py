"""Distances between the gradients of real and synthetic images."""

from collections.abc import Callable

import torch
from torch import Tensor

Gradients = dict[str, Tensor]  # name of a weight -> its gradients for K classes, (K, *shape of the weight)
Distance = Callable[[Gradients, Gradients], Tensor]  # real, synthetic -> their distance, summed over classes, a scalar


def rows_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Return the sum of 1 - cosine similarity over the output rows of all weights, as in DC.

    Weights of one dimension are left out: biases, and the affine weights of batch, group and instance norms. Those of a
    layer norm have three dimensions and count by channel, as in the authors' code.
    """
    parts = []
    for name, gradient in real.items():
        if gradient.ndim > 2:
            a, b = gradient.flatten(2), synthetic[name].flatten(2)  # (K, out, in)
            parts.append((1 - (a * b).sum(2) / (a.norm(dim=2) * b.norm(dim=2) + 1e-6)).sum())
    return torch.stack(parts).sum()


def cosine_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Return 1 - cosine similarity of the gradients of all weights, biases included, as one vector."""
    a, b = _concatenate(real), _concatenate(synthetic)
    cosines: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)
    return (1 - cosines).sum()


def squared_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Return the squared distance between the gradients of all weights, biases included."""
    return (_concatenate(real) - _concatenate(synthetic)).square().sum()


def absolute_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Return the sum of absolute differences between the gradients of all weights, biases included."""
    return (_concatenate(real) - _concatenate(synthetic)).abs().sum()


def _concatenate(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], 1)  # (K, all weights)


DISTANCES: dict[str, Distance] = {
    "rows": rows_distance,
    "cos": cosine_distance,
    "mse": squared_distance,
    "l1": absolute_distance,
}
