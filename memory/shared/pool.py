"""The networks that a method matches in: drawn at random, or trained to a band of accuracy (DM, sections 3.4 and 4.4).

The paper trains 1,000 networks, keeps their states along the way, and groups these by validation accuracy. Here each
network of the pool is one such state: a network is trained until its accuracy on held-out images reaches a value drawn
uniformly from the band, so that the pool lies over the whole band. How accuracies are distributed within the paper's
groups is not published.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Tensor

from harness.core import compute, models
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.core.train import count_correct_by_class, fit
from harness.memory.method import Settings
from harness.memory.shared.sampling import draw, renumber
from harness.memory.shared.synthetic import Draws, shape_of

HELD_OUT = 0.1  # part of the real images that accuracies are measured on
ROUND = 1000  # images trained on between two measurements of the accuracy
MOST_ROUNDS = 500  # after which the training of a network ends
MOST_ATTEMPTS = 10  # trainings for one network of the pool, each of other weights, until one stops in the band
# The paper does not print its recipe; this one is ours. The augmentation is the method's.
RECIPE = TrainConfig(epochs=1, lr=0.01, momentum=0.9, schedule="constant")

# Names in the checkpoint of a training: which one it is, where it stands, and its last state inside the band.
TRAINING, NETWORK, INSIDE = "training.", "training.network.", "training.inside."

Band = tuple[float, float]  # accuracies in percent, both included


def settings(size: int) -> Settings:
    """Return all that a pool depends on beyond the fields of a method's configuration: part of the names of results.

    Args:
        size: networks in the pool.
    """
    constants = {"networks": size, "held_out": HELD_OUT, "round": ROUND, "most_rounds": MOST_ROUNDS}
    recipe = {name: value for name, value in asdict(RECIPE).items() if name != "augment"}
    return {**constants, "stop": "at an accuracy drawn from the band", "recipe": recipe}


def band(networks: str) -> Band | None:
    """Return the accuracies of `trained:LO-HI`, in percent; None for `random`.

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
    """The source of the network of each iteration: `fill` trains the pool once, `draw` puts weights in place.

    Args:
        networks: `random` or `trained:LO-HI`.
        size: networks in the pool.
        model: name of the network.
        strategy: the augmentation that the pool is trained under.
        images: real images, (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        draws: the generators of the method.
    """

    def __init__(
        self, networks: str, size: int, model: str, strategy: str, images: Tensor, labels: Tensor, draws: Draws
    ) -> None:
        self.band, self.size, self.model = band(networks), size, model
        self.recipe = replace(RECIPE, augment=strategy)
        self.images, self.labels, self.draws = images, labels, draws
        self.trained: list[State] = []

    def fill(self, progress: Progress, updates: int) -> Progress:
        """Train the networks of the pool, unless an interrupted call has trained them.

        Args:
            progress: of the method; it keeps each trained network, and a checkpoint of the one in training.
            updates: the method's own rounds, which come after the training of the pool.
        Returns:
            The progress for these rounds.
        Raises:
            ValueError: no network stops in the band.
        """
        if self.band is None:
            return progress
        wanted, checkpoint = self.band, progress.resume()
        seed = int(torch.randint(2**62, (1,), generator=self.draws.rng))
        for number in range(self.size):

            def tick(state: State, number: int = number) -> None:
                progress.tick(number, self.size + updates, lambda: state)

            def train(number: int = number, tick: Callable[[State], None] = tick) -> State:
                return self._train_into(wanted, (seed, number), tick, checkpoint)

            state = progress.cache(f"network-{number}", train)
            self.trained.append({name: part.to(self.images.device) for name, part in state.items()})
        return _AfterPool(progress, self.size)

    def draw(self, network: models.Network) -> None:
        """Put fresh weights, or those of a network of the pool, in place; the classifier does not matter."""
        if self.band is None:
            models.draw_weights(network, self.draws.weights)
            return
        chosen = self.trained[int(torch.randint(len(self.trained), (1,), generator=self.draws.rng))]
        network.load_state_dict(chosen, strict=False)

    def _train_into(
        self, wanted: Band, seed: tuple[int, int], tick: Callable[[State], None], checkpoint: State | None
    ) -> State:
        """Train one network of the pool, from other weights if an earlier attempt has left the band out."""
        interrupted = [] if checkpoint is None else checkpoint.get(f"{TRAINING}seed", torch.empty(0)).tolist()
        first = interrupted[-1] if interrupted[:-1] == [*seed] else None
        for attempt in range(first or 0, MOST_ATTEMPTS):
            training = _Training(self, wanted, (*seed, attempt))
            if checkpoint is not None and attempt == first:
                training.restore(checkpoint)
            if (state := training.run(tick)) is not None:
                return state
        raise ValueError(
            f"networks: {MOST_ATTEMPTS} networks were trained, and none had an accuracy of {wanted[0]:g}-{wanted[1]:g} "
            f"% on held-out images, the last {training.accuracy:.1f} % at the end; use a wider or another band"
        )


class _Training:
    """The training of one network until its accuracy reaches a value drawn from the band.

    Args:
        pool: the images, the recipe and the name of the network.
        wanted: the band.
        seed: of everything drawn here.
    """

    def __init__(self, pool: Networks, wanted: Band, seed: tuple[int, int, int]) -> None:
        self.pool, self.wanted, self.seed = pool, wanted, torch.tensor(seed)
        self.rng = generator("pool", *seed)
        self.labels = renumber(pool.labels)
        self.classes = int(self.labels.max()) + 1
        self.target = wanted[0] + (wanted[1] - wanted[0]) * float(torch.rand(1, generator=self.rng))
        order = torch.randperm(len(self.labels), generator=self.rng)
        count = max(1, int(HELD_OUT * len(order)))
        self.held_out, self.rows = order[:count], order[count:]
        network = models.build(pool.model, shape_of(pool.images), self.classes, self.rng)
        self.network = network.to(pool.images.device, pool.images.dtype)
        self.logits = compute.evaluation_form(self.network, "forward", "eager", pool.images)
        self.rounds, self.accuracy = 0, 0.0
        self.inside: State | None = None

    def run(self, tick: Callable[[State], None]) -> State | None:
        """Train round by round, and return the features' weights; None if no accuracy was in the band.

        They are those at the first accuracy from the drawn value up to the band's upper end, or, where training leaps
        over these, at the last accuracy in the band.

        Args:
            tick: called after each round with all that the next ones depend on.
        """
        low, high = self.wanted
        while True:
            self.accuracy = self._measure()
            if low <= self.accuracy <= high:
                weights = self.network.state_dict()
                self.inside = {name: w.clone() for name, w in weights.items() if not name.startswith("classifier")}
            if self.accuracy >= self.target or self.rounds == MOST_ROUNDS:
                return self.inside
            rows = draw(self.rows, ROUND, self.rng).to(self.pool.images.device)
            fit(self.network, self.pool.images[rows], self.labels[rows], self.pool.recipe, self.rng)
            self.rounds += 1
            tick(self._state())

    def _measure(self) -> float:
        """Return the accuracy on the held-out images, in percent."""
        rows = self.held_out.to(self.pool.images.device)
        with models.evaluating(self.network):
            correct = count_correct_by_class(self.logits, self.pool.images[rows], self.labels[rows], self.classes)
        return 100 * float(correct.sum()) / len(rows)

    def _state(self) -> State:
        state = {f"{NETWORK}{name}": part for name, part in self.network.state_dict().items()}
        state |= {f"{INSIDE}{name}": part for name, part in (self.inside or {}).items()}
        counters = {"seed": self.seed, "rounds": torch.tensor(self.rounds), "rng": self.rng.get_state()}
        return state | {f"{TRAINING}{name}": part for name, part in counters.items()}

    def restore(self, state: State) -> None:
        """Go on from a checkpoint of this training."""
        self.network.load_state_dict(_select(NETWORK, state))
        self.inside = _select(INSIDE, state) or None
        self.rounds = int(state[f"{TRAINING}rounds"])
        self.rng.set_state(state[f"{TRAINING}rng"])


class _AfterPool(Progress):
    """The progress of a method's own rounds, which come after the training of a pool of networks."""

    def __init__(self, progress: Progress, size: int) -> None:
        self.progress, self.size = progress, size

    def resume(self) -> State | None:
        state = self.progress.resume()
        return None if state is None or f"{TRAINING}seed" in state else state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.progress.tick(self.size + done, self.size + total, state)

    def cache(self, name: str, make: Callable[[], State]) -> State:
        return self.progress.cache(name, make)


def _select(prefix: str, state: State) -> State:
    """Return the parts of a state whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)}
