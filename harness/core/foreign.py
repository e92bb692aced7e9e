"""Load condensed sets from files, so that the sets of other projects are judged in the same way.

The files, whose sets must fit the data set:
    *.safetensors  a memory that the harness saved, from any copy of the data set
    others         the layouts in `foreign_layouts`: .pt files of DC, IDC and MTT, .npz files, folders of PNGs
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
BOUND = 50.0  # largest magnitude of normalised values; learned images exceed the range of pixels, but by far less
TOLERANCE = 1e-3  # for the range of pixels in [0, 1], and for the sum of probabilities
SPACE_HINT = "use --set memory.space=normalised or --set memory.space=unit"
ASSUMED, ALL = "assumed", "all"  # values of FileConfig.set


def _check_set(text: str) -> None:
    if text not in (ASSUMED, ALL) and not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"set: expected the number of an entry, -1 for the last, or all, got {text!r}")


class CheckedImages(NamedTuple):
    """One set of a file, after it is checked."""

    images: Tensor  # (N, C, H, W) float32
    labels: Tensor  # (N,) int64
    soft: Tensor | None  # (N, K) float32


@configuration
class FileConfig:
    """How to read a file whose layout does not describe its contents; the harness's own files do."""

    space: Annotated[str, one_of(SPACES, "space")] = "declared"
    """The space of the values: unit, pixels in [0, 1]; normalised, by the mean and deviation of the data set;
    normalised:NAME, by those of another one, as in the scripts of DCC and MTT, which normalise CIFAR-100 by the
    constants of CIFAR-10; declared, as the layout of the file implies."""
    factor: Count = 1
    "Each image stores factor x factor smaller images (IDC)."
    set: Annotated[str, satisfies(_check_set)] = field(default=ASSUMED, metadata=ADDED_LATER)
    """The entries of a file to judge: a number, -1 for the last, or all if the entries are independent sets. By default
    all, or the last if the entries look like snapshots of one set."""

    per_class: ClassVar[bool] = False  # a file holds all classes

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Return the number of images that `ipc` stored images of a class decode into."""
        return ipc * self.factor**2


AnyFileConfig = TypeVar("AnyFileConfig", bound=FileConfig)


def parse_path(name: str) -> Path:
    """Return the path in "file:PATH".

    Raises:
        ValueError: the path is missing, or is not valid UTF-8.
    """
    if name == PREFIX:
        raise ValueError("memory: file: needs a path, such as file:memory.safetensors")
    path = name.removeprefix(PREFIX)
    require_text(path, "memory")
    return expand(path)


def digest(path: Path) -> str:
    """Return the SHA-256, in hex, of everything that `load` reads from a path; see `foreign_layouts.digest`."""
    return layouts.digest(_check_exists(path))


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
    if _check_exists(path).suffix == ".safetensors":
        return [_load_saved(path, dataset, cfg)]
    contents = layouts.read(path, dataset)
    try:
        return _convert(contents, dataset, cfg)
    except ValueError as error:
        raise ValueError(f"{show(path)}: {error}") from error


def resolve(path: Path, dataset: DataSet, cfg: AnyFileConfig) -> AnyFileConfig:
    """Return `cfg` with its choice of entries resolved: the last, if it names none and they look like snapshots."""
    return _resolve(_read_entries(path, dataset), dataset, cfg)


def explain_choice(path: Path, dataset: DataSet, cfg: FileConfig) -> str:
    """Explain in one line which entries of a file are judged; return "" for a file of one entry."""
    entries = _read_entries(path, dataset)
    if len(entries) < 2:
        return ""
    alike = look_like_snapshots(entries, dataset)
    finding = "they look like snapshots of one set" if alike else "they look like independent sets"
    cfg = _resolve(entries, dataset, cfg)
    if cfg.set in (ASSUMED, ALL):
        hint = "for one of them: --set memory.set=N, or -1 for the last"
        return f"{show(path)}: its {len(entries)} entries are judged as independent sets; {finding}; {hint}"
    (number,) = _select_entries(len(entries), cfg)
    hint = "if they are independent: --set memory.set=all"
    return f"{show(path)}: entry {number} of 0 .. {len(entries) - 1} is judged alone; {finding}; {hint}"


def _check_exists(path: Path) -> Path:
    """Return `path`; raise FileNotFoundError if it is neither a file nor a folder."""
    with explain_failures(path, "a readable file"):
        exists = path.is_file() or path.is_dir()
    if not exists:
        raise FileNotFoundError(f"{show(path)}: {'a broken link' if path.is_symlink() else 'no such file'}")
    return path


def _read_entries(path: Path, dataset: DataSet) -> list[LabelledImages]:
    """Return the entries of a file before they are checked; [] for a memory that the harness saved."""
    return [] if _check_exists(path).suffix == ".safetensors" else layouts.read(path, dataset).entries


def _resolve(entries: list[LabelledImages], dataset: DataSet, cfg: AnyFileConfig) -> AnyFileConfig:
    """Select the last entry if `cfg` does not choose and the entries look like snapshots of one set."""
    if cfg.set == ASSUMED and len(entries) > 1 and look_like_snapshots(entries, dataset):
        return replace(cfg, set="-1")
    return cfg


def _select_entries(count: int, cfg: FileConfig) -> list[int]:
    """Return the numbers of the entries to judge in a file of `count` entries."""
    if cfg.set in (ASSUMED, ALL):
        return list(range(count))
    number = int(cfg.set)
    if not -count <= number < count:
        raise ValueError(f"memory.set: expected an entry of 0 .. {count - 1}, or -1 for the last, got {number}")
    return [number % count]


def _load_saved(path: Path, dataset: DataSet, cfg: FileConfig) -> Memory:
    with explain_failures(path, "a memory's file", path):
        try:
            return _decode_saved(files.load(path), dataset, cfg)
        except files.DamagedFileError as error:
            raise ExplainedError(str(error)) from error
        except ValueError as error:
            raise ExplainedError(f"{show(path)}: {error}") from error


def _decode_saved(content: tuple[dict[str, Tensor], files.Card], dataset: DataSet, cfg: FileConfig) -> Memory:
    if (cfg.space, cfg.factor) != (FileConfig.space, FileConfig.factor):
        raise ValueError("the file of a memory states how it is stored; leave memory.space and memory.factor out")
    _select_entries(1, cfg)
    memory = memory_file.decode(*content, dataset, same_copy=False)
    _check_labels(memory.labels, dataset)
    return select_classes(memory, list(range(dataset.num_classes)))


def _convert(contents: layouts.Contents, dataset: DataSet, cfg: FileConfig) -> list[Memory]:
    """Check the selected entries and convert them to memories."""
    entries = contents.entries
    entries = [entries[number] for number in _select_entries(len(entries), _resolve(entries, dataset, cfg))]
    space = cfg.space
    if all(entry.images.dtype == torch.uint8 for entry in entries):
        if space not in ("declared", "unit"):
            raise ValueError(f"images are 8-bit pixels, not {space}; leave memory.space out")
        entries = [entry._replace(images=entry.images.float() / 255) for entry in entries]
        space = "unit"
    checked = [_check(entry, dataset) for entry in entries]
    sizes = sorted({len(entry.labels) for entry in checked})
    if len(sizes) > 1:
        raise ValueError(f"expected sets of equal size, got sets of {sizes[0]} to {sizes[-1]} images")
    space = _resolve_space([entry.images for entry in checked], contents.is_normalised, space)
    form = MultiFormation(cfg.factor) if cfg.factor > 1 else Pixels()
    form.stored_in(1, dataset.image_shape)  # raises an error unless the factor divides the side of the images
    if cfg.factor > 1 and checked[0].soft is not None:
        raise ValueError("memory.factor: images with soft labels store one image each; leave memory.factor out")
    return [_build_memory(entry, form, space, dataset) for entry in checked]


def _build_memory(entry: CheckedImages, form: Parametrisation, space: str, dataset: DataSet) -> Memory:
    order = entry.labels.argsort(stable=True)
    images, labels = entry.images[order], entry.labels[order]
    if space != "normalised":
        images = (_to_unit(images, space) - per_channel(dataset.mean, images)) / per_channel(dataset.std, images)
    if entry.soft is not None:
        return Memory(images, labels, league="soft", soft=entry.soft[order])
    return from_stored(form, {"images": images}, labels)


def _to_unit(images: Tensor, space: str) -> Tensor:
    """Convert images in `space`, "unit" or "normalised:NAME", to pixels in [0, 1]."""
    if space == "unit":
        return images
    name = space.removeprefix("normalised:")
    if len(KNOWN[name].mean) != images.shape[1]:
        raise ValueError(
            f"memory.space: {name} has images of {len(KNOWN[name].mean)} channels, the set has {images.shape[1]}"
        )
    return images * per_channel(KNOWN[name].std, images) + per_channel(KNOWN[name].mean, images)


# --- checks ---------------------------------------------------------------------------------------------------------


def _check(entry: LabelledImages, dataset: DataSet) -> CheckedImages:
    """Check that an entry fits the data set, and convert images to float32 and labels to int64."""
    if not all(is_plain(tensor) for tensor in entry if tensor is not None):
        raise ValueError("expected dense, real, unquantised tensors on the CPU")
    images, labels, soft = _arrange(entry.images, dataset.image_shape), entry.labels, entry.soft
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1:] != dataset.image_shape:
        size = ", ".join(str(length) for length in dataset.image_shape)
        raise ValueError(
            f"expected images (N, {size}) of a float type or uint8 for {dataset.name}, got {tuple(images.shape)}, "
            f"{images.dtype}"
        )
    if labels.is_floating_point() and labels.shape[1:] == (dataset.num_classes,):
        soft = labels
    if soft is not None:
        soft = _check_soft(soft, len(images), dataset)
        labels = soft.argmax(1) if labels.is_floating_point() else labels
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(
            f"expected labels (N,) of an integer type, or probabilities (N, {dataset.num_classes}), "
            f"got {tuple(labels.shape)}, {labels.dtype}"
        )
    if len(labels) != len(images):
        raise ValueError(f"expected as many labels as images, got {len(labels)} labels and {len(images)} images")
    images, labels = images.float(), labels.long()
    _check_labels(labels, dataset, is_balanced=soft is None)
    if not images.isfinite().all():
        raise ValueError("an image is not finite")
    return CheckedImages(images, labels, soft)


def _arrange(images: Tensor, shape: Shape) -> Tensor:
    """Rearrange images (N, H, W, C), or (N, H, W) if C = 1, to (N, C, H, W); other shapes are returned unchanged."""
    channels, height, width = shape
    if images.shape[1:] == (height, width, channels) != shape:
        return images.permute(0, 3, 1, 2).contiguous()
    return images.unsqueeze(1) if channels == 1 and images.shape[1:] == (height, width) else images


def _check_soft(soft: Tensor, count: int, dataset: DataSet) -> Tensor:
    """Check that soft labels are probabilities (count, K) of the classes, and convert them to float32."""
    if not soft.is_floating_point() or soft.shape != (count, dataset.num_classes):
        raise ValueError(
            f"expected soft labels ({count}, {dataset.num_classes}) of a float type, "
            f"got {tuple(soft.shape)}, {soft.dtype}"
        )
    soft = soft.float()
    if not soft.isfinite().all():
        raise ValueError("a soft label is not finite")
    sums = soft.sum(1)
    if count and (soft.min() < -TOLERANCE or (sums - 1).abs().max() > TOLERANCE):
        raise ValueError(
            f"expected soft labels that are probabilities and sum to 1, got values {soft.min():.4g} to "
            f"{soft.max():.4g}; if they are logits, save their softmax"
        )
    return soft


def _check_labels(labels: Tensor, dataset: DataSet, *, is_balanced: bool = True) -> None:
    """Raise a ValueError unless labels are classes of the data set and, if `is_balanced`, equally frequent."""
    if not len(labels):
        raise ValueError("expected at least one image, got none")
    highest = dataset.num_classes - 1
    if not 0 <= labels.min() <= labels.max() <= highest:
        raise ValueError(f"expected labels in 0 .. {highest} for {dataset.name}, got {labels.min()} to {labels.max()}")
    counts = torch.bincount(labels, minlength=dataset.num_classes)
    if is_balanced and counts.min() != counts.max():
        raise ValueError(
            f"expected equally many images of each of the {dataset.num_classes} classes of {dataset.name}, "
            f"got {counts.min()} to {counts.max()} of a class"
        )


def _resolve_space(sets: list[Tensor], is_normalised: bool, space: str) -> str:
    """Replace "declared" by "normalised", and check that the values of all sets are possible in their space.

    Args:
        is_normalised: whether the layout of the file implies normalised images.
        space: one of SPACES.
    Raises:
        ValueError: the space is declared neither by the layout nor by the configuration, or values are impossible in
            it.
    """
    low, high = min(float(images.min()) for images in sets), max(float(images.max()) for images in sets)
    got = f"values are {low:.4g} to {high:.4g}"
    if max(-low, high) > BOUND:
        pixels = "they look like pixels 0 .. 255, not normalised; divide them by 255 for memory.space=unit"
        raise ValueError(f"{got}: {pixels if low >= 0 else f'normalised values stay within {BOUND:g}'}")
    if space == "declared" and not is_normalised:
        raise ValueError(f"the file does not state the space of its values; {SPACE_HINT} ({got})")
    looks_unit = low >= -TOLERANCE and high <= 1 + TOLERANCE
    if space == "declared" and looks_unit:
        raise ValueError(f"{got}: its layout implies normalised images, but they may be pixels in [0, 1]; {SPACE_HINT}")
    if space == "unit" and not looks_unit:
        raise ValueError(f"{got}: memory.space=unit means pixels in [0, 1]")
    return "normalised" if space == "declared" else space
