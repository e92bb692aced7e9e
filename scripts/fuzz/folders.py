"""Image folders and archives, damaged or odd."""

import contextlib
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = (
    "cat",
    "dog",
    "ape",
    "caf\u00e9",
    "cafe\u0301",
    "0",
    "a b",
    "-x",
    "images",
    "train",
    ".hidden",
    "__MACOSX",
    "x" * 200,
)
FORMATS = ("png", "jpg", "bmp", "gif", "tif", "webp", "pgm")
MODES = ("RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "F", "LA")
JUNK = (
    b"",
    b"<!DOCTYPE html><html>",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"\0" * 64,
    b"PK\3\4",
    b"\x80\2}q\0.",
)
ODD_NAMES = (b"\xff\xfe", b"caf\xe9", b"new\nline", b"tab\there", b" ", b"~", b"%s{}", b"'\"")


def fuzz_folder(rng: random.Random) -> list[str]:
    """A folder of images, damaged in up to three ways."""
    root = Path("set")
    put_folder(rng, root)
    for _ in range(rng.randrange(4)):
        rng.choice(FOLDER_DAMAGES)(rng, root)
    return ["data", "check", f"folder:set{choose_options(rng)}"]


def choose_options(rng: random.Random) -> str:
    return rng.choice(["", "", "", ",resize=4", ",holdout=0.3", ",resize=5,holdout=0.5", ",resize=", ",holdout=9"])


def put_folder(rng: random.Random, root: Path) -> None:
    names = rng.sample(CLASSES, rng.randrange(1, 4))
    splits = rng.choice([("train", "test"), ("train", "test"), ("train", "val"), ("train",), (".",)])
    inner = rng.choice(["", "", "", "2019", "images", ".ipynb_checkpoints"])
    kind = rng.choice(FORMATS) if rng.random() < 0.3 else "png"
    for split in splits:
        for name in names:
            place = root / split / name / inner
            place.mkdir(parents=True, exist_ok=True)
            for number in range(rng.randrange(1, 4)):
                put_image(rng, place / f"{number}.{kind}")


def put_image(rng: random.Random, path: Path, mode: str = "RGB", size: int = 6) -> None:
    pixels = np.frombuffer(rng.randbytes(size * size * 3), dtype=np.uint8).reshape(size, size, 3)
    with contextlib.suppress(OSError, ValueError, KeyError):  # not every format has every mode
        Image.fromarray(pixels).convert(mode).save(path)


def pick_file(rng: random.Random, root: Path) -> Path | None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return rng.choice(files) if files else None


def pick_folder(rng: random.Random, root: Path) -> Path:
    return rng.choice([root, *sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())])


def cut_file(rng: random.Random, root: Path) -> None:
    if path := pick_file(rng, root):
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content) + 1)])


def change_bytes(rng: random.Random, root: Path) -> None:
    if path := pick_file(rng, root):
        path.write_bytes(damage(rng, path.read_bytes()))


def damage(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 30])):
        if changed:
            place = rng.randrange(min(len(changed), rng.choice([32, 512, len(changed)])))
            changed[place] = rng.choice([0, 255, rng.randrange(256)])
    return bytes(changed)


def put_junk(rng: random.Random, root: Path) -> None:
    name = rng.choice(["9.png", "9.jpg", "9.tif", "notes.txt", "val_annotations.txt", "Thumbs.db"])
    (pick_folder(rng, root) / name).write_bytes(rng.choice([*JUNK, rng.randbytes(50), b"a\xff\tb\n"]))


def put_odd_image(rng: random.Random, root: Path) -> None:
    path = pick_folder(rng, root) / f"8.{rng.choice(FORMATS)}"
    put_image(rng, path, rng.choice(MODES), rng.choice([1, 5, 6, 7]))


def put_bomb(rng: random.Random, root: Path) -> None:
    """The header of a huge image; there are no pixels behind it."""
    width = rng.choice([10_000, 20_000, 2**31 - 1])
    (pick_folder(rng, root) / "7.pgm").write_bytes(f"P5 {width} {width} 255\n".encode() + bytes(100))


def put_link(rng: random.Random, root: Path) -> None:
    link = pick_folder(rng, root) / rng.choice(["link", "link.png"])
    with contextlib.suppress(FileExistsError):
        link.symlink_to(rng.choice(["..", ".", "nowhere", "link", "link.png", "../..", "0.png", "/dev/null"]))


def put_odd_name(rng: random.Random, root: Path) -> None:
    name = os.fsdecode(rng.choice(ODD_NAMES))
    if path := pick_file(rng, root):
        path = path if rng.random() < 0.5 else path.parent
        if path != root and path.parent != path:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(name + path.suffix))


def remove_something(rng: random.Random, root: Path) -> None:
    folder = pick_folder(rng, root)
    if folder != root:
        shutil.rmtree(folder)


def put_special_file(rng: random.Random, root: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(pick_folder(rng, root) / rng.choice(["pipe", "pipe.png"]))


FOLDER_DAMAGES: list[Callable[[random.Random, Path], None]] = [
    cut_file,
    change_bytes,
    put_junk,
    put_odd_image,
    put_bomb,
    put_link,
    put_odd_name,
    remove_something,
    put_special_file,
]


def fuzz_archive(rng: random.Random) -> list[str]:
    """An archive of a folder, or one of each split, damaged."""
    tree = Path("tree", rng.choice(["", "set", "a/b", "__MACOSX"]))
    put_folder(rng, tree)
    if rng.random() < 0.3:
        rng.choice([put_junk, put_odd_image, put_odd_name, put_bomb])(rng, tree)
    packed = Path("packed")
    packed.mkdir()
    if rng.random() < 0.4:
        for split in ("train", "test"):
            if (tree / split).is_dir():
                pack(rng, tree / split, packed / f"{split}.zip")
    else:
        pack(rng, Path("tree"), packed / rng.choice(["set.zip", "set.tar", "set.tar.gz", "set.tgz"]))
    if rng.random() < 0.6 and (path := pick_file(rng, packed)):
        rng.choice([cut_file, change_bytes, change_bytes])(rng, packed)
        if rng.random() < 0.1:
            path.write_bytes(rng.choice(JUNK))
    target = pick_file(rng, packed) if rng.random() < 0.5 else packed
    return ["data", "check", f"folder:{target or packed}{choose_options(rng)}"]


def pack(rng: random.Random, tree: Path, path: Path) -> None:
    files = sorted(file for file in tree.rglob("*") if file.is_file())
    names = {file: str(file.relative_to(tree)).encode("utf-8", "backslashreplace").decode() for file in files}
    prefix = rng.choice(["", "", "", "../", "/", "./"])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as zipped:
            for file in files:
                zipped.write(file, prefix + names[file])
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
            for file in files:
                tar.add(file, prefix + names[file])
            if rng.random() < 0.2:
                link = tarfile.TarInfo("link")
                link.type, link.linkname = (
                    rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]),
                    rng.choice(["/etc", "link", ".."]),
                )
                tar.addfile(link)
