"""Selection of real images by their consistency score, the C-score (Jiang et al., ICML 2021, arXiv:2002.03206).

The scores require the training of very many networks and are not computed here. The user supplies them, for example
from the authors' files for CIFAR-10 and CIFAR-100 (pluskid.github.io/structural-regularity). There is no file for SVHN.
"""

from pathlib import Path
from typing import Annotated, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Generator, Tensor

from harness.core.fields import configuration, one_of
from harness.core.memory import Budget, Memory
from harness.memory.method import Method, MethodConfig
from harness.memory.shared.sampling import check_enough, rows_by_class
from harness.memory.shared.scores import KEEP, select

HOW = "give a file with one score per train image, in official order, by --set memory.scores=FILE"


@configuration
class CScoreConfig(MethodConfig):
    """The file of scores, and which images of the ranking are kept."""

    scores: str = ""
    """File of scores: .npz with the array `scores` and, to check the order of the images, the array `labels`, as the
    authors provide it; .npy with one array; .csv or .txt with one number per line."""
    keep: Annotated[str, one_of(KEEP, "keep")] = "easy"
    "Images to keep: easy (highest scores) or hard (lowest scores); which of them was published is unverified."

    per_class: ClassVar[bool] = True

    def check_data(self, labels: Tensor, rows: Tensor, of: int) -> None:
        """Raise ValueError or FileNotFoundError if there are no scores for these images; see `load_scores`."""
        load_scores(self.scores, labels, rows, of)


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: CScoreConfig = CScoreConfig(),
    rows: Tensor | None = None,
    of: int | None = None,
) -> Memory:
    """Real images of each class with the highest (or lowest) published C-scores.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator; it orders images of equal score.
        rows: positions of the images in the official train set, (N,) int64; by default the images are the whole set in
            its order.
        of: number of images in the official train set; required with `rows`.
    Returns:
        budget.ipc images of each class, from the best score to the worst, in ascending order of classes.
    Raises:
        ValueError: a class has fewer than budget.ipc images; or no file is given, it cannot be read, it does not hold
            one score per train image, a score is NaN, or its labels differ from those of the images.
        FileNotFoundError: the file does not exist.
    """
    check_enough(rows_by_class(labels), budget)
    if (rows is None) != (of is None):
        raise ValueError("cscore: rows and of are given together, or neither")
    if rows is None:
        rows, of = torch.arange(len(images)), len(images)
    assert of is not None
    scores = load_scores(cfg.scores, labels, rows, of)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "easy")


METHOD = Method(build, CScoreConfig(), frozenset({"rows", "of"}))


def load_scores(file: str, labels: Tensor, rows: Tensor, of: int) -> Tensor:
    """Return the scores of images of the official train set, (N,) float64.

    Args:
        file: path of the file of scores.
        labels: (N,) int64, the labels of the images.
        rows: (N,) int64, their positions in the official train set.
        of: number of images in the official train set.
    Raises:
        ValueError, FileNotFoundError: as in `build`.
    """
    scores, file_labels = read(file)
    name, rows = Path(file).name, rows.cpu()
    if len(scores) != of:
        raise ValueError(f"cscore: {name} has {len(scores)} scores, the data {of} images")
    if file_labels is not None and not torch.equal(file_labels[rows], labels.cpu()):
        raise ValueError(f"cscore: {name} has other labels than the data; its images come in another order")
    return scores[rows]


def read(file: str) -> tuple[Tensor, Tensor | None]:
    """Read the scores in a file, (N,) float64, and its labels, (N,) int64, or None if it holds none."""
    if not file:
        raise ValueError(f"cscore: a file of scores is needed; {HOW}")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {HOW}")
    try:
        arrays = _arrays(path)
        scores = torch.from_numpy(np.asarray(arrays["scores"], dtype=np.float64))
        labels = torch.from_numpy(np.asarray(arrays["labels"], dtype=np.int64)) if "labels" in arrays else None
    except (ValueError, TypeError, KeyError, EOFError, OSError, BadZipFile) as error:
        raise ValueError(f"cscore: {path.name} cannot be read ({error}); {HOW}") from error
    if scores.ndim != 1 or (labels is not None and labels.shape != scores.shape):
        shapes = " and labels ".join(str(tuple(part.shape)) for part in (scores, labels) if part is not None)
        raise ValueError(f"cscore: {path.name}: expected one score per image, (N,), got {shapes}")
    if missing := int(scores.isnan().sum()):
        raise ValueError(f"cscore: {path.name}: {missing} of {len(scores)} scores are NaN")
    return scores, labels


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("scores", "labels") if name in archive}
    if path.suffix == ".npy":
        return {"scores": np.load(path, allow_pickle=False)}
    if path.suffix in (".csv", ".txt"):
        return {"scores": np.loadtxt(path, delimiter=",", ndmin=1)}
    raise ValueError("its name ends in none of .npz, .npy, .csv, .txt")
