"""Whether a small condensed memory can stand in for the full data: one fair evaluator for condensation methods.

import harness
rows = harness.run(harness.CLRun.of("smoke", dataset="digits", memory="herding", steps=5))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.commands.run import Options, run
    from harness.config import CLRun, CondenseRun, NASRun
    from harness.results.tabular import load as tabular

__all__ = ["CLRun", "CondenseRun", "NASRun", "Options", "run", "tabular"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes a second, and `harness --help` needs none of it."""
    if name in ("CLRun", "CondenseRun", "NASRun"):
        from harness import config

        return getattr(config, name)
    if name in ("Options", "run"):
        from harness.commands import run as runs

        return getattr(runs, name)
    if name == "tabular":
        from harness.results.tabular import load

        return load
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
