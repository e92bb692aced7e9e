"""How a network is trained on labelled images: the recipes, and the only training loop.

The stream's strategy runs Avalanche's loop instead of `fit`, out of the same pieces: `batches`, `optimizer_for`,
`set_rate`, `keep` and `restore`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from harness.core import augment, compute
from harness.core.models import has_batch_statistics
from harness.core.progress import SILENT, Progress, State


@dataclass(frozen=True)
class TrainConfig:
    """The evaluation of DSA and DM (DatasetCondensation `utils.py`, `evaluate_synset`), to the letter.

    As there, `epochs` + 1 epochs are run; after the one with index epochs // 2 + 1 the learning rate drops to a tenth
    and the optimiser starts anew, its momentum forgotten.
    """

    epochs: int = 1000
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    augment: str = augment.DSA  # one operation per batch, its values per image; "none" for none
    compute: str = "eager"  # eager or compiled
    dtype: str = "float32"  # what is multiplied; bfloat16 keeps the weights in float32; auto decides by hardware

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"recipe: epochs and batch_size are at least 1, got {self.epochs} and {self.batch_size}")
        if not self.lr > 0:
            raise ValueError(f"recipe: lr is above 0, got {self.lr}")
        augment.operations(self.augment)

    @property
    def rounds(self) -> int:
        """Epochs that are really run."""
        return self.epochs + 1

    @property
    def drop(self) -> int:
        """The first epoch with a tenth of the learning rate."""
        return self.epochs // 2 + 2


RECIPES = {"dm": TrainConfig()}


def fit(
    network: nn.Module, images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator, progress: Progress = SILENT
) -> None:
    """Train `network` in place on images (N, C, H, W), normalised, with labels (N,) int64.

    Args:
        rng: order of the images and their augmentation; advanced by the call.
    Raises:
        FloatingPointError: the loss is not finite.
    """
    logits = training_form(network, cfg, images.device)
    optimizer = optimizer_for(network, cfg)
    kept = progress.resume()
    first = 0 if kept is None else restore(kept, network, optimizer, rng)
    network.train()
    for epoch in range(first, cfg.rounds):
        set_rate(optimizer, cfg, epoch)
        for some, their_labels in batches(images, labels, cfg, rng):
            loss = F.cross_entropy(logits(some), their_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        check_finite(loss, epoch, cfg)
        progress.tick(epoch + 1, cfg.rounds, lambda done=epoch + 1: keep(network, optimizer, rng, done))  # type: ignore[misc]


def training_form(network: nn.Module, cfg: TrainConfig, device: torch.device) -> compute.Batch:
    """The network's forward pass in the recipe's form.

    On a CPU the compiled form works on chunks that fit the cache; their gradients add up to the batch's. BatchNorm
    needs the batch whole.
    """
    logits = compute.fast(network, "forward", cfg.compute, cfg.dtype, device)
    if cfg.compute == "eager" or device.type != "cpu" or has_batch_statistics(network):
        return logits
    return compute.chunked(logits, compute.gradient_chunk(network))


def batches(images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: every image once, shuffled and augmented, in batches on the images' device."""
    for rows in torch.randperm(len(labels), generator=rng).split(cfg.batch_size):
        parameters = augment.draw_batch(cfg.augment, len(rows), rng)
        rows = rows.to(images.device, non_blocking=True)
        yield augment.apply(cfg.augment, images[rows], parameters), labels[rows]


def optimizer_for(network: nn.Module, cfg: TrainConfig) -> SGD:
    """The recipe's optimiser; `set_rate` gives it the learning rate of each epoch."""
    return SGD(network.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def set_rate(optimizer: Optimizer, cfg: TrainConfig, epoch: int) -> None:
    """Before `epoch`: the drop to a tenth, and with it a new start of the optimiser, in place."""
    if epoch == cfg.drop:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] = cfg.lr if epoch < cfg.drop else cfg.lr * 0.1


def check_finite(loss: Tensor, epoch: int, cfg: TrainConfig) -> None:
    """Raise FloatingPointError for a loss that is not finite; looks once in 50 epochs, to not wait on a device."""
    if (epoch % 50 == 0 or epoch == cfg.rounds - 1) and not bool(torch.isfinite(loss)):
        raise FloatingPointError(f"training: the loss is {loss.item()} in epoch {epoch}; a smaller lr may help")


def keep(network: nn.Module, optimizer: Optimizer, rng: Generator, done: int) -> State:
    """All that the epochs after the first `done` depend on."""
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, weight in enumerate(network.parameters()):
        momentum = optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        if momentum is not None:
            state[f"momentum.{index}"] = momentum
    return state | {"rng": rng.get_state(), "done": torch.tensor(done)}


def restore(state: State, network: nn.Module, optimizer: Optimizer, rng: Generator) -> int:
    """Put back what `keep` kept; the next epoch."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    for index, weight in enumerate(network.parameters()):
        if f"momentum.{index}" in state:
            optimizer.state[weight]["momentum_buffer"] = state[f"momentum.{index}"].to(weight)
    rng.set_state(state["rng"])
    return int(state["done"])


@torch.no_grad()
def correct_by_class(logits: compute.Batch, images: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How many images of each class are classified rightly, (K,) int64 on the CPU; argmax over all K outputs."""
    right = torch.cat([logits(part).argmax(1) for part in images.split(1024)]) == labels
    return torch.bincount(labels[right], minlength=num_classes).cpu()
