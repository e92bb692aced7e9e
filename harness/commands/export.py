"""A run's memories as files to hand on: safetensors, the card as JSON, the images as PNG."""

import json
from pathlib import Path

from harness.commands import figures
from harness.core import atomic as files
from harness.results.figures import plots


def export(run: Path, output: Path | None = None, data_dir: Path | None = None) -> list[Path]:
    """Write each memory of a run, its card, and the first ten images of each of ten classes; the files.

    What is there already with the same content stays as it is.

    Args:
        run: a run's directory.
        output: a directory; by default `export` in that of the run.
        data_dir: where the run's data are; by default where `harness.core.data.load` finds them.
    Raises:
        FileNotFoundError: the run holds no memory yet, or its data are missing.
        ValueError: a file is there with other content; then nothing is written.
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
            raise ValueError(f"{path}: is there with other content; remove it, or name another directory by --output")
    for path, content in new.items():
        files.write_bytes(path, content)
    return list(contents)


def _grid(path: Path, data_dir: Path | None) -> bytes:
    """A memory's images as the bytes of a PNG."""
    return plots.to_bytes(figures.memory_figure(path, data_dir), "grid.png", "memory-images")
