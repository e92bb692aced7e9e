"""Configurations of runs, presets, and settings by name."""

from harness.config.assembly import adapt_recipe, assemble, configure, resolve_form
from harness.config.presets import PRESETS
from harness.config.runs import (
    EARLY_STOPPING,
    FULL,
    RUNS,
    TABULAR,
    ZERO_COST,
    AnyRun,
    CLRun,
    CondenseRun,
    FileMemory,
    NASRun,
    Run,
)
from harness.config.settings import Settings, change, flatten, restore, to_dotted, to_plain

__all__ = [
    "EARLY_STOPPING",
    "FULL",
    "PRESETS",
    "RUNS",
    "TABULAR",
    "ZERO_COST",
    "AnyRun",
    "CLRun",
    "CondenseRun",
    "FileMemory",
    "NASRun",
    "Run",
    "Settings",
    "adapt_recipe",
    "assemble",
    "change",
    "configure",
    "flatten",
    "resolve_form",
    "restore",
    "to_dotted",
    "to_plain",
]
