"""Configurations: what a run is, the presets, and settings by name."""

from harness.config.assembly import assemble, configure, recipe_for, resolve_form
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
from harness.config.settings import Settings, change, dotted, flatten, plain, restore

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
    "assemble",
    "change",
    "configure",
    "dotted",
    "flatten",
    "plain",
    "recipe_for",
    "resolve_form",
    "restore",
]
