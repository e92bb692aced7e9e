"""Augmentation as pure functions of a batch and drawn parameters.

A strategy, `[FAMILY:]operation_operation_...` or `none`, names the operations and the rule by which they are drawn:
`dsa` where no family is named, `dc` for the evaluation of DC, `idc` for IDC. `draw_shared` and `draw_batch` draw
parameters from a generator; `apply` transforms images by given parameters. Nothing is hidden in between: the same
parameters always do the same, to real and to synthetic images alike. `cutmix` mixes a batch with itself.
"""

from typing import Annotated

from harness.core.augment.dsa import OPERATIONS
from harness.core.augment.mixing import CutMix, cutmix, draw_cutmix
from harness.core.augment.strategy import (
    DC_DIGITS,
    DC_NOISE,
    DSA,
    DSA_WITHOUT_FLIP,
    FAMILIES,
    IDC,
    IDC_EVALUATION,
    IDC_EVALUATION_WITHOUT_FLIP,
    IDC_NETWORK,
    MOST_VALUES,
    Parameters,
    apply,
    draw_batch,
    draw_shared,
    operations,
)
from harness.core.fields import satisfies

AugmentName = Annotated[str, satisfies(operations)]  # the name of a strategy, as a field of a configuration

__all__ = [
    "DC_DIGITS",
    "DC_NOISE",
    "DSA",
    "DSA_WITHOUT_FLIP",
    "FAMILIES",
    "IDC",
    "IDC_EVALUATION",
    "IDC_EVALUATION_WITHOUT_FLIP",
    "IDC_NETWORK",
    "MOST_VALUES",
    "OPERATIONS",
    "AugmentName",
    "CutMix",
    "Parameters",
    "apply",
    "cutmix",
    "draw_batch",
    "draw_cutmix",
    "draw_shared",
    "operations",
]
