"""Whether the entries of a file are independent sets, or snapshots of one set."""

from itertools import pairwise

import torch
from torch import Tensor

from harness.core.data import DataSet
from harness.core.foreign_layouts import LabelledImages

# When entries of a file are one set at several moments. Independent sets, as DC's five for MNIST at one image per
# class, correlate by 0.66 to 0.84 once the mean of the class is taken out, and lie equally far apart.
ALIKE = 0.95  # the correlation of successive entries from which they are taken for one set
NEARER = 0.85  # the distance of successive entries, as a share of that of others, below which they are


def look_like_snapshots(entries: list[LabelledImages], dataset: DataSet) -> bool:
    """Whether entries are one set at several moments: the same labels, and successive ones nearer than others.

    Sets condensed independently lie equally far from each other, whatever their order. Two entries tell nothing of an
    order; they are snapshots where they are nearly the same.
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
    """Whether a tensor holds real numbers, one beside the other, on the CPU."""
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return is_dense and not tensor.is_complex()


def _correlation(first: LabelledImages, second: LabelledImages, dataset: DataSet) -> float:
    """How alike the images of two entries are, one by one: the median over them."""
    one, other = (_less_class_means(entry, dataset).flatten(1) for entry in (first, second))
    return float(torch.cosine_similarity(one, other).nan_to_num().median())


def _less_class_means(entry: LabelledImages, dataset: DataSet) -> Tensor:
    """Images standardised one by one, less the mean image of their class: what tells one digit 1 from another."""
    images = _standardise(entry.images.float())
    if entry.labels.ndim != 1 or len(entry.labels) != len(images) or images.shape[1:] != dataset.image_shape:
        return images
    for c in entry.labels.unique().tolist():
        rows = (dataset.train_labels == c).nonzero().squeeze(1)[:200]
        if len(rows):
            mean = _standardise(dataset.normalise(dataset.train_images[rows])).mean(0)
            mean = mean / mean.square().mean().sqrt().clamp_min(1e-6)
            own = images[entry.labels == c]
            share = (own * mean).flatten(1).mean(1).view(-1, 1, 1, 1)
            images[entry.labels == c] = own - share * mean
    return images


def _standardise(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)).view_as(images)
