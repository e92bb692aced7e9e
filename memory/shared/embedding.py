"""The embedding network of the methods that select real images: its training, and the features of the images."""

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
from harness.memory.shared.sampling import check_enough, renumber, rows_by_class
from harness.memory.shared.synthetic import shape_of


@configuration
class EmbeddingConfig(MethodConfig):
    """The papers do not print the training of the embedding network; ours is the recipe `dm` for 200 epochs."""

    model: str = "convnet3"
    "The embedding network."
    train: TrainConfig = TrainConfig(epochs=200)
    "Training of the embedding network."

    presets: ClassVar[Presets] = {
        "quick": {"train.epochs": 20},
        "smoke": {"train.epochs": 1},
    }

    def preset(self, name: str, track: str) -> Settings:
        return quick_settings(name, track, {"train.epochs": 5}) or self.presets.get(name, {})

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        return Passes(classes * images, self.train.rounds * classes * images)


def quick_settings(name: str, track: str, settings: Settings) -> Settings:
    """Return shorter settings for the preset quick in tracks that select from all classes at once, and {} otherwise.

    Such a track has ten times as many images as one step of a stream.

    Args:
        name: of the preset.
        track: such as cl.
        settings: the shorter settings.
    """
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
    """Select real images class by class by their features in a network that is trained on all of them.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator of the weights and the training of the embedding network.
        cfg: hyper-parameters.
        progress: reports epochs and saves checkpoints.
        pick: a function of features (M, D) and a count to the selected rows, (count,) int64 on the CPU.
    Returns:
        budget.ipc images of each class in the order of `pick`, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images.
    """
    rows = rows_by_class(labels)
    check_enough(rows, budget)
    network = train_network(cfg.model, images, labels, cfg.train, rng, progress)
    chosen = []
    for of_class in rows.values():
        features = embed(network, images[of_class], cfg.train.compute)
        chosen.append(of_class[pick(features, budget.ipc)])
    order = torch.cat(chosen)
    return Memory(images[order], labels[order], real=True)


def train_network(
    model: str,
    images: Tensor,
    labels: Tensor,
    cfg: TrainConfig,
    rng: Generator,
    progress: Progress = SILENT,
    observe: Callable[[Tensor, Tensor], None] | None = None,
) -> models.Network:
    """Draw a network with an output for each class of `labels`, and train it.

    Later calls with the same model and shapes reuse the network: it is valid until the next call.

    Args:
        model: name of the network.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        cfg: the training recipe.
        rng: CPU generator of the weights and the training.
        progress: reports epochs and saves checkpoints.
        observe: called after each batch with its rows (B,), on the CPU, and its logits (B, K) before the update.
    """
    local_labels = renumber(labels)
    network = models.scratch(model, shape_of(images), int(local_labels.max()) + 1, images.device, images.dtype)
    models.draw_weights(network, rng)
    fit(network, images, local_labels, cfg, rng, progress, observe)
    return network


@torch.no_grad()
def embed(network: models.Network, images: Tensor, form: str) -> Tensor:
    """Return the features of images, (N, D), without augmentation and with the network in eval mode.

    Args:
        network: the embedding network.
        images: (N, C, H, W) float32, normalised.
        form: the form of computing, eager or compiled.
    """
    with models.evaluating(network):
        return compute.evaluation_form(network, "embed", form, images)(images)
