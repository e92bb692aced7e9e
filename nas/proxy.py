"""A candidate trained on a proxy set and scored: what ranks architectures when the full data are too much."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from harness.core import compute, models
from harness.core.progress import SILENT, Progress, State
from harness.core.train import TrainConfig, correct_by_class, fit

Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W) float32, normalised, and their classes (N,) int64


@dataclass(frozen=True)
class Score:
    """What a trained candidate gets right.

    curve: (E, 2) int64, epochs trained and validation images classified rightly, ascending; its last line is the end.
    test: test images classified rightly, at the end.
    """

    curve: Tensor
    test: int


def score(
    model: str,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    num_classes: int,
    cfg: TrainConfig,
    weights: Generator,
    batches: Generator,
    *,
    curve_every: int = 10,
    epoch_rows: Callable[[int], Tensor] | None = None,
    progress: Progress = SILENT,
) -> Score | None:
    """Train a fresh network on the proxy set; None where it diverges: its loss is no longer finite.

    Args:
        train: the proxy set, its labels or class probabilities (N, K); validation, test: what it is scored on.
        weights, batches: CPU generators of the first weights, and of the images' order and augmentation.
        curve_every: epochs between two looks at the validation images; 0 for one look, at the end.
        epoch_rows: the rows of an epoch (`early_stopping`); by default all of them, shuffled.
    """
    images, labels = train
    device = images.device
    shape = (images.shape[1], images.shape[2], images.shape[3])
    network = in_layout(models.build(model, shape, num_classes, weights).to(device, images.dtype), cfg)
    logits = compute.evaluation_form(network, "forward", cfg.compute, images)

    def right(of: Labelled) -> int:
        with models.evaluating(network):
            return int(correct_by_class(logits, *of, num_classes).sum())

    curve = _Curve(progress, curve_every, lambda: right(validation))
    try:
        fit(network, images, labels, cfg, batches, curve, epoch_rows=epoch_rows)
    except FloatingPointError:
        return None
    return Score(curve.points, right(test))


def in_layout(network: models.Network, cfg: TrainConfig) -> models.Network:
    """The network with its filters where a CPU's convolutions and poolings are fastest; the numbers are the same.

    Channels last against the usual way, eager, forward and backward (depth 2, width 32, one core): 1.2 to 2.1 times as
    fast with pooling under BatchNorm or no norm, and in float32 with max pooling under norms of groups (1.0 to 1.5). In
    bfloat16 these are 1.0 to 6 times slower in it, without pooling most networks are, layer norms always. What is
    compiled gains 5 % at most.
    """
    if next(network.parameters()).device.type != "cpu" or _has(network, nn.LayerNorm):
        return network
    if cfg.compute == "compiled":
        moves = True
    elif _has(network, nn.GroupNorm):
        moves = _has(network, nn.MaxPool2d) and cfg.dtype == "float32"
    else:
        moves = _has(network, nn.MaxPool2d, nn.AvgPool2d)
    return network.to(memory_format=torch.channels_last) if moves else network


def _has(network: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in network.modules())


def early_stopping(images: int, per_epoch: int, epochs: int, rng: Generator) -> Callable[[int], Tensor]:
    """Epochs as short as a proxy set's, out of shuffled passes over all the images, one after the other.

    So a candidate gets as many updates as on the proxy set: with 500 images an epoch and 200 epochs, 2.2 passes
    over 45,000.
    """
    passes = -(-per_epoch * epochs // images)
    order = torch.cat([torch.randperm(images, generator=rng) for _ in range(passes)])
    return lambda epoch: order[epoch * per_epoch : (epoch + 1) * per_epoch]


class _Curve(Progress):
    """Looks at the validation images every so many epochs and at the end; a kill does not lose what was seen."""

    def __init__(self, progress: Progress, every: int, right: Callable[[], int]) -> None:
        self.progress, self.every, self.right = progress, every, right
        self.points = torch.zeros(0, 2, dtype=torch.int64)

    def resume(self) -> State | None:
        state = self.progress.resume()
        if state is not None:
            self.points = state["curve"]
        return state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        if done == total or (self.every and done % self.every == 0):
            self.points = torch.cat([self.points, torch.tensor([[done, self.right()]])])
        self.progress.tick(done, total, lambda: state() | {"curve": self.points})
