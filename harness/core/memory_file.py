"""Files of memories: a memory is saved as one safetensors file with a JSON card, and checked when it is loaded."""

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
    """Return the memory with its stored images rounded to 8-bit pixels; None if it does not store pixels.

    The stored images are denormalised, clipped to 0 .. 255, rounded, normalised and decoded again. Real images are
    8-bit pixels already and are returned unchanged.
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
    """Convert normalised images (N, C, H, W) to uint8 pixels: denormalise, clip to 0 .. 255 and round."""
    return (dataset.denormalise(images) * 255).round().to(torch.uint8)


def encode(memory: Memory, dataset: DataSet, origin: Mapping[str, object]) -> tuple[dict[str, Tensor], files.Card]:
    """Convert a memory to the tensors and the card of its file.

    Args:
        origin: further entries of the card, such as the builder, its configuration and the cost.
    Raises:
        FloatingPointError: an image or a soft label is not finite.
        ValueError: the memory is marked as real, but 8-bit pixels do not represent its images.
    """
    if memory.not_finite:
        raise FloatingPointError(f"memory: {memory.not_finite} is not finite")
    tensors = dict(memory.stored) or {"images": to_uint8(memory.images, dataset) if memory.real else memory.images}
    if memory.real and not torch.allclose(dataset.normalise(tensors["images"]), memory.images, rtol=0, atol=1e-3):
        raise ValueError("memory: marked as real, but its images are not 8-bit pixels; leave real out")
    if memory.soft is not None:
        tensors["soft"] = memory.soft
    card = {
        "format": FORMAT,
        "encoding": "uint8" if memory.real else "float32",
        "parametrisation": parametrisation.plain(memory.form),
        "space": {"mean": list(dataset.mean), "std": list(dataset.std)},  # float32 images are normalised by these
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "classes": sorted(set(memory.labels.tolist())),
        "league": memory.league,
        "budget": {"images": len(memory.labels), "scalars": memory.scalars, "bytes": memory.nbytes},
        **origin,
    }
    return {**tensors, "labels": memory.labels[:: memory.form.views]}, card


def save(memory: Memory, path: Path, dataset: DataSet, origin: Mapping[str, object]) -> None:
    """Save a memory of `dataset` to a file; see `encode` for `origin` and the errors."""
    files.save(path, *encode(memory, dataset, origin))


def load(path: Path, dataset: DataSet) -> tuple[Memory, files.Card]:
    """Load a memory and the card of its file, and check that it was made from `dataset`; see `decode`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or does not fit `dataset`; the message begins with the path.
    """
    tensors, card = files.load(path)
    try:
        return decode(tensors, card, dataset), card
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decode(tensors: dict[str, Tensor], card: files.Card, dataset: DataSet, *, same_copy: bool = True) -> Memory:
    """Convert the tensors and the card that `encode` returned back to a memory.

    Args:
        same_copy: whether the memory must have been made from exactly the images of `dataset`. If False, a data set of
            the same name and with the same normalisation is enough.
    Raises:
        ValueError: the format, data set, shapes, dtypes or labels do not fit, or a value is not finite.
    """
    memory = _decode(tensors, card, dataset, same_copy)
    if memory.not_finite:
        raise ValueError(f"{memory.not_finite} is not finite")
    return memory


def _decode(tensors: dict[str, Tensor], card: files.Card, dataset: DataSet, same_copy: bool) -> Memory:
    encoding = card.get("encoding")
    if card.get("format") != FORMAT or encoding not in ("uint8", "float32"):
        raise ValueError(
            f"expected a memory of format {FORMAT} with encoding uint8 or float32, "
            f"got format {card.get('format')}, encoding {encoding}"
        )
    if "labels" not in tensors or not {"dataset", "dataset_digest", "league", "space"} <= card.keys():
        raise ValueError("the card or the tensors of the memory are incomplete")
    if same_copy and card["dataset_digest"] != dataset.digest:
        raise ValueError(f"made from {card['dataset']} {card['dataset_digest'][:12]}, not from this {dataset.name}")
    if not same_copy:
        _check_same_name(card, dataset)
    form = parametrisation.parse(card.get("parametrisation", {"name": "pixels"}))
    labels = tensors["labels"]
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"expected labels (N,) with N at least 1, got {tuple(labels.shape)}")
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= dataset.num_classes:
        raise ValueError(
            f"expected int64 labels in 0 .. {dataset.num_classes - 1}, got {labels.dtype}, "
            f"{labels.min()} to {labels.max()}"
        )
    soft = tensors.get("soft")
    if soft is not None and (soft.dtype != torch.float32 or soft.shape[1:] != (dataset.num_classes,)):
        raise ValueError(
            f"expected float32 soft labels (N, {dataset.num_classes}), got {tuple(soft.shape)}, {soft.dtype}"
        )
    stored = {name: tensor for name, tensor in tensors.items() if name in ("images", "left", "right")}
    types = {str(tensor.dtype) for tensor in stored.values()}
    real = encoding == "uint8"
    if types == {f"torch.{encoding}"} and (images := _decode_stored(form, stored)).shape[1:] == dataset.image_shape:
        if real:
            return Memory(dataset.normalise(images), labels, True, card["league"], soft)
        kept = {} if isinstance(form, Pixels) else stored
        labels = labels.repeat_interleave(form.views)
        return Memory(images, labels, False, card["league"], soft, form, kept)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in stored.items())
    raise ValueError(
        f"expected {encoding} images of shape {dataset.image_shape}, got {shapes or 'none'}, {', '.join(sorted(types))}"
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
        raise ValueError(f"the stored tensors cannot be decoded as {form.name} ({error})") from error
