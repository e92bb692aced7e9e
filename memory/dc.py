"""Memory condensed by gradient matching (DC: Zhao, Mopuri & Bilen, ICLR 2021, arXiv:2006.05929).

As published: the images start from noise, nothing is augmented, and the distance between the gradients of real and
synthetic images is taken class by class. The loops are those of `memory/shared/matching.py`.
"""

from typing import ClassVar

from harness.core.augment import AugmentName
from harness.core.fields import configuration
from harness.core.parametrisation import Start
from harness.memory.method import LEARNS, Method
from harness.memory.shared.matching import GradientMatchingConfig, Rates, match_gradients

# Network -> learning rate of the images where it was published otherwise than 0.1: DatasetCondensation, for DSA too.
RATES: Rates = {"mlp": 0.01}


@configuration
class DCConfig(GradientMatchingConfig):
    """Defaults are those of the authors' script, DatasetCondensation `main.py`."""

    init: Start = "noise"
    augment: AugmentName = "none"

    rates: ClassVar[Rates] = RATES


METHOD = Method(
    match_gradients,
    DCConfig(),
    LEARNS,
    "Synthetic images whose gradients of a network's weights match those of real images.",
)
