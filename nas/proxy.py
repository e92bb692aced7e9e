"""Train one candidate of a search space on a proxy set and score it on held-out images.

The scores of all candidates rank the space at a fraction of the cost of training each of them on all images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from harness.core import compute, models
from harness.core.compute import tuning
from harness.core.progress import SILENT, Progress, State
from harness.core.recipes import TrainConfig
from harness.core.train import count_correct_by_class, fit

LabelledImages = tuple[Tensor, Tensor]  # images (N, C, H, W) float32, normalised, and their classes (N,) int64


@dataclass(frozen=True)
class Score:
    """How many images a trained candidate classifies correctly.

    Attributes:
        curve: (E, 2) int64. Each line holds a number of epochs and the validation images that are classified correctly
            after them. Epochs ascend; the last line is the end of training.
        test: number of test images that are classified correctly at the end of training.
    """

    curve: Tensor
    test: int


def score(
    model: str,
    train: LabelledImages,
    validation: LabelledImages,
    test: LabelledImages,
    num_classes: int,
    cfg: TrainConfig,
    weights: Generator,
    batches: Generator,
    *,
    curve_every: int = 10,
    epoch_rows: Callable[[int], Tensor] | None = None,
    progress: Progress = SILENT,
) -> Score | None:
    """Train a new network on the proxy set and score it.

    Args:
        model: name of the candidate's network.
        train: the proxy set; its labels may also be class probabilities, (N, K) float32.
        validation: the images of the curve.
        test: the images that are scored once, at the end.
        num_classes: number of classes K.
        cfg: the training recipe.
        weights: CPU generator of the initial weights.
        batches: CPU generator of the order of the images and of their augmentation.
        curve_every: epochs between two evaluations on the validation images; 0 evaluates at the end only.
        epoch_rows: gives the rows that an epoch trains on (see `early_stopping_rows`); by default every row, shuffled.
        progress: is told of every epoch, and may resume an interrupted training.
    Returns:
        The score, or None if the training diverges, that is, if its loss is no longer finite.
    """
    images, labels = train
    device = images.device
    shape = (images.shape[1], images.shape[2], images.shape[3])
    network = models.build(model, shape, num_classes, weights).to(device, images.dtype)
    network = choose_memory_format(network, cfg)
    logits = compute.evaluation_form(network, "forward", cfg.compute, images)

    def count_correct(held_out: LabelledImages) -> int:
        with models.evaluating(network):
            return int(count_correct_by_class(logits, *held_out, num_classes).sum())

    curve = _ValidationCurve(progress, curve_every, lambda: count_correct(validation))
    try:
        fit(network, images, labels, cfg, batches, curve, epoch_rows=epoch_rows)
    except FloatingPointError:
        return None
    return Score(curve.points, count_correct(test))


def choose_memory_format(network: models.Network, cfg: TrainConfig) -> models.Network:
    """Move the filters to channels last where that makes a CPU's convolutions and pooling faster."""
    if next(network.parameters()).device.type != "cpu":
        return network
    norm = (
        "layernorm" if _has_layer(network, nn.LayerNorm) else "groupnorm" if _has_layer(network, nn.GroupNorm) else ""
    )
    max_pools = _has_layer(network, nn.MaxPool2d)
    pools, is_compiled = max_pools or _has_layer(network, nn.AvgPool2d), cfg.compute == "compiled"
    is_faster = tuning.gains_from_channels_last(norm, pools, max_pools, cfg.dtype, is_compiled)
    return network.to(memory_format=torch.channels_last) if is_faster else network


def _has_layer(network: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in network.modules())


def early_stopping_rows(images: int, per_epoch: int, epochs: int, rng: Generator) -> Callable[[int], Tensor]:
    """Cut shuffled passes over all images into epochs that are as short as those of a proxy set.

    A candidate then makes as many updates on the real images as another makes on the proxy set. With 500 images an
    epoch, 200 epochs are 2.2 passes over 45,000 images.

    Args:
        images: number of real images.
        per_epoch: number of images in an epoch.
        epochs: number of epochs.
        rng: CPU generator of the order of the images.
    Returns:
        A function from the number of an epoch to the rows it trains on.
    """
    passes = -(-per_epoch * epochs // images)
    order = torch.cat([torch.randperm(images, generator=rng) for _ in range(passes)])
    return lambda epoch: order[epoch * per_epoch : (epoch + 1) * per_epoch]


class _ValidationCurve(Progress):
    """Evaluate on the validation images every so many epochs; a resumed training keeps its earlier points."""

    def __init__(self, progress: Progress, every: int, count_correct: Callable[[], int]) -> None:
        self.progress, self.every, self.count_correct = progress, every, count_correct
        self.points = torch.zeros(0, 2, dtype=torch.int64)

    def resume(self) -> State | None:
        state = self.progress.resume()
        if state is not None:
            self.points = state["curve"]
        return state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        if done == total or (self.every and done % self.every == 0):
            self.points = torch.cat([self.points, torch.tensor([[done, self.count_correct()]])])
        self.progress.tick(done, total, lambda: state() | {"curve": self.points})
