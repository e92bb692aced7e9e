"""What a place with image data is, once its layout is recognised, and what is checked of any such place."""

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.core.reading import explain_failures, show

Progress = Callable[[int, int], None]  # (bytes done, bytes in all or 0 if not told) of the file under way


Pixels = NDArray[np.uint8]  # (N, C, H, W)


Labels = NDArray[np.int64]  # (N,)


DECODER = 2  # raise it when decoding changes: older cache entries are then left alone


# What Synology's and QNAP's servers, macOS, Windows and Python put beside images.
SYSTEM_FOLDERS = {
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "@Recycle",
    "@eaDir",
    "System Volume Information",
    "__MACOSX",
    "__pycache__",
    "lost+found",
}


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
    resize: int | None = None  # folders: scale and crop images to resize x resize pixels
    holdout: float | None = None  # folders: the share of each class of train that serves as test

    def fingerprint(self, name: str) -> str:
        """32 hex digits that change with the path in the source, size or mtime of any file that `decode` reads.

        Raises:
            ValueError: a file cannot be looked at, such as a link to nothing.
        """
        paths = list(self.files)
        for part in self.train + self.test:
            paths += walk_files(part) if part.is_dir() else [part]
        options = [f" {key}={value}" for key in ("resize", "holdout") if (value := getattr(self, key)) is not None]
        digest = hashlib.sha256(f"{DECODER} {name} {self.layout}{''.join(options)}\n".encode())
        for path in sorted(paths):
            with explain_failures(path, "a readable file"):
                status = path.stat()
            relative = os.fsencode(os.path.relpath(path, self.root))  # a name need not be UTF-8
            digest.update(relative + f"\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]


class Decoded(NamedTuple):
    """What `decode` learnt beside the arrays."""

    classes: tuple[str, ...]  # names by label
    verified: bool  # every file read has the MD5 that torchvision lists for it


def expected_layouts(name: str) -> str:
    """What `find` looks for, in words for an error message."""
    words = ["train/ and test/ (or val/) of class folders", "train*.zip and test*.zip of class folders"]
    if name in TORCHVISION:
        words.append(f"torchvision's {TORCHVISION[name]} files")
    if name in ARCHIVES:
        words.append(ARCHIVES[name])
    return ", ".join(words[:-1]) + " or " + words[-1]


def torchvision_class(name: str) -> Any:  # what its data sets share has no type that says it
    """Torchvision's class of a data set, which knows its files and their MD5."""
    from torchvision import datasets  # its import takes a second that decoded data need not pay

    return getattr(datasets, TORCHVISION[name])


def walk_files(folder: Path) -> list[Path]:
    """All files under a folder, links followed; what systems and programs keep beside them is left out.

    Raises:
        ValueError: a folder cannot be read, or a link leads to a folder that the link itself lies in.
    """
    files: list[Path] = []
    waiting = [(folder, frozenset({os.path.realpath(folder)}))]  # folders, with the real paths of what they lie in
    while waiting:
        place, above = waiting.pop()
        with explain_failures(place, "a readable folder"), os.scandir(place) as scanned:
            entries = sorted((entry.name, _is_folder(entry)) for entry in scanned)
        for name, is_folder in entries:
            if is_hidden(name):
                continue
            if not is_folder:
                if not _is_pipe(place / name):
                    files.append(place / name)
                continue
            real = os.path.realpath(place / name)
            if real in above:
                raise ValueError(f"{show(place / name)}: a loop of links; remove the link")
            waiting.append((place / name, above | {real}))
    return files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is refused when the file it would be is read
        return False


def _is_pipe(path: Path) -> bool:
    """Whether reading a path would wait for ever: a pipe, a socket or a device."""
    with suppress(OSError):
        mode = path.stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or what a system keeps beside the user's files."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def list_folders(folder: Path) -> list[Path]:
    """The folders right under a folder, by name, less hidden ones."""
    with explain_failures(folder, "a readable folder"):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def check_counts(root: Path, name: str, sizes: Sizes | None, classes: int, images: dict[str, int]) -> None:
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


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
