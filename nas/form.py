"""The form of computing in which a candidate is trained: compiled where that pays for its images."""

from dataclasses import replace

import torch

from harness.core import models
from harness.core.compute import tuning
from harness.core.models import ConvNetSpec
from harness.core.recipes import TrainConfig


def choose_form(recipe: TrainConfig, model: str, images: int, device: str) -> TrainConfig:
    """Return the recipe, eager if compiling the network takes longer than it saves.

    On a CPU the recipe is eager also if a compiled network is no faster. A network that is faster in float32 than in
    bfloat16 is then trained in float32.

    Args:
        recipe: of the training; an eager one is returned as it is.
        model: name of the network.
        images: how many images an epoch has.
        device: name of the device.
    """
    device_type = torch.device(device).type
    if recipe.compute == "eager":
        return recipe
    pays = recipe.rounds * images >= tuning.COMPILE_FROM[device_type]
    if device_type != "cpu":
        return recipe if pays else replace(recipe, compute="eager")
    if pays and _compiles_well(model):
        return recipe
    spec = models.parse(model)
    if isinstance(spec, ConvNetSpec) and tuning.gains_from_float32(spec.norm, spec.pooling):
        return replace(recipe, compute="eager", dtype="float32")
    return replace(recipe, compute="eager")


def _compiles_well(model: str) -> bool:
    """Return whether a network is faster when it is compiled for a CPU."""
    spec = models.parse(model)
    return not isinstance(spec, ConvNetSpec) or tuning.gains_from_compiling(spec.norm, spec.pooling)
