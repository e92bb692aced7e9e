"""Synthetic images, their optimiser, and the loop of updates that all methods with learned images share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from harness.core import augment
from harness.core.memory import Budget, Memory, from_stored
from harness.core.parametrisation import STARTS, Parametrisation, Shape
from harness.core.progress import ExtendedProgress, Progress, State
from harness.core.registry import known
from harness.core.rng import spawn
from harness.core.train import collect_network_state, restore_network_state
from harness.memory.shared.sampling import check_enough, draw, rows_by_class


class Synthetic:
    """Synthetic images of K classes, and the SGD that updates them.

    What is stored are the tensors of a parametrisation; `images` are the images that they decode into. A method adds a
    gradient to `images.grad` and calls `step`, whatever the parametrisation.

    Args:
        images: real images, (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images of each class whose numbers may be stored.
        rng: CPU generator of the initial images.
        form: the parametrisation.
        start: initial images: real or noise.
        lr: learning rate.
        momentum: momentum of the SGD.
    Attributes:
        images: decoded images, (K * ipc, C, H, W), in ascending order of classes; a leaf that accumulates gradients.
        ipc: number of decoded images of each class.
        labels: their global ids, (K * ipc,) int64.
        local: their labels renumbered as 0 .. K - 1, (K * ipc,) int64.
        owner: the same as `local`, on the CPU.
        rows: for each class, the rows of its real images, on the CPU.
    Raises:
        ValueError: a class has fewer than budget.ipc real images, `start` is unknown, or the form does not fit images
            of this shape.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        *,
        form: Parametrisation,
        start: str,
        lr: float,
        momentum: float,
    ) -> None:
        by_class = rows_by_class(labels)
        check_enough(by_class, budget)
        known(start, STARTS, "init")
        self.form, self.shape = form, shape_of(images)
        each = form.stored_in(budget.ipc, self.shape)
        self.ipc = each * form.views
        self.rows = list(by_class.values())
        self.stored_labels = torch.tensor(list(by_class), device=labels.device).repeat_interleave(each)
        self.labels = self.stored_labels.repeat_interleave(form.views)
        self.owner = torch.arange(len(self.rows)).repeat_interleave(self.ipc)
        self.local = self.owner.to(labels.device)
        real = images[torch.cat([_fill(of_class, self.ipc, rng) for of_class in self.rows]).to(images.device)]
        self.stored = {name: part.requires_grad_() for name, part in form.init(real, start, rng).items()}
        self.optimizer = torch.optim.SGD(self.stored.values(), lr=lr, momentum=momentum)
        self._decode()

    @property
    def classes(self) -> int:
        return len(self.rows)

    def _decode(self) -> None:
        self._decoded = self.form.decode(self.stored)
        self.images = self._decoded.detach().requires_grad_()

    def step(self) -> None:
        """Update what is stored by the gradient of `images`, and decode new images without a gradient."""
        self.optimizer.zero_grad()
        self._decoded.backward(self.images.grad)
        self.optimizer.step()
        self._decode()

    def clamp(self, low: Tensor, high: Tensor) -> None:
        """Clamp stored pixels to the range from `low` to `high`, each (C, 1, 1)."""
        with torch.no_grad():
            self.stored["images"].clamp_(low, high)
        self._decode()

    def check_finite(self, method: str, iteration: int) -> None:
        """Raise FloatingPointError if an image is not finite."""
        if not all(bool(part.isfinite().all()) for part in self.stored.values()):
            raise FloatingPointError(f"{method}: the images are not finite after update {iteration}; use a smaller lr")

    def memory(self) -> Memory:
        """Return the current images as a memory."""
        return from_stored(self.form, self.stored, self.stored_labels)

    def state_dict(self) -> State:
        """Return what is stored and its momentum, for a checkpoint."""
        state = {f"stored.{name}": part for name, part in self.stored.items()}
        for name, part in self.stored.items():
            if (buffer := self.optimizer.state[part].get("momentum_buffer")) is not None:
                state[f"velocity.{name}"] = buffer
        return state

    def load_state_dict(self, state: State) -> None:
        """Load what `state_dict` returned."""
        with torch.no_grad():
            for name, part in self.stored.items():
                part.copy_(state[f"stored.{name}"])
                if f"velocity.{name}" in state:
                    self.optimizer.state[part]["momentum_buffer"] = state[f"velocity.{name}"].to(part, copy=True)
        self._decode()


def shape_of(images: Tensor) -> Shape:
    """Return the shape (C, H, W) of images (N, C, H, W)."""
    return images.shape[1], images.shape[2], images.shape[3]


def _fill(rows: Tensor, count: int, rng: Generator) -> Tensor:
    """Draw `count` rows without replacement; if there are fewer, repeat them."""
    drawn = draw(rows, count, rng)
    return drawn.repeat(-(-count // len(drawn)))[:count]


@dataclass(frozen=True)
class Draws:
    """The random generators of a method.

    Attributes:
        rng: CPU generator.
        weights: generator of the weights of networks, on the device that draws them fastest; it may be `rng`.
    """

    rng: Generator
    weights: Generator

    @classmethod
    def of(cls, rng: Generator, device: torch.device) -> "Draws":
        return cls(rng, spawn(rng, device))

    def state_dict(self) -> State:
        """Return the states of both generators, for a checkpoint."""
        state = {"rng": self.rng.get_state()}
        return state if self.weights is self.rng else state | {"weights_rng": self.weights.get_state()}

    def load_state_dict(self, state: State) -> None:
        """Load what `state_dict` returned."""
        self.rng.set_state(state["rng"])
        if self.weights is not self.rng:
            self.weights.set_state(state["weights_rng"])


def real_batches(strategy: str, images: Tensor, rows: list[Tensor], parameters: augment.Parameters) -> list[Tensor]:
    """Return the augmented real batch of each class, K tensors (n, C, H, W).

    Args:
        strategy: the augmentation.
        images: real images, (N, C, H, W).
        rows: for each class, the rows of its batch, (n,) int64 on the CPU.
        parameters: the random draw of each class, which all images of the class share.
    """
    batches = []
    for k, batch_rows in enumerate(rows):
        batch = images[batch_rows.to(images.device, non_blocking=True)]
        batches.append(augment.apply(strategy, batch, parameters.of(torch.full((len(batch_rows),), k))))
    return batches


def add_network(progress: Progress, network: nn.Module, optimizer: Optimizer | None = None) -> Progress:
    """Return a progress whose checkpoints also hold a network, for networks that last several updates.

    Args:
        progress: of the method.
        network: its weights are saved.
        optimizer: of the network; its momentum is saved.
    """
    return ExtendedProgress(
        progress,
        lambda: collect_network_state(network, optimizer),
        lambda state: restore_network_state(state, network, optimizer),
    )


def learn(
    synthetic: Synthetic, draws: Draws, updates: int, update: Callable[[int], None], progress: Progress, method: str
) -> Memory:
    """Run the updates of a method, or the rest of them after an interruption, and return the memory.

    Args:
        synthetic: the images.
        draws: the generators of the method.
        updates: total number of updates.
        update: called with the number of an update, from 0; it updates the images once.
        progress: reports updates and saves checkpoints.
        method: name of the method in error messages.
    Raises:
        FloatingPointError: the images are no longer finite.
    """

    def state() -> State:
        return synthetic.state_dict() | draws.state_dict() | {"done": torch.tensor(number + 1)}

    first = 0
    if (checkpoint := progress.resume()) is not None:
        synthetic.load_state_dict(checkpoint)
        draws.load_state_dict(checkpoint)
        first = int(checkpoint["done"])
    for number in range(first, updates):
        update(number)
        if number % 50 == 0 or number == updates - 1:
            synthetic.check_finite(method, number)
        progress.tick(number + 1, updates, state)
    return synthetic.memory()
