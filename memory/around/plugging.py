"""What every plug-in asks of the method it goes around."""

import inspect
from typing import Any

from harness.core.memory import Builder


def config_of_host(plug_in: str, name: str, host: Builder, takes: str, why_not: str) -> Any:
    """The default configuration of builder `name`, if the plug-in fits around it.

    Args:
        takes: the parameter the builder must have for it.
    Raises:
        ValueError: it does not fit; `why_not` says so.
    """
    parameters = inspect.signature(host).parameters
    if takes not in parameters:
        raise ValueError(f"{plug_in}: {name} {why_not}")
    cfg = parameters["cfg"].default
    if missing := [method for method in ("for_setting", "passes", "per_class") if not hasattr(cfg, method)]:
        raise ValueError(f"{plug_in}: the configuration of {name} has no {', '.join(missing)}; see memory/__init__.py")
    return cfg


def of_host(host: Any) -> dict[str, str]:
    """What a host's configuration says is unused, by its names in the plug-in's."""
    return {f"host.{name}": why for name, why in getattr(host, "unused", {}).items()}
