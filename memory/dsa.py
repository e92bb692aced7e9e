"""Memory condensed by gradient matching under Siamese augmentation (Zhao & Bilen, ICML 2021, arXiv:2102.08259)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels
from harness.core.progress import SILENT, Progress
from harness.memory import dc
from harness.memory.around.mutual_information import Term
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.matching import GradientMatchingConfig

# (data set, ipc) -> (updates, epochs) where they were published otherwise than DC's: DM, appendix A.1; an author's
# answer in the repository's issue 2.
PUBLISHED: Mapping[tuple[str, int], tuple[int, int]] = {("cifar100", 50): (10, 10), ("cifar10", 100): (100, 2)}


@dataclass(frozen=True)
class DSAConfig(GradientMatchingConfig):
    """Defaults are those of the authors' script, DatasetCondensation `main.py`, with `--method DSA --init real`."""

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """With the published rate and loops; an ipc between the published ones takes the next one's."""
        updates, epochs = PUBLISHED.get((dataset, ipc), (self.updates, self.epochs))
        own = replace(self, updates=self.updates or updates, epochs=self.epochs or epochs)
        return own.with_rate(dc.LR).with_loops(dc.LOOPS, ipc)


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DSAConfig = DSAConfig(),
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    term: Term | None = None,
) -> Memory:
    """Synthetic images whose weight gradients match the real ones under one augmentation of both.

    As DC, from real images, and trained on under the same operations, drawn for each image.
    """
    return gradient_matching.condense(
        images, labels, budget, rng, cfg.with_loops(dc.LOOPS, budget.ipc), progress, form, term
    )
