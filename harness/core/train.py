"""The only training loop.

The strategy of the stream runs Avalanche's loop instead of `fit`, and uses the same functions in it:
`iterate_batches`, `make_optimizer`, `set_learning_rate`, `collect_state` and `restore_state`.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from harness.core import augment, compute
from harness.core.compute import tuning
from harness.core.models import has_batch_statistics
from harness.core.progress import SILENT, Progress, State
from harness.core.recipes import SCHEDULES, TrainConfig


def fit(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    cfg: TrainConfig,
    rng: Generator,
    progress: Progress = SILENT,
    observe: Callable[[Tensor, Tensor], None] | None = None,
    epoch_rows: Callable[[int], Tensor] | None = None,
    optimizer: Optimizer | None = None,
) -> None:
    """Train `network` in place.

    Args:
        network: on the device of the images.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64; or class probabilities (N, K), for soft labels.
        cfg: the recipe.
        rng: draws the order of the images and their augmentation; advanced by the call.
        progress: is told of each epoch, and may hold the state of an interrupted call, from which training goes on.
        observe: called after each batch with its rows (B,), on the CPU, and its logits (B, K) before the update.
        epoch_rows: returns the rows of an epoch in their order, on the CPU; by default all rows, shuffled.
        optimizer: an optimiser of the network from an earlier call, whose momentum is continued; by default a new one.
    Raises:
        FloatingPointError: the loss is not finite.
    """
    forward = training_form(network, cfg, images.device)
    optimizer = optimizer or make_optimizer(network, cfg)
    targets = encode_targets(labels, network, cfg)
    state = progress.resume()
    first = 0 if state is None else restore_state(state, network, optimizer, rng)
    network.train()
    for epoch in range(first, cfg.rounds):
        set_learning_rate(optimizer, cfg, epoch)
        with compute.precision(cfg.dtype, images.device):
            order = epoch_rows and epoch_rows(epoch)
            for batch, batch_targets, rows in iterate_batches(images, targets, cfg, rng, order):
                logits = forward(batch)
                loss = F.cross_entropy(logits, batch_targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if observe is not None:
                    observe(rows, logits.detach())
        check_finite(loss, epoch, cfg)
        progress.tick(epoch + 1, cfg.rounds, lambda done=epoch + 1: collect_state(network, optimizer, rng, done))  # type: ignore[misc]


def training_form(network: nn.Module, cfg: TrainConfig, device: torch.device) -> compute.Batch:
    """Return the network's forward pass in the form that the recipe names.

    On a CPU the compiled form takes chunks that fit the cache, whose gradients add up to those of the batch; a network
    with BatchNorm takes the whole batch.
    """
    forward = compute.prepare(network, "forward", cfg.compute, cfg.dtype, device)
    if cfg.compute == "eager" or device.type != "cpu" or has_batch_statistics(network):
        return forward
    return compute.apply_in_chunks(forward, compute.gradient_chunk(network))


def encode_targets(labels: Tensor, network: nn.Module, cfg: TrainConfig) -> Tensor:
    """Return labels (N,) int64 as probabilities (N, K) if the recipe mixes images by CutMix; otherwise as they are."""
    if not cfg.cutmix or labels.ndim == 2:
        return labels
    outputs = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)][-1]
    return F.one_hot(labels, outputs).to(next(network.parameters()).dtype)


def iterate_batches(
    images: Tensor, targets: Tensor, cfg: TrainConfig, rng: Generator, order: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Iterate over the augmented batches of one epoch.

    Args:
        images: (N, C, H, W), normalised.
        targets: labels (N,) or probabilities (N, K), on the same device; see `encode_targets`.
        cfg: the recipe.
        rng: draws the order and the augmentation; advanced by each batch.
        order: the rows of the epoch in their order, on the CPU; by default every row once, shuffled.
    Yields:
        Images (B, C, H, W) and their targets (B,) or (B, K), on the device of `images`, and their rows (B,) on the CPU.
    """
    order = torch.randperm(len(targets), generator=rng) if order is None else order
    for rows in order.split(cfg.batch_size):
        parameters = augment.draw_batch(cfg.augment, len(rows), rng)
        device_rows = rows.to(images.device, non_blocking=True)
        batch, batch_targets = augment.apply(cfg.augment, images[device_rows], parameters), targets[device_rows]
        if cfg.cutmix:
            draw = augment.draw_cutmix(len(rows), cfg.cutmix, 1.0, rng)
            batch, batch_targets = augment.cutmix(batch, batch_targets, draw)
        yield batch, batch_targets, rows


def make_optimizer(network: nn.Module, cfg: TrainConfig) -> SGD:
    """Return the recipe's optimiser; `set_learning_rate` sets the learning rate of each epoch."""
    return SGD(network.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def set_learning_rate(optimizer: Optimizer, cfg: TrainConfig, epoch: int) -> None:
    """Set the learning rate of `epoch`; clear the momentum at a drop if the schedule restarts the optimiser there."""
    schedule = SCHEDULES[cfg.schedule]
    if schedule.restarts and epoch in cfg.drops:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] = cfg.lr * schedule.factor ** sum(epoch >= drop for drop in cfg.drops)


def check_finite(loss: Tensor, epoch: int, cfg: TrainConfig) -> None:
    """Raise FloatingPointError if the loss is not finite.

    Only every 50th epoch and the last are checked, since reading the loss waits for the device.
    """
    if (epoch % 50 == 0 or epoch == cfg.rounds - 1) and not bool(torch.isfinite(loss)):
        raise FloatingPointError(f"training: the loss is {loss.item()} in epoch {epoch}; a smaller lr may help")


def collect_state(network: nn.Module, optimizer: Optimizer, rng: Generator, done: int) -> State:
    """Return all that the epochs after the first `done` depend on: weights, momentum and the state of `rng`."""
    return collect_network_state(network, optimizer) | {"rng": rng.get_state(), "done": torch.tensor(done)}


def collect_network_state(network: nn.Module, optimizer: Optimizer | None = None) -> State:
    """Return the weights of a network and, if an optimiser is given, its momentum."""
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, weight in enumerate(network.parameters()):
        momentum = optimizer.state[weight].get("momentum_buffer") if optimizer and weight in optimizer.state else None
        if momentum is not None:
            state[f"momentum.{index}"] = momentum
    return state


def restore_state(state: State, network: nn.Module, optimizer: Optimizer, rng: Generator) -> int:
    """Restore a state that `collect_state` returned, in place; return the number of the next epoch."""
    restore_network_state(state, network, optimizer)
    rng.set_state(state["rng"])
    return int(state["done"])


def restore_network_state(state: State, network: nn.Module, optimizer: Optimizer | None = None) -> None:
    """Restore a state that `collect_network_state` returned, in place."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    if optimizer is not None:
        for index, weight in enumerate(network.parameters()):
            if f"momentum.{index}" in state:
                optimizer.state[weight]["momentum_buffer"] = state[f"momentum.{index}"].to(weight, copy=True)


@torch.no_grad()
def count_correct_by_class(forward: compute.Batch, images: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count the images of each class that are classified correctly, by the argmax over all K outputs.

    Args:
        forward: returns the logits (B, K) of images (B, C, H, W).
        images: (N, C, H, W), normalised.
        labels: (N,) int64, on the same device.
        num_classes: K.
    Returns:
        (K,) int64, on the CPU.
    """
    correct = torch.cat([forward(part).argmax(1) for part in images.split(tuning.EVALUATED)]) == labels
    return torch.bincount(labels[correct], minlength=num_classes).cpu()
