"""The networks a method matches in: drawn at random, or trained to a band of accuracy (DM, section 4.4 and Table 4)."""

import re

import torch
from torch import Tensor

from harness.core import compute, models
from harness.core.progress import Along, Progress, State
from harness.core.train import TrainConfig, correct_by_class, fit
from memory.sampling import draw
from memory.synthetic import Draws, shape_of

POOL = 10  # networks trained to the band; the paper does not say how many it had
HELD_OUT = 0.1  # part of the real images that accuracies are measured on
ROUND = 1000  # images trained on between two looks at the accuracy
MOST_ROUNDS = 500  # after which the band counts as out of reach
RECIPE = TrainConfig(epochs=1, lr=0.01, momentum=0.9, schedule="constant")  # ours: the paper does not print its own


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
    """Where an iteration's network comes from: `draw` puts its weights in place."""

    def __init__(self, networks: str, model: str, images: Tensor, labels: Tensor, draws: Draws) -> None:
        self.band, self.model = band(networks), model
        self.images, self.labels, self.draws = images, labels, draws
        self.trained: list[State] = []

    def draw(self, network: models.Network) -> None:
        """Fresh weights, or those of one of the pool's networks, in place; the classifier does not matter."""
        if self.band is None:
            models.draw_weights(network, self.draws.weights)
            return
        while len(self.trained) < POOL:
            self.trained.append(self._train(self.band))
        chosen = self.trained[int(torch.randint(POOL, (1,), generator=self.draws.rng))]
        network.load_state_dict(chosen, strict=False)

    def along(self, progress: Progress) -> Progress:
        """`progress` with the trained networks beside the state, so that they are trained once."""
        return progress if self.band is None else Along(progress, self._keep, self._restore)

    def _train(self, wanted: tuple[float, float]) -> State:
        """The features' weights of a network at the first accuracy inside the band."""
        local = torch.unique(self.labels, return_inverse=True)[1]
        order = torch.randperm(len(local), generator=self.draws.rng)
        held, rest = order[: max(1, int(HELD_OUT * len(order)))], order[max(1, int(HELD_OUT * len(order))) :]
        device, classes = self.images.device, int(local.max()) + 1
        network = models.build(self.model, shape_of(self.images), classes, self.draws.rng)
        network = network.to(device, self.images.dtype)
        logits = compute.evaluation_form(network, "forward", "eager", self.images)
        for _ in range(MOST_ROUNDS):
            network.eval()  # `fit` puts it back
            right = correct_by_class(logits, self.images[held.to(device)], local[held.to(device)], classes)
            accuracy = 100 * float(right.sum()) / len(held)
            if wanted[0] <= accuracy < wanted[1] or accuracy == wanted[1] == 100:
                state = network.state_dict()
                return {name: part.clone() for name, part in state.items() if not name.startswith("classifier")}
            if accuracy >= wanted[1]:
                break
            some = draw(rest, ROUND, self.draws.rng).to(device)
            fit(network, self.images[some], local[some], RECIPE, self.draws.rng)
        raise ValueError(
            f"networks: training stood at {accuracy:.1f} % when it passed {wanted[0]:g}-{wanted[1]:g} % or gave up; "
            "use a wider or another band"
        )

    def _keep(self) -> State:
        return {f"pool.{i}.{name}": part for i, state in enumerate(self.trained) for name, part in state.items()}

    def _restore(self, kept: State) -> None:
        for key, part in kept.items():
            if key.startswith("pool."):
                _, index, name = key.split(".", 2)
                while len(self.trained) <= int(index):
                    self.trained.append({})
                self.trained[int(index)][name] = part
