"""Presets: values that replace the defaults of runs and recipes. A method defines its own values for each preset."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.config.settings import Settings


@dataclass(frozen=True)
class Preset:
    """Values that replace the defaults of runs and recipes."""

    note: str
    run: Mapping[str, Settings] = field(default_factory=dict)  # track -> settings of its runs
    space: Mapping[str, Settings] = field(default_factory=dict)  # search space -> settings of searches in it
    recipe: Settings = field(default_factory=dict)


PRESETS = {
    "paper": Preset("the published protocol; products without a gradient are in bfloat16 where the hardware has it"),
    "quick": Preset(
        "a real answer on two CPU cores in about ten minutes",
        run={
            "cl": {"model": "convnet-d3-w32", "ipc": 10, "orders": (0,), "nets": 2},
            "condense": {"model": "convnet-d3-w32", "sets": 2, "nets": 3},
            "nas": {
                "model": "convnet-d3-w32",
                "ipc": 10,
                "nets": 1,
                "truth_epochs": 2,
                "curve_every": 100,
            },
        },
        # Networks without pooling take three quarters of the time.
        space={"convnet720": {"archs": "width=32,pooling!=none", "subset": 24}},
        recipe={"epochs": 200, "lr": 0.02, "batch_size": 128, "dtype": "auto"},
    ),
    "smoke": Preset(
        "runs all code in seconds; the results are meaningless",
        run={
            "cl": {"model": "convnet-d2-w8", "ipc": 2, "orders": (0,), "nets": 1},
            "condense": {"model": "convnet-d2-w8", "ipc": 2, "sets": 1, "nets": 1},
            "nas": {
                "model": "convnet-d2-w8",
                "ipc": 2,
                "nets": 1,
                "truth_epochs": 1,
            },
        },
        space={"convnet720": {"archs": "width=32,depth<=2,pooling!=none", "subset": 4}},
        recipe={"epochs": 3},
    ),
}
