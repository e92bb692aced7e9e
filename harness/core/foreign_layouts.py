"""Read condensed sets in the layouts of other projects as labelled images.

The layouts:
    {"data": [[images, labels], ...], ...}     .pt: `res_*.pt` of DC, DSA and DM: several entries, normalised
    [images, labels]                           .pt: `data.pt` of IDC
    {"images": ..., "labels": ...[, "soft"]}   .pt or .npz
    images*, with labels* beside it            .pt, .npy or .npz: `images_best.pt` and `labels_best.pt` of MTT
    a folder with a folder for each class      PNG or other images; a folder has the name or the number of its class
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

EXPECTED = (
    "expected {'data': [[images, labels], ...]} (res_*.pt of DC and DM), [images, labels] (data.pt of IDC), "
    "{'images': ..., 'labels': ...}, or images_*.pt with labels_*.pt beside it (MTT)"
)
IMAGES, LABELS, SOFT = ("images", "x", "image_syn"), ("labels", "y", "label_syn", "targets"), ("soft", "soft_labels")

# The types other than tensors that a file may contain: NumPy's float64, in which DC's files store accuracies.
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: list[object] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name
    np.dtype,
    type(np.dtype(np.float64)),
]


class LabelledImages(NamedTuple):
    """One set of a file, before it is checked."""

    images: Tensor
    labels: Tensor  # (N,) of an integer type, or (N, K) probabilities
    soft: Tensor | None = None  # (N, K) probabilities, if the file has them in addition to labels


@dataclass(frozen=True)
class Contents:
    """The sets of a file, and whether its layout implies that the images are normalised."""

    entries: list[LabelledImages]
    is_normalised: bool = False


def read(path: Path, dataset: DataSet) -> Contents:
    """Read the sets of a file or folder.

    Raises:
        ValueError: the file is damaged, has an unknown layout, or contains more than tensors. The message begins with
            the path.
    """
    if path.is_dir():
        return _read_folder(path, dataset)
    content = _load(path)
    if isinstance(content, Tensor) and (labels_path := find_labels_beside(path)):
        labels = _load(labels_path)
        if not isinstance(labels, Tensor):
            raise ValueError(f"{show(labels_path)}: expected labels as one tensor, got {_describe(labels)}")
        return Contents([LabelledImages(content.detach(), labels.detach())])
    contents = _recognise(content)
    if contents is None:
        raise ValueError(f"{show(path)}: {EXPECTED}, got {_describe(content)}")
    return contents


def find_labels_beside(path: Path) -> Path | None:
    """Return the file of labels for a file of images, such as labels_best.pt for images_best.pt, or None."""
    name = re.sub("images", "labels", path.name, count=1)
    labels_path = path.with_name(name)
    return labels_path if name != path.name and labels_path.is_file() else None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; for a folder or a pair of files, that of the names and digests of its files.

    Digests are cached by the size and the modification time of a file.
    """
    if path.is_dir():
        members = sorted(picture.member for picture in find_pictures((path,), "memory"))
        text = "".join(f"{show(member)} {_digest_file(path / member)}\n" for member in members)
    elif labels_path := find_labels_beside(path):
        text = f"images {_digest_file(path)}\nlabels {_digest_file(labels_path)}\n"
    else:
        return _digest_file(path)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_file(path: Path) -> str:
    with explain_failures(path, "a readable file"):
        state = path.stat()
        return _digest_bytes(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _digest_bytes(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- loading --------------------------------------------------------------------------------------------------------


def _load(path: Path) -> object:
    """Load a file as a tensor, or as containers of tensors."""
    if path.suffix in (".npy", ".npz"):
        return _load_numpy(path)
    with (
        explain_failures(path, "a whole file as torch.save writes it", path),
        _refuse_code(path),
        torch.serialization.safe_globals(_ALLOWED),  # type: ignore[arg-type]
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # torch's errors repeat its warnings
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _refuse_code(path: Path) -> Iterator[None]:
    """Replace torch's error about a pickle with code, which recommends unsafe loading, by a refusal of one line."""
    try:
        yield
    except Exception as error:
        message = str(error)
        if name_kind(path):
            raise  # the file is not a pickle
        if imported := re.search(r"GLOBAL (\S+)", message):
            refusal = f"refused: its pickle imports {imported[1]}, and only tensors are loaded; {EXPECTED}"
        elif (reason := re.search(r"WeightsUnpickler error:\s*(.+)", message)) and "Unsupported operand" not in message:
            refusal = f"refused: its pickle contains more than tensors ({show(reason[1])[:200]}); {EXPECTED}"
        elif "eights" in message:
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
    """Read a folder that has a folder of images for each class, named as the class or by its number."""
    pictures = find_pictures((path,), "memory")
    if not pictures:
        raise ValueError(f"{show(path)}: no images found; expected a folder for each class, with images in it")
    numbers = {compose(name): c for c, name in enumerate(dataset.classes)}
    if not {picture.label for picture in pictures} <= numbers.keys():
        numbers = {str(c): c for c in range(dataset.num_classes)}
    for picture in pictures:
        if picture.label not in numbers:
            raise ValueError(
                f"{show(path)}: folder {picture.label} is not a class of {dataset.name}; name folders as its classes "
                f"({', '.join(dataset.classes[:3])}, ...) or by their numbers, 0 to {dataset.num_classes - 1}"
            )
    images = np.empty((len(pictures), *dataset.image_shape), dtype=np.uint8)
    read_pixels(pictures, images, is_named=True)
    labels = torch.tensor([numbers[picture.label] for picture in pictures])
    return Contents([LabelledImages(torch.from_numpy(images), labels)])


# --- recognising a layout -------------------------------------------------------------------------------------------


def _recognise(content: object) -> Contents | None:
    """Return the sets in the contents of a file, or None if the layout is unknown."""
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
    tensors = [value for name in names if isinstance(value := content.get(name), Tensor)]
    return tensors[0].detach() if tensors else None


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, Tensor) for part in value)


def _detach(pair: object) -> tuple[Tensor, Tensor]:
    assert isinstance(pair, list | tuple)
    images, labels = pair
    return images.detach(), labels.detach()


def _describe(content: object) -> str:
    if isinstance(content, Tensor):
        return "a tensor alone, without labels"
    if isinstance(content, Mapping) and "data" in content:
        return "a dict whose 'data' is not a list of [images, labels]"
    if isinstance(content, Mapping):
        names = ", ".join(sorted(show(repr(key)[:40]) for key in content)[:5])
        return f"a dict of {names or 'nothing'}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)} that is not [images, labels]"
    return type(content).__name__
