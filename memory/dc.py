"""Memory condensed by gradient matching (DC: Zhao, Mopuri & Bilen, ICLR 2021, arXiv:2006.05929).

As published, the images start from noise, there is no augmentation, and the distance between the gradients on real and
on synthetic images is computed class by class. `memory/shared/matching.py` holds the training loops.
"""

from typing import ClassVar

from harness.core.augment import AugmentName
from harness.core.fields import configuration
from harness.core.parametrisation import Start
from harness.memory.method import LEARNS, Method
from harness.memory.shared.matching import GradientMatchingConfig, Rates, match_gradients

# Network -> published learning rate of the images where it is not 0.1 (DatasetCondensation; also for DSA).
RATES: Rates = {"mlp": 0.01}


@configuration
class DCConfig(GradientMatchingConfig):
    """The defaults of the authors' script, DatasetCondensation `main.py`."""

    init: Start = "noise"
    augment: AugmentName = "none"

    rates: ClassVar[Rates] = RATES


METHOD = Method(
    match_gradients,
    DCConfig(),
    LEARNS,
    "Synthetic images whose gradients of a network's weights match those of real images.",
)
