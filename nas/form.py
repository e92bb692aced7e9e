"""The form of computing in which a candidate is trained: compiled where that pays for its images."""

from dataclasses import replace

import torch

from harness.core import models
from harness.core.models import ConvNetSpec
from harness.core.train import TrainConfig

# Images of a whole training, by type of device, below which a network is not compiled. On a CPU, compiling its graphs
# takes 2 to 17 s of a core and saves 0.03 to 0.12 ms an image at width 32. The number for CUDA is UNMEASURED: by it,
# the proxies of the papers' sizes are eager and the truth of 100 epochs is compiled.
COMPILE_FROM = {"cpu": 150_000, "cuda": 2_000_000}


def choose_form(recipe: TrainConfig, model: str, images: int, device: str) -> TrainConfig:
    """Return the recipe, eager if compiling the network takes longer than it saves.

    On a CPU the recipe is eager also if a compiled network is no faster. A network with max pooling under instance or
    group norm is then trained in float32, which is 1.0 to 1.4 times as fast for it as bfloat16.

    Args:
        recipe: of the training; an eager one is returned as it is.
        model: name of the network.
        images: how many images an epoch has.
        device: name of the device.
    """
    device_type = torch.device(device).type
    if recipe.compute == "eager":
        return recipe
    pays = recipe.rounds * images >= COMPILE_FROM[device_type]
    if device_type != "cpu":
        return recipe if pays else replace(recipe, compute="eager")
    if pays and _compiles_well(model):
        return recipe
    spec = models.parse(model)
    if isinstance(spec, ConvNetSpec) and spec.pooling == "maxpooling" and spec.norm in ("instancenorm", "groupnorm"):
        return replace(recipe, compute="eager", dtype="float32")
    return replace(recipe, compute="eager")


def _compiles_well(model: str) -> bool:
    """Return whether a network is faster when it is compiled for a CPU.

    It is with instance norm, and with average pooling under batch norm or no norm. Forward and backward in bfloat16
    against the fastest eager form (width 32, depths 1 to 4, one core), these are 1.3 to 2.2 times as fast, and others
    0.2 to 1.25 times.
    """
    spec = models.parse(model)
    if not isinstance(spec, ConvNetSpec):
        return True
    return spec.norm == "instancenorm" or (spec.pooling == "avgpooling" and spec.norm in ("batchnorm", "nonorm"))
