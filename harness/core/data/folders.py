"""Images in class folders, or in zip files of class folders: finding and decoding them."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from harness.core.data.source import (
    Decoded,
    Pixels,
    Sizes,
    Source,
    check_counts,
    expected_layouts,
    one_line,
    walk_files,
)

THREADS = 2  # decoding leaves the rest of a shared machine alone


CHUNK = 256  # images decoded per task


SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


GREY = {"1", "L", "LA"}  # PIL's modes that fit one channel without loss


COLOUR = GREY | {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 16-bit and float modes would be clipped: refused


class _Picture(NamedTuple):
    label: str  # class name
    member: str  # path inside the part, with forward slashes
    part: Path  # directory or zip file

    def __str__(self) -> str:
        return str(self.part / self.member) if self.part.suffix != ".zip" else f"{self.part}, member {self.member}"


def decode_folders(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
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
    check_counts(source.root, name, sizes, len(names), {split: len(found) for split, found in pictures.items()})
    shape = sizes.shape if sizes else _common_shape(pictures["train"] + pictures["test"])
    for split, found in pictures.items():
        images = _map_images(into / f"{split}_images.npy", (len(found), *shape))
        _read_pixels(found, images)
        labels = np.array([rank[picture.label] for picture in found], dtype=np.int64)
        np.save(into / f"{split}_labels.npy", labels)
    return Decoded(tuple(names), verified=False)


def _map_images(path: Path, shape: tuple[int, ...]) -> Pixels:
    """Create a `.npy` file of that shape and map it; its space is allocated first, as writing to a full disk by a map
    kills the process.

    Raises:
        OSError: there is not the space.
    """
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def _pictures(parts: tuple[Path, ...]) -> list[_Picture]:
    """All images of a split: by number where file names are distinct numbers, which is the official order."""
    found = [picture for part in parts for picture in _pictures_of(part)]
    stems = [PurePosixPath(picture.member).stem for picture in found]
    if all(stem.isascii() and stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return sorted(found, key=lambda picture: int(PurePosixPath(picture.member).stem))
    return sorted(found)


def _pictures_of(part: Path) -> Iterator[_Picture]:
    if part.is_dir():
        members = [path.relative_to(part).as_posix() for path in walk_files(part)]
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
            raise ValueError(f"{picture}: not a readable image ({one_line(error)}); copy it again") from error

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
                raise ValueError(f"{picture}: not a readable image ({one_line(error)}); copy it again") from error
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a whole zip file ({one_line(error)}); copy it again") from error
