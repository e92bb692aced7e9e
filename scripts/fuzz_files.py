"""Fuzz the readers of foreign files: folders, archives and .pt files that are damaged or odd.

    python scripts/fuzz_files.py --seconds 300 --seed 0

Each case makes a small input, damages it, and gives it to a command in this process. A command has to end with
exit code 0, or 2 and at most three lines on stderr, and without a traceback. A case that does not is printed with its
seed, which makes it again: `--seed SEED --cases 1`. All kinds of input stand in this one file, of more than
350 lines, since they share what damages them.
"""

import argparse
import contextlib
import io
import os
import pickle
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness.cli import main

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


def check(seed: int, work: Path) -> str | None:
    """Run the case of a seed in an empty directory; what is wrong with it, or None."""
    rng = random.Random(seed)
    make = rng.choice(
        [fuzz_folder, fuzz_folder, fuzz_archive, fuzz_archive, fuzz_pt, fuzz_pt, fuzz_pt, fuzz_memory_folder]
    )
    with contextlib.chdir(work):
        arguments = make(rng)
        printed, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            try:
                code = main(arguments)
            except BaseException:  # a traceback is what this looks for
                return f"{make.__name__} {arguments}: {traceback.format_exc()}"
        errors.seek(0)
        lines = errors.read().splitlines()
    if code == 2 and lines and len(lines) <= 3 and not any("Traceback" in line for line in lines):
        return None
    if code == 0:
        return None
    return f"{make.__name__} {arguments}: exit code {code}, {len(lines)} lines: {lines[:5]}"


# --- image folders and archives -------------------------------------------------------------------------------------


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


# --- sets -----------------------------------------------------------------------------------------------------------

JUDGE = [
    "run",
    "condense",
    "--dataset",
    "digits",
    "--preset",
    "smoke",
    "--model",
    "convnet-d1-w8",
    "--dry-run",
    "--memory",
]


def fuzz_pt(rng: random.Random) -> list[str]:
    """A .pt or .npz file of a set, odd or damaged."""
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    path = Path(rng.choice(["set.pt", "images_best.pt", "set.npz", "set.safetensors", "images.npy"]))
    pairs = [make_pair(rng, generator) for _ in range(rng.choice([1, 1, 2, 3]))]
    images, labels = pairs[0]
    content = rng.choice(
        [
            {"data": [list(pair) for pair in pairs]},
            {"data": [list(pair) for pair in pairs]},
            [images, labels],
            {"images": images, "labels": labels},
            {"images": images, "labels": torch.arange(images.numel() // 64) % 10, "soft": labels},
            images,
            {"data": images},
            {"data": [[images]]},
            [images, labels, 3],
            {1: images, None: labels},
            [[images, labels]],
        ]
    )
    if path.suffix in (".npz", ".npy"):
        arrays = {"images": images, "labels": labels}
        kept = {
            name: array.numpy()
            for name, array in arrays.items()
            if array.layout == torch.strided and array.dtype != torch.bfloat16 and array.device.type == "cpu"
        }
        np.savez(path, **kept) if path.suffix == ".npz" else np.save(path, next(iter(kept.values()), np.zeros(3)))
    else:
        # torch.save itself cannot write some of the odd tensors; there is then no file, which is read as well.
        with contextlib.suppress(RuntimeError, NotImplementedError):
            torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.6)
    if path.name.startswith("images"):
        save = np.save if path.suffix == ".npy" else lambda name, value: torch.save(value, name)
        with contextlib.suppress(RuntimeError, TypeError):
            save(path.with_name(path.name.replace("images", "labels")), labels)  # type: ignore[operator]
    choice = rng.random()
    if choice < 0.5 and path.exists():
        content_bytes = path.read_bytes()
        path.write_bytes(
            damage(rng, content_bytes) if choice < 0.3 else content_bytes[: rng.randrange(len(content_bytes))]
        )
    elif choice < 0.6:
        path.write_bytes(rng.choice([*JUNK, pickle.dumps({"data": 3}), rng.randbytes(200)]))
    settings = [f"memory.set={text}" for text in rng.sample(["0", "-1", "all", "7", "x"], rng.choice([0, 0, 1]))]
    settings += rng.choice(
        [[], [], ["memory.space=normalised"], ["memory.space=unit"], ["memory.factor=2"], ["memory.factor=3"]]
    )
    return [*JUDGE, f"file:{path}", *(part for setting in settings for part in ("--set", setting))]


def make_pair(rng: random.Random, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels for digits: most fit, some are of another type, shape or layout."""
    shape = rng.choice(
        [(20, 1, 8, 8)] * 5 + [(20, 8, 8), (20, 8, 8, 1), (20, 3, 8, 8), (0, 1, 8, 8), (20,), (), (10, 1, 8, 8)]
    )
    images = torch.randn(shape, generator=generator)
    labels: torch.Tensor = torch.arange(shape[0] if shape else 1) % 10
    change = rng.randrange(16)
    if change == 0:
        images = (images * 99).byte()
    elif change == 1:
        images = images.to(
            rng.choice([torch.float16, torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.int32])
        )
    elif change == 2:
        images = images.to_sparse() if images.ndim else images
    elif change == 3:
        images = images.to("meta")
    elif change == 4 and images.numel():
        images.view(-1)[0] = rng.choice([float("nan"), float("inf"), 1e30])
    elif change == 5:
        labels = labels.float()
    elif change == 6:
        labels = torch.softmax(torch.randn(len(labels), 10, generator=generator), 1) * rng.choice([1, 1, 3])
    elif change == 7:
        labels = labels - rng.randrange(3) + 2**40 * rng.randrange(2)
    elif change == 8:
        labels = labels.to(rng.choice([torch.uint8, torch.bool, torch.int16, torch.complex64]))
    elif change == 9:
        labels = torch.nn.functional.one_hot(labels, 10)
    elif change == 10:
        images = torch.zeros(()).expand(shape)
    return images, labels


def fuzz_memory_folder(rng: random.Random) -> list[str]:
    """A folder of single images as a memory."""
    root = Path("memory")
    for c in range(rng.choice([10, 10, 10, 9, 11])):
        place = root / str(c)
        place.mkdir(parents=True)
        put_image(rng, place / f"{c}.png", "L", 8)
    for _ in range(rng.randrange(3)):
        rng.choice(FOLDER_DAMAGES)(rng, root)
    return [*JUDGE, "file:memory"]


def fuzz(seconds: float, seed: int, cases: int | None = None) -> tuple[int, list[str]]:
    """Run cases from `seed` on until the time is over or all are run; their number, and a text for each that fails."""
    end, number = time.monotonic() + seconds, 0
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        cache = os.environ.get("HARNESS_CACHE")
        os.environ["HARNESS_CACHE"] = str(Path(directory, "cache"))
        try:
            while time.monotonic() < end and (cases is None or number < cases):
                work = Path(directory, "work")
                work.mkdir()
                if failure := check(seed + number, work):
                    failures.append(f"seed {seed + number}: {failure}")
                shutil.rmtree(work)
                number += 1
        finally:
            if cache is None:
                del os.environ["HARNESS_CACHE"]
            else:
                os.environ["HARNESS_CACHE"] = cache
    return number, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fuzz the readers of foreign files.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int)
    given = parser.parse_args()
    count, found = fuzz(given.seconds, given.seed, given.cases)
    sys.stdout.write(f"{count} cases\n")
    sys.exit("\n".join(found) or None)
