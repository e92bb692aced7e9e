"""A memory: the small labelled set that stands in for the full data, its budget, and its file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.core import files
from harness.core.data import DataSet

FORMAT = 1
Builder = Callable[..., "Memory"]  # build(images, labels, budget, rng, cfg) -> Memory; see memory/__init__.py


@dataclass(frozen=True)
class Budget:
    """What may be kept."""

    ipc: int  # images per class, of the data set's own size

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise ValueError(f"ipc: at least 1 image per class is needed, got {self.ipc}")


@dataclass(frozen=True)
class Memory:
    """A labelled set kept from the data.

    images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids; class by class.
    """

    images: Tensor
    labels: Tensor
    real: bool = False  # selected real images: 8 bits a value hold them exactly
    league: str = "pixel"  # pixel, storage, soft or full (no budget): what may be ranked against what

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != (len(self.images),):
            raise ValueError(
                f"memory: expected images (N, C, H, W) and labels (N,), "
                f"got {tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes as stored: one per value for real images, four for synthetic ones."""
        return self.images.numel() * (1 if self.real else 4)


def join(parts: list[Memory]) -> Memory:
    """Memories of different classes as one, in the order given."""
    return Memory(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        all(part.real for part in parts),
        parts[0].league,
    )


def of_classes(memory: Memory, classes: list[int]) -> Memory:
    """The part of a memory that holds `classes`, in that order."""
    rows = torch.cat([(memory.labels == c).nonzero().squeeze(1) for c in classes])
    return Memory(memory.images[rows], memory.labels[rows], memory.real, memory.league)


def encode(memory: Memory, dataset: DataSet, origin: dict[str, Any]) -> tuple[dict[str, Tensor], files.Card]:
    """A memory as the tensors and the card of its file; `origin` says who built it, from what and at what cost.

    Raises:
        FloatingPointError: an image is not finite.
    """
    if not memory.images.isfinite().all():
        raise FloatingPointError("memory: an image is not finite")
    pixels = (dataset.denormalise(memory.images) * 255).round().to(torch.uint8) if memory.real else memory.images
    card = {
        "format": FORMAT,
        "encoding": "uint8" if memory.real else "float32",
        "space": {"mean": list(dataset.mean), "std": list(dataset.std)},  # float32 images live normalised by these
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "classes": sorted(set(memory.labels.tolist())),
        "league": memory.league,
        "budget": {"images": len(memory.labels), "scalars": memory.images.numel(), "bytes": memory.nbytes},
        **origin,
    }
    return {"images": pixels, "labels": memory.labels}, card


def save(memory: Memory, path: Path, dataset: DataSet, origin: dict[str, Any]) -> None:
    """Write a memory of `dataset` to one safetensors file."""
    files.save(path, *encode(memory, dataset, origin))


def load(path: Path, dataset: DataSet) -> tuple[Memory, files.Card]:
    """A memory's file, checked against the data set it is to stand in for; see `decode`."""
    tensors, card = files.load(path)
    try:
        return decode(tensors, card, dataset), card
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decode(tensors: dict[str, Tensor], card: files.Card, dataset: DataSet) -> Memory:
    """The memory that `encode` wrote.

    Raises:
        ValueError: it is of another format or data set, or its shapes, types or labels do not fit.
    """
    if card.get("format") != FORMAT or card.get("encoding") not in ("uint8", "float32"):
        raise ValueError(
            f"a memory of format {FORMAT}, encoded uint8 or float32, fits; "
            f"got format {card.get('format')}, encoding {card.get('encoding')}"
        )
    if card["dataset_digest"] != dataset.digest:
        raise ValueError(f"made from {card['dataset']} {card['dataset_digest'][:12]}, not from this {dataset.name}")
    images, labels = tensors["images"], tensors["labels"]
    if images.shape[1:] != dataset.image_shape or str(images.dtype) != f"torch.{card['encoding']}":
        raise ValueError(
            f"images of shape {dataset.image_shape}, {card['encoding']} fit; got {images.shape[1:]}, {images.dtype}"
        )
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= dataset.num_classes:
        raise ValueError(
            f"labels int64 in 0 .. {dataset.num_classes - 1} fit; got {labels.dtype}, up to {labels.max()}"
        )
    real = card["encoding"] == "uint8"
    return Memory(dataset.normalise(images) if real else images, labels, real, card["league"])
