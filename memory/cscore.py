"""Real images chosen by their C-score, how consistent each is with the rest (Jiang et al., ICML 2021).

arXiv:2002.03206. The scores take very many networks and are not computed here: the user supplies them, such as the
authors' files for CIFAR-10 and CIFAR-100 (pluskid.github.io/structural-regularity). There is none for SVHN.
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
    """Which file, and which of its ends."""

    scores: str = ""
    """File of scores: .npz of arrays `scores` and, to check the order of the images by, `labels`, which is the authors'
    form; .npy of one array; .csv or .txt with a number per line."""
    keep: Annotated[str, one_of(KEEP, "keep")] = "easy"
    "Images to keep: easy for the highest scores, or hard for the lowest; which one was published is unverified."

    per_class: ClassVar[bool] = True

    def check_data(self, labels: Tensor, rows: Tensor, of: int) -> None:
        """Raise ValueError or FileNotFoundError unless there are scores for these images; see `scores_of`."""
        scores_of(self.scores, labels, rows, of)


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
        images: (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator; the order of equal scores.
        rows: where these images stand in the official train set, (N,) int64; None: they are all of it, in its order.
        of: how many images the official train set has, where `rows` is given.
    Returns:
        budget.ipc images of each class, the best first, classes ascending.
    Raises:
        ValueError: a class has fewer than budget.ipc images; no file is given, it cannot be read, it holds other than
            one score per train image or a NaN, or the labels in it are not these.
        FileNotFoundError: there is no such file.
    """
    check_enough(rows_by_class(labels), budget)
    if (rows is None) != (of is None):
        raise ValueError("cscore: rows and of are given together, or neither")
    if rows is None:
        rows, of = torch.arange(len(images)), len(images)
    assert of is not None
    scores = scores_of(cfg.scores, labels, rows, of)
    return select(images, labels, scores, budget, rng, highest=cfg.keep == "easy")


METHOD = Method(build, CScoreConfig(), frozenset({"rows", "of"}))


def scores_of(file: str, labels: Tensor, rows: Tensor, of: int) -> Tensor:
    """The scores of the images with `labels` (N,) at `rows` (N,) of an official train set of `of` images, (N,) float64.

    Raises:
        ValueError, FileNotFoundError: as `build`.
    """
    scores, theirs = read(file)
    name, rows = Path(file).name, rows.cpu()
    if len(scores) != of:
        raise ValueError(f"cscore: {name} has {len(scores)} scores, the data {of} images")
    if theirs is not None and not torch.equal(theirs[rows], labels.cpu()):
        raise ValueError(f"cscore: {name} has other labels than the data; its images come in another order")
    return scores[rows]


def read(file: str) -> tuple[Tensor, Tensor | None]:
    """The scores in a file, (N,) float64, and the labels beside them, (N,) int64, or None."""
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
