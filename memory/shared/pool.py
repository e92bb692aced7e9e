"""The networks a method matches in: drawn at random, or trained to a band of accuracy (DM, section 4.4 and Table 4)."""

import re
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Generator, Tensor

from harness.core import compute, models
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.core.train import count_correct_by_class, fit
from harness.memory.method import Settings
from harness.memory.shared.sampling import draw, renumbered
from harness.memory.shared.synthetic import Draws, shape_of

POOL = 10  # networks trained to the band; the paper does not say how many it had
HELD_OUT = 0.1  # part of the real images that accuracies are measured on
ROUND = 1000  # images trained on between two looks at the accuracy
MOST_ROUNDS = 500  # after which the band counts as out of reach
DONE, HAND = "pool.", "in_hand."  # before the names of what is kept of trained networks, and of the one being trained
# Ours: the paper does not print its own. The augmentation is the method's.
RECIPE = TrainConfig(epochs=1, lr=0.01, momentum=0.9, schedule="constant")


def settings() -> Settings:
    """All that a pool's networks depend on beyond the method's own configuration, JSON-able: part of a unit's key."""
    sizes = {"networks": POOL, "held_out": HELD_OUT, "round": ROUND, "most_rounds": MOST_ROUNDS}
    return sizes | {"recipe": {name: value for name, value in asdict(RECIPE).items() if name != "augment"}}


def band(networks: str) -> tuple[float, float] | None:
    """`trained:LO-HI` as accuracies in percent; None for `random`.

    Raises:
        ValueError: it is neither.
    """
    if networks == "random":
        return None
    match = re.fullmatch(r"trained:(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", networks)
    if match is None or not float(match[1]) < float(match[2]) <= 100:
        raise ValueError(f"networks: expected random, or trained:LO-HI with LO < HI in percent, got {networks!r}")
    return float(match[1]), float(match[2])


class Networks:
    """Where an iteration's network comes from: `fill`, once, trains what is needed; `draw` puts weights in place."""

    def __init__(self, networks: str, model: str, strategy: str, images: Tensor, labels: Tensor, draws: Draws) -> None:
        self.band, self.model, self.recipe = band(networks), model, replace(RECIPE, augment=strategy)
        self.images, self.labels, self.draws = images, labels, draws
        self.trained: list[State] = []

    def fill(self, progress: Progress, updates: int) -> Progress:
        """Train what is still missing of the pool, keeping how far that is after every round.

        Args:
            updates: how many the method's own rounds will be, which come after the pool's networks.
        Returns:
            `progress` for the method's own rounds, with the pool beside their state.
        Raises:
            ValueError: no network reaches the accuracy asked for.
        """
        if self.band is None:
            return progress
        kept = progress.resume()
        if kept is not None:
            self.trained = _unpacked(kept)
        half = kept if kept is not None and _is_of_pool(kept) else None
        while len(self.trained) < POOL:

            def tick(hand: State) -> None:
                progress.tick(len(self.trained), POOL + updates, lambda: self._keep() | hand)

            self.trained.append(self._train(self.band, tick, half))
            half = None
        return _AfterPool(progress, self._keep)

    def draw(self, network: models.Network) -> None:
        """Fresh weights, or those of one of the pool's networks, in place; the classifier does not matter."""
        if self.band is None:
            models.draw_weights(network, self.draws.weights)
            return
        chosen = self.trained[int(torch.randint(POOL, (1,), generator=self.draws.rng))]
        network.load_state_dict(chosen, strict=False)

    def _train(
        self,
        wanted: tuple[float, float],
        tick: Callable[[State], None] = lambda hand: None,
        half: State | None = None,
    ) -> State:
        """The features' weights of a network at the first accuracy inside the band, an untrained one's included.

        Args:
            tick: told after each round all that the next ones depend on; half: what it was told last.
        """
        local, device = renumbered(self.labels), self.images.device
        classes, done = int(local.max()) + 1, 0
        if half is None:
            order = torch.randperm(len(local), generator=self.draws.rng)
            network = models.build(self.model, shape_of(self.images), classes, self.draws.rng)
        else:
            order, done = half[f"{HAND}order"], int(half[f"{HAND}rounds"])
            network = models.build(self.model, shape_of(self.images), classes, Generator())
            network.load_state_dict(_under(f"{HAND}network.", half))
            self.draws.restore(half)
        network = network.to(device, self.images.dtype)
        count = max(1, int(HELD_OUT * len(order)))
        held, rest = order[:count], order[count:]
        logits = compute.evaluation_form(network, "forward", "eager", self.images)
        for rounds in range(done, MOST_ROUNDS):
            with models.evaluating(network):
                right = count_correct_by_class(logits, self.images[held.to(device)], local[held.to(device)], classes)
            accuracy = 100 * float(right.sum()) / len(held)
            if wanted[0] <= accuracy < wanted[1] or accuracy == wanted[1] == 100:
                state = network.state_dict()
                return {name: part.clone() for name, part in state.items() if not name.startswith("classifier")}
            if accuracy >= wanted[1]:
                break
            some = draw(rest, ROUND, self.draws.rng).to(device)
            fit(network, self.images[some], local[some], self.recipe, self.draws.rng)
            hand = {f"{HAND}network.{name}": part for name, part in network.state_dict().items()}
            hand |= {f"{HAND}order": order, f"{HAND}rounds": torch.tensor(rounds + 1), **self.draws.keep()}
            tick(hand)
        raise ValueError(
            f"networks: training stood at {accuracy:.1f} % when it passed {wanted[0]:g}-{wanted[1]:g} % or gave up; "
            "use a wider or another band"
        )

    def _keep(self) -> State:
        return {f"{DONE}{i}.{name}": part for i, state in enumerate(self.trained) for name, part in state.items()}


class _AfterPool(Progress):
    """The progress of a method's own rounds, which come after a pool's networks, with the pool beside their state."""

    def __init__(self, progress: Progress, pool: Callable[[], State]) -> None:
        self.progress, self.pool = progress, pool

    def resume(self) -> State | None:
        kept = self.progress.resume()
        return None if kept is None or _is_of_pool(kept) else kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.progress.tick(POOL + done, POOL + total, lambda: state() | self.pool())


def _is_of_pool(kept: State) -> bool:
    """Whether a state was kept while the pool was being trained."""
    return f"{HAND}rounds" in kept


def _under(prefix: str, kept: State) -> State:
    return {name.removeprefix(prefix): part for name, part in kept.items() if name.startswith(prefix)}


def _unpacked(kept: State) -> list[State]:
    """The trained networks in a state."""
    every = _under(DONE, kept)
    count = len({name.partition(".")[0] for name in every})
    return [_under(f"{i}.", every) for i in range(count)]
