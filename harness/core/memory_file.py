"""A memory's file: one safetensors file with a JSON card, written whole and checked when it is read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from harness.core import atomic as files
from harness.core import parametrisation
from harness.core.data import DataSet
from harness.core.memory import Memory
from harness.core.parametrisation import Parametrisation, Pixels

FORMAT = 1


def round_to_8_bits(memory: Memory, dataset: DataSet) -> Memory | None:
    """The memory after a round trip through 8-bit pixels; None where what is stored are no pixels.

    What is stored is de-normalised, clipped to 0 .. 255 and rounded, then normalised and decoded again.
    """
    if memory.real:
        return memory
    if not memory.form.stores_pixels:
        return None
    stored = memory.stored.get("images", memory.images)
    pixels = dataset.normalise(to_uint8(stored, dataset))
    if not memory.stored:
        return replace(memory, images=pixels, is_rounded=True)
    return replace(memory, images=memory.form.decode({"images": pixels}), stored={"images": pixels}, is_rounded=True)


def to_uint8(images: Tensor, dataset: DataSet) -> Tensor:
    """The normalised images (N, C, H, W) as uint8 pixels: de-normalised, clipped to 0 .. 255 and rounded."""
    return (dataset.denormalise(images) * 255).round().to(torch.uint8)


def encode(memory: Memory, dataset: DataSet, origin: Mapping[str, object]) -> tuple[dict[str, Tensor], files.Card]:
    """A memory as the tensors and the card of its file; `origin` says who built it, from what and at what cost.

    Raises:
        FloatingPointError: an image or a soft label is not finite.
        ValueError: its images are said to be real, and are not.
    """
    if memory.not_finite:
        raise FloatingPointError(f"memory: {memory.not_finite} is not finite")
    tensors = dict(memory.stored) or {"images": to_uint8(memory.images, dataset) if memory.real else memory.images}
    if memory.real and not torch.allclose(dataset.normalise(tensors["images"]), memory.images, rtol=0, atol=1e-3):
        raise ValueError("memory: its images are said to be real, but 8 bits a value do not hold them; leave real out")
    if memory.soft is not None:
        tensors["soft"] = memory.soft
    card = {
        "format": FORMAT,
        "encoding": "uint8" if memory.real else "float32",
        "parametrisation": parametrisation.plain(memory.form),
        "space": {"mean": list(dataset.mean), "std": list(dataset.std)},  # float32 images live normalised by these
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "classes": sorted(set(memory.labels.tolist())),
        "league": memory.league,
        "budget": {"images": len(memory.labels), "scalars": memory.scalars, "bytes": memory.nbytes},
        **origin,
    }
    return {**tensors, "labels": memory.labels[:: memory.form.views]}, card


def save(memory: Memory, path: Path, dataset: DataSet, origin: Mapping[str, object]) -> None:
    """Write a memory of `dataset` to one safetensors file."""
    files.save(path, *encode(memory, dataset, origin))


def load(path: Path, dataset: DataSet) -> tuple[Memory, files.Card]:
    """A memory's file, checked against the data set it is to stand in for; see `decode`."""
    tensors, card = files.load(path)
    try:
        return decode(tensors, card, dataset), card
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decode(tensors: dict[str, Tensor], card: files.Card, dataset: DataSet, *, same_copy: bool = True) -> Memory:
    """The memory that `encode` wrote.

    Args:
        same_copy: whether it must have been made from these very images; else from any copy of the named data set that
            was normalised alike.
    Raises:
        ValueError: it is of another format or data set, its shapes, types or labels do not fit, or it is not finite.
    """
    memory = _decode(tensors, card, dataset, same_copy)
    if memory.not_finite:
        raise ValueError(f"{memory.not_finite} is not finite")
    return memory


def _decode(tensors: dict[str, Tensor], card: files.Card, dataset: DataSet, same_copy: bool) -> Memory:
    encoding = card.get("encoding")
    if card.get("format") != FORMAT or encoding not in ("uint8", "float32"):
        raise ValueError(
            f"a memory of format {FORMAT}, encoded uint8 or float32, fits; "
            f"got format {card.get('format')}, encoding {encoding}"
        )
    if "labels" not in tensors or not {"dataset", "dataset_digest", "league", "space"} <= card.keys():
        raise ValueError("a memory's card and tensors are incomplete")
    if same_copy and card["dataset_digest"] != dataset.digest:
        raise ValueError(f"made from {card['dataset']} {card['dataset_digest'][:12]}, not from this {dataset.name}")
    if not same_copy:
        _check_same_name(card, dataset)
    form = parametrisation.parse(card.get("parametrisation", {"name": "pixels"}))
    labels = tensors["labels"]
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels (N,), N at least 1, fit; got {tuple(labels.shape)}")
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= dataset.num_classes:
        raise ValueError(
            f"labels int64 in 0 .. {dataset.num_classes - 1} fit; got {labels.dtype}, up to {labels.max()}"
        )
    soft = tensors.get("soft")
    if soft is not None and (soft.dtype != torch.float32 or soft.shape[1:] != (dataset.num_classes,)):
        raise ValueError(f"soft labels (N, {dataset.num_classes}) float32 fit; got {tuple(soft.shape)}, {soft.dtype}")
    stored = {name: part for name, part in tensors.items() if name in ("images", "left", "right")}
    types = {str(part.dtype) for part in stored.values()}
    real = encoding == "uint8"
    if types == {f"torch.{encoding}"} and (images := _decode_stored(form, stored)).shape[1:] == dataset.image_shape:
        if real:
            return Memory(dataset.normalise(images), labels, True, card["league"], soft)
        own = {} if isinstance(form, Pixels) else stored
        labels = labels.repeat_interleave(form.views)
        return Memory(images, labels, False, card["league"], soft, form, own)
    shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in stored.items())
    raise ValueError(
        f"images of shape {dataset.image_shape}, {encoding} fit; got {shapes or 'none'}, {', '.join(sorted(types))}"
    )


def _check_same_name(card: files.Card, dataset: DataSet) -> None:
    if card["dataset"] != dataset.name:
        raise ValueError(f"made from {card['dataset']}, not from {dataset.name}")
    space = {"mean": list(dataset.mean), "std": list(dataset.std)}
    if card["space"] != space:
        raise ValueError(f"normalised by {card['space']}, not by {dataset.name}'s {space}")


def _decode_stored(form: Parametrisation, stored: Mapping[str, Tensor]) -> Tensor:
    try:
        return form.decode(dict(stored))
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"what is stored does not decode as {form.name} ({error})") from error
