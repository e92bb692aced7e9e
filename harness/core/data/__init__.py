"""Image data: data sets by name, the layouts they are read from, and what is known of them."""

from harness.core.data.dataset import DataSet, channel_statistics, per_channel
from harness.core.data.known import KNOWN, Known, combine, digests, names
from harness.core.data.report import Report
from harness.core.data.sets import (
    Listing,
    cache_dir,
    check,
    describe,
    fetch,
    import_data,
    load,
    require_official,
)

__all__ = [
    "KNOWN",
    "DataSet",
    "Known",
    "Listing",
    "Report",
    "cache_dir",
    "channel_statistics",
    "check",
    "combine",
    "describe",
    "digests",
    "fetch",
    "import_data",
    "load",
    "names",
    "per_channel",
    "require_official",
]
