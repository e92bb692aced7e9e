"""One kind of file for everything the harness keeps: safetensors, with a JSON card in its metadata.

A file is written under a temporary name and renamed, so that it is whole or absent, and carries a digest of its
tensors, so that one cut short or altered is told apart from a good one. Reading never runs code from the file.
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
    """A file that does not read back whole."""


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: readers see the old file, the new one, or none.

    Raises:
        OSError: it cannot be written there.
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
        raise OSError(error.errno, error.strerror, str(path)) from error  # not under the name of the moment
    finally:
        temporary.unlink(missing_ok=True)


def save(path: Path, tensors: dict[str, Tensor], card: Card) -> None:
    """Write `tensors` (any device, any shape) and `card` (JSON-able) to `path`."""
    tensors = {name: _pack(tensor.detach().cpu()) for name, tensor in sorted(tensors.items())}
    text = json.dumps(card, sort_keys=True)
    seal = {"card": text, "sha256": _digest(tensors, text)}
    write_bytes(path, to_bytes(tensors, {"harness": json.dumps(seal)}))  # one key: safetensors shuffles several


def load(path: Path) -> tuple[dict[str, Tensor], Card]:
    """The tensors and the card of a file written by `save`.

    Raises:
        FileNotFoundError: no such file.
        DamagedFileError: the file is cut short, altered, or was not written by `save`.
        OSError: it cannot be read just now, which says nothing of what is in it.
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
        raise DamagedFileError(f"{path}: not a whole file of ours ({error})") from error
    if _digest(tensors, text) != expected:
        raise DamagedFileError(f"{path}: its digest differs from the one it carries")
    return tensors, json.loads(text)


def _digest(tensors: dict[str, Tensor], card: str) -> str:
    digest = hashlib.sha256(card.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_pack(tensor).flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _pack(tensor: Tensor) -> Tensor:
    """Return the tensor with the strides of its shape; `contiguous` keeps any stride of a dimension of one element."""
    return tensor.clone(memory_format=torch.contiguous_format)
