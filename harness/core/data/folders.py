"""Images in class folders, or in zip files of class folders: finding and decoding them."""

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from harness.core.data.source import (
    Decoded,
    Pixels,
    Sizes,
    Source,
    check_counts,
    expected_layouts,
    is_hidden,
    walk_files,
)
from harness.core.reading import compose, explain_failures, show, silence_image_warnings

THREADS = 2  # decoding leaves the rest of a shared machine alone


CHUNK = 256  # images decoded per task


SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


GREY = {"1", "L", "LA"}  # PIL's modes that fit one channel without loss


COLOUR = GREY | {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 16-bit and float modes would be clipped: refused


KIND = "a readable image"


class Picture(NamedTuple):
    """One image of a split, not read yet."""

    label: str  # class name
    member: str  # path inside the part, with forward slashes
    part: Path  # directory or zip file

    def __str__(self) -> str:
        return str(self.part / self.member) if self.part.suffix != ".zip" else f"{self.part}, member {self.member}"


def decode_folders(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
    """Decode the images of class folders into arrays; see `layouts.decode`."""
    pictures = _split(source, name)
    names = _class_names(source, pictures)
    rank = {label: row for row, label in enumerate(names)}
    check_counts(source.root, name, sizes, len(names), {split: len(found) for split, found in pictures.items()})
    shape = sizes.shape if sizes else _common_shape(pictures["train"] + pictures["test"], source.resize)
    for split, found in pictures.items():
        images = map_images(into / f"{split}_images.npy", (len(found), *shape))
        read_pixels(found, images, is_resized=source.resize is not None, is_named=sizes is not None)
        labels = np.array([rank[picture.label] for picture in found], dtype=np.int64)
        np.save(into / f"{split}_labels.npy", labels)
    return Decoded(tuple(names), verified=False)


def _split(source: Source, name: str) -> dict[str, list[Picture]]:
    """The images of train and test; test is held out of train where the source says so."""
    train, test = find_pictures(source.train, "train"), find_pictures(source.test, "test")
    if source.holdout is not None:
        if test:
            raise ValueError(f"{source.root}: has test images; leave holdout out, or name train/ alone")
        train, test = _draw_test_images(train, source.holdout)
    advice = ", or hold a share of each class out by folder:PATH,holdout=0.2" if name == "folder" else ""
    for split, found in (("train", train), ("test", test)):
        if not found:
            raise ValueError(f"{source.root}: no {split} images; expected {expected_layouts(name)}{advice}")
    return {"train": train, "test": test}


def _draw_test_images(pictures: list[Picture], share: float) -> tuple[list[Picture], list[Picture]]:
    """Split off a share of each class, at least one image and not all of them, by a draw with a fixed seed.

    Returns:
        The images that remain to train on, and those to test on.
    Raises:
        ValueError: a class has one image only.
    """
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_class[picture.label].append(picture)
    rng = np.random.default_rng(0)
    test: set[Picture] = set()
    for label, members in sorted(by_class.items()):
        count = len(members)
        if count < 2:
            raise ValueError(f"holdout: class {show(label)} has one image, which cannot be in train and in test")
        size = min(max(1, round(share * count)), count - 1)
        test |= {members[row] for row in rng.permutation(count)[:size]}
    return [picture for picture in pictures if picture not in test], [
        picture for picture in pictures if picture in test
    ]


def _class_names(source: Source, pictures: dict[str, list[Picture]]) -> list[str]:
    """The names of the classes, sorted, if both splits have all of them and there are two at least."""
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
    if len(names) < 2:
        raise ValueError(
            f"{source.root}: one class alone ({names[0]}), two at least are needed; the folder right under train/ is "
            "the class of all images in it"
        )
    return names


def map_images(path: Path, shape: tuple[int, ...]) -> Pixels:
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


def find_pictures(parts: tuple[Path, ...], split: str) -> list[Picture]:
    """All images of a split: by number where file names are distinct numbers, which is the official order.

    The class of an image is the folder right under the split, whatever folders lie deeper.
    """
    members = {part: list(_members(part)) for part in parts}
    found = [picture for part in parts for picture in _label(part, _unwrap(part, split, members))]
    stems = [PurePosixPath(picture.member).stem for picture in found]
    if all(_is_number(stem) for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return sorted(found, key=lambda picture: int(PurePosixPath(picture.member).stem))
    return sorted(found)


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdecimal() and len(stem) <= 1000  # Python reads no longer ones as numbers


def _members(part: Path) -> Iterator[str]:
    """The paths of the images in a directory or zip file, hidden files and folders left out."""
    if part.is_dir():
        names = [path.relative_to(part).as_posix() for path in walk_files(part)]
    else:
        with _open_zip(part) as zipped, explain_failures(part, "a whole zip file", part):
            names = zipped.namelist()
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES and not any(is_hidden(part) for part in path.parts):
            yield name


def _unwrap(part: Path, split: str, members: dict[Path, list[str]]) -> list[tuple[str, PurePosixPath]]:
    """Each image of a part with its path in the split, which is shorter where a zip wraps it in one folder more."""
    pairs = [(member, PurePosixPath(member)) for member in members[part]]
    tops = {path.parts[0] for _, path in pairs}
    all_tops = {PurePosixPath(member).parts[0] for own in members.values() for member in own}
    is_wrapped = len(tops) == 1 and (len(all_tops) == 1 or tops <= {split, part.stem})
    if part.is_dir() or not is_wrapped or any(len(path.parts) < 3 for _, path in pairs):
        return pairs
    return [(member, PurePosixPath(*path.parts[1:])) for member, path in pairs]


def _label(part: Path, members: list[tuple[str, PurePosixPath]]) -> Iterator[Picture]:
    """Each image of a part with its class."""
    given = _read_annotations(part / "val_annotations.txt") if part.is_dir() else {}
    for member, path in members:
        label = given.get(path.name) or (path.parts[0] if len(path.parts) > 1 else None)
        if label is None:
            raise ValueError(f"{show(part / member)}: an image outside a class folder; put it into one, or remove it")
        yield Picture(compose(label), member, part)


def _read_annotations(path: Path) -> dict[str, str]:
    """Tiny ImageNet's list of validation images: the name of a file -> its class; empty where there is no list."""
    if not path.exists():
        return {}
    with explain_failures(path, "a list as Tiny ImageNet has it", path):
        lines = path.read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise ValueError(f"{path}: a line has no tab; expected 'file<TAB>class<TAB>...'; copy it again")
    return {row[0]: row[1] for row in rows}


def _common_shape(pictures: list[Picture], resize: int | None) -> tuple[int, int, int]:
    """(C, H, W): of the first image, or as asked for; C is 1 only if all are grey."""
    with PictureReader(pictures) as reader:
        with reader.open(pictures[0]) as first:
            width, height = (resize, resize) if resize else first.size
        for picture in pictures:
            with reader.open(picture) as image:
                if image.mode not in GREY:
                    return 3, height, width
    return 1, height, width


def read_pixels(pictures: list[Picture], images: Pixels, *, is_resized: bool = False, is_named: bool = False) -> None:
    """Decode `pictures` into `images`, (N, C, H, W) uint8, two threads at a time.

    Args:
        is_resized: whether images of other sizes are scaled and cropped.
        is_named: whether they are of a named data set, whose size is fixed.
    """
    with PictureReader(pictures, is_resized, is_named) as reader, ThreadPoolExecutor(THREADS) as threads:

        def read(start: int) -> None:
            for row in range(start, min(start + CHUNK, len(pictures))):
                images[row] = reader.pixels(pictures[row], images.shape[1:])

        try:
            for _ in threads.map(read, range(0, len(pictures), CHUNK)):
                pass
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # one damaged image is enough to stop
            raise


class PictureReader:
    """Opens images, from zip files that stay open as long as it does (reading them is safe from several threads)."""

    def __init__(self, pictures: list[Picture], is_resized: bool = False, is_named: bool = False) -> None:
        self._parts = {picture.part for picture in pictures}
        self._is_resized = is_resized
        self._is_named = is_named
        self._stack = ExitStack()
        self._zips: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> "PictureReader":
        self._stack.enter_context(silence_image_warnings())
        self._zips = {part: self._stack.enter_context(_open_zip(part)) for part in self._parts if not part.is_dir()}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, picture: Picture) -> Image.Image:
        """The image, its size and mode known, its pixels not decoded yet."""
        path = picture.part / picture.member
        if picture.part in self._zips:
            with explain_failures(picture, KIND):
                content = self._zips[picture.part].read(picture.member)
            with explain_failures(picture, KIND, content):
                return Image.open(BytesIO(content))
        with explain_failures(picture, KIND, path):
            return Image.open(path)

    def pixels(self, picture: Picture, shape: tuple[int, ...]) -> Pixels:
        """The image as `shape`, (C, H, W), uint8."""
        channels, height, width = shape
        with self.open(picture) as image:
            if image.size != (width, height) and not self._is_resized:
                advice = "resize it" if self._is_named else f"resize all by folder:PATH,resize={min(width, height)}"
                raise ValueError(
                    f"{show(picture)}: image is {image.width}x{image.height} pixels, the data set's are "
                    f"{width}x{height}; {advice}"
                )
            if image.mode not in (GREY if channels == 1 else COLOUR):
                raise ValueError(
                    f"{show(picture)}: image of mode {image.mode}, the data set's have {channels} "
                    f"channel{'s' * (channels > 1)} of 8 bits; convert it"
                )
            with explain_failures(picture, KIND):
                converted = image.convert("L" if channels == 1 else "RGB")
                if converted.size != (width, height):
                    converted = ImageOps.fit(converted, (width, height), Image.Resampling.BICUBIC)
                pixels = np.asarray(converted)
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _open_zip(path: Path) -> zipfile.ZipFile:
    with explain_failures(path, "a whole zip file", path):
        return zipfile.ZipFile(path)
