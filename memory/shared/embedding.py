"""A network trained on real images, and their features: what the methods that select real images share."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor

from harness.core import compute, models
from harness.core.fields import configuration
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory.method import MethodConfig, Passes, Presets, Settings
from harness.memory.shared.sampling import check_enough, renumbered, rows_by_class
from harness.memory.shared.synthetic import shape_of


@configuration
class EmbeddingConfig(MethodConfig):
    """The papers do not print how the embedding network is trained; ours is the recipe `dm` for 200 epochs."""

    model: str = "convnet3"
    "The embedding network."
    train: TrainConfig = TrainConfig(epochs=200)
    "Training of the embedding network."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 20},
        "smoke": {"train.epochs": 1},
    }

    def preset(self, name: str, track: str) -> Settings:
        return quick_on_all(name, track, {"train.epochs": 5}) or self.presets.get(name, {})

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        return Passes(classes * images, self.train.rounds * classes * images)


def quick_on_all(name: str, track: str, settings: Settings) -> Settings:
    """The settings, if the preset is quick and the track selects from all classes at once: ten times as many images."""
    return settings if name == "quick" and track != "cl" else {}


def choose(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: EmbeddingConfig,
    progress: Progress,
    pick: Callable[[Tensor, int], Tensor],
) -> Memory:
    """Real images that `pick(features, count)` picks, class by class, in a network trained on all that are given.

    Args:
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; weights and training of the embedding network.
        pick: rows of features (M, D) in the order picked, (count,) int64 on the CPU.
    Returns:
        budget.ipc images of each class, classes ascending, each class in the order picked.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    network = trained(cfg.model, images, labels, cfg.train, rng, progress)
    chosen = []
    for of_class in rows.values():
        features = embed(network, images[of_class], cfg.train.compute)
        chosen.append(of_class[pick(features, budget.ipc)])
    order = torch.cat(chosen)
    return Memory(images[order], labels[order], real=True)


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
    with models.evaluating(network):
        return compute.evaluation_form(network, "embed", form, images)(images)
