"""A strategy on a stream of the toy set."""

import warnings
from typing import Any

from avalanche.training.plugins import EvaluationPlugin
from torch import Generator, Tensor, nn

from harness.core import models
from harness.core.data import DataSet
from harness.core.memory import Budget
from harness.core.recipes import TrainConfig
from harness.memory import random_real
from harness.scenarios.strategy import CondensedBuffer, MemoryOnly, condense_with

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
STEPS, IPC = 5, 3
MODEL = "convnet-d1-w8"
RECIPE = TrainConfig(epochs=5, lr=0.05, batch_size=8)
Weights = dict[str, Tensor]


def new_buffer(ipc: int = IPC) -> CondensedBuffer:
    return CondensedBuffer(
        condense_with(random_real.build, Budget(ipc), Generator().manual_seed(1), random_real.RandomConfig())
    )


def new_strategy(toy_set: DataSet, **changes: Any) -> MemoryOnly:
    """A strategy on the toy set that asks for no evaluation of its own."""
    usual: dict[str, Any] = {
        "model": models.build(MODEL, toy_set.image_shape, 10, Generator().manual_seed(99)),
        "memory": new_buffer(),
        "recipe": RECIPE,
        "seed": (0, "listed", 0),
        "eval_mb_size": 16,
    }
    given = usual | changes
    if "evaluator" not in given:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No loggers specified")
            given["evaluator"] = EvaluationPlugin()
    return MemoryOnly(**given)


def weights_of(network: nn.Module) -> Weights:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def stream_weights(strategy: MemoryOnly, stream: Any, steps: int = STEPS, evaluations: int = 0) -> list[Weights]:
    """Train on `steps` experiences, evaluating so often after each; the weights after each."""
    after = []
    for t in range(steps):
        strategy.train(stream.train_stream[t], eval_streams=[])
        for _ in range(evaluations):
            strategy.eval(stream.test_stream[: t + 1])
        after.append(weights_of(strategy.model))
    return after
