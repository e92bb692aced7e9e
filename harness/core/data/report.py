"""What a data set holds: its classes, sizes and digests, as `harness data check` prints them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.core.data.dataset import DataSet
from harness.core.data.known import ARRAYS, KNOWN, combine, digests


@dataclass(frozen=True)
class Report:
    """What `check` found."""

    name: str
    train_size: int  # images
    test_size: int
    num_classes: int
    class_sizes: Mapping[str, tuple[int, int]]  # name of a class -> its train and test images
    image_shape: tuple[int, int, int]
    exactness: str
    digest: str  # of the whole, as it stands in rows
    digests: Mapping[str, str]  # of each of ARRAYS, computed anew from the arrays
    expected: Mapping[str, str]  # the official ones; empty where they are not known to us
    found: str  # where the images came from


def report_on(dataset: DataSet, found: str, decoded: Path) -> Report:
    """Return what a data set holds, with digests computed anew from its arrays.

    Args:
        dataset: the data set; found: where its images came from; decoded: where its arrays are kept.
    Raises:
        ValueError: the arrays are not what was decoded.
    """
    four = digests(*dataset.arrays, num_classes=dataset.num_classes)
    if combine(four) != dataset.digest:
        raise ValueError(
            f"{dataset.name}: the decoded pixels or labels changed since they were decoded; delete "
            f"{decoded} and run the command again"
        )
    expected = KNOWN[dataset.name].digests.get("official") if dataset.name in KNOWN else None
    return Report(
        name=dataset.name,
        train_size=len(dataset.train_labels),
        test_size=len(dataset.test_labels),
        num_classes=dataset.num_classes,
        class_sizes=_class_sizes(dataset),
        image_shape=dataset.image_shape,
        exactness=dataset.exactness,
        digest=dataset.digest,
        digests=dict(zip(ARRAYS, four, strict=True)),
        expected=dict(zip(ARRAYS, expected, strict=True)) if expected else {},
        found=found,
    )


def _class_sizes(dataset: DataSet) -> dict[str, tuple[int, int]]:
    train, test = (
        torch.bincount(labels, minlength=dataset.num_classes).tolist()
        for labels in (dataset.train_labels, dataset.test_labels)
    )
    return {name: (train[c], test[c]) for c, name in enumerate(dataset.classes)}
