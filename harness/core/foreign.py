"""Sets that others condensed, read from their files so that they are judged as ours are.

What is accepted, each only where it fits the data set:
    *.safetensors  a memory's file of ours, from any copy of the named data set
    else, as `torch.save` wrote it:
        {"data": [[images, labels], ...], ...}  DC, DSA and DM's `res_*.pt`: several sets, normalised
        [images, labels]                        IDC's `data.pt`: one set; `space` must say what its numbers are
Reading never runs code from the file.
"""

import hashlib
import math
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.core import atomic as files
from harness.core import memory_file
from harness.core.data import KNOWN, DataSet, per_channel
from harness.core.fields import Count, configuration, one_of
from harness.core.memory import Memory, from_stored, of_classes
from harness.core.parametrisation import MultiFormation, Parametrisation, Pixels, Shape

PREFIX = "file:"  # of a memory's name: file:PATH
SPACES = ("declared", "normalised", "unit", *(f"normalised:{name}" for name in KNOWN))
BOUND = 50.0  # on normalised values: learned ones go beyond the pixels' range, by far less
TOLERANCE = 1e-3  # on pixels in [0, 1]
SAY_SPACE = "say so by --set memory.space=normalised or --set memory.space=unit"
FITS = "{'data': [[images, labels], ...]} (DC, DM's res_*.pt) or [images, labels] (IDC's data.pt) fits"

# All that a file may ask for beyond tensors: NumPy's float64, which DC's files give accuracies as.
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name
    np.dtype,
    type(np.dtype(np.float64)),
]

Pair = tuple[Tensor, Tensor]  # images and labels


@configuration
class FileConfig:
    """How to read a file that does not say it itself; a memory's file of ours does."""

    space: Annotated[str, one_of(SPACES, "space")] = "declared"
    """What the numbers are: unit, pixels in [0, 1]; normalised, by the data set's mean and deviation; normalised:NAME,
    by those of another data set, as the scripts of DCC and MTT normalise CIFAR-100 by the constants of CIFAR-10."""
    factor: Count = 1
    "An image stores factor x factor smaller ones (IDC)."

    per_class: ClassVar[bool] = False  # a file holds all classes

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Images of each class that ipc stored ones decode into."""
        return ipc * self.factor**2


def path_of(name: str) -> Path:
    """The path in "file:PATH".

    Raises:
        ValueError: there is none.
    """
    if name == PREFIX:
        raise ValueError("memory: file: wants a path, such as file:memory.safetensors")
    return Path(name.removeprefix(PREFIX)).expanduser()


def digest(path: Path) -> str:
    """SHA-256, hex, of a file's bytes; read again only if its size or time of change is another."""
    state = _present(path).stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _digest(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> tuple[int, int]:
    """How many sets a file holds, and how many images of each class, of the data set's size, have as many numbers.

    Soft labels count: 10 images of each class with soft labels have as many numbers as 11 without.

    Raises:
        ValueError, FileNotFoundError: as `load`.
    """
    sets = load(path, dataset, cfg)
    return len(sets), math.ceil(sets[0].scalars / (dataset.num_classes * math.prod(dataset.image_shape)))


def load(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> list[Memory]:
    """Every set in a file, each class by class, classes ascending.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, of another layout, asks for more than tensors, or its sets do not fit the data set.
    """
    is_ours = _present(path).suffix == ".safetensors"
    content = files.load(path) if is_ours else _unpickled(path)
    try:
        return [_ours(content, dataset, cfg)] if is_ours else _theirs(content, dataset, cfg)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a directory, not a file' if path.is_dir() else 'no such file'}")
    return path


def _ours(content: tuple[dict[str, Tensor], files.Card], dataset: DataSet, cfg: FileConfig) -> Memory:
    if (cfg.space, cfg.factor) != (FileConfig.space, FileConfig.factor):
        raise ValueError("a memory's file says itself how it is stored; leave memory.space and memory.factor out")
    memory = memory_file.decode(*content, dataset, same_copy=False)
    _check_labels(memory.labels, dataset)
    return of_classes(memory, list(range(dataset.num_classes)))


def _theirs(content: Any, dataset: DataSet, cfg: FileConfig) -> list[Memory]:
    pairs, is_declared = _pairs(content)
    pairs = [_of_usual_types(images, labels, dataset) for images, labels in pairs]
    for images, labels in pairs:
        _check_labels(labels, dataset)
        _check_finite(images)
    sizes = sorted({len(labels) for _, labels in pairs})
    if len(sizes) > 1:
        raise ValueError(f"sets of one size fit; got sets of {sizes[0]} to {sizes[-1]} images")
    space = _space([images for images, _ in pairs], is_declared, cfg)
    form = MultiFormation(cfg.factor) if cfg.factor > 1 else Pixels()
    form.stored_in(1, dataset.image_shape)  # the factor divides the images
    return [_memory(images, labels, form, space, dataset) for images, labels in pairs]


def _memory(images: Tensor, labels: Tensor, form: Parametrisation, space: str, dataset: DataSet) -> Memory:
    order = labels.argsort(stable=True)
    images, labels = images[order], labels[order]
    if space != "normalised":
        images = (_as_unit(images, space) - per_channel(dataset.mean, images)) / per_channel(dataset.std, images)
    return from_stored(form, {"images": images}, labels)


def _as_unit(images: Tensor, space: str) -> Tensor:
    """Pixels in [0, 1], of images that are those, or that are normalised by what `space` names."""
    if space == "unit":
        return images
    name = space.removeprefix("normalised:")
    if len(KNOWN[name].mean) != images.shape[1]:
        raise ValueError(f"memory.space: channels of {name}: {len(KNOWN[name].mean)}, of the images: {images.shape[1]}")
    return images * per_channel(KNOWN[name].std, images) + per_channel(KNOWN[name].mean, images)


# --- from bytes to pairs of tensors ---------------------------------------------------------------------------------


def _unpickled(path: Path) -> Any:
    """What `torch.save` wrote, if that takes nothing but tensors, containers and NumPy's float64."""
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch has to say of odd files, it says in its error too
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # foreign bytes may raise anything on their way through the reader
        raise ValueError(f"{path}: {_refusal(str(error))}; {FITS}") from error


def _refusal(said: str) -> str:
    """Torch's paragraphs of advice, among them how to run the file's code all the same, as the one line that counts."""
    if asked := re.search(r"GLOBAL (\S+)", said):
        return f"refused: its pickle asks for {asked[1]}, reading a set takes tensors alone"
    if reason := re.search(r"WeightsUnpickler error:\s*(.+)", said):
        return f"refused: its pickle is more than tensors ({reason[1]})"
    return "not a whole file as torch.save writes it"


def _pairs(content: Any) -> tuple[list[Pair], bool]:
    """The sets in a file, and whether its layout says that they are normalised."""
    if isinstance(content, dict):
        sets = content.get("data")
        if isinstance(sets, list) and sets and all(_is_pair(one) for one in sets):
            return [(one[0].detach(), one[1].detach()) for one in sets], True
    elif _is_pair(content):
        return [(content[0].detach(), content[1].detach())], False
    raise ValueError(f"{FITS}; got {_in_words(content)}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, Tensor) for part in value)


def _in_words(content: Any) -> str:
    if isinstance(content, Tensor):
        return "a tensor alone, without labels"
    if isinstance(content, dict) and "data" in content:
        return "a dict whose 'data' is no list of [images, labels]"
    if isinstance(content, dict):
        return f"a dict of {', '.join(sorted(repr(key) for key in content)[:5]) or 'nothing'}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)} that is no [images, labels]"
    return type(content).__name__


# --- whether they fit -----------------------------------------------------------------------------------------------


def _of_usual_types(images: Tensor, labels: Tensor, dataset: DataSet) -> Pair:
    """Images as float32 and labels as int64, if they are numbers of such a kind and of the right shapes."""
    if not all(part.layout == torch.strided and part.device.type == "cpu" for part in (images, labels)):
        raise ValueError("plain, dense tensors fit")
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1:] != dataset.image_shape:
        size = ", ".join(str(length) for length in dataset.image_shape)
        raise ValueError(
            f"images (N, {size}) of a float type fit {dataset.name}; got {tuple(images.shape)}, {images.dtype}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(f"labels (N,) of an integer type fit; got {tuple(labels.shape)}, {labels.dtype}")
    if len(labels) != len(images):
        raise ValueError(f"as many labels as images fit; got {len(labels)} and {len(images)}")
    return images.float(), labels.long()


def _check_labels(labels: Tensor, dataset: DataSet) -> None:
    """Raise ValueError unless all classes of the data set have the same number of images, at least one."""
    highest = dataset.num_classes - 1
    if len(labels) and not 0 <= labels.min() <= labels.max() <= highest:
        raise ValueError(f"labels in 0 .. {highest} fit {dataset.name}; got {labels.min()} to {labels.max()}")
    counts = torch.bincount(labels, minlength=dataset.num_classes)
    if counts.min() != counts.max() or counts.min() == 0:
        raise ValueError(
            f"as many images of each of {dataset.name}'s {dataset.num_classes} classes fit; "
            f"got {counts.min()} to {counts.max()} of a class"
        )


def _check_finite(images: Tensor) -> None:
    if not images.isfinite().all():
        raise ValueError("an image is not finite")


def _space(sets: list[Tensor], is_declared: bool, cfg: FileConfig) -> str:
    """What the numbers are, in which all sets must agree: unit, normalised, or normalised:NAME.

    Raises:
        ValueError: neither the layout nor the configuration says it, or the values are none of that space.
    """
    low, high = min(float(of.min()) for of in sets), max(float(of.max()) for of in sets)
    got = f"values are {low:.4g} to {high:.4g}"
    if max(-low, high) > BOUND:
        pixels = "they look like pixels 0 .. 255, not normalised; divide them by 255 for memory.space=unit"
        raise ValueError(f"{got}: {pixels if low >= 0 else f'normalised ones stay within {BOUND:g}'}")
    if cfg.space == "declared" and not is_declared:
        raise ValueError(f"the file does not say what its numbers are; {SAY_SPACE} ({got})")
    looks_unit = low >= -TOLERANCE and high <= 1 + TOLERANCE
    if cfg.space == "declared" and looks_unit:
        raise ValueError(f"{got}: its layout has normalised images, these may be pixels in [0, 1]; {SAY_SPACE}")
    if cfg.space == "unit" and not looks_unit:
        raise ValueError(f"{got}: memory.space=unit means pixels in [0, 1]")
    return "normalised" if cfg.space == "declared" else cfg.space
