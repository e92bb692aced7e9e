"""Tells whether the entries of a file are independent sets or snapshots of one set."""

from itertools import pairwise

import torch
from torch import Tensor

from harness.core.data import DataSet
from harness.core.foreign_layouts import LabelledImages

# Thresholds above and below which entries count as snapshots. Independent sets, such as the five of DC for MNIST at one
# image per class, correlate by 0.66 to 0.84 after the mean of the class is subtracted, and are equally far apart.
ALIKE = 0.95  # snapshots: a correlation of successive entries above this
NEARER = 0.85  # snapshots: a mean distance of successive entries below this share of the mean distance of the others


def look_like_snapshots(entries: list[LabelledImages], dataset: DataSet) -> bool:
    """Whether the entries are snapshots of one set: equal labels, and successive entries nearer than other pairs.

    Independent sets are equally far from each other in any order. Two entries have no other pair to compare with, so
    they are snapshots only if they are nearly equal.
    """
    first = entries[0]
    if not all(_is_comparable(entry) and _have_same_kind(entry, first) for entry in entries):
        return False
    if not first.labels.is_floating_point() and not all(torch.equal(entry.labels, first.labels) for entry in entries):
        return False
    if any(_correlation(one, other, dataset) > ALIKE for one, other in pairwise(entries)):
        return True
    if len(entries) < 3:
        return False
    flat = torch.stack([entry.images.float().flatten() for entry in entries])
    distances = torch.cdist(flat[None], flat[None])[0]
    adjacent = distances.diagonal(1)
    apart = distances[torch.ones_like(distances).triu(2).bool()]
    return bool(adjacent.mean() < NEARER * apart.mean())


def _is_comparable(entry: LabelledImages) -> bool:
    images, labels = entry.images, entry.labels
    return is_plain(images) and is_plain(labels) and images.ndim == 4 and images.numel() > 0 and labels.ndim > 0


def _have_same_kind(one: LabelledImages, other: LabelledImages) -> bool:
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(one[:2], other[:2], strict=True))


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, and neither complex nor quantised."""
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return is_dense and not tensor.is_complex()


def _correlation(first: LabelledImages, second: LabelledImages, dataset: DataSet) -> float:
    """The median over images of the cosine similarity between an image of one entry and its counterpart."""
    one, other = (_subtract_class_means(entry, dataset).flatten(1) for entry in (first, second))
    return float(torch.cosine_similarity(one, other).nan_to_num().median())


def _subtract_class_means(entry: LabelledImages, dataset: DataSet) -> Tensor:
    """Standardise each image and remove its component along the mean image of its class, which all sets share."""
    images = _standardise(entry.images.float())
    if entry.labels.ndim != 1 or len(entry.labels) != len(images) or images.shape[1:] != dataset.image_shape:
        return images
    for c in entry.labels.unique().tolist():
        rows = (dataset.train_labels == c).nonzero().squeeze(1)[:200]
        if len(rows):
            mean = _standardise(dataset.normalise(dataset.train_images[rows])).mean(0)
            mean = mean / mean.square().mean().sqrt().clamp_min(1e-6)
            members = images[entry.labels == c]
            projection = (members * mean).flatten(1).mean(1).view(-1, 1, 1, 1)
            images[entry.labels == c] = members - projection * mean
    return images


def _standardise(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)).view_as(images)
