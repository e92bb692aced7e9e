"""The tracks: each plans the units of its runs, does a unit, and makes rows of the finished units."""

from collections.abc import Mapping
from typing import Any

from harness.tracks import search, static, stream
from harness.tracks.base import Track

TRACKS: Mapping[str, Track[Any, Any]] = {"cl": stream, "condense": static, "nas": search}
