"""Recipes for training a network on labelled images: their names and hyper-parameters."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from harness.core import augment, registry
from harness.core.augment import AugmentName
from harness.core.fields import Count, Momentum, NonNegative, Positive, Probability, configuration, one_of
from harness.core.models import ConvNetSpec, Spec


@dataclass(frozen=True)
class Schedule:
    """The number of epochs that a recipe runs, and the learning rate in each of them."""

    extra: int  # epochs in addition to `TrainConfig.epochs`
    drops: Callable[[int], tuple[int, ...]]  # `TrainConfig.epochs` -> epochs before which the learning rate drops
    factor: float  # by which the learning rate is multiplied at each drop
    restarts: bool  # whether the momentum of the optimiser is reset at each drop


SCHEDULES = {
    # DatasetCondensation `utils.py`, `evaluate_synset`: E + 1 epochs; after the one with index E // 2 + 1 the learning
    # rate drops to a tenth and a new optimiser is created.
    "dm": Schedule(1, lambda epochs: (epochs // 2 + 2,), 0.1, restarts=True),
    # Efficient-Dataset-Condensation: MultiStepLR at two thirds and five sixths.
    "idc": Schedule(0, lambda epochs: (2 * epochs // 3, 5 * epochs // 6), 0.2, restarts=False),
    # The papers do not say how they train the candidates of a search; here the rate drops to a tenth in the middle.
    "nas": Schedule(0, lambda epochs: (epochs // 2,), 0.1, restarts=False),
    "constant": Schedule(0, lambda epochs: (), 1.0, restarts=False),  # a network trained between two updates
}


@configuration
class TrainConfig:
    """The hyper-parameters of training a network. The defaults are those of the evaluation of DSA and DM."""

    epochs: Count = 1000
    "Passes over the images."
    lr: Positive = 0.01
    "Learning rate of SGD."
    momentum: Momentum = 0.9
    "Momentum of SGD."
    weight_decay: NonNegative = 5e-4
    "Weight decay of SGD."
    batch_size: Count = 256
    "Images in a batch."
    augment: AugmentName = augment.DSA
    "Augmentation of each batch: see harness/core/augment; none for none."
    cutmix: Probability = 0.0
    "Probability that a batch is mixed with itself (CutMix, arXiv:1905.04899)."
    schedule: Annotated[str, one_of(SCHEDULES, "schedule")] = "dm"
    "Schedule of the learning rate: dm, idc, nas or constant."
    compute: str = "eager"
    "Form of computing: eager or compiled."
    dtype: str = "float32"
    "Type of products; weights stay in float32 under bfloat16 and tf32 too; auto decides by the hardware."

    @property
    def rounds(self) -> int:
        """The number of epochs that are run, including those that the schedule adds."""
        return self.epochs + SCHEDULES[self.schedule].extra

    @property
    def drops(self) -> tuple[int, ...]:
        """The epochs before which the learning rate drops."""
        return SCHEDULES[self.schedule].drops(self.epochs)


def dm_recipe(dataset: str, network: Spec) -> TrainConfig:
    """The evaluation of DSA and DM: 1000 epochs with Siamese augmentation, one operation for each batch."""
    return TrainConfig(augment=choose_augmentation(dataset))


def dc_recipe(dataset: str, network: Spec) -> TrainConfig:
    """The evaluation of DC: 300 epochs without augmentation; 1000 with it for digits and ConvNets with BatchNorm.

    Other networks with BatchNorm are trained like networks without it, as in the authors' script.
    """
    strategy = "none"
    if isinstance(network, ConvNetSpec) and network.has_batchnorm:
        strategy = augment.DC_NOISE
    elif dataset in ("mnist", "digits"):
        strategy = augment.DC_DIGITS
    return TrainConfig(epochs=300 if strategy == "none" else 1000, augment=strategy)


def idc_recipe(dataset: str, network: Spec) -> TrainConfig:
    """The evaluation of IDC: 1000 epochs in batches of 64, IDC's augmentation, and CutMix with probability 0.5.

    The authors' script does not use CutMix for MNIST under `idc` or for SVHN under `idc-i` with one image per class. A
    recipe does not know the method: set `cutmix=0` for these cases.
    """
    flips = choose_augmentation(dataset) == augment.DSA
    strategy = augment.IDC_EVALUATION if flips else augment.IDC_EVALUATION_WITHOUT_FLIP
    return TrainConfig(batch_size=64, augment=strategy, cutmix=0.5, schedule="idc")


def nas_recipe(dataset: str, network: Spec) -> TrainConfig:
    """The training of candidates in a search: DM's 200 epochs in batches of 250 with Siamese augmentation.

    The paper does not state the optimiser and its schedule; those used here are this project's choice.
    """
    return TrainConfig(epochs=200, batch_size=250, augment=choose_augmentation(dataset), schedule="nas")


Recipe = Callable[[str, Spec], TrainConfig]  # (name of the data set, network) -> configuration of the training

RECIPES: dict[str, Recipe] = {"dc": dc_recipe, "dm": dm_recipe, "idc": idc_recipe, "nas": nas_recipe}
GROUP = "harness.recipes"  # the entry points through which other packages offer recipes


def list_recipes() -> list[str]:
    """Return the names of all recipes, including those of other packages."""
    return registry.names(RECIPES, GROUP)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    A recipe of another package is a function of the data set and of whether the network has BatchNorm.

    Raises:
        ValueError: no recipe has the name (the message suggests the nearest one), or another package's cannot be
            imported.
    """
    if name in RECIPES:
        return RECIPES[name]
    plugin: Callable[[str, bool], TrainConfig] = registry.find(name, {}, GROUP, "recipe", besides=RECIPES)

    @functools.wraps(plugin)
    def recipe(dataset: str, network: Spec) -> TrainConfig:
        return plugin(dataset, network.has_batchnorm)

    return recipe


def choose_augmentation(dataset: str) -> str:
    """Return the Siamese augmentation of a data set: all six operations, but no flip for images of digits."""
    return augment.DSA_WITHOUT_FLIP if dataset in ("mnist", "svhn", "digits") else augment.DSA
