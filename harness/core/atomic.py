"""The file format of all results: safetensors, with a JSON object, the card, in the metadata.

A file is written under a temporary name and then renamed, so it is either complete or absent. The metadata holds a
digest of the card and the tensors, which shows whether the file is damaged. Reading a file never runs code from it.
"""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

Card = dict[str, Any]


class DamagedFileError(ValueError):
    """A file is incomplete or altered, or has another format."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step: other processes see the old file or the new one, never a part of it.

    Missing directories are created.

    Raises:
        OSError: the file cannot be written; the error names `path`, not the temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def save(path: Path, tensors: dict[str, Tensor], card: Card) -> None:
    """Write `tensors`, of any shape and on any device, and `card`, which must convert to JSON, to `path`."""
    tensors = {name: _pack(tensor.detach().cpu()) for name, tensor in sorted(tensors.items())}
    text = json.dumps(card, sort_keys=True)
    seal = {"card": text, "sha256": _digest(tensors, text)}
    write_bytes(
        path, to_bytes(tensors, {"harness": json.dumps(seal)})
    )  # one key: safetensors writes several in random order


def load(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Load the tensors and the card of a file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: the file is incomplete or altered, or was not written by `save`.
        OSError: the file cannot be read at present; its contents may be intact.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        seal = json.loads(metadata["harness"])
        text, expected = seal["card"], seal["sha256"]
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{path}: damaged, or not a file of this harness ({error})") from error
    if _digest(tensors, text) != expected:
        raise DamagedFileError(f"{path}: damaged: its digest differs from the stored one")
    return tensors, json.loads(text)


def _digest(tensors: dict[str, Tensor], card: str) -> str:
    digest = hashlib.sha256(card.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_pack(tensor).flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _pack(tensor: Tensor) -> Tensor:
    """Return a copy with the default strides of its shape; `contiguous` keeps the strides of dimensions of size 1."""
    return tensor.clone(memory_format=torch.contiguous_format)
