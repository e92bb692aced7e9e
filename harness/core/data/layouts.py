"""The layouts in which a directory may hold image data: recognising one, and decoding it into arrays.

`find` recognises a layout, `Source.fingerprint` names its state, and `decode` turns it into four `.npy` files. Which of
several places is asked, and what is cached, is decided in `sets.py`.
"""

import tarfile
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.data.folders import decode_folders
from harness.core.data.official import IDX, decode_official
from harness.core.data.source import (
    ARCHIVES,
    TORCHVISION,
    Decoded,
    Sizes,
    Source,
    expected_layouts,
    one_line,
    walk_files,
)

FOLDER_NAMES = {"tinyimagenet": ("tiny-imagenet-200",)}  # what a set is called where it comes from


def find(name: str, path: Path) -> Source | None:
    """The first accepted layout of data set `name` in `path`/`name` or `path` itself; None where there is none.

    Accepted, in order: torchvision's layout or the bare official files, the official archive, zip files of class
    folders (`train*.zip` and `test*.zip` or `val*.zip`), class folders under `train/` and `test/` or `val/`. If `path`
    is a file, it is taken as an archive of one of these. `name` "folder" stands for class folders of any kind.
    """
    if path.is_file():
        return Source("archive", path.parent, files=(path,))
    for root in (path / name, *(path / other for other in FOLDER_NAMES.get(name, ())), path):
        if root.is_dir():
            source = _official(name, root) or _archive(name, root) or _folders(root)
            if source:
                return source
    return None


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
            inner = find(name, Path(directory))
            if inner is None or inner.layout == "archive":
                raise ValueError(f"{source.files[0]}: holds no {name}; it should unpack to {expected_layouts(name)}")
            try:
                return decode(inner, name, sizes, into)
            except ValueError as error:  # the paths in it are gone by the time it is read
                raise ValueError(f"{source.files[0]} (unpacked): {str(error).replace(directory, '.')}") from error
    if source.layout == "official":
        return decode_official(source, name, sizes, into)
    return decode_folders(source, name, sizes, into)


def _official(name: str, root: Path) -> Source | None:
    if name not in TORCHVISION:
        return None
    if name in ("mnist", "fashionmnist"):
        for folder in (root / TORCHVISION[name] / "raw", root / "raw", root):
            files = tuple(path for file in IDX if (path := _packed_or_not(folder / file)))
            if files:
                return Source("official", folder, files=files)
        return None
    if name == "svhn":
        files = tuple(path for path in (root / "train_32x32.mat", root / "test_32x32.mat") if path.exists())
        return Source("official", root, files=files) if files else None
    folder_name = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    folder = root if root.name == folder_name else root / folder_name
    return Source("official", folder.parent, files=tuple(walk_files(folder))) if folder.is_dir() else None


def _packed_or_not(path: Path) -> Path | None:
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
    return (folder,) if labelled or any(p.is_dir() and p.name != "images" for p in folder.iterdir()) else ()


def unpack(archive: Path, into: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(into)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
    except (EOFError, OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{archive}: damaged, or neither zip nor tar ({one_line(error)}); copy it again") from error
