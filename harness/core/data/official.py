"""The official files of a data set, as torchvision reads them, checked against their MD5 first."""

import gzip
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from harness.core.data.source import (
    Decoded,
    Labels,
    Pixels,
    Sizes,
    Source,
    check_counts,
    md5_of,
    torchvision_class,
)
from harness.core.reading import explain_failures

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def decode_official(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
    """Decode official files into arrays; see `layouts.decode`."""
    kind = torchvision_class(name)
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
        with explain_failures(source.root, f"the files of {name}"):
            if name == "svhn":
                data = {split: kind(root, split=split) for split in ("train", "test")}
            else:
                data = {split: kind(root, train=split == "train") for split in ("train", "test")}
            splits = {split: _as_arrays(part) for split, part in data.items()}
    classes = tuple("0123456789" if name in ("mnist", "svhn") else data["train"].classes)
    check_counts(source.root, name, sizes, len(classes), {split: len(labels) for split, (_, labels) in splits.items()})
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
        with explain_failures(path, "a whole gzip file", path):
            content = path.read_bytes()
            (into / unpacked).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        verified = verified and path.suffix == ".gz" and md5_of(path) == md5
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
        if md5_of(path) != md5:
            raise ValueError(f"{path}: MD5 is {md5_of(path)}, that of {name} is {md5}; copy the file again")
