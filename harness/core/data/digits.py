"""scikit-learn's digits: real 8 x 8 images that are always there, offline."""

import torch

from harness.core.data.dataset import DataSet
from harness.core.data.known import KNOWN, combine, digests, exactness_of


def load_digits_set() -> DataSet:
    """scikit-learn's digits; the last fifth of each class, in its order, is test."""
    from sklearn.datasets import load_digits  # its import takes a second that other data need not pay

    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    images = ((torch.from_numpy(bunch.images).long() * 255 + 8) // 16).to(torch.uint8)[:, None]  # 0..16 -> 0..255
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for c in range(10):
        rows = (labels == c).nonzero().flatten()
        is_test[rows[len(rows) - len(rows) // 5 :]] = True
    arrays = images[~is_test], labels[~is_test], images[is_test], labels[is_test]
    four = digests(*arrays, num_classes=10)
    known = KNOWN["digits"]
    exactness = exactness_of("digits", four, verified=False)
    return DataSet("digits", *arrays, tuple("0123456789"), known.mean, known.std, combine(four), exactness)
