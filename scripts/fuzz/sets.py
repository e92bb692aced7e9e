"""Files and folders that hold a condensed set, damaged or odd."""

import contextlib
import pickle
import random
from pathlib import Path

import numpy as np
import torch

from scripts.fuzz.folders import FOLDER_DAMAGES, JUNK, damage, put_image

JUDGE = ["run", "condense", "--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8", "--dry-run"]
JUDGE += ["--memory"]


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
        np.savez(path, **kept) if path.suffix == ".npz" else np.save(path, next(iter(kept.values()), np.zeros(3)))  # type: ignore[arg-type]
    else:
        with contextlib.suppress(RuntimeError, NotImplementedError):  # torch cannot save some of the odd tensors
            torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.6)
    if path.name.startswith("images"):
        save = np.save if path.suffix == ".npy" else lambda name, value: torch.save(value, name)
        with contextlib.suppress(RuntimeError, TypeError):
            save(path.with_name(path.name.replace("images", "labels")), labels)
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
