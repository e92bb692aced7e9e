"""Memory condensed by gradient matching under Siamese augmentation (DSA: Zhao & Bilen, ICML 2021, arXiv:2102.08259).

DSA is DC with two changes. The images start from real ones. For every update and class, one augmentation is drawn and
applied to both real and synthetic images. Between the updates, the network trains under the same operations, drawn for
each image separately.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

from harness.core.fields import configuration
from harness.memory.dc import RATES
from harness.memory.method import LEARNS, Method
from harness.memory.shared.matching import GradientMatchingConfig, Rates, match_gradients

# (data set, ipc) -> published (updates, epochs) where they differ from DC's. Sources: DM, appendix A.1; an author's
# answer in issue 2 of the repository.
PUBLISHED: Mapping[tuple[str, int], tuple[int, int]] = {("cifar100", 50): (10, 10), ("cifar10", 100): (100, 2)}


@configuration
class DSAConfig(GradientMatchingConfig):
    """The defaults of the authors' script, DatasetCondensation `main.py`, with `--method DSA --init real`."""

    rates: ClassVar[Rates] = RATES

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration with the published learning rate and loops; see `with_loops`."""
        updates, epochs = PUBLISHED.get((dataset, ipc), (self.updates, self.epochs))
        cfg = replace(self, updates=self.updates or updates, epochs=self.epochs or epochs)
        return cfg.with_rate().with_loops(ipc)


METHOD = Method(
    match_gradients,
    DSAConfig(),
    LEARNS,
    "Synthetic images whose weight gradients match the real ones, both under the same augmentation.",
)
