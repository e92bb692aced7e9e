"""Checks that configurations share: each names the setting, says what fits and what came, and raises ValueError."""

import math
from typing import Any


def check_counts(config: Any, *names: str, least: int = 1) -> None:
    """Raise ValueError unless these fields of `config` are whole numbers, `least` or more; None is left open."""
    for name in names:
        value = getattr(config, name)
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{name}: at least {least} is needed, got {value}")


def check_above(config: Any, *names: str) -> None:
    """Raise ValueError unless these fields of `config` are finite and above 0."""
    for name in names:
        if not (math.isfinite(value := getattr(config, name)) and value > 0):
            raise ValueError(f"{name}: a finite number above 0 is needed, got {value}")


def check_sgd(config: Any, *rates: str) -> None:
    """Raise ValueError unless `config.lr` and other `rates` are finite and above 0, and `config.momentum` in [0, 1)."""
    check_above(config, "lr", *rates)
    if not 0 <= config.momentum < 1:
        raise ValueError(f"momentum: 0 or more and below 1 is needed, got {config.momentum}")
