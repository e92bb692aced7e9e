"""Class folders and zip files of them, as arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.core.data.source import Sizes
from tests.core.data.written_layouts import (
    TWO_CLASSES,
    colour,
    decoded,
    png,
    write,
    write_folders,
    write_zip,
    write_zips,
)


@pytest.mark.parametrize("make", [write_folders, write_zips])
def test_images_come_in_the_order_of_their_numbers(make: Callable[[Path], Path], tmp_path: Path) -> None:
    result, arrays = decoded("cifar10", make(tmp_path / "cifar10"), TWO_CLASSES, tmp_path / "out")
    assert result == (("ape", "cat"), False)
    assert arrays["train_images"].shape == (4, 3, 4, 4)
    assert arrays["train_images"].dtype == np.uint8
    assert arrays["train_images"][:, 0, 0, 0].tolist() == [10, 20, 90, 100]  # numbers 1, 2, 9, 10
    assert arrays["train_images"][0, :, 3, 1].tolist() == [10, 7, 250]
    assert arrays["train_labels"].tolist() == [0, 1, 0, 1]
    assert arrays["test_images"][:, 0, 0, 0].tolist() == [5, 35]
    assert arrays["test_labels"].tolist() == [1, 0]
    assert arrays["test_labels"].dtype == np.int64


def test_a_number_in_two_classes_means_order_by_class_and_name(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "cifar10")
    (root / "train/ape/1.png").rename(root / "train/ape/10.png")
    _, arrays = decoded("cifar10", root, TWO_CLASSES, tmp_path / "out")
    assert arrays["train_images"][:, 0, 0, 0].tolist() == [10, 90, 100, 20]  # ape 10, 9; cat 10, 2: as text
    assert arrays["train_labels"].tolist() == [0, 0, 1, 1]


def test_val_stands_in_for_test(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "cifar10")
    (root / "test").rename(root / "val")
    write(root / "train/ape/notes.txt", b"not an image")
    write(root / "train/ape/._1.png", b"what a Mac leaves")
    _, arrays = decoded("cifar10", root, TWO_CLASSES, tmp_path / "out")
    assert arrays["test_labels"].tolist() == [1, 0]
    assert len(arrays["train_labels"]) == 4


def test_tiny_imagenets_own_layout_and_its_zip(tmp_path: Path) -> None:
    members = {
        "train/n01/images/n01_0.JPEG": 30,
        "train/n01/images/n01_1.JPEG": 60,
        "train/n02/images/n02_0.JPEG": 90,
        "val/images/val_0.JPEG": 120,
        "val/images/val_1.JPEG": 150,
        "test/images/test_0.JPEG": 180,  # unlabelled: not used
    }
    content = {f"tiny-imagenet-200/{member}": png(colour(value)) for member, value in members.items()}
    annotations = b"val_0.JPEG\tn02\t0\t0\t3\t3\nval_1.JPEG\tn01\t0\t0\t3\t3\n"
    content["tiny-imagenet-200/val/val_annotations.txt"] = annotations
    for path, data in content.items():
        write(tmp_path / "open" / path, data)
    write_zip(tmp_path / "packed/tiny-imagenet-200.zip", content)
    for place in ("open", "packed"):
        sizes = Sizes((3, 4, 4), 2, 3, 2)
        result, arrays = decoded("tinyimagenet", tmp_path / place, sizes, tmp_path / f"out-{place}")
        assert result.classes == ("n01", "n02")
        assert arrays["train_images"][:, 0, 0, 0].tolist() == [30, 60, 90]
        assert arrays["test_images"][:, 0, 0, 0].tolist() == [150, 120]  # by class, then name
        assert arrays["test_labels"].tolist() == [0, 1]


def test_a_folder_is_grey_only_if_all_images_are(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            write(tmp_path / "mine" / split / name / "1.png", png(np.full((2, 5), 9, dtype=np.uint8)))
    _, arrays = decoded("folder", tmp_path / "mine", None, tmp_path / "grey")
    assert arrays["train_images"].shape == (2, 1, 2, 5)
    write(tmp_path / "mine/test/a/2.png", png(np.full((2, 5, 3), 9, dtype=np.uint8)))
    _, arrays = decoded("folder", tmp_path / "mine", None, tmp_path / "colour")
    assert arrays["train_images"].shape == (2, 3, 2, 5)
    assert arrays["test_images"].shape == (3, 3, 2, 5)
