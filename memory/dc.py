"""Memory condensed by gradient matching (Zhao, Mopuri & Bilen, ICLR 2021, arXiv:2006.05929)."""

from dataclasses import dataclass
from typing import Self

from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels
from harness.core.progress import SILENT, Progress
from harness.memory.around.mutual_information import Term
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.matching import GradientMatchingConfig, Loops, Rates

# Updates of the images per network, and epochs of the network between them: DatasetCondensation `utils.py`, get_loops.
# An ipc of 1 never trains the network.
LOOPS: Loops = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}

# Network -> learning rate of the images where it was published otherwise than 0.1: the same repository, for DSA too.
LR: Rates = {"mlp": 0.01}


@dataclass(frozen=True)
class DCConfig(GradientMatchingConfig):
    """Defaults are those of the authors' script, DatasetCondensation `main.py`."""

    init: str = "noise"
    augment: str = "none"

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """With the published rate and loops; an ipc between the published ones takes the next one's."""
        return self.with_rate(LR).with_loops(LOOPS, ipc)


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DCConfig = DCConfig(),
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    term: Term | None = None,
) -> Memory:
    """Synthetic images on which a network's weights get the gradients that real images give them.

    As published: noise to start from, no augmentation, a distance for every class; see `gradient_matching.condense`.
    """
    return gradient_matching.condense(
        images, labels, budget, rng, cfg.with_loops(LOOPS, budget.ipc), progress, form, term
    )
