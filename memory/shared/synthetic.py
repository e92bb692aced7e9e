"""What every method that learns images shares: the images, how they move, the draws, and what a kill must not lose."""

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
    """Synthetic images of K classes: SGD moves what is stored of them, networks see what that decodes into.

    A method adds to `images.grad`, then calls `step`; it need not know how the images are stored.

    Attributes:
        images: (K * ipc, C, H, W), classes ascending, a leaf that collects gradients; `ipc` counts decoded images.
        labels: (K * ipc,) int64, global ids; local: the same numbered 0 .. K - 1; owner: that on the CPU.
        rows: per class, its real images' rows, on the CPU.
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
        """Move what is stored against the gradient that `images` have collected, which is then forgotten."""
        self.optimizer.zero_grad()
        self._decoded.backward(self.images.grad)
        self.optimizer.step()
        self._decode()

    def clamp(self, low: Tensor, high: Tensor) -> None:
        """Bring stored pixels back into their range, (C, 1, 1) each."""
        with torch.no_grad():
            self.stored["images"].clamp_(low, high)
        self._decode()

    def check_finite(self, method: str, iteration: int) -> None:
        """Raise FloatingPointError where an image is not finite."""
        if not all(bool(part.isfinite().all()) for part in self.stored.values()):
            raise FloatingPointError(f"{method}: the images are not finite after update {iteration}; use a smaller lr")

    def memory(self) -> Memory:
        """What has been learned so far."""
        return from_stored(self.form, self.stored, self.stored_labels)

    def keep(self) -> State:
        """All that later steps depend on."""
        state = {f"stored.{name}": part for name, part in self.stored.items()}
        for name, part in self.stored.items():
            if (buffer := self.optimizer.state[part].get("momentum_buffer")) is not None:
                state[f"velocity.{name}"] = buffer
        return state

    def restore(self, state: State) -> None:
        """Put back what `keep` kept."""
        with torch.no_grad():
            for name, part in self.stored.items():
                part.copy_(state[f"stored.{name}"])
                if f"velocity.{name}" in state:
                    self.optimizer.state[part]["momentum_buffer"] = state[f"velocity.{name}"].to(part, copy=True)
        self._decode()


def shape_of(images: Tensor) -> Shape:
    """(C, H, W) of images (N, C, H, W)."""
    return images.shape[1], images.shape[2], images.shape[3]


def _fill(rows: Tensor, count: int, rng: Generator) -> Tensor:
    """`count` of `rows` without replacement; where there are fewer, they begin again."""
    drawn = draw(rows, count, rng)
    return drawn.repeat(-(-count // len(drawn)))[:count]


@dataclass(frozen=True)
class Draws:
    """The generators of a method: `rng` on the CPU, and one for weights where drawing them is fast."""

    rng: Generator
    weights: Generator

    @classmethod
    def of(cls, rng: Generator, device: torch.device) -> "Draws":
        return cls(rng, spawn(rng, device))

    def keep(self) -> State:
        """Where both stand."""
        state = {"rng": self.rng.get_state()}
        return state if self.weights is self.rng else state | {"weights_rng": self.weights.get_state()}

    def restore(self, state: State) -> None:
        """Put back what `keep` kept."""
        self.rng.set_state(state["rng"])
        if self.weights is not self.rng:
            self.weights.set_state(state["weights_rng"])


def real_batches(strategy: str, images: Tensor, rows: list[Tensor], parameters: augment.Parameters) -> list[Tensor]:
    """Per class its real images `rows`, all augmented by the parameters of the class."""
    return [
        augment.apply(
            strategy, images[some.to(images.device, non_blocking=True)], parameters.of(torch.full((len(some),), k))
        )
        for k, some in enumerate(rows)
    ]


def with_network(progress: Progress, network: nn.Module, optimizer: Optimizer | None = None) -> Progress:
    """`progress` with a network's weights beside the state, for one that lives through several updates.

    Args:
        optimizer: one that lives as long, whose momentum is kept too.
    """
    return ExtendedProgress(
        progress,
        lambda: collect_network_state(network, optimizer),
        lambda kept: restore_network_state(kept, network, optimizer),
    )


def learn(
    synthetic: Synthetic, draws: Draws, updates: int, update: Callable[[int], None], progress: Progress, method: str
) -> Memory:
    """Call `update(number)`, which moves the images once, from where `progress` stands up to `updates`; the memory.

    Raises:
        FloatingPointError: the images are no longer finite.
    """

    def state() -> State:
        return synthetic.keep() | draws.keep() | {"done": torch.tensor(number + 1)}

    first = 0
    if (kept := progress.resume()) is not None:
        synthetic.restore(kept)
        draws.restore(kept)
        first = int(kept["done"])
    for number in range(first, updates):
        update(number)
        if number % 50 == 0 or number == updates - 1:
            synthetic.check_finite(method, number)
        progress.tick(number + 1, updates, state)
    return synthetic.memory()
