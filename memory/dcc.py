"""Memory condensed with contrastive signals (DCC and DSAC: Lee et al., ICML 2022, arXiv:2202.02916).

The gradients of all classes are summed before they are compared, so that what tells classes apart is matched too.
"""

from dataclasses import dataclass
from typing import Self

from torch import Generator, Tensor

from harness.core import augment
from harness.core.checks import check_counts
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels
from harness.core.progress import SILENT, Progress
from harness.memory import dc
from harness.memory.around.mutual_information import Term
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.matching import GradientMatchingConfig, Loops

LOOPS: Loops = {**dc.LOOPS, 1: (10, 5)}  # DCC `utils.py`: a longer schedule at 1 image per class


@dataclass(frozen=True)
class DCCConfig(GradientMatchingConfig):
    """Defaults are those of the authors' script, DCC `main.py`, which always starts from real images."""

    augment: str = "none"
    from_iteration: int = 250  # the contrastive loss is used from this iteration on,
    from_update: int = 10  # or from this update of any; class by class before

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "from_iteration", "from_update", least=0)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """With the published loops; an ipc between the published ones takes the next one's."""
        return self.with_loops(LOOPS, ipc)


@dataclass(frozen=True)
class DSACConfig(DCCConfig):
    """DCC's defaults under Siamese augmentation."""

    augment: str = augment.DSA


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DCCConfig = DCCConfig(),
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    term: Term | None = None,
) -> Memory:
    """Synthetic images whose weight gradients, summed over classes, match the real ones.

    As published: class by class at first, then the distance between the means over classes of both sides' gradients.
    """

    def together(iteration: int, update: int) -> bool:
        return iteration >= cfg.from_iteration or update >= cfg.from_update

    return gradient_matching.condense(
        images, labels, budget, rng, cfg.with_loops(LOOPS, budget.ipc), progress, form, term, together
    )


def build_dsac(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DSACConfig = DSACConfig(),
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    term: Term | None = None,
) -> Memory:
    """DCC under Siamese augmentation: each class has one draw, shared by its real and its synthetic images."""
    return build(images, labels, budget, rng, cfg, progress, form, term)
