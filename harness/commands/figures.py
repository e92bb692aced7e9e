"""`harness plot`: figures of the rows or the memories of runs, and the files they are written to."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pandas import DataFrame
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from harness.core import atomic as files
from harness.core import data, models
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import Memory
from harness.core.memory_file import decode
from harness.core.models import Network
from harness.core.recipes import TrainConfig, choose_augmentation
from harness.core.registry import known
from harness.core.rng import derive_seed, generator
from harness.core.train import count_correct_by_class, fit
from harness.results import rows
from harness.results.figures import images, registry, saving
from harness.results.figures import images as memory_plots
from harness.results.figures.images import MOST, REAL, SYNTHETIC, Images, ImageSet
from harness.results.wording import memory_label, quantity

Made = tuple[Figure, DataFrame | None]  # a figure and its numbers, None for pictures


class LoadedMemory(NamedTuple):
    """A memory from a file, and the data that it was made from."""

    path: Path
    memory: Memory
    card: files.Card
    dataset: DataSet


@dataclass(frozen=True)
class FeatureConfig:
    """The network of `tsne`: a narrow one, trained for long enough to separate classes, on a laptop."""

    model: str = "convnet-d3-w32"
    epochs: int = 10
    real_per_class: int = 400  # real images that are trained on and drawn, the first of each class
    synthetic_per_class: int = 50  # images of each memory that are drawn
    seed: int = 0


def names() -> list[str]:
    """The names of all figures that `harness plot` can draw."""
    return sorted(about())


def about() -> dict[str, str]:
    """What each figure shows, in one line."""
    of_rows = {name.replace("_", "-"): registry.about(plot.draw) for name, plot in registry.FIGURES.items()}
    return of_rows | {name: registry.about(make) for name, make in OF_MEMORIES.items()}


def describe(name: str) -> str:
    """Describe what a figure shows and from which rows or memories it is drawn."""
    make = OF_MEMORIES[name] if name in OF_MEMORIES else registry.FIGURES[name.replace("-", "_")].draw
    return inspect.getdoc(make) or ""


def draw(name: str, runs: Sequence[Path], output: Path | None, data_dir: Path | None = None) -> list[Path]:
    """Draw figure `name` of `runs`, and write it and its numbers, if it has any, as CSV; returns the paths.

    An existing file is replaced only if this command drew it as the same figure: the title of a picture names its
    figure, and numbers have the same columns.

    Raises:
        ValueError, FileNotFoundError: an unknown figure, runs it cannot be drawn from, or a file in its way.
    """
    known(name, names(), "figure")
    path = output or _beside(runs[0], name)
    if path.is_file() and saving.kind_of(path.read_bytes()) != name:
        raise ValueError(f"{path}: is there, and was not drawn as {name}; remove it, or name another file by --output")
    figure, numbers = OF_MEMORIES[name](runs, data_dir) if name in OF_MEMORIES else _draw_rows(name, runs)
    contents = {path: saving.to_bytes(figure, path, name)}
    if numbers is not None:
        beside = path.with_suffix(".csv")
        contents[beside] = numbers.to_csv(index=False).encode()
        if beside.is_file() and _columns(beside.read_bytes()) != _columns(contents[beside]):
            raise ValueError(f"{beside}: is there, with numbers of something else than {name}; remove it, or name "
                             "another file by --output")  # fmt: skip
    for file, content in contents.items():
        files.write_bytes(file, content)
    return list(contents)


def draw_memory(loaded: LoadedMemory) -> Figure:
    """Draw the images of a memory as networks see them; see `draw_memory_images`."""
    _, memory, card, dataset = loaded
    title = f"{memory_label(card['builder'])}, {dataset.name}, {quantity(card['ipc'], 'image')} per class"
    return images.draw_memory_images(_pixels(loaded), memory.labels.numpy(), list(dataset.classes), title)


def memory_images(runs: Sequence[Path], data_dir: Path | None = None) -> Made:
    """The images of memories as networks see them, ten classes and ten images of each: several runs side by side."""
    paths = [_memory_of(run) for run in runs]
    if len(paths) == 1:
        return draw_memory(read_memory(paths[0], data_dir)), None
    loaded = _read_all(paths, data_dir)
    shown = [
        ImageSet(name, _pixels(held), held.memory.labels.numpy())
        for name, held in zip(_distinct_names(loaded), loaded, strict=True)
    ]
    dataset = loaded[0].dataset
    return memory_plots.draw_memories_side_by_side(shown, list(dataset.classes), _title(loaded)), None


def tsne(runs: Sequence[Path], data_dir: Path | None = None, cfg: FeatureConfig = FeatureConfig()) -> Made:
    """Features of memories' images among those of real ones, in a network trained on real images, by t-SNE.

    One network and one map for all memories, so that their panels can be compared. At most ten classes, the first.

    Args:
        runs: run directories, of which the first memory is shown, or memory files; all of the same data.
    Raises:
        ValueError, FileNotFoundError: no memory, or memories of different data.
    """
    loaded = _read_all([_memory_of(run) for run in runs], data_dir)
    with threadpool_limits(1):  # sums of several threads come in any order, and those of two machines in their own
        points, description = _embed_memories(loaded, cfg)
    return memory_plots.draw_features(points, f"{_title(loaded)}\n{description}"), points


OF_MEMORIES: dict[str, Callable[[Sequence[Path], Path | None], Made]] = {"memory-images": memory_images, "tsne": tsne}


def memories_of(run: Path) -> list[Path]:
    """The files of the memories of a run.

    Raises:
        FileNotFoundError: there is none, or no such directory.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such directory; pass a run's, such as `harness ls runs` lists")
    paths = sorted((run / "memories").glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{run}: holds no memory yet")
    return paths


def embed_in_plane(features: Images, seed: int) -> Images:
    """Embed features (N, D) in the plane by scikit-learn's t-SNE; the same seed gives the same places (N, 2)."""
    from sklearn.manifold import TSNE  # takes a second to import

    perplexity = min(30.0, (len(features) - 1) / 3)
    places: Images = TSNE(
        perplexity=perplexity, init="pca", random_state=derive_seed("tsne", seed) % 2**32, n_jobs=1
    ).fit_transform(features)
    return places


def network_name(dataset: DataSet, cfg: FeatureConfig) -> str:
    """The name of the network that `tsne` trains, no deeper than the images can be halved."""
    for depth in (3, 2, 1):
        name = cfg.model.replace("-d3", f"-d{depth}")
        try:
            with torch.device("meta"):
                models.make(name, dataset.image_shape, dataset.num_classes)
        except ValueError:
            if depth == 1:
                raise
        else:
            return name
    raise AssertionError("a network of depth 1 fits, or says why not")


def _draw_rows(name: str, runs: Sequence[Path]) -> Made:
    plot = registry.FIGURES[name.replace("-", "_")]
    numbers = plot.data(rows.read(runs))
    return plot.draw(numbers), numbers


def _columns(numbers: bytes) -> bytes:
    return numbers.partition(b"\n")[0].strip()


def _memory_of(run: Path) -> Path:
    """The file of a memory: the given one, or the first of a run."""
    return run if run.is_file() else memories_of(run)[0]


def read_memory(path: Path, data_dir: Path | None) -> LoadedMemory:
    """The memory in a file, with the data that it was made from.

    Raises:
        ValueError, FileNotFoundError: no such file, a damaged one, or not the data it was made from.
    """
    tensors, card = files.load(path)
    if "dataset_digest" not in card:
        raise ValueError(f"{path}: holds no memory; give a memory's file or a run that has some")
    dataset = data.load(card["dataset"], data_dir)
    if card["dataset_digest"] != dataset.digest:
        dataset = hold_out(dataset)  # what a run that is judged on the validation split has made it from
    if card["dataset_digest"] != dataset.digest:
        raise ValueError(f"{path}: made from other {card['dataset']} data than those found; see harness data check")
    return LoadedMemory(path, decode(tensors, card, dataset), card, dataset)


def _read_all(paths: Sequence[Path], data_dir: Path | None) -> list[LoadedMemory]:
    """Read the memories in files, which must all be made from the same data."""
    loaded = [read_memory(path, data_dir) for path in paths]
    made_from = {held.dataset.digest: f"{held.dataset.name} ({held.path})" for held in loaded}
    if len(made_from) > 1:
        raise ValueError(f"memories in one figure are of the same data; these mix {' and '.join(made_from.values())}")
    return loaded


def _pixels(held: LoadedMemory) -> Images:
    """The images of a memory, (N, H, W) or (N, H, W, 3) in [0, 1]."""
    images = held.dataset.denormalise(held.memory.images).permute(0, 2, 3, 1).numpy()
    return images[..., 0] if images.shape[-1] == 1 else np.ascontiguousarray(images)


def _title(loaded: Sequence[LoadedMemory]) -> str:
    """The name of the data, and the budget if all memories have the same."""
    budgets = {held.card["ipc"] for held in loaded}
    return loaded[0].dataset.name + (f", {quantity(budgets.pop(), 'image')} per class" if len(budgets) == 1 else "")


def _distinct_names(loaded: Sequence[LoadedMemory]) -> list[str]:
    """The names of the memories: their builders and, if several have the same, their budgets or files."""
    several_budgets = len({held.card["ipc"] for held in loaded}) > 1
    builders = [str(held.card["builder"]) for held in loaded]
    budgets = [f", {held.card['ipc']} per class" if several_budgets else "" for held in loaded]
    called = [memory_label(builder) + budget for builder, budget in zip(builders, budgets, strict=True)]
    return [
        f"{name} ({_origin(held.path)})" if called.count(name) > 1 else name
        for name, held in zip(called, loaded, strict=True)
    ]


def _origin(path: Path) -> str:
    """The run that a memory's file lies in, and the file."""
    return f"{path.parent.parent.name} {path.stem}" if path.parent.name == "memories" else path.stem


def _embed_memories(loaded: Sequence[LoadedMemory], cfg: FeatureConfig) -> tuple[DataFrame, str]:
    """Compute the points of `draw_features`, and describe the network."""
    dataset = loaded[0].dataset
    classes = sorted({int(c) for held in loaded for c in held.memory.labels.unique()})[:MOST]
    shown = _first_of_each(dataset.train_labels, classes, cfg.real_per_class)
    images, labels = dataset.normalise(dataset.train_images[shown]), dataset.train_labels[shown]
    name = network_name(dataset, cfg)
    network = _train(name, images, labels, dataset, cfg)
    parts = [("", REAL, images, labels)]
    for called, held in zip(_distinct_names(loaded), loaded, strict=True):
        first = _first_of_each(held.memory.labels, classes, cfg.synthetic_per_class)
        parts.append((called, SYNTHETIC, held.memory.images[first], held.memory.labels[first]))
    places = embed_in_plane(_features(network, torch.cat([part[2] for part in parts])).numpy(), cfg.seed)
    points = DataFrame(
        [(called, kind, dataset.classes[int(c)]) for called, kind, _, theirs in parts for c in theirs],
        columns=["memory", "kind", "class"],
    ).assign(x=places[:, 0], y=places[:, 1])
    return points, (
        f"t-SNE of {len(points)} features under {name}, trained for {quantity(cfg.epochs, 'epoch')} "
        f"on {len(labels)} real images\n"
        f"(its test accuracy on these classes: {_accuracy(network, dataset, classes):.1f} %, n = 1)"
    )


def _first_of_each(labels: Tensor, classes: Sequence[int], number: int) -> Tensor:
    """The rows of the first images of each class, (n,), class by class."""
    return torch.cat([(labels == c).nonzero().squeeze(1)[:number] for c in classes])


def _train(name: str, images: Tensor, labels: Tensor, dataset: DataSet, cfg: FeatureConfig) -> Network:
    rng = generator("weights", "tsne", cfg.seed)
    network = models.build(name, dataset.image_shape, dataset.num_classes, rng)
    recipe = TrainConfig(epochs=cfg.epochs, batch_size=64, augment=choose_augmentation(dataset.name))
    fit(network, images, labels, recipe, generator("batches", "tsne", cfg.seed))
    return network.eval()


@torch.no_grad()
def _features(network: Network, images: Tensor) -> Tensor:
    return torch.cat([network.embed(part) for part in images.split(1000)])


def _accuracy(network: Network, dataset: DataSet, classes: Sequence[int]) -> float:
    """Test accuracy (%) on the images of some classes, among all that the data have."""
    rows = torch.isin(dataset.test_labels, torch.tensor(classes))
    images, labels = dataset.normalise(dataset.test_images[rows]), dataset.test_labels[rows]
    return 100 * float(count_correct_by_class(network, images, labels, dataset.num_classes).sum()) / len(labels)


def _beside(run: Path, name: str) -> Path:
    return (run if run.is_dir() else run.parent) / "figures" / f"{name}.png"
