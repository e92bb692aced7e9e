"""Figures of runs: which rows or memories each needs, and the files it leaves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from harness.config import known
from harness.core import data, files
from harness.core.holdout import hold_out
from harness.core.memory import decode
from results import plots, rows
from results.notes import marked

MEMORY_IMAGES = "memory-images"


def names() -> list[str]:
    """Every figure `harness plot` can draw."""
    return sorted([*(name.replace("_", "-") for name in plots.FIGURES), MEMORY_IMAGES])


def draw(name: str, runs: Sequence[Path], output: Path | None, data_dir: Path | None = None) -> list[Path]:
    """Draw figure `name` of `runs`; the files written: the figure, and where it shows numbers, these as CSV.

    Raises:
        ValueError, FileNotFoundError: an unknown figure, or runs it cannot be drawn from.
    """
    known(name, names(), "figure")
    if name == MEMORY_IMAGES:
        return [_memory_images(runs, output, data_dir)]
    plot = plots.FIGURES[name.replace("-", "_")]
    table = rows.read(runs)
    path = output or _beside(runs[0], name)
    plots.save(plot.draw(table), path)
    beside = path.with_suffix(".csv")
    files.write_bytes(beside, plot.data(table).to_csv(index=False).encode())
    return [path, beside]


def memory_figure(path: Path, data_dir: Path | None = None) -> Figure:
    """The images in a memory's file as networks see them; see `results.plots.memory_images`.

    Raises:
        ValueError, FileNotFoundError: no such file, a damaged one, or not the data it was made from.
    """
    tensors, card = files.load(path)
    dataset = data.load(card["dataset"], data_dir)
    if card["dataset_digest"] != dataset.digest:
        dataset = hold_out(dataset)  # what a run that is judged on the validation split has made it from
    if card["dataset_digest"] != dataset.digest:
        raise ValueError(f"{path}: made from other {card['dataset']} data than those found; see harness data check")
    memory = decode(tensors, card, dataset)
    images = dataset.denormalise(memory.images).permute(0, 2, 3, 1).numpy()
    pixels = images[..., 0] if images.shape[-1] == 1 else np.ascontiguousarray(images)
    title = f"{marked(card['builder'])}, {card['dataset']}, {card['ipc']} images per class"
    return plots.memory_images(pixels, memory.labels.numpy(), list(dataset.classes), title)


def _memory_images(runs: Sequence[Path], output: Path | None, data_dir: Path | None) -> Path:
    if len(runs) != 1:
        raise ValueError(f"{MEMORY_IMAGES}: shows one run's memory, or one memory file, got {len(runs)}")
    path = runs[0] if runs[0].is_file() else memories_of(runs[0])[0]
    target = output or _beside(runs[0], MEMORY_IMAGES)
    plots.save(memory_figure(path, data_dir), target)
    return target


def memories_of(run: Path) -> list[Path]:
    """The files of a run's memories.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted((run / "memories").glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{run}: holds no memory yet")
    return paths


def _beside(run: Path, name: str) -> Path:
    return (run if run.is_dir() else run.parent) / "figures" / f"{name}.png"
