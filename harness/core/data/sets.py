"""Data sets by name: where the images are taken from, and the cache of decoded arrays.

A data set is decoded once, into `.npy` arrays under `cache_dir()`, and mapped from there afterwards. Where the images
come from and how they are read, `layouts.py` says.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from harness.core.atomic import write_bytes
from harness.core.data import download, layouts
from harness.core.data.dataset import DataSet, channel_statistics
from harness.core.data.digits import load_digits_set
from harness.core.data.folder_name import parse_folder_name
from harness.core.data.known import ARRAYS, KNOWN, combine, digests, exactness_of, find_known
from harness.core.data.report import Report, report_on
from harness.core.data.source import TORCHVISION, Progress, Sizes, Source, expected_layouts
from harness.core.reading import exists, show

COMPLETE = ".complete"  # marks a download directory that holds all it should


@dataclass(frozen=True)
class Listing:
    """One line of `harness data list`."""

    name: str
    sizes: Sizes
    found: str  # where `load` would take it from now; "" if it would download or fail
    downloadable: bool  # torchvision lists an address


def cache_dir() -> Path:
    """Where decoded and downloaded data are kept: `HARNESS_CACHE`, or `~/.cache/condensation-harness`.

    Raises:
        ValueError: neither is there.
    """
    if given := os.environ.get("HARNESS_CACHE"):
        return Path(given).expanduser()
    try:
        return Path.home() / ".cache" / "condensation-harness"
    except RuntimeError:
        raise ValueError("there is no home directory for decoded data: set HARNESS_CACHE to a writable place") from None


def load(
    name: str, data_dir: Path | None = None, *, official: bool = False, progress: Progress | None = None
) -> DataSet:
    """A data set by name.

    Sources, in order: `data_dir`/`name` or `data_dir` itself (then no other is tried), the same of `HARNESS_DATA`, what
    was imported or downloaded before, a download unless `HARNESS_OFFLINE=1`. `digits` and `folder:PATH` need none.

    Args:
        name: one of `names()`, or `folder:PATH` where PATH holds `train/` and `test/` class folders, or zip files of
            them; `mean` and `std` are then those of its train pixels. `folder:PATH,resize=32` scales and crops images
            to 32 x 32 pixels; `folder:PATH,holdout=0.2` holds a fifth of each class out as test.
        data_dir: where to look, and the only place then.
        official: refuse anything but the official pixels and labels.
        progress: told of a download's bytes, (done, in all) of the file under way.
    Raises:
        ValueError: unknown name; damaged data or data that do not fit the name; not official where that is asked for.
        FileNotFoundError: no data, in one line with the ways to supply them.
    """
    place = _locate(name, data_dir)
    if place is None and data_dir is None and not name.startswith("folder:"):
        fetch(name, progress)
        place = _locate(name, None)
    dataset = _open(name, _require(name, data_dir, place))
    if official:
        require_official(dataset)
    return dataset


def require_official(dataset: DataSet) -> None:
    """Raise ValueError unless the digests of `dataset` are the official ones."""
    if dataset.exactness != "official":
        raise ValueError(
            f"{dataset.name}: the official data are asked for, these are {dataset.exactness} "
            f"(digest {dataset.digest[:12]}); supply the official archive by --data DIR"
        )


def describe(data_dir: Path | None = None) -> tuple[Listing, ...]:
    """Every named data set and where `load` would take it from; reads directories, decodes nothing."""
    return tuple(
        Listing(name, known.sizes, _name_place(_locate(name, data_dir)), name in TORCHVISION)
        for name, known in KNOWN.items()
    )


def check(name: str, data_dir: Path | None = None) -> Report:
    """Load `name` without downloading and compute its digests from the arrays.

    Raises:
        ValueError, FileNotFoundError: as `load`; also ValueError if decoded arrays changed in the cache.
    """
    place = _require(name, data_dir, _locate(name, data_dir))
    return report_on(_open(name, place), _name_place(place), cache_dir() / "data" / _kind(name))


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Download the official files of `name` into the cache, continuing what an earlier call began.

    Args:
        name: one of `names()`.
        progress: called with (bytes done, bytes in all or 0 if not told) of the file under way.
    Returns:
        The directory that holds them; `load` finds them there.
    Raises:
        ValueError: unknown name, or nothing to download.
        FileNotFoundError: no address is known, `HARNESS_OFFLINE=1`, or the download failed; what came stays.
    """
    find_known(name)
    if name == "digits":
        raise ValueError("digits: come with scikit-learn and are always there; nothing is to be fetched")
    if not download.remotes(name):
        raise _missing_error(name, "no address to download it from is known")
    if os.environ.get("HARNESS_OFFLINE") == "1":
        raise _missing_error(name, "HARNESS_OFFLINE=1 forbids the download")
    directory = _downloads(name)
    try:
        download.fetch(name, directory, progress)
        write_bytes(directory / COMPLETE, b"")
    except OSError as error:
        raise _missing_error(name, f"the download failed ({error})") from error
    return directory


def import_data(source: Path, name: str) -> Report:
    """Decode `source` into the cache as `name`, so that later loads need neither `source` nor `data_dir`.

    Args:
        source: a directory in any accepted layout, or one archive of it (zip, tar).
        name: one of `names()` but `digits`; a second import replaces the first.
    Raises:
        ValueError: unknown name; damaged data or data that do not fit it.
        FileNotFoundError: `source` holds nothing usable for `name`.
    """
    find_known(name)
    if name == "digits":
        raise ValueError("digits: comes with scikit-learn; there is nothing to import")
    place = layouts.find(name, source)
    if place is None:
        raise _no_data_error(name, source)
    report = report_on(_open(name, place), _name_place(place), cache_dir() / "data" / _kind(name))
    pointer = {"entry": place.fingerprint(name), "found": report.found}
    write_bytes(_pointer(name), json.dumps(pointer).encode())
    return report


@dataclass(frozen=True)
class _Imported:
    """A decoded data set in the cache that needs its source no more."""

    entry: Path
    found: str  # where its images came from


@dataclass(frozen=True)
class _BuiltIn:
    found: str  # the package that brings it


_Place = Source | _Imported | _BuiltIn


def _locate(name: str, data_dir: Path | None) -> _Place | None:
    """Where to take `name` from without a download; None if there is no such place."""
    if name.startswith("folder:"):
        folder = parse_folder_name(name, data_dir)
        source = layouts.find("folder", folder.path)
        return None if source is None else replace(source, resize=folder.resize, holdout=folder.holdout)
    find_known(name)
    if name == "digits":
        return _BuiltIn("scikit-learn")
    if data_dir is not None:
        return layouts.find(name, data_dir)
    given = os.environ.get("HARNESS_DATA")
    if given and (source := layouts.find(name, Path(given).expanduser())):
        return source
    if _pointer(name).exists():
        pointer = json.loads(_pointer(name).read_text())
        entry = _entry(name, pointer["entry"])
        if _read(name, entry):
            return _Imported(entry, pointer["found"])
    if (_downloads(name) / COMPLETE).exists():
        return layouts.find(name, _downloads(name))
    return None


def _require(name: str, data_dir: Path | None, place: _Place | None) -> _Place:
    if place is not None:
        return place
    if name.startswith("folder:"):
        raise _no_data_error("folder", parse_folder_name(name, data_dir).path)
    if data_dir is not None:
        raise _no_data_error(name, data_dir)
    raise _missing_error(name, "neither imported nor downloaded yet")


def _kind(name: str) -> str:
    """The name without a path: "folder" for folder:PATH."""
    return name.partition(":")[0]


def _downloads(name: str) -> Path:
    return cache_dir() / "downloads" / name


def _entry(name: str, fingerprint: str) -> Path:
    return cache_dir() / "data" / name / fingerprint


def _pointer(name: str) -> Path:
    return cache_dir() / "data" / name / "imported.json"


def _name_place(place: _Place | None) -> str:
    if place is None:
        return ""
    if isinstance(place, Source):
        return str(place.files[0] if place.layout == "archive" else place.root)
    return place.found


def _no_data_error(name: str, path: Path) -> FileNotFoundError:
    if name == "folder" and not exists(path) and not path.is_absolute():
        return FileNotFoundError(
            f"{show(path)}: is no such directory in {Path.cwd()}; give the whole path, or what it is relative to by "
            "--data DIR"
        )
    tried = "" if name == "folder" else f", in it or in {show(path / name)}"
    what = "is no such directory" if not exists(path) else f"holds no {name} data"
    return FileNotFoundError(f"{show(path)}: {what}; expected {expected_layouts(name)}{tried}")


def _missing_error(name: str, why: str) -> FileNotFoundError:
    given = os.environ.get("HARNESS_DATA")
    looked = f"HARNESS_DATA ({given}) and the cache ({cache_dir()})" if given else f"the cache ({cache_dir()})"
    return FileNotFoundError(
        f"{name}: not in {looked}, and {why}; supply it by --data DIR, by HARNESS_DATA=DIR, or once by "
        "`harness data import` or `harness data fetch`; to try things out offline: --dataset digits"
    )


def _open(name: str, place: _Place) -> DataSet:
    """The data set at `place`, decoded first if that was not done before."""
    if isinstance(place, _BuiltIn):
        return load_digits_set()
    if isinstance(place, _Imported):
        dataset = _read(name, place.entry)
    else:
        entry = _entry(_kind(name), place.fingerprint(_kind(name)))
        dataset = _read(name, entry) or _decode(name, place, entry)
    if dataset is None:
        raise FileNotFoundError(f"{cache_dir()}: {name} went away while it was read; run the command again")
    return dataset


def _decode(name: str, source: Source, entry: Path) -> DataSet | None:
    """Decode `source` into `entry`, which appears in one step; of two processes that do so, one result stays."""
    known = KNOWN.get(name)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{entry.parent}: cannot be made ({error}); set HARNESS_CACHE to a writable place") from error
    with TemporaryDirectory(dir=entry.parent, prefix=".decoding-") as directory:
        new = Path(directory, "new")
        new.mkdir()
        decoded = layouts.decode(source, _kind(name), known.sizes if known else None, new)
        arrays = _arrays(new)
        mean, std = (known.mean, known.std) if known else channel_statistics(arrays[0])
        if min(std) == 0:
            raise ValueError(f"{source.root}: a channel is the same in all train pixels, which cannot be normalised")
        four = digests(*arrays, num_classes=len(decoded.classes))
        for other in KNOWN.keys() - {name}:
            if four in KNOWN[other].digests.values():
                raise ValueError(f"{source.root}: holds {other}, not {_kind(name)}; name the data set {other}")
        card = {
            "classes": decoded.classes,
            "verified": decoded.verified,
            "mean": mean,
            "std": std,
            "digests": four,
        }
        write_bytes(new / "card.json", json.dumps(card).encode())
        try:
            new.rename(entry)
        except OSError:
            if _read(name, entry) is None:  # not another process's result, but a damaged one
                entry.rename(Path(directory, "damaged"))
                new.rename(entry)
    return _read(name, entry)


def _read(name: str, entry: Path) -> DataSet | None:
    """The decoded data set in `entry`; None where there is none, or none that is whole."""
    try:
        card = json.loads((entry / "card.json").read_text())
        arrays = _arrays(entry)
        four = (*card["digests"],)
        mean, std, classes = tuple(card["mean"]), tuple(card["std"]), tuple(card["classes"])
        exactness = exactness_of(name, four, card["verified"])
    except (EOFError, KeyError, OSError, TypeError, ValueError):
        return None
    return DataSet(name, *arrays, classes, mean, std, combine(four), exactness)


def _arrays(entry: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Mapped copy-on-write: at hand at once, as large as may be, and writable, as torch wants it.
    train_images, train_labels, test_images, test_labels = (
        torch.from_numpy(np.load(entry / f"{array}.npy", mmap_mode="c")) for array in ARRAYS
    )
    return train_images, train_labels, test_images, test_labels
