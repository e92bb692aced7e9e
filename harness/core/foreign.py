"""Sets that others condensed, read from their files so that they are judged as ours are.

What is accepted, each only where it fits the data set:
    *.safetensors  a memory's file of ours, from any copy of the named data set
    else           whatever `foreign_layouts` recognises: DC's, IDC's and MTT's .pt files, .npz files, folders of PNGs
Reading never runs code from the file.
"""

import math
import re
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from harness.core import atomic as files
from harness.core import foreign_layouts as layouts
from harness.core import memory_file
from harness.core.data import KNOWN, DataSet, per_channel
from harness.core.fields import ADDED_LATER, Count, configuration, one_of, satisfies
from harness.core.foreign_layouts import LabelledImages
from harness.core.memory import Memory, from_stored, select_classes
from harness.core.parametrisation import MultiFormation, Parametrisation, Pixels, Shape
from harness.core.reading import ExplainedError, expand, explain_failures, require_text, show
from harness.core.snapshots import is_plain, look_like_snapshots

PREFIX = "file:"  # of a memory's name: file:PATH
SPACES = ("declared", "normalised", "unit", *(f"normalised:{name}" for name in KNOWN))
BOUND = 50.0  # on normalised values: learned ones go beyond the pixels' range, by far less
TOLERANCE = 1e-3  # on pixels in [0, 1], and on the sum of probabilities
SAY_SPACE = "say so by --set memory.space=normalised or --set memory.space=unit"
ASSUMED, ALL = "assumed", "all"  # of a file's entries


def _check_set(text: str) -> None:
    if text not in (ASSUMED, ALL) and not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"set: the number of an entry, -1 for the last, or all fits, got {text!r}")


class Checked(NamedTuple):
    """One set of a file, of the usual types."""

    images: Tensor  # (N, C, H, W) float32
    labels: Tensor  # (N,) int64
    soft: Tensor | None  # (N, K) float32


@configuration
class FileConfig:
    """How to read a file whose layout does not describe its contents; the harness's own files do."""

    space: Annotated[str, one_of(SPACES, "space")] = "declared"
    """What the numbers are: unit, pixels in [0, 1]; normalised, by the data set's mean and deviation; normalised:NAME,
    by those of another data set, as the scripts of DCC and MTT normalise CIFAR-100 by the constants of CIFAR-10."""
    factor: Count = 1
    "An image stores factor x factor smaller ones (IDC)."
    set: Annotated[str, satisfies(_check_set)] = field(default=ASSUMED, metadata=ADDED_LATER)
    """Which of several entries of a file: a number, -1 for the last, or all, which says that they are independent sets.
    By default all, unless they look like snapshots of one set, of which the last is taken."""

    per_class: ClassVar[bool] = False  # a file holds all classes

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Images of each class that ipc stored ones decode into."""
        return ipc * self.factor**2


AnyFileConfig = TypeVar("AnyFileConfig", bound=FileConfig)


def parse_path(name: str) -> Path:
    """Return the path in "file:PATH".

    Raises:
        ValueError: the path is missing, or is not valid UTF-8.
    """
    if name == PREFIX:
        raise ValueError("memory: file: wants a path, such as file:memory.safetensors")
    path = name.removeprefix(PREFIX)
    require_text(path, "memory")
    return expand(path)


def digest(path: Path) -> str:
    """SHA-256, hex, of all that `load` reads from a path; see `foreign_layouts.digest`."""
    return layouts.digest(_require(path))


def describe(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> tuple[int, int]:
    """Return the number of sets in a file, and the images per class that have as many numbers as one set.

    The images are of the data set's size, and the number is rounded up. Soft labels count: a set of 10 images per class
    with soft labels may have as many numbers as 11 images without.

    Raises:
        ValueError, FileNotFoundError: as `load`.
    """
    sets = load(path, dataset, cfg)
    return len(sets), math.ceil(sets[0].scalars / (dataset.num_classes * math.prod(dataset.image_shape)))


def load(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> list[Memory]:
    """Load the sets that `cfg` selects from a file; the images of each are in order of class.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, its layout is unknown, its pickle asks for more than tensors, or its sets do
            not fit the data set.
    """
    if _require(path).suffix == ".safetensors":
        return [_load_ours(path, dataset, cfg)]
    contents = layouts.read(path, dataset)
    try:
        return _convert(contents, dataset, cfg)
    except ValueError as error:
        raise ValueError(f"{show(path)}: {error}") from error


def resolve(path: Path, dataset: DataSet, cfg: AnyFileConfig) -> AnyFileConfig:
    """Return `cfg` with its choice of entries resolved: the last, if it names none and they look like snapshots."""
    return _resolve(_entries(path, dataset), dataset, cfg)


def explain_choice(path: Path, dataset: DataSet, cfg: FileConfig) -> str:
    """Explain in one line which entries of a file are judged; return "" for a file of one entry."""
    entries = _entries(path, dataset)
    if len(entries) < 2:
        return ""
    alike = look_like_snapshots(entries, dataset)
    looks = "they look like snapshots of one set" if alike else "they look like independent sets"
    cfg = _resolve(entries, dataset, cfg)
    if cfg.set in (ASSUMED, ALL):
        other = "for one of them: --set memory.set=N, or -1 for the last"
        return f"{show(path)}: its {len(entries)} entries are judged as independent sets; {looks}; {other}"
    (number,) = _choose(len(entries), cfg)
    other = "if they are independent: --set memory.set=all"
    return f"{show(path)}: entry {number} of 0 .. {len(entries) - 1} is judged alone; {looks}; {other}"


def _require(path: Path) -> Path:
    with explain_failures(path, "a readable file"):
        is_there = path.is_file() or path.is_dir()
    if not is_there:
        raise FileNotFoundError(f"{show(path)}: {'no such file' if not path.is_symlink() else 'a link to no file'}")
    return path


def _entries(path: Path, dataset: DataSet) -> list[LabelledImages]:
    """The entries of a file, unchecked; none for a memory's file of ours."""
    return [] if _require(path).suffix == ".safetensors" else layouts.read(path, dataset).entries


def _resolve(entries: list[LabelledImages], dataset: DataSet, cfg: AnyFileConfig) -> AnyFileConfig:
    """The configuration that names the last entry, if it names none and the entries look like snapshots of one set."""
    if cfg.set == ASSUMED and len(entries) > 1 and look_like_snapshots(entries, dataset):
        return replace(cfg, set="-1")
    return cfg


def _choose(count: int, cfg: FileConfig) -> list[int]:
    """The numbers of the entries to judge, of `count` in a file."""
    if cfg.set in (ASSUMED, ALL):
        return list(range(count))
    number = int(cfg.set)
    if not -count <= number < count:
        raise ValueError(f"memory.set: entries 0 .. {count - 1} are there, and -1 for the last; got {number}")
    return [number % count]


def _load_ours(path: Path, dataset: DataSet, cfg: FileConfig) -> Memory:
    with explain_failures(path, "a memory's file", path):
        try:
            return _decode_ours(files.load(path), dataset, cfg)
        except files.DamagedFileError as error:
            raise ExplainedError(str(error)) from error
        except ValueError as error:
            raise ExplainedError(f"{show(path)}: {error}") from error


def _decode_ours(content: tuple[dict[str, Tensor], files.Card], dataset: DataSet, cfg: FileConfig) -> Memory:
    if (cfg.space, cfg.factor) != (FileConfig.space, FileConfig.factor):
        raise ValueError("a memory's file says itself how it is stored; leave memory.space and memory.factor out")
    _choose(1, cfg)
    memory = memory_file.decode(*content, dataset, same_copy=False)
    _check_labels(memory.labels, dataset)
    return select_classes(memory, list(range(dataset.num_classes)))


def _convert(contents: layouts.Contents, dataset: DataSet, cfg: FileConfig) -> list[Memory]:
    """The chosen entries as memories, if they fit the data set."""
    entries = contents.entries
    entries = [entries[number] for number in _choose(len(entries), _resolve(entries, dataset, cfg))]
    space = cfg.space
    if all(entry.images.dtype == torch.uint8 for entry in entries):  # pixels, which says what the numbers are
        if space not in ("declared", "unit"):
            raise ValueError(f"images are 8-bit pixels, not {space}; leave memory.space out")
        entries = [entry._replace(images=entry.images.float() / 255) for entry in entries]
        space = "unit"
    checked = [_check(entry, dataset) for entry in entries]
    sizes = sorted({len(entry.labels) for entry in checked})
    if len(sizes) > 1:
        raise ValueError(f"sets of one size fit; got sets of {sizes[0]} to {sizes[-1]} images")
    space = _space([entry.images for entry in checked], contents.is_normalised, space)
    form = MultiFormation(cfg.factor) if cfg.factor > 1 else Pixels()
    form.stored_in(1, dataset.image_shape)  # the factor divides the images
    if cfg.factor > 1 and checked[0].soft is not None:
        raise ValueError("memory.factor: images with soft labels store one image each; leave memory.factor out")
    return [_memory(entry, form, space, dataset) for entry in checked]


def _memory(entry: Checked, form: Parametrisation, space: str, dataset: DataSet) -> Memory:
    order = entry.labels.argsort(stable=True)
    images, labels = entry.images[order], entry.labels[order]
    if space != "normalised":
        images = (_as_unit(images, space) - per_channel(dataset.mean, images)) / per_channel(dataset.std, images)
    if entry.soft is not None:
        return Memory(images, labels, league="soft", soft=entry.soft[order])
    return from_stored(form, {"images": images}, labels)


def _as_unit(images: Tensor, space: str) -> Tensor:
    """Pixels in [0, 1], of images that are those, or that are normalised by what `space` names."""
    if space == "unit":
        return images
    name = space.removeprefix("normalised:")
    if len(KNOWN[name].mean) != images.shape[1]:
        raise ValueError(f"memory.space: channels of {name}: {len(KNOWN[name].mean)}, of the images: {images.shape[1]}")
    return images * per_channel(KNOWN[name].std, images) + per_channel(KNOWN[name].mean, images)


# --- whether they fit -----------------------------------------------------------------------------------------------


def _check(entry: LabelledImages, dataset: DataSet) -> Checked:
    """The entry with images as float32 and labels as int64, if all of it fits the data set."""
    if not all(is_plain(part) for part in entry if part is not None):
        raise ValueError("plain, dense tensors fit")
    images, labels, soft = _arrange(entry.images, dataset.image_shape), entry.labels, entry.soft
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1:] != dataset.image_shape:
        size = ", ".join(str(length) for length in dataset.image_shape)
        raise ValueError(
            f"images (N, {size}) of a float type, or uint8, fit {dataset.name}; got {tuple(images.shape)}, "
            f"{images.dtype}"
        )
    if labels.is_floating_point() and labels.shape[1:] == (dataset.num_classes,):
        soft = labels
    if soft is not None:
        soft = _check_soft(soft, len(images), dataset)
        labels = soft.argmax(1) if labels.is_floating_point() else labels
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(
            f"labels (N,) of an integer type, or probabilities (N, {dataset.num_classes}), fit; "
            f"got {tuple(labels.shape)}, {labels.dtype}"
        )
    if len(labels) != len(images):
        raise ValueError(f"as many labels as images fit; got {len(labels)} and {len(images)}")
    images, labels = images.float(), labels.long()
    _check_labels(labels, dataset, is_balanced=soft is None)
    if not images.isfinite().all():
        raise ValueError("an image is not finite")
    return Checked(images, labels, soft)


def _arrange(images: Tensor, shape: Shape) -> Tensor:
    """Images (N, H, W, C), or (N, H, W) of one channel, as (N, C, H, W); others as they are."""
    channels, height, width = shape
    if images.shape[1:] == (height, width, channels) != shape:
        return images.permute(0, 3, 1, 2).contiguous()
    return images.unsqueeze(1) if channels == 1 and images.shape[1:] == (height, width) else images


def _check_soft(soft: Tensor, count: int, dataset: DataSet) -> Tensor:
    """Soft labels as float32, if they are probabilities of the data set's classes."""
    if not soft.is_floating_point() or soft.shape != (count, dataset.num_classes):
        raise ValueError(
            f"soft labels ({count}, {dataset.num_classes}) of a float type fit; got {tuple(soft.shape)}, {soft.dtype}"
        )
    soft = soft.float()
    if not soft.isfinite().all():
        raise ValueError("a soft label is not finite")
    sums = soft.sum(1)
    if count and (soft.min() < -TOLERANCE or (sums - 1).abs().max() > TOLERANCE):
        raise ValueError(
            f"soft labels that are probabilities, and sum to 1, fit; got values {soft.min():.4g} to {soft.max():.4g}; "
            "if they are logits, save their softmax"
        )
    return soft


def _check_labels(labels: Tensor, dataset: DataSet, *, is_balanced: bool = True) -> None:
    """Raise ValueError unless labels are the data set's and, where asked, each class has as many images."""
    if not len(labels):
        raise ValueError("a set of one image at least fits; got none")
    highest = dataset.num_classes - 1
    if not 0 <= labels.min() <= labels.max() <= highest:
        raise ValueError(f"labels in 0 .. {highest} fit {dataset.name}; got {labels.min()} to {labels.max()}")
    counts = torch.bincount(labels, minlength=dataset.num_classes)
    if is_balanced and counts.min() != counts.max():
        raise ValueError(
            f"as many images of each of {dataset.name}'s {dataset.num_classes} classes fit; "
            f"got {counts.min()} to {counts.max()} of a class"
        )


def _space(sets: list[Tensor], is_declared: bool, asked: str) -> str:
    """What the numbers are, in which all sets must agree: unit, normalised, or normalised:NAME.

    Raises:
        ValueError: neither the layout nor the configuration says it, or the values are none of that space.
    """
    low, high = min(float(of.min()) for of in sets), max(float(of.max()) for of in sets)
    got = f"values are {low:.4g} to {high:.4g}"
    if max(-low, high) > BOUND:
        pixels = "they look like pixels 0 .. 255, not normalised; divide them by 255 for memory.space=unit"
        raise ValueError(f"{got}: {pixels if low >= 0 else f'normalised ones stay within {BOUND:g}'}")
    if asked == "declared" and not is_declared:
        raise ValueError(f"the file does not say what its numbers are; {SAY_SPACE} ({got})")
    looks_unit = low >= -TOLERANCE and high <= 1 + TOLERANCE
    if asked == "declared" and looks_unit:
        raise ValueError(f"{got}: its layout has normalised images, these may be pixels in [0, 1]; {SAY_SPACE}")
    if asked == "unit" and not looks_unit:
        raise ValueError(f"{got}: memory.space=unit means pixels in [0, 1]")
    return "normalised" if asked == "declared" else asked
