"""A cifar10 that is small enough to write."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from harness.core.data import Known, layouts
from harness.core.data.known import KNOWN
from harness.core.data.source import Decoded, Sizes, Source

# A "cifar10" of 4 train and 2 test images of 4x4 pixels: number in the file name -> (class, red of all pixels).
TRAIN = {0: ("cat", 10), 1: ("ape", 20), 2: ("cat", 30), 3: ("ape", 40)}
TEST = {0: ("ape", 50), 1: ("cat", 60)}
SMALL = Known(Sizes((3, 4, 4), 2, 4, 2), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def know(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], **changes))  # type: ignore[arg-type]


def write_image(path: Path, red: int) -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[..., 0] = red
    pixels[0, 0] = 200  # so that no channel is constant
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def write_set(root: Path, shift: int = 0) -> Path:
    for split, images in (("train", TRAIN), ("test", TEST)):
        for number, (label, red) in images.items():
            write_image(root / split / label / f"{number}.png", red + shift)
    return root


def reds(images: Tensor) -> list[int]:
    values: list[int] = images[:, 0, 3, 3].tolist()
    return values


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows by a name whenever something is decoded."""
    calls = []
    decode = layouts.decode

    def counted(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
        calls.append(name)
        return decode(source, name, sizes, into)

    monkeypatch.setattr(layouts, "decode", counted)
    return calls
