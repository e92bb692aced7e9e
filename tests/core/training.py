"""A small network and how it is trained."""

from harness.core import models
from harness.core.recipes import TrainConfig
from tests.core.draws import seeded

SHAPE = (3, 8, 8)
CFG = TrainConfig(epochs=5, lr=0.05, batch_size=16)


def new_network(norm: str = "in", seed: int = 0) -> models.Network:
    return models.build(f"convnet1-w4-{norm}", SHAPE, 2, seeded(seed))
