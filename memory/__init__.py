"""Memory builders: every method on one screen.

A builder is a function `build(images, labels, budget, rng, cfg) -> Memory` whose `cfg` defaults to its frozen
configuration. One that takes long also accepts `progress`, and then survives a kill. Another package offers builders
through the entry-point group `harness.memories`.
"""

import inspect
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from harness.core.memory import Builder
from memory import (
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
    low_rank,
    mmd_pixel,
    mutual_information,
    random_real,
)

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
PLUG_INS = {"lo": low_rank.around, "mim": mutual_information.around}  # `lo-NAME` wraps any builder that fits


def names() -> list[str]:
    """Every builder that can be asked for, those of other packages included."""
    return sorted({*BUILDERS, *(entry.name for entry in entry_points(group="harness.memories"))})


def find(name: str) -> Builder:
    """The builder of that name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name in BUILDERS:
        return BUILDERS[name]
    for entry in entry_points(group="harness.memories", name=name):
        builder: Builder = entry.load()
        return builder
    plug_in, _, host = name.partition("-")
    if plug_in in PLUG_INS and host in BUILDERS:
        return PLUG_INS[plug_in](host, BUILDERS[host])
    near = get_close_matches(name, names(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"memory: {name!r} is unknown; {hint}Known: {', '.join(names())}")


def default_config(builder: Builder) -> Any:
    """The frozen configuration a builder works with unless given another."""
    return inspect.signature(builder).parameters["cfg"].default
