"""`harness report`: runs as one HTML page, with pictures of their memories."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from harness.config import NASRun
from harness.core import atomic as files
from harness.core import parametrisation
from harness.core.atomic import Card
from harness.results.figures.images import draw_memory_images
from harness.results.report import page
from harness.results.report import runs as report_runs
from harness.results.report.runs import Picture
from harness.results.wording import memory_label, quantity
from harness.tracks.base import get_memory_name
from harness.tracks.search import list_training_sets

MOST_PICTURES = 3  # of a run's memories
DPI = 90  # of a picture: an image takes about 45 pixels


def write(runs: Sequence[Path], output: Path) -> Path:
    """Write the report of `runs` and return its path.

    Args:
        runs: run directories, row files, or directories that hold either.
    Raises:
        FileNotFoundError, ValueError: there are no rows, or `output` exists and is no report.
    """
    if output.exists() and page.GENERATOR.encode() not in output.read_bytes()[:1000]:
        raise ValueError(f"{output}: exists and is no report that harness wrote; choose another file with --output")
    rows, complaints = report_runs.read(runs)
    directories = [path for run in runs if run.is_dir() for path in _run_directories(run)]
    facts = []
    for directory in dict.fromkeys(path.resolve() for path in directories):
        pictures, wrong = draw_pictures(directory)
        trained, unknown = find_searched(directory)
        complaints += [*wrong, *unknown]
        if (found := report_runs.read_facts(directory, pictures, trained)) is not None:
            facts.append(found)
    for complaint in complaints:
        warnings.warn(complaint, stacklevel=2)
    store = report_runs.read_store([path.resolve().parent / "units" for path in directories])
    files.write_bytes(output, page.render(rows, facts, store, complaints).encode())
    return output


def draw_pictures(run: Path) -> tuple[list[Picture], list[str]]:
    """Draw the images of the first memories of a run, and say what is wrong with those that cannot be shown.

    They are drawn from the files alone, which say how their images are stored and normalised. No data set is needed,
    and classes have numbers instead of names.
    """
    paths = sorted((run / "memories").glob("*.safetensors"))
    pictures, wrong = [], []
    for path in paths[:MOST_PICTURES]:
        try:
            pictures.append(_draw_picture(path, len(paths)))
        except (ValueError, KeyError) as error:
            wrong.append(f"{path.name} of {run.name}: cannot be shown ({error})")
    return pictures, wrong


def find_searched(run: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Find (proxy, id of the architecture) of all that a search trains, and say why if that is unknown.

    Of a run that is no search there are none.

    Raises:
        ValueError: its configuration is damaged.
    """
    path = run / "config.json"
    configuration = report_runs.read_json(path) if path.is_file() else {}
    if "space" not in configuration:
        return [], []
    own = {name: configuration[name] for name in ("preset", "memory", "space", "archs", "subset", "truth")}
    try:
        search = NASRun(**own)
    except ValueError as error:
        return [], [f"{run.name}: the networks that it lacks are not known ({error})"]
    kinds = [get_memory_name(search) if kind == search.memory else kind for kind in list_training_sets(search)]
    return [(kind, str(arch.id)) for kind in kinds for arch in search.candidates.archs], []


def _run_directories(path: Path) -> list[Path]:
    """The directory itself if it holds a run, otherwise those inside it that do."""
    return [path] if (path / "config.json").is_file() else sorted(found.parent for found in path.glob("*/config.json"))


def _draw_picture(path: Path, of: int) -> Picture:
    tensors, card = files.load(path)
    images, labels = _decode_as_seen(tensors, card)
    title = f"{memory_label(card['builder'])}, {card['dataset']}, {quantity(card['ipc'], 'image')} per class"
    names = [f"class {c}" for c in range(int(labels.max()) + 1)]
    figure = draw_memory_images(images.permute(0, 2, 3, 1).numpy(), labels.numpy(), names, title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    several = f", {path.stem} of {of}" if of > 1 else ""
    return Picture(f"{title}{several}", content.getvalue())


def _decode_as_seen(tensors: dict[str, torch.Tensor], card: Card) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode the images of a memory's file as networks see them, (N, C, H, W) in [0, 1], and their labels (N,)."""
    form = parametrisation.parse(card.get("parametrisation", {"name": "pixels"}))
    stored = {name: part for name, part in tensors.items() if name in ("images", "left", "right")}
    images = form.decode(stored)
    if card["encoding"] == "uint8":
        return images / 255, tensors["labels"]
    mean, std = (torch.tensor(card["space"][name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    return (images * std + mean).clamp(0, 1), tensors["labels"].repeat_interleave(form.views)
