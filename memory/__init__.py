"""Memory builders: every method on one screen.

A builder is a function `build(images, labels, budget, rng, cfg) -> Memory` whose `cfg` defaults to its frozen
configuration. Another package offers builders through the entry-point group `harness.memories`.

What a builder takes besides, by name:
    progress        it takes long, reports its rounds and survives a kill (harness/core/progress.py)
    form, term      it learns images: how they are stored, and an additional loss; so `lo-` and `mim-` fit around it
    rows, of        the places of its images among all train images, and how many those are

What its configuration may have, each optional but `per_class`:
    model, augment, train   filled in by the run: its network, the data's augmentation in the place of DSA's, and the
                    recipe `dm` but for the epochs, whatever recipe judges the memory
    per_class       whether each class depends on its own images alone, and may be built apart
    for_setting     (data set, ipc) -> itself with the hyper-parameters published for them
    presets         preset -> field -> value: what `quick` and `smoke` set otherwise
    iterations      rounds after any of which it can be judged; total: the updates of its images in all
    passes          (classes, images of each, ipc) -> images pushed forward, and forward and backward: what it costs
    beyond          what its results depend on that is no field of it, JSON-able: part of their keys
    unused          its fields that change nothing as the others stand -> why, and who uses them; they are refused
    decoded         (ipc, shape) -> images of each class that networks are trained on, where more than ipc
    stored          False: what is trained on is no memory, as of all the data; True where it is left out
    stores_pixels   False: an 8-bit twin would say nothing; True where it is left out
    check_data      (labels, rows, of) -> None, or ValueError where it does not fit the train images
    scores          a file it reads, which keys know by what it holds
    host            the configuration of the builder it is around
"""

import inspect
from collections.abc import Collection
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any

from harness.core import registry
from harness.core.memory import Builder
from harness.memory import (
    cscore,
    dc,
    dcc,
    dm,
    dsa,
    el2n,
    forgetting,
    full,
    grand,
    herding,
    idc,
    kcenter,
    mmd_pixel,
    random_real,
)
from harness.memory.around import low_rank, mutual_information

BUILDERS: dict[str, Builder] = {
    # real images
    "cscore": cscore.build,
    "el2n": el2n.build,
    "forgetting": forgetting.build,
    "full": full.build,
    "grand": grand.build,
    "herding": herding.build,
    "kcenter": kcenter.build,
    "random": random_real.build,
    # synthetic images
    "dc": dc.build,
    "dcc": dcc.build,
    "dm": dm.build,
    "dsa": dsa.build,
    "dsac": dcc.build_dsac,
    "idc": idc.build,
    "idc-i": idc.build_idc_i,
    "mmd-pixel": mmd_pixel.build,
    # around others
    "lo-dc": low_rank.around("dc", dc.build),
    "lo-dm": low_rank.around("dm", dm.build),
    "lo-dsa": low_rank.around("dsa", dsa.build),
    "mim-dm": mutual_information.around("dm", dm.build),
    "mim-dsa": mutual_information.around("dsa", dsa.build),
}
GROUP = "harness.memories"  # of entry points, where other packages offer builders
PLUG_INS = {"lo": low_rank.around, "mim": mutual_information.around}  # `lo-NAME` wraps any builder that fits


def names() -> list[str]:
    """Every builder that can be asked for, those of other packages included."""
    return registry.names(BUILDERS, GROUP)


def find(name: str, what: str = "memory", besides: Collection[str] = ()) -> Builder:
    """The builder of that name.

    Args:
        what: as those who ask call it; besides: what they may ask for instead. Both for the message alone.
    Raises:
        ValueError: there is none, and the message names the nearest; or another package's cannot be imported.
    """
    plug_in, _, host = name.partition("-")
    if plug_in in PLUG_INS and name not in names() and host in names():
        try:
            return PLUG_INS[plug_in](host, find(host))
        except ValueError as error:
            raise ValueError(f"{error}; {plug_in}- goes around {', '.join(_hosts(plug_in))}") from error
    builder: Builder = registry.find(name, BUILDERS, GROUP, what, besides)
    return builder


def _hosts(plug_in: str) -> list[str]:
    """The builders that a plug-in fits around."""
    hosts = []
    for name in names():
        with suppress(ValueError):
            PLUG_INS[plug_in](name, registry.find(name, BUILDERS, GROUP, "memory"))
            hosts.append(name)
    return hosts


def default_config(builder: Builder) -> Any:
    """The frozen configuration a builder works with unless given another.

    Raises:
        ValueError: it has none.
    """
    cfg = inspect.signature(builder).parameters.get("cfg")
    if cfg is None or isinstance(cfg.default, type) or not is_dataclass(cfg.default):
        raise ValueError(f"memory: {builder.__module__}'s builder needs a parameter cfg that defaults to a dataclass")
    return cfg.default
