"""How a network is trained on labelled images: the recipes, and the only training loop.

The stream's strategy runs Avalanche's loop instead of `fit`, out of the same pieces: `batches`, `optimizer_for`,
`set_rate`, `keep` and `restore`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from harness.core import augment, compute, registry
from harness.core.augment import AugmentName
from harness.core.fields import Count, Momentum, NonNegative, Positive, Probability, configuration, one_of
from harness.core.models import has_batch_statistics
from harness.core.progress import SILENT, Progress, State


@dataclass(frozen=True)
class Schedule:
    """How many epochs a recipe really runs, and the learning rate in each."""

    extra: int  # epochs run beyond those asked for
    drops: Callable[[int], tuple[int, ...]]  # epochs asked for -> those before which the learning rate falls
    factor: float  # what it falls to
    restarts: bool  # the optimiser forgets its momentum there


SCHEDULES = {
    # DatasetCondensation `utils.py`, `evaluate_synset`: E + 1 epochs; after the one with index E // 2 + 1 the learning
    # rate drops to a tenth and the optimiser is made anew.
    "dm": Schedule(1, lambda epochs: (epochs // 2 + 2,), 0.1, restarts=True),
    # Efficient-Dataset-Condensation: MultiStepLR at two thirds and five sixths.
    "idc": Schedule(0, lambda epochs: (2 * epochs // 3, 5 * epochs // 6), 0.2, restarts=False),
    # Ours, since the papers do not print how they train candidates of a search: a tenth from the middle on.
    "nas": Schedule(0, lambda epochs: (epochs // 2,), 0.1, restarts=False),
    "constant": Schedule(0, lambda epochs: (), 1.0, restarts=False),  # a network trained between two updates
}


@configuration
class TrainConfig:
    """How a network is trained: by default as DSA and DM are evaluated."""

    epochs: Count = 1000
    "Passes over the images."
    lr: Positive = 0.01
    "Learning rate of SGD."
    momentum: Momentum = 0.9
    "Momentum of SGD."
    weight_decay: NonNegative = 5e-4
    "Weight decay of SGD."
    batch_size: Count = 256
    "Images in a batch."
    augment: AugmentName = augment.DSA
    "Augmentation of each batch: see harness/core/augment; none for none."
    cutmix: Probability = 0.0
    "Probability that a batch is mixed with itself (CutMix, arXiv:1905.04899)."
    schedule: Annotated[str, one_of(SCHEDULES, "schedule")] = "dm"
    "Schedule of the learning rate: dm, idc, nas or constant."
    compute: str = "eager"
    "Form of computing: eager or compiled."
    dtype: str = "float32"
    "Type of products; weights stay in float32 under bfloat16 and tf32 too; auto decides by the hardware."

    @property
    def rounds(self) -> int:
        """Epochs that are really run."""
        return self.epochs + SCHEDULES[self.schedule].extra

    @property
    def drops(self) -> tuple[int, ...]:
        """The epochs before which the learning rate falls."""
        return SCHEDULES[self.schedule].drops(self.epochs)


# --- recipes --------------------------------------------------------------------------------------------------------


def dm_recipe(dataset: str, has_batchnorm: bool) -> TrainConfig:
    """The evaluation of DSA and DM: 1000 epochs under the Siamese operations, one for each batch."""
    return TrainConfig(augment=augmentation(dataset))


def dc_recipe(dataset: str, has_batchnorm: bool) -> TrainConfig:
    """The evaluation of DC: 300 epochs as they come, but 1000 augmented ones of digits and under BatchNorm."""
    strategy = augment.DC_NOISE if has_batchnorm else augment.DC_DIGITS if dataset in ("mnist", "digits") else "none"
    return TrainConfig(epochs=300 if strategy == "none" else 1000, augment=strategy)


def idc_recipe(dataset: str, has_batchnorm: bool) -> TrainConfig:
    """The evaluation of IDC: 1000 epochs in batches of 64 under all colours, flips and a CutMix every other batch.

    The authors' script leaves CutMix out for MNIST under `idc` and for SVHN under `idc-i` with one image per class,
    which a recipe cannot tell: there it is `cutmix=0`.
    """
    flips = augmentation(dataset) == augment.DSA
    strategy = augment.IDC_EVALUATION if flips else augment.IDC_EVALUATION_WITHOUT_FLIP
    return TrainConfig(batch_size=64, augment=strategy, cutmix=0.5, schedule="idc")


def nas_recipe(dataset: str, has_batchnorm: bool) -> TrainConfig:
    """A search's candidates: DM's 200 epochs in batches of 250 under the Siamese operations; the optimiser is ours."""
    return TrainConfig(epochs=200, batch_size=250, augment=augmentation(dataset), schedule="nas")


Recipe = Callable[[str, bool], TrainConfig]  # (data set, whether the network has BatchNorm) -> how to train it
RECIPES: dict[str, Recipe] = {"dc": dc_recipe, "dm": dm_recipe, "idc": idc_recipe, "nas": nas_recipe}
GROUP = "harness.recipes"  # of entry points, where other packages offer recipes


def recipe_names() -> list[str]:
    """Every recipe that can be asked for, those of other packages included."""
    return registry.names(RECIPES, GROUP)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none, and the message names the nearest; or another package's cannot be imported.
    """
    recipe: Recipe = registry.find(name, RECIPES, GROUP, "recipe")
    return recipe


def augmentation(dataset: str) -> str:
    """The Siamese operations of a data set: all six, without the flip where a mirrored image is another thing."""
    return augment.DSA_WITHOUT_FLIP if dataset in ("mnist", "svhn", "digits") else augment.DSA


# --- the loop -------------------------------------------------------------------------------------------------------


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
    logits = compute.fast(network, "forward", cfg.compute, cfg.dtype, device)
    if cfg.compute == "eager" or device.type != "cpu" or has_batch_statistics(network):
        return logits
    return compute.chunked(logits, compute.gradient_chunk(network))


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
    right = torch.cat([logits(part).argmax(1) for part in images.split(compute.EVALUATED)]) == labels
    return torch.bincount(labels[right], minlength=num_classes).cpu()
