"""Where image data come from: what a directory holds, how it is decoded, how it is downloaded.

`find` recognises a layout, `Source.fingerprint` names its state, `decode` turns it into four `.npy` files, `fetch`
downloads the official files. Which of several places is asked, and what is cached, is decided in `data.py`.
"""

import gzip
import hashlib
import os
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Progress = Callable[[int, int], None]  # (bytes done, bytes in all or 0 if not told) of the file under way
Pixels = NDArray[np.uint8]  # (N, C, H, W)
Labels = NDArray[np.int64]  # (N,)

THREADS = 2  # decoding leaves the rest of a shared machine alone
CHUNK = 256  # images decoded per task
TIMEOUT_SECONDS = 30
DECODER = 1  # raise it when decoding changes: older cache entries are then left alone

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "svhn": "SVHN",
}
ARCHIVES = {
    "cifar10": "cifar-10-python.tar.gz",
    "cifar100": "cifar-100-python.tar.gz",
    "tinyimagenet": "tiny-imagenet-200.zip",
}
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FOLDER_NAMES = {"tinyimagenet": ("tiny-imagenet-200",)}  # what a set is called where it comes from
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
GREY = {"1", "L", "LA"}  # PIL's modes that fit one channel without loss
COLOUR = GREY | {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 16-bit and float modes would be clipped: refused


@dataclass(frozen=True)
class Sizes:
    """What a named data set must hold."""

    shape: tuple[int, int, int]  # (C, H, W)
    classes: int
    train: int  # images
    test: int


@dataclass(frozen=True)
class Source:
    """A place whose layout is recognised; nothing is decoded yet."""

    layout: str  # "official" (torchvision's files), "archive" (one file), "folders" (or zips of them)
    root: Path
    files: tuple[Path, ...] = ()  # official: the files found; archive: the one file
    train: tuple[Path, ...] = ()  # folders: directories or zip files of class folders
    test: tuple[Path, ...] = ()

    def fingerprint(self, name: str) -> str:
        """32 hex digits that change with the path in the source, size or mtime of any file that `decode` reads."""
        paths = list(self.files)
        for part in self.train + self.test:
            paths += _walk(part) if part.is_dir() else [part]
        digest = hashlib.sha256(f"{DECODER} {name} {self.layout}\n".encode())
        for path in sorted(paths):
            status = path.stat()
            relative = os.path.relpath(path, self.root)
            digest.update(f"{relative}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]


class Decoded(NamedTuple):
    """What `decode` learnt beside the arrays."""

    classes: tuple[str, ...]  # names by label
    verified: bool  # every file read has the MD5 that torchvision lists for it


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
            _unpack(source.files[0], Path(directory))
            inner = find(name, Path(directory))
            if inner is None or inner.layout == "archive":
                raise ValueError(f"{source.files[0]}: holds no {name}; it should unpack to {expected_layouts(name)}")
            try:
                return decode(inner, name, sizes, into)
            except ValueError as error:  # the paths in it are gone by the time it is read
                raise ValueError(f"{source.files[0]} (unpacked): {str(error).replace(directory, '.')}") from error
    if source.layout == "official":
        return _decode_official(source, name, sizes, into)
    return _decode_folders(source, name, sizes, into)


def expected_layouts(name: str) -> str:
    """What `find` looks for, in words for an error message."""
    words = ["train/ and test/ (or val/) of class folders", "train*.zip and test*.zip of class folders"]
    if name in TORCHVISION:
        words.append(f"torchvision's {TORCHVISION[name]} files")
    if name in ARCHIVES:
        words.append(ARCHIVES[name])
    return ", ".join(words[:-1]) + " or " + words[-1]


# --- recognising -----------------------------------------------------------------------------------------------------


def _torchvision(name: str) -> Any:
    from torchvision import datasets  # its import takes a second that decoded data need not pay

    return getattr(datasets, TORCHVISION[name])


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
    return Source("official", folder.parent, files=tuple(_walk(folder))) if folder.is_dir() else None


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


def _walk(folder: Path) -> list[Path]:
    return [Path(place, file) for place, _, files in os.walk(folder, followlinks=True) for file in files]


# --- official files --------------------------------------------------------------------------------------------------


def _decode_official(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
    kind = _torchvision(name)
    with TemporaryDirectory(dir=into) as directory, warnings.catch_warnings():
        # NumPy 2.4.0 to 2.4.4 warn of the `align=0` in CIFAR's pickles (numpy pull request 31177)
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        root = source.root
        if name in ("mnist", "fashionmnist"):
            root = Path(directory)
            verified = _unpack_idx(source, kind, root / kind.__name__ / "raw")
        else:
            _require_md5(source, name, kind)  # before anything is unpickled
            verified = True
        try:
            if name == "svhn":
                data = {split: kind(root, split=split) for split in ("train", "test")}
            else:
                data = {split: kind(root, train=split == "train") for split in ("train", "test")}
            splits = {split: _as_arrays(part) for split, part in data.items()}
        except (AssertionError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{source.root}: not the files of {name} ({_line(error)}); copy them again") from error
    classes = tuple("0123456789" if name in ("mnist", "svhn") else data["train"].classes)
    _check_counts(source.root, name, sizes, len(classes), {split: len(labels) for split, (_, labels) in splits.items()})
    for split, (images, labels) in splits.items():
        fits = len(images) == len(labels) and labels.max() < len(classes)
        if not fits or (sizes and images.shape[1:] != sizes.shape):
            raise ValueError(
                f"{source.root}: {split} has images {images.shape} and labels {labels.shape} up to {labels.max()}, "
                f"which do not fit {name}; copy the files again"
            )
        np.save(into / f"{split}_images.npy", images)
        np.save(into / f"{split}_labels.npy", labels)
    return Decoded(classes, verified)


def _as_arrays(data: Any) -> tuple[Pixels, Labels]:
    images = np.asarray(data.data, dtype=np.uint8)
    if images.ndim == 3:
        images = images[:, None]  # (N, H, W) -> (N, 1, H, W)
    elif images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W); SVHN's are so already
    labels = np.asarray(data.labels if hasattr(data, "labels") else data.targets, dtype=np.int64)
    return np.ascontiguousarray(images), labels


def _unpack_idx(source: Source, kind: Any, into: Path) -> bool:
    """Put the four idx files unpacked into `into`; whether all four were packed and have the official MD5."""
    into.mkdir(parents=True)
    found = {path.name.removesuffix(".gz"): path for path in source.files}
    verified = True
    for packed, md5 in kind.resources:
        unpacked = packed.removesuffix(".gz")
        path = found.get(unpacked)
        if path is None:
            raise ValueError(f"{source.root}: {packed} is missing; it belongs beside {source.files[0].name}")
        try:
            content = path.read_bytes()
            (into / unpacked).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({_line(error)}); copy it again") from error
        verified = verified and path.suffix == ".gz" and _md5(path) == md5
    return verified


def _require_md5(source: Source, name: str, kind: Any) -> None:
    if name == "svhn":
        listed = [(source.root / file, md5) for _, file, md5 in (kind.split_list["train"], kind.split_list["test"])]
    else:
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        listed = [(source.root / kind.base_folder / file, md5) for file, md5 in files]
    for path, md5 in listed:
        if not path.exists():
            raise ValueError(f"{path}: missing, but belongs to {name}; copy it there")
        if _md5(path) != md5:
            raise ValueError(f"{path}: MD5 is {_md5(path)}, that of {name} is {md5}; copy the file again")


def _unpack(archive: Path, into: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(into)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
    except (EOFError, OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{archive}: damaged, or neither zip nor tar ({_line(error)}); copy it again") from error


# --- class folders ---------------------------------------------------------------------------------------------------


class _Picture(NamedTuple):
    label: str  # class name
    member: str  # path inside the part, with forward slashes
    part: Path  # directory or zip file

    def __str__(self) -> str:
        return str(self.part / self.member) if self.part.suffix != ".zip" else f"{self.part}, member {self.member}"


def _decode_folders(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
    pictures = {"train": _pictures(source.train), "test": _pictures(source.test)}
    for split, found in pictures.items():
        if not found:
            raise ValueError(f"{source.root}: no {split} images; expected {expected_layouts(name)}")
    classes = {split: {picture.label for picture in found} for split, found in pictures.items()}
    for split, other in (("train", "test"), ("test", "train")):
        missing = sorted(classes[other] - classes[split])
        if missing:
            raise ValueError(
                f"{source.root}: {split} lacks {len(missing)} of the classes of {other} "
                f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); "
                "both need a folder with images for every class"
            )
    names = sorted(classes["train"])
    rank = {label: row for row, label in enumerate(names)}
    _check_counts(source.root, name, sizes, len(names), {split: len(found) for split, found in pictures.items()})
    shape = sizes.shape if sizes else _common_shape(pictures["train"] + pictures["test"])
    for split, found in pictures.items():
        images = np.lib.format.open_memmap(
            into / f"{split}_images.npy", mode="w+", dtype=np.uint8, shape=(len(found), *shape)
        )
        _read_pixels(found, images)
        images.flush()
        labels = np.array([rank[picture.label] for picture in found], dtype=np.int64)
        np.save(into / f"{split}_labels.npy", labels)
    return Decoded(tuple(names), verified=False)


def _pictures(parts: tuple[Path, ...]) -> list[_Picture]:
    """All images of a split: by number where file names are distinct numbers, which is the official order."""
    found = [picture for part in parts for picture in _pictures_of(part)]
    stems = [PurePosixPath(picture.member).stem for picture in found]
    if all(stem.isascii() and stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return sorted(found, key=lambda picture: int(PurePosixPath(picture.member).stem))
    return sorted(found)


def _pictures_of(part: Path) -> Iterator[_Picture]:
    if part.is_dir():
        members = [path.relative_to(part).as_posix() for path in _walk(part)]
    else:
        with _opened(part) as zipped:
            members = zipped.namelist()
    annotations = part / "val_annotations.txt"
    given: dict[str, str] = {}
    if part.is_dir() and annotations.exists():
        rows = [line.split("\t") for line in annotations.read_text().splitlines() if line.strip()]
        if any(len(row) < 2 for row in rows):
            raise ValueError(f"{annotations}: a line has no tab; expected 'file<TAB>class<TAB>...'; copy it again")
        given = {row[0]: row[1] for row in rows}
    for member in members:
        path = PurePosixPath(member)
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or path.parts[0] == "__MACOSX":
            continue
        holders = path.parts[:-2] if path.parent.name == "images" else path.parts[:-1]
        label = given.get(path.name) or (holders[-1] if holders else None)
        if label is None:
            raise ValueError(f"{part / member}: an image outside a class folder; put it into one, or remove it")
        yield _Picture(label, member, part)


def _common_shape(pictures: list[_Picture]) -> tuple[int, int, int]:
    """(C, H, W) of the first image; C is 1 only if all are grey."""
    with _Reader(pictures) as reader:
        with reader.open(pictures[0]) as first:
            width, height = first.size
        for picture in pictures:
            with reader.open(picture) as image:
                if image.mode not in GREY:
                    return 3, height, width
    return 1, height, width


def _read_pixels(pictures: list[_Picture], images: Pixels) -> None:
    """Decode `pictures` into `images`, (N, C, H, W) uint8, two threads at a time."""
    with _Reader(pictures) as reader, ThreadPoolExecutor(THREADS) as threads:

        def read(start: int) -> None:
            for row in range(start, min(start + CHUNK, len(pictures))):
                images[row] = reader.pixels(pictures[row], images.shape[1:])

        try:
            for _ in threads.map(read, range(0, len(pictures), CHUNK)):
                pass
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # one damaged image is enough to stop
            raise


class _Reader:
    """Opens images, from zip files that stay open as long as it does (reading them is safe from several threads)."""

    def __init__(self, pictures: list[_Picture]) -> None:
        self._parts = {picture.part for picture in pictures}
        self._stack = ExitStack()
        self._zips: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> "_Reader":
        self._zips = {part: self._stack.enter_context(_opened(part)) for part in self._parts if not part.is_dir()}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, picture: _Picture) -> Image.Image:
        try:
            if picture.part in self._zips:
                return Image.open(BytesIO(self._zips[picture.part].read(picture.member)))
            return Image.open(picture.part / picture.member)
        except (
            EOFError,
            NotImplementedError,
            OSError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
            Image.DecompressionBombError,
        ) as error:
            raise ValueError(f"{picture}: not a readable image ({_line(error)}); copy it again") from error

    def pixels(self, picture: _Picture, shape: tuple[int, ...]) -> Pixels:
        """The image as `shape`, (C, H, W), uint8."""
        channels, height, width = shape
        with self.open(picture) as image:
            if image.size != (width, height):
                raise ValueError(
                    f"{picture}: image is {image.width}x{image.height} pixels, the data set's are "
                    f"{width}x{height}; resize it"
                )
            if image.mode not in (GREY if channels == 1 else COLOUR):
                raise ValueError(
                    f"{picture}: image of mode {image.mode}, the data set's have {channels} "
                    f"channel{'s' * (channels > 1)} of 8 bits; convert it"
                )
            try:
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
            except (EOFError, OSError, SyntaxError, ValueError, zlib.error) as error:
                raise ValueError(f"{picture}: not a readable image ({_line(error)}); copy it again") from error
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a whole zip file ({_line(error)}); copy it again") from error


def _check_counts(root: Path, name: str, sizes: Sizes | None, classes: int, images: dict[str, int]) -> None:
    if sizes is None:
        return
    wanted = {"classes": sizes.classes, "train images": sizes.train, "test images": sizes.test}
    came = {"classes": classes, "train images": images["train"], "test images": images["test"]}
    for what, count in wanted.items():
        if came[what] != count:
            raise ValueError(
                f"{root}: {came[what]} {what}, {name} has {count}; complete it, or name the data set "
                "folder:PATH to use a directory as it is"
            )


# --- downloading -----------------------------------------------------------------------------------------------------


class Remote(NamedTuple):
    """An official file: its name, the places that serve it, its MD5."""

    file: str
    urls: tuple[str, ...]
    md5: str


def remotes(name: str) -> tuple[Remote, ...]:
    """The files to download for `name`, as torchvision lists them; none where it lists none."""
    if name not in TORCHVISION:
        return ()
    kind = _torchvision(name)
    if name == "svhn":
        return tuple(Remote(file, (url,), md5) for url, file, md5 in (kind.split_list[s] for s in ("train", "test")))
    if name in ("mnist", "fashionmnist"):
        return tuple(Remote(file, tuple(m + file for m in kind.mirrors), md5) for file, md5 in kind.resources)
    return (Remote(kind.filename, (kind.url,), kind.tgz_md5),)


def fetch(name: str, directory: Path, progress: Progress | None = None) -> None:
    """Download the official files of `name` into `directory`; what is there already, whole or in part, is kept.

    Raises:
        OSError: no place serves a file, or what came has another MD5. What came in part stays, to be continued.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for remote in remotes(name):
        target = directory / remote.file
        if target.exists() and _md5(target) == remote.md5:
            continue
        failures = []
        for url in remote.urls:
            try:
                _download(url, target, remote.md5, progress)
                break
            except (HTTPException, OSError) as error:
                failures.append(f"{url}: {_line(error)}")
        else:
            raise ConnectionError("; ".join(failures))


def _download(url: str, target: Path, md5: str, progress: Progress | None) -> None:
    part = target.with_name(target.name + ".part")
    part.touch()
    try:
        while True:
            before = part.stat().st_size
            try:
                _receive(url, part, progress)
                break
            except (HTTPException, OSError):
                if part.stat().st_size <= before:  # nothing new came: trying on would not help
                    raise
        came = _md5(part)
        if came != md5:
            part.unlink()
            raise ConnectionError(f"MD5 is {came}, expected {md5}")
        part.replace(target)
    except FileNotFoundError:
        if not target.exists():  # unless another process finished the same file first
            raise


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Continue `part` from its end; several processes may: they write the same bytes to the same places."""
    have = part.stat().st_size
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing beyond what is here; its MD5 will tell
            return
        raise
    with response, part.open("r+b") as file:
        done = have if response.status == 206 else 0
        total = done + int(response.headers.get("Content-Length") or 0)
        file.seek(done)
        while block := response.read(1 << 20):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total)
        if done < total:
            raise ConnectionError(f"connection closed after {done} of {total} bytes")
        file.truncate()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
