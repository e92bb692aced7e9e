"""The data sets that have a name: their sizes, normalisation, and the digests of the official images and labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from harness.core.data.source import Sizes
from harness.core.registry import unknown

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


Digests = tuple[str, str, str, str]  # SHA-256, hex, of each of ARRAYS: see `digests`


@dataclass(frozen=True)
class Known:
    """What is known of a named data set before a file is read."""

    sizes: Sizes
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digests: Mapping[str, Digests] = field(default_factory=dict)  # exactness -> digests


CIFAR100_OFFICIAL = (  # the official pickles' content, checked against their MD5
    "de64658905c6b161606e3649ddafce7cf86c7634a0cf9116d518e64ef46a33c5",
    "9f11b9f97aad759ba6df0a33e3218b01d8deaf4ed3a14aa1185d69b9ad7ebcb3",
    "83c56492b2c11211ad1bb2dbd4f2eef4170a0441e41a41f3039c3144b1f5a511",
    "4dad7d09c7c97d33f6cb928d705cf4196221316fd6e31bdd978a08ed9103ee0b",
)


CIFAR10_96_LOSSY = (  # a copy in circulation: 76 train and 20 test images went through JPEG
    "4298d6a6d76f07e919d49d752c0418857ee50ea7ecc3f2e3b86fb362ccb8edcd",
    "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "1fe46ff47f5fb6c1b24f0b5448654cac0e0d3e1e0c16f9cbac842307814b553a",
    "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
)


MNIST_OFFICIAL = (  # of the four files with the official MD5
    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
)


DIGITS_OFFICIAL = (  # scikit-learn 1.9's, split by `_digits`
    "d8d489b8e6279976d51dafb4fd24d7c56da46e18a1e9d662d402e5098b8a0021",
    "c7b34622b682c5b534180fce1d415f91e29d7d0f7799591ba50b890a695d4e6f",
    "85c60ac210876c49995ae23f2d999c779f00c1648b9d700b09961822bd5a03ee",
    "dcdc7320ee1324a8954450c6ca59864270a6e3df1ba756a454c010f98cbb94cb",
)


# Means and standard deviations as in the authors' scripts of DC, DSA and DM (DatasetCondensation, utils.py); those of
# digits are ours, of its train images.
KNOWN: dict[str, Known] = {
    "cifar100": Known(
        Sizes((3, 32, 32), 100, 50_000, 10_000),
        (0.5071, 0.4866, 0.4409),
        (0.2673, 0.2564, 0.2762),
        {"official": CIFAR100_OFFICIAL},
    ),
    "cifar10": Known(
        Sizes((3, 32, 32), 10, 50_000, 10_000),
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
        {"as listed: 96 images lossy": CIFAR10_96_LOSSY},
    ),
    "mnist": Known(Sizes((1, 28, 28), 10, 60_000, 10_000), (0.1307,), (0.3081,), {"official": MNIST_OFFICIAL}),
    "fashionmnist": Known(Sizes((1, 28, 28), 10, 60_000, 10_000), (0.2861,), (0.3530,)),
    "svhn": Known(Sizes((3, 32, 32), 10, 73_257, 26_032), (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "tinyimagenet": Known(Sizes((3, 64, 64), 200, 100_000, 10_000), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet64": Known(Sizes((3, 64, 64), 1000, 1_281_167, 50_000), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "digits": Known(Sizes((1, 8, 8), 10, 1442, 355), (0.3054,), (0.3753,), {"official": DIGITS_OFFICIAL}),
}


def names() -> tuple[str, ...]:
    """The data sets that have a name of their own; `folder:PATH` names any other."""
    return tuple(KNOWN)


def digests(
    train_images: Tensor, train_labels: Tensor, test_images: Tensor, test_labels: Tensor, *, num_classes: int
) -> Digests:
    """SHA-256, hex, of each of the four arrays of a data set.

    Images are uint8 laid out (N, C, H, W); labels, (N,), are taken as uint8 where there are fewer than 256 classes, or
    else as int64, little endian.
    """
    label_type = "u1" if num_classes < 256 else "<i8"

    def sha256(tensor: Tensor, kind: str) -> str:
        return hashlib.sha256(np.ascontiguousarray(tensor.numpy().astype(kind, copy=False)).data).hexdigest()

    return (
        sha256(train_images, "u1"),
        sha256(train_labels, label_type),
        sha256(test_images, "u1"),
        sha256(test_labels, label_type),
    )


def combine(four: Digests) -> str:
    """One digest of a data set: SHA-256, hex, of its four hex digests written one after another."""
    return hashlib.sha256("".join(four).encode()).hexdigest()


def find_known(name: str) -> Known:
    if name not in KNOWN:
        raise unknown(name, [*KNOWN, "folder:PATH"], "data set")
    return KNOWN[name]


def exactness_of(name: str, four: Digests, verified: bool) -> str:
    known = KNOWN[name].digests if name in KNOWN else {}
    for exactness, expected in known.items():
        if four == expected:
            return exactness
    if "official" not in known:
        return "official" if verified else "as listed: digest unknown"  # verified: every file has the official MD5
    pairs = zip(ARRAYS, four, known["official"], strict=True)
    parts = [array.replace("_", " ") for array, came, fits in pairs if came != fits]
    return f"as listed: {', '.join(parts)} differ from the official ones"
