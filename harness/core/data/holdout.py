"""A part of the training data to judge choices on, so that none is made on the test set."""

import hashlib
from dataclasses import replace

import torch

from harness.core.data import DataSet

FRACTION = 0.1  # of each class


def hold_out(dataset: DataSet) -> DataSet:
    """`dataset` with the last tenth of each class of its train images as test images, and the rest to train on.

    Its digest is another, so that nothing made from it is taken for something made from all of the train images.
    """
    rest, held = [], []
    for c in range(dataset.num_classes):
        rows = (dataset.train_labels == c).nonzero().squeeze(1)
        first_held = len(rows) - max(1, round(FRACTION * len(rows)))
        rest.append(rows[:first_held])
        held.append(rows[first_held:])
    train, test = (torch.cat(parts).sort().values for parts in (rest, held))
    return replace(
        dataset,
        train_images=dataset.train_images[train],
        train_labels=dataset.train_labels[train],
        test_images=dataset.train_images[test],
        test_labels=dataset.train_labels[test],
        part=train,
        whole=len(dataset.train_labels),
        digest=hashlib.sha256(f"{dataset.digest} last tenth held out".encode()).hexdigest(),
    )
