"""All real images: not a memory, but an upper bound on the accuracy that a memory is expected to reach."""

from typing import ClassVar

from torch import Generator, Tensor

from harness.core.fields import Count, configuration
from harness.core.memory import Budget, Memory
from harness.memory.method import Method, MethodConfig, Presets


@configuration
class FullConfig(MethodConfig):
    """The papers do not print how they train on the whole data set; the number of epochs is our choice."""

    epochs: Count = 100
    "Epochs of training on all images, instead of the recipe's."

    per_class: ClassVar[bool] = True
    stored: ClassVar[bool] = False  # the data set itself is on disk already
    presets: ClassVar[Presets] = {"quick": {"epochs": 4}, "smoke": {"epochs": 1}}

    @property
    def recipe_epochs(self) -> int:
        return self.epochs


def build(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: FullConfig = FullConfig()) -> Memory:
    """All real images, whatever the budget: the accuracy to compare memories with."""
    return Memory(images, labels, real=True, league="full")


METHOD = Method(build, FullConfig())
