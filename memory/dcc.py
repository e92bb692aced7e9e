"""Memory condensed with contrastive signals (DCC and DSAC: Lee et al., ICML 2022, arXiv:2202.02916).

As published, the distance is first taken class by class, and later between the gradients' means over all classes, so
that the differences between classes are matched too. DSAC is DCC under Siamese augmentation: the real and the synthetic
images of a class share each random draw. Unlike here, the authors' script normalises CIFAR-100 by the mean and standard
deviation of CIFAR-10 (`utils.py`).
"""

from typing import ClassVar

from harness.core import augment
from harness.core.augment import AugmentName
from harness.core.fields import WholeNumber, configuration
from harness.memory.method import LEARNS, Method, Presets
from harness.memory.shared.matching import GradientMatchingConfig, Loops, match_gradients


@configuration
class DCCConfig(GradientMatchingConfig):
    """The defaults of the authors' script, DCC `main.py`, which always starts from real images."""

    augment: AugmentName = "none"
    from_iteration: WholeNumber = 250
    "First iteration that compares gradients summed over classes; earlier ones compare them class by class."
    from_update: WholeNumber = 10
    "First update of every iteration that compares gradients summed over classes."

    loops: ClassVar[Loops] = {
        **GradientMatchingConfig.loops,
        1: (10, 5),
    }  # DCC `utils.py`: longer at 1 image per class
    presets: ClassVar[Presets] = {
        **GradientMatchingConfig.presets,
        "quick": {**GradientMatchingConfig.presets["quick"], "from_iteration": 5},
    }

    def sums_over_classes(self, iteration: int, update: int) -> bool:
        return iteration >= self.from_iteration or update >= self.from_update


@configuration
class DSACConfig(DCCConfig):
    """DCC's defaults under Siamese augmentation."""

    augment: AugmentName = augment.DSA


DCC = Method(
    match_gradients,
    DCCConfig(),
    LEARNS,
    "Synthetic images whose weight gradients, summed over classes, match the real ones.",
)
DSAC = Method(
    match_gradients,
    DSACConfig(),
    LEARNS,
    "DCC with Siamese augmentation: real and synthetic images share each random draw.",
)
