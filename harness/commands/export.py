"""`harness export`: write the memories of a run as files that other programs read."""

import json
from pathlib import Path

from harness.commands import figures
from harness.core import atomic as files
from harness.results.figures import saving


def export(run: Path, output: Path | None = None, data_dir: Path | None = None) -> list[Path]:
    """Write each memory of a run: safetensors, its card as JSON, and ten images of each of ten classes as PNG.

    A file that exists with the same content is left alone.

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
        _, card = files.load(path)
        contents[target / path.name] = path.read_bytes()
        contents[target / f"{path.stem}.json"] = json.dumps(card, indent=2).encode() + b"\n"
        contents[target / f"{path.stem}.png"] = _grid(path, data_dir)
    new = {path: content for path, content in contents.items() if not path.exists()}
    for path, content in contents.items():
        if path not in new and path.read_bytes() != content:
            raise ValueError(f"{path}: exists with other content; remove it, or name another directory by --output")
    for path, content in new.items():
        files.write_bytes(path, content)
    return list(contents)


def _grid(path: Path, data_dir: Path | None) -> bytes:
    """Draw the images of a memory; the bytes of the PNG file."""
    return saving.to_bytes(figures.memory_figure(path, data_dir), "grid.png", "memory-images")
