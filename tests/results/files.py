"""Row files for tests."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.results import rows


def write_rows(measurements: Iterable[Mapping[Any, Any]], path: Path) -> None:
    """Write a row file; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows.to_csv(measurements))
