"""The only training loop.

The stream's strategy runs Avalanche's loop instead of `fit`, out of the same pieces: `batches`, `optimizer_for`,
`set_rate`, `keep` and `restore`.
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
    """Train `network` in place on images (N, C, H, W), normalised, with labels (N,) int64.

    Args:
        labels: or class probabilities (N, K), for soft labels.
        rng: order of the images and their augmentation; advanced by the call.
        epoch_rows: the rows of an epoch in their order, on the CPU; by default all of them, shuffled.
        observe: told after each batch the rows (B,) it held, on the CPU, and its logits (B, K) before the update.
        optimizer: `optimizer_for` the network, whose momentum goes on from an earlier call; by default a new one.
    Raises:
        FloatingPointError: the loss is not finite.
    """
    logits = training_form(network, cfg, images.device)
    optimizer = optimizer or optimizer_for(network, cfg)
    labels = targets(labels, network, cfg)
    kept = progress.resume()
    first = 0 if kept is None else restore(kept, network, optimizer, rng)
    network.train()
    for epoch in range(first, cfg.rounds):
        set_rate(optimizer, cfg, epoch)
        with compute.precision(cfg.dtype, images.device):
            for some, theirs, rows in batches(images, labels, cfg, rng, epoch_rows and epoch_rows(epoch)):
                answers = logits(some)
                loss = F.cross_entropy(answers, theirs)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if observe is not None:
                    observe(rows, answers.detach())
        check_finite(loss, epoch, cfg)
        progress.tick(epoch + 1, cfg.rounds, lambda done=epoch + 1: keep(network, optimizer, rng, done))  # type: ignore[misc]


def training_form(network: nn.Module, cfg: TrainConfig, device: torch.device) -> compute.Batch:
    """The network's forward pass in the recipe's form.

    On a CPU the compiled form works on chunks that fit the cache; their gradients add up to the batch's. BatchNorm
    needs the batch whole.
    """
    logits = compute.prepare(network, "forward", cfg.compute, cfg.dtype, device)
    if cfg.compute == "eager" or device.type != "cpu" or has_batch_statistics(network):
        return logits
    return compute.apply_in_chunks(logits, compute.gradient_chunk(network))


def targets(labels: Tensor, network: nn.Module, cfg: TrainConfig) -> Tensor:
    """What `batches` needs of labels (N,) int64: probabilities (N, K) where the recipe mixes images."""
    if not cfg.cutmix or labels.ndim == 2:
        return labels
    outputs = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)][-1]
    return F.one_hot(labels, outputs).to(next(network.parameters()).dtype)


def batches(
    images: Tensor, labels: Tensor, cfg: TrainConfig, rng: Generator, rows_in_order: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch: every image once, shuffled, or `rows_in_order`; augmented, in batches on the images' device.

    Yields:
        images (B, C, H, W); their labels (B,), or probabilities (B, K); their rows (B,), on the CPU.
    """
    order = torch.randperm(len(labels), generator=rng) if rows_in_order is None else rows_in_order
    for rows in order.split(cfg.batch_size):
        parameters = augment.draw_batch(cfg.augment, len(rows), rng)
        there = rows.to(images.device, non_blocking=True)
        some, theirs = augment.apply(cfg.augment, images[there], parameters), labels[there]
        if cfg.cutmix:
            some, theirs = augment.cutmix(some, theirs, augment.draw_cutmix(len(rows), cfg.cutmix, 1.0, rng))
        yield some, theirs, rows


def optimizer_for(network: nn.Module, cfg: TrainConfig) -> SGD:
    """The recipe's optimiser; `set_rate` gives it the learning rate of each epoch."""
    return SGD(network.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def set_rate(optimizer: Optimizer, cfg: TrainConfig, epoch: int) -> None:
    """The learning rate of `epoch`, and at a drop, where the schedule says so, a new start of the optimiser."""
    schedule = SCHEDULES[cfg.schedule]
    if schedule.restarts and epoch in cfg.drops:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] = cfg.lr * schedule.factor ** sum(epoch >= drop for drop in cfg.drops)


def check_finite(loss: Tensor, epoch: int, cfg: TrainConfig) -> None:
    """Raise FloatingPointError for a loss that is not finite; looks once in 50 epochs, to not wait on a device."""
    if (epoch % 50 == 0 or epoch == cfg.rounds - 1) and not bool(torch.isfinite(loss)):
        raise FloatingPointError(f"training: the loss is {loss.item()} in epoch {epoch}; a smaller lr may help")


def keep(network: nn.Module, optimizer: Optimizer, rng: Generator, done: int) -> State:
    """All that the epochs after the first `done` depend on."""
    return keep_network(network, optimizer) | {"rng": rng.get_state(), "done": torch.tensor(done)}


def keep_network(network: nn.Module, optimizer: Optimizer | None = None) -> State:
    """A network's weights, and the momentum that an optimiser has of them."""
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, weight in enumerate(network.parameters()):
        momentum = optimizer.state[weight].get("momentum_buffer") if optimizer and weight in optimizer.state else None
        if momentum is not None:
            state[f"momentum.{index}"] = momentum
    return state


def restore(state: State, network: nn.Module, optimizer: Optimizer, rng: Generator) -> int:
    """Put back what `keep` kept; the next epoch."""
    restore_network(state, network, optimizer)
    rng.set_state(state["rng"])
    return int(state["done"])


def restore_network(state: State, network: nn.Module, optimizer: Optimizer | None = None) -> None:
    """Put back what `keep_network` kept."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    if optimizer is not None:
        for index, weight in enumerate(network.parameters()):
            if f"momentum.{index}" in state:
                optimizer.state[weight]["momentum_buffer"] = state[f"momentum.{index}"].to(weight, copy=True)


@torch.no_grad()
def correct_by_class(logits: compute.Batch, images: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How many images of each class are classified rightly, (K,) int64 on the CPU; argmax over all K outputs."""
    right = torch.cat([logits(part).argmax(1) for part in images.split(tuning.EVALUATED)]) == labels
    return torch.bincount(labels[right], minlength=num_classes).cpu()
