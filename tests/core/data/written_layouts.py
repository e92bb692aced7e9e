"""Images in small layouts, written for tests."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.core.data import layouts
from harness.core.data.source import Decoded, Sizes

TWO_CLASSES = Sizes((3, 4, 4), 2, 4, 2)  # the synthetic class folders below
Array = NDArray[np.uint8]


def colour(value: int, size: int = 4) -> Array:
    """A (size, size, 3) image that carries `value` in its red."""
    return np.dstack([np.full((size, size), v, dtype=np.uint8) for v in (value, 7, 250)])


def png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Numbers cross the classes, and sorting them as text would differ: 10 < 9.
TRAIN = {"cat/10.png": 100, "cat/2.png": 20, "ape/9.png": 90, "ape/1.png": 10}
TEST = {"cat/0.png": 5, "ape/3.png": 35}


def write_folders(root: Path) -> Path:
    for split, members in (("train", TRAIN), ("test", TEST)):
        for member, value in members.items():
            write(root / split / member, png(colour(value)))
    return root


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as zipped:
        for member, content in members.items():
            zipped.writestr(member, content)
    return path


def write_zips(root: Path) -> Path:
    for part in ("ape", "cat"):
        members = {member: png(colour(value)) for member, value in TRAIN.items() if member.startswith(part)}
        write_zip(root / f"train-{part}.zip", members)
    write_zip(root / "test.zip", {member: png(colour(value)) for member, value in TEST.items()})
    return root


def decoded(name: str, path: Path, sizes: Sizes | None, into: Path) -> tuple[Decoded, dict[str, Array]]:
    source = layouts.find(name, path)
    assert source is not None
    into.mkdir()
    result = layouts.decode(source, name, sizes, into)
    assert sorted(file.name for file in into.iterdir()) == sorted(f"{a}.npy" for a in ARRAYS)  # nothing else is left
    return result, {array: np.load(into / f"{array}.npy") for array in ARRAYS}


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
