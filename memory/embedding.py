"""A network trained on real images, and their features: what the methods that select real images share."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from harness.core import compute, models
from harness.core.progress import SILENT, Progress
from harness.core.train import TrainConfig, fit
from memory.synthetic import shape_of


def renumbered(labels: Tensor) -> Tensor:
    """The labels (N,) numbered 0 .. K - 1, classes ascending: those of a head for these classes only."""
    local: Tensor = labels.unique(return_inverse=True)[1]
    return local


def trained(
    model: str,
    images: Tensor,
    labels: Tensor,
    cfg: TrainConfig,
    rng: Generator,
    progress: Progress = SILENT,
    observe: Callable[[Tensor, Tensor], None] | None = None,
) -> models.Network:
    """A network with a head for the classes of `labels` only, drawn from `rng` and trained as `cfg` says.

    The network is one object for the same model and shapes: it is the caller's until the next call.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        observe: told after each batch the rows (B,) it held, on the CPU, and its logits (B, K) before the update.
    """
    local = renumbered(labels)
    network = models.scratch(model, shape_of(images), int(local.max()) + 1, images.device, images.dtype)
    models.draw_weights(network, rng)
    fit(network, images, local, cfg, rng, progress, observe)
    return network


@torch.no_grad()
def embed(network: models.Network, images: Tensor, form: str) -> Tensor:
    """Features (N, D) of images as they are, not augmented, by the network in eval mode, computed in `form`."""
    features = compute.fast(network, "embed", form, "float32", images.device)
    network.eval()
    embedded = compute.chunked(features, compute.evaluation_chunk(images.device))(images)
    network.train()
    return embedded
