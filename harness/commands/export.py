"""`harness export`: write the memories of a run as files that other programs read."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from harness.commands import figures
from harness.core import atomic as files
from harness.core.data import DataSet
from harness.core.memory import Memory
from harness.core.memory_file import to_uint8
from harness.results.figures import saving


def export(run: Path, output: Path | None = None, data_dir: Path | None = None) -> list[Path]:
    """Write each memory of a run in the forms that others read.

    For the memory `set-0`: `set-0.safetensors` with its card; the card alone, `set-0.json`; `set-0.pt`, as DC's script
    writes a set; `set-0.png`, ten images of each of ten classes; and in `set-0/CLASS/` each image as a PNG. A file that
    exists with the same content is left alone.

    Args:
        run: the directory of a run.
        output: the directory to write to; by default `export` in the directory of the run.
        data_dir: a directory that holds the run's data; by default `harness.core.data.load` finds them.
    Returns:
        The paths of the files.
    Raises:
        FileNotFoundError: the run holds no memory yet, or its data are missing.
        ValueError: a file exists with other content; nothing is written then.
    """
    target = output or run / "export"
    contents: dict[Path, bytes] = {}
    for path in figures.memories_of(run):
        loaded = figures.read_memory(path, data_dir)
        contents[target / path.name] = path.read_bytes()
        contents[target / f"{path.stem}.json"] = json.dumps(loaded.card, indent=2).encode() + b"\n"
        contents[target / f"{path.stem}.pt"] = encode_pt(loaded.memory)
        contents[target / f"{path.stem}.png"] = saving.to_bytes(
            figures.draw_memory(loaded), "grid.png", "memory-images"
        )
        for name, content in _encode_images(loaded.memory, loaded.dataset):
            contents[target / path.stem / name] = content
    new = {path: content for path, content in contents.items() if not path.exists()}
    for path, content in contents.items():
        if path not in new and path.read_bytes() != content:
            raise ValueError(f"{path}: exists with other content; remove it, or name another directory by --output")
    for path, content in new.items():
        files.write_bytes(path, content)
    return list(contents)


def encode_pt(memory: Memory) -> bytes:
    """A memory as `torch.save` writes it in the layout of DC, DSA and DM's scripts: {"data": [[images, labels]]}.

    Images are (N, C, H, W) float32, normalised, as networks see them. Labels are (N,) int64; where a memory has soft
    labels, (N, K) float32 probabilities stand in their place.
    """
    content = {"data": [[memory.images.contiguous(), memory.targets.contiguous()]]}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _encode_images(memory: Memory, dataset: DataSet) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Each image as a PNG of 8 bits, with its name: the folder of its class, and its number among all images."""
    folders = _name_folders(dataset.classes)
    pixels = to_uint8(memory.images, dataset).permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(pixels, memory.labels.tolist(), strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
        yield PurePosixPath(folders[label], f"{number:05d}.png"), buffer.getvalue()


def _name_folders(classes: tuple[str, ...]) -> list[str]:
    """A folder for each class: its name, or its number where one of the names cannot name a folder."""
    if all(re.fullmatch(r"[\w\-][\w\-. ]*", name) for name in classes) and len(set(classes)) == len(classes):
        return list(classes)
    return [str(label) for label in range(len(classes))]
