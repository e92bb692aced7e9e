"""The layouts in which a directory may hold image data: recognising one, and decoding it into arrays.

`find` recognises a layout, `Source.fingerprint` names its state, and `decode` turns it into four `.npy` files. Which of
several places is asked, and what is cached, is decided in `sets.py`.
"""

import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.data.folders import SUFFIXES, decode_folders
from harness.core.data.official import IDX, decode_official
from harness.core.data.source import (
    ARCHIVES,
    TORCHVISION,
    Decoded,
    Sizes,
    Source,
    expected_layouts,
    is_hidden,
    list_folders,
    walk_files,
)
from harness.core.reading import explain_failures

FOLDER_NAMES = {"tinyimagenet": ("tiny-imagenet-200",)}  # what a set is called where it comes from
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
WRAPPERS = 3  # folders, one in the other, that may lie around the data of an archive


def find(name: str, path: Path) -> Source | None:
    """The first accepted layout of data set `name` in `path`/`name` or `path` itself; None where there is none.

    Accepted, in order: torchvision's layout or the bare official files, the official archive, zip files of class
    folders (`train*.zip` and `test*.zip` or `val*.zip`), class folders under `train/` and `test/` or `val/`. If `path`
    is a file, it is taken as an archive of one of these. `name` "folder" stands for class folders of any kind, which
    may also lie right in `path`, in the one folder in it, or in the one archive in it.
    """
    with explain_failures(path, "a readable file or folder"):
        if path.is_file():
            return Source("archive", path.parent, files=(path,))
        for root in (path / name, *(path / other for other in FOLDER_NAMES.get(name, ())), path):
            if root.is_dir():
                source = _official(name, root) or _archive(name, root) or _folders(root)
                if source:
                    return source
    return _find_any_folder(path) if name == "folder" and path.is_dir() else None


def _find_any_folder(root: Path) -> Source | None:
    """Class folders without train and test right in a folder, or whatever the one folder or archive in it holds."""
    folders = list_folders(root)
    if sum(_holds_images(folder) for folder in folders) > 1:
        return Source("folders", root, train=(root,))
    archives = [path for path in sorted(root.iterdir()) if path.name.endswith(ARCHIVE_SUFFIXES) and path.is_file()]
    if len(archives) == 1 and not folders:
        return Source("archive", root, files=(archives[0],))
    inner = _wrapped(root)
    return None if inner is None else _folders(inner) or _find_flat(inner)


def _find_flat(root: Path) -> Source | None:
    is_flat = sum(_holds_images(folder) for folder in list_folders(root)) > 1
    return Source("folders", root, train=(root,)) if is_flat else None


def _wrapped(root: Path) -> Path | None:
    """The only folder in `root`, or in the only folder there, that holds more than one other; None if there is none."""
    inner = root
    for _ in range(WRAPPERS):
        folders = list_folders(inner)
        if len(folders) != 1:
            break
        (inner,) = folders
    return None if inner == root else inner


def _holds_images(folder: Path) -> bool:
    """Whether there are images right in a folder or in a folder in it."""
    places = [folder, *list_folders(folder)]
    return any(
        path.suffix.lower() in SUFFIXES and not is_hidden(path.name) for place in places for path in place.iterdir()
    )


def decode(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
    """Write `train_images.npy`, `test_images.npy`, (N, C, H, W) uint8, and `*_labels.npy`, (N,) int64, to `into`.

    Args:
        source: from `find`.
        name: the data set, which says how official files are read.
        sizes: what it must hold; None takes the image shape from the first image and any count.
        into: an existing directory; also holds what must be unpacked, while it is needed.
    Raises:
        ValueError: the source is damaged or does not fit `sizes`: one line, what file, what came, what fits.
    """
    if source.layout == "archive":
        with TemporaryDirectory(dir=into) as directory:
            unpack(source.files[0], Path(directory))
            try:
                inner = _find_unpacked(name, Path(directory))
                if inner is not None:
                    inner = replace(inner, resize=source.resize, holdout=source.holdout)
                    return decode(inner, name, sizes, into)
            except ValueError as error:  # the paths in it are gone by the time it is read
                raise ValueError(f"{source.files[0]} (unpacked): {str(error).replace(directory, '.')}") from error
        raise ValueError(f"{source.files[0]}: holds no {name}; it should unpack to {expected_layouts(name)}")
    if source.layout == "official":
        return decode_official(source, name, sizes, into)
    return decode_folders(source, name, sizes, into)


def _find_unpacked(name: str, root: Path) -> Source | None:
    """What an archive holds, be it wrapped in other folders or not; an archive in an archive is not looked into."""
    for place in (root, _wrapped(root)):
        source = None if place is None else find(name, place)
        if source is not None and source.layout != "archive":
            return source
    return None


def _official(name: str, root: Path) -> Source | None:
    if name not in TORCHVISION:
        return None
    if name in ("mnist", "fashionmnist"):
        for folder in (root / TORCHVISION[name] / "raw", root / "raw", root):
            files = tuple(path for file in IDX if (path := _find_packed(folder / file)))
            if files:
                return Source("official", folder, files=files)
        return None
    if name == "svhn":
        files = tuple(path for path in (root / "train_32x32.mat", root / "test_32x32.mat") if path.exists())
        return Source("official", root, files=files) if files else None
    folder_name = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    folder = root if root.name == folder_name else root / folder_name
    return Source("official", folder.parent, files=tuple(walk_files(folder))) if folder.is_dir() else None


def _find_packed(path: Path) -> Path | None:
    """`path` packed, which can be verified, or else as it is, or None."""
    packed = path.with_name(path.name + ".gz")
    if packed.exists():
        return packed
    return path if path.exists() else None


def _archive(name: str, root: Path) -> Source | None:
    file = root / ARCHIVES.get(name, "")
    return Source("archive", root, files=(file,)) if file.is_file() else None


def _folders(root: Path) -> Source | None:
    train = _zips(root, "train") or _class_folders(root / "train")
    test = _zips(root, "test") or _class_folders(root / "test") or _zips(root, "val") or _class_folders(root / "val")
    return Source("folders", root, train=train, test=test) if train or test else None


def _zips(root: Path, split: str) -> tuple[Path, ...]:
    return tuple(sorted(root.glob(f"{split}*.zip")))


def _class_folders(folder: Path) -> tuple[Path, ...]:
    """`folder` if it can be a split: Tiny ImageNet's `test/`, which has no labels, cannot."""
    if not folder.is_dir():
        return ()
    labelled = (folder / "val_annotations.txt").exists()
    return (folder,) if labelled or any(inner.name != "images" for inner in list_folders(folder)) else ()


def unpack(archive: Path, into: Path) -> None:
    """Unpack a zip or tar file; nothing is written outside `into`.

    Raises:
        ValueError: the archive is damaged, or something else.
        OSError: there is no space to unpack it.
    """
    with explain_failures(archive, "a whole zip or tar file", archive):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(into)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
