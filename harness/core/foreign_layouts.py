"""The layouts in which others keep condensed sets: recognising one, and reading it into labelled images.

What is accepted:
    {"data": [[images, labels], ...], ...}     .pt: DC, DSA and DM's `res_*.pt`: several entries, normalised
    [images, labels]                           .pt: IDC's `data.pt`
    {"images": ..., "labels": ...[, "soft"]}   .pt or .npz
    images*, with labels* beside it            .pt, .npy or .npz: MTT's `images_best.pt` and `labels_best.pt`
    a folder of class folders of images        PNG or the like; a folder is named as its class, or by its number
Images are float, or uint8 pixels; labels are integers, or the probabilities of all classes. Reading never runs code
from a file.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.core.data import DataSet
from harness.core.data.folders import find_pictures, read_pixels
from harness.core.reading import ExplainedError, compose, explain_failures, name_kind, show

FITS = (
    "{'data': [[images, labels], ...]} (DC, DM's res_*.pt), [images, labels] (IDC's data.pt), {'images': ..., "
    "'labels': ...} or images_*.pt with labels_*.pt beside it (MTT) fits"
)
IMAGES, LABELS, SOFT = ("images", "x", "image_syn"), ("labels", "y", "label_syn", "targets"), ("soft", "soft_labels")

# All that a file may ask for beyond tensors: NumPy's float64, which DC's files give accuracies as.
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: list[object] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name
    np.dtype,
    type(np.dtype(np.float64)),
]


class LabelledImages(NamedTuple):
    """One set as a file has it, not checked yet."""

    images: Tensor
    labels: Tensor  # (N,) of an integer type, or (N, K) probabilities
    soft: Tensor | None = None  # (N, K) probabilities, where labels are given beside them


@dataclass(frozen=True)
class Contents:
    """What a file holds, and whether its layout says that the images are normalised."""

    entries: list[LabelledImages]
    is_normalised: bool = False


def read(path: Path, dataset: DataSet) -> Contents:
    """The sets in a file or folder.

    Raises:
        ValueError: it is damaged, of another layout, or asks for more than tensors; the message begins with the path.
    """
    if path.is_dir():
        return _read_folder(path, dataset)
    content = _load(path)
    if isinstance(content, Tensor) and (beside := find_labels_beside(path)):
        labels = _load(beside)
        if not isinstance(labels, Tensor):
            raise ValueError(f"{show(beside)}: labels as one tensor fit; got {_in_words(labels)}")
        return Contents([LabelledImages(content.detach(), labels.detach())])
    contents = _recognise(content)
    if contents is None:
        raise ValueError(f"{show(path)}: {FITS}; got {_in_words(content)}")
    return contents


def find_labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images by its name, as labels_best.pt does to images_best.pt."""
    name = re.sub("images", "labels", path.name, count=1)
    beside = path.with_name(name)
    return beside if name != path.name and beside.is_file() else None


def digest(path: Path) -> str:
    """SHA-256, hex, of a file's bytes; of a folder or a pair of files, of the names and digests of all its files.

    A file is read again only if its size or time of change is another.
    """
    if path.is_dir():
        members = sorted(picture.member for picture in find_pictures((path,), "memory"))
        text = "".join(f"{show(member)} {_digest_file(path / member)}\n" for member in members)
    elif beside := find_labels_beside(path):
        text = f"images {_digest_file(path)}\nlabels {_digest_file(beside)}\n"
    else:
        return _digest_file(path)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_file(path: Path) -> str:
    with explain_failures(path, "a readable file"):
        state = path.stat()
        return _digest_bytes(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _digest_bytes(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- from bytes to tensors and containers ---------------------------------------------------------------------------


def _load(path: Path) -> object:
    """What a file holds: tensors, or containers of them."""
    if path.suffix in (".npy", ".npz"):
        return _load_numpy(path)
    with (
        explain_failures(path, "a whole file as torch.save writes it", path),
        _refuse_code(path),
        torch.serialization.safe_globals(_ALLOWED),  # type: ignore[arg-type]
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # what torch has to say of odd files, it says in its error too
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _refuse_code(path: Path) -> Iterator[None]:
    """Give torch's paragraphs of advice, among them how to run a file's code all the same, as the line that counts."""
    try:
        yield
    except Exception as error:
        said = str(error)
        if name_kind(path):
            raise  # it is no pickle at all
        if asked := re.search(r"GLOBAL (\S+)", said):
            refusal = f"refused: its pickle asks for {asked[1]}, reading a set takes tensors alone; {FITS}"
        elif (reason := re.search(r"WeightsUnpickler error:\s*(.+)", said)) and "Unsupported operand" not in said:
            refusal = f"refused: its pickle is more than tensors ({show(reason[1])[:200]}); {FITS}"
        elif "eights" in said:
            raise ValueError("its pickle is damaged") from error
        else:
            raise
        raise ExplainedError(f"{show(path)}: {refusal}") from error


def _load_numpy(path: Path) -> object:
    with explain_failures(path, f"a whole {path.suffix} file", path), path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(content))
        arrays = {name: torch.from_numpy(np.ascontiguousarray(content[name])) for name in content.files}
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _read_folder(path: Path, dataset: DataSet) -> Contents:
    """Class folders of images, each named as its class or by its number."""
    pictures = find_pictures((path,), "memory")
    if not pictures:
        raise ValueError(f"{show(path)}: holds no image; a folder for each class, with images in it, fits")
    numbers = {compose(name): c for c, name in enumerate(dataset.classes)}
    if not {picture.label for picture in pictures} <= numbers.keys():
        numbers = {str(c): c for c in range(dataset.num_classes)}
    for picture in pictures:
        if picture.label not in numbers:
            raise ValueError(
                f"{show(path)}: folder {picture.label} is no class of {dataset.name}; name folders as its classes "
                f"({', '.join(dataset.classes[:3])}, ...) or by their numbers, 0 to {dataset.num_classes - 1}"
            )
    images = np.empty((len(pictures), *dataset.image_shape), dtype=np.uint8)
    read_pixels(pictures, images, is_named=True)
    labels = torch.tensor([numbers[picture.label] for picture in pictures])
    return Contents([LabelledImages(torch.from_numpy(images), labels)])


# --- from containers to sets ----------------------------------------------------------------------------------------


def _recognise(content: object) -> Contents | None:
    """The sets in what a file holds; None where its layout is none that is known."""
    if isinstance(content, Mapping):
        entries = content.get("data")
        if isinstance(entries, list) and entries and all(_is_pair(entry) for entry in entries):
            return Contents([LabelledImages(*_detach(entry)) for entry in entries], is_normalised=True)
        images, labels, soft = (_find(content, names) for names in (IMAGES, LABELS, SOFT))
        if images is None or (labels is None and soft is None):
            return None
        return Contents([LabelledImages(images, labels if labels is not None else soft, soft)])  # type: ignore[arg-type]
    if _is_pair(content):
        return Contents([LabelledImages(*_detach(content))])
    return None


def _find(content: Mapping[object, object], names: Sequence[str]) -> Tensor | None:
    found = [value for name in names if isinstance(value := content.get(name), Tensor)]
    return found[0].detach() if found else None


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, Tensor) for part in value)


def _detach(pair: object) -> tuple[Tensor, Tensor]:
    assert isinstance(pair, list | tuple)
    images, labels = pair
    return images.detach(), labels.detach()


def _in_words(content: object) -> str:
    if isinstance(content, Tensor):
        return "a tensor alone, without labels"
    if isinstance(content, Mapping) and "data" in content:
        return "a dict whose 'data' is no list of [images, labels]"
    if isinstance(content, Mapping):
        names = ", ".join(sorted(show(repr(key)[:40]) for key in content)[:5])
        return f"a dict of {names or 'nothing'}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)} that is no [images, labels]"
    return type(content).__name__
