"""Memory condensed by gradient matching under Siamese augmentation (DSA: Zhao & Bilen, ICML 2021, arXiv:2102.08259).

As DC, but from real images, and under one augmentation of each class's real and synthetic images, drawn anew for every
update. The network between the updates trains under the same operations, drawn for each image.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

from harness.core.fields import configuration
from harness.memory.dc import RATES
from harness.memory.method import LEARNS, Method
from harness.memory.shared.matching import GradientMatchingConfig, Rates, match_gradients

# (data set, ipc) -> (updates, epochs) where they were published otherwise than DC's: DM, appendix A.1; an author's
# answer in the repository's issue 2.
PUBLISHED: Mapping[tuple[str, int], tuple[int, int]] = {("cifar100", 50): (10, 10), ("cifar10", 100): (100, 2)}


@configuration
class DSAConfig(GradientMatchingConfig):
    """Defaults are those of the authors' script, DatasetCondensation `main.py`, with `--method DSA --init real`."""

    rates: ClassVar[Rates] = RATES

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """The configuration with the published rate and loops; an ipc between two published ones takes the higher's."""
        updates, epochs = PUBLISHED.get((dataset, ipc), (self.updates, self.epochs))
        own = replace(self, updates=self.updates or updates, epochs=self.epochs or epochs)
        return own.with_rate().with_loops(ipc)


METHOD = Method(
    match_gradients,
    DSAConfig(),
    LEARNS,
    "Synthetic images whose weight gradients match the real ones under one augmentation of both.",
)
