"""The table of all memory builders; `method.py` describes what a method is."""

import importlib.util
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.core import registry
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
from harness.memory.method import Method, from_function

BUILDERS: dict[str, Method[Any]] = {
    # real images
    "cscore": cscore.METHOD,
    "el2n": el2n.METHOD,
    "forgetting": forgetting.METHOD,
    "full": full.METHOD,
    "grand": grand.METHOD,
    "herding": herding.METHOD,
    "kcenter": kcenter.METHOD,
    "random": random_real.METHOD,
    # synthetic images
    "dc": dc.METHOD,
    "dcc": dcc.DCC,
    "dm": dm.METHOD,
    "dsa": dsa.METHOD,
    "dsac": dcc.DSAC,
    "idc": idc.IDC,
    "idc-i": idc.IDC_I,
    "mmd-pixel": mmd_pixel.METHOD,
    # plug-ins around other methods
    "lo-dc": low_rank.around("dc", dc.METHOD),
    "lo-dm": low_rank.around("dm", dm.METHOD),
    "lo-dsa": low_rank.around("dsa", dsa.METHOD),
    "mim-dm": mutual_information.around("dm", dm.METHOD),
    "mim-dsa": mutual_information.around("dsa", dsa.METHOD),
}
GROUP = "harness.memories"  # the entry points through which other packages offer builders
PLUG_INS = {"lo": low_rank.around, "mim": mutual_information.around}  # prefix of a name such as lo-dm -> plug-in


def names() -> list[str]:
    """Return the names of all methods, including those of other packages."""
    return registry.names(BUILDERS, GROUP)


def find(name: str, what: str = "memory", besides: Collection[str] = ()) -> Method[Any]:
    """Return the method of that name.

    Args:
        name: such as dm, or lo-dm for a plug-in around another method.
        what: what the error message calls a method.
        besides: other values that the caller accepts, which the error message lists too.
    Raises:
        ValueError: no method has the name (the message suggests the nearest one), or a method of another package
            cannot be imported.
    """
    if name in BUILDERS:
        return BUILDERS[name]
    plug_in, _, host = name.partition("-")
    if plug_in in PLUG_INS and name not in names() and host in names():
        try:
            return PLUG_INS[plug_in](host, find(host))
        except ValueError as error:
            raise ValueError(f"{error}; {plug_in}- can be used with {', '.join(_hosts(plug_in))}") from error
    with _former_names():
        offered = registry.find(name, BUILDERS, GROUP, what, besides)
    return offered if isinstance(offered, Method) else from_function(offered)


def _hosts(plug_in: str) -> list[str]:
    """Return the names of the methods that a plug-in fits around."""
    hosts = []
    for name in names():
        with suppress(ValueError):
            PLUG_INS[plug_in](name, find(name))
            hosts.append(name)
    return hosts


@contextmanager
def _former_names() -> Iterator[None]:
    """Let other packages import the modules of this package by their names up to version 0.3.0, as `memory.sampling`.

    A foreign module of the name `memory` keeps its name.
    """
    spec = importlib.util.find_spec("memory") if "memory" not in sys.modules else sys.modules["memory"].__spec__
    added: dict[str, ModuleType] = {}
    if spec is None or (spec.origin and Path(spec.origin).samefile(__file__)):
        ours = {name: module for name, module in sys.modules.items() if name.startswith(f"{__name__}.")}
        added = {"memory": sys.modules[__name__]} | {f"memory.{n.rpartition('.')[2]}": m for n, m in ours.items()}
    before = {name: sys.modules[name] for name in added if name in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]
        sys.modules.update(before)
