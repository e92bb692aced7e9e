"""The name of a folder of images as a data set: folder:PATH, and how its images are to be taken."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from harness.core.reading import exists, expand, require_text

PREFIX = "folder:"
OPTION = re.compile(r",(resize|holdout)=([^,=/]*)$")


class FolderName(NamedTuple):
    """What a name such as `folder:photos,resize=32,holdout=0.2` says."""

    path: Path
    resize: int | None = None  # scale and crop images to resize x resize pixels
    holdout: float | None = None  # the share of each class that serves as test


def parse_folder_name(name: str, data_dir: Path | None = None) -> FolderName:
    """Read a name of the form folder:PATH[,resize=N][,holdout=SHARE].

    A relative PATH is looked for in the working directory, then in `data_dir`, then in HARNESS_DATA, so that the same
    name works from elsewhere.

    Raises:
        ValueError: there is no path, it is no text, or an option has a value that does not fit.
    """
    text = name.removeprefix(PREFIX)
    options: dict[str, str] = {}
    while not exists(expand(text)) and (found := OPTION.search(text)):
        options.setdefault(found[1], found[2])
        text = text[: found.start()]
    if not text:
        raise ValueError("folder: wants a path, such as folder:photos")
    require_text(text, "folder")
    return FolderName(_place(expand(text), data_dir), _resize(options), _holdout(options))


def _place(path: Path, data_dir: Path | None) -> Path:
    bases = (data_dir, os.environ.get("HARNESS_DATA"))
    places = [path, *(expand(base) / path for base in bases if base)]
    return next((place for place in places if exists(place)), path)


def _resize(options: dict[str, str]) -> int | None:
    if "resize" not in options:
        return None
    text = options["resize"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) >= 1):
        raise ValueError(f"folder: resize is a number of pixels, such as resize=32, got {text!r}")
    return int(text)


def _holdout(options: dict[str, str]) -> float | None:
    if "holdout" not in options:
        return None
    try:
        share = float(options["holdout"])
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"folder: holdout is a share between 0 and 1, such as holdout=0.2, got {options['holdout']!r}")
    return share
