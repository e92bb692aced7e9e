"""Damaged folders and archives get one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.core.data import layouts
from tests.core.data.written_layouts import (
    TEST,
    TRAIN,
    TWO_CLASSES,
    colour,
    decoded,
    png,
    write,
    write_folders,
    write_zip,
    write_zips,
)

# --- damage ----------------------------------------------------------------------------------------------------------


def remove(root: Path, *members: str) -> None:
    for member in members:
        (root / member).unlink()


def drop_class_from_test(root: Path) -> None:
    remove(root, "test/cat/0.png")


def drop_class_from_train(root: Path) -> None:
    remove(root, "train/ape/1.png", "train/ape/9.png")


def drop_all_of_test(root: Path) -> None:
    remove(root, "test/cat/0.png", "test/ape/3.png")


def drop_one_image(root: Path) -> None:
    remove(root, "train/cat/2.png")


def truncate_an_image(root: Path) -> None:
    path = root / "train/cat/2.png"
    path.write_bytes(path.read_bytes()[:45])


def replace_an_image_by_text(root: Path) -> None:
    write(root / "train/cat/2.png", b"<html>404</html>")


def enlarge_an_image(root: Path) -> None:
    write(root / "train/cat/2.png", png(colour(1, size=6)))


def deepen_an_image(root: Path) -> None:
    write(root / "train/cat/2.png", png(np.zeros((4, 4), dtype=np.uint16)))


def misplace_an_image(root: Path) -> None:
    write(root / "train/11.png", png(colour(1)))


DAMAGES: dict[Callable[[Path], None], str] = {
    drop_class_from_test: r"cifar10: test lacks 1 of the classes of train \(cat\); both need a folder",
    drop_class_from_train: r"cifar10: train lacks 1 of the classes of test \(ape\); both need a folder",
    drop_all_of_test: r"cifar10: no test images; expected train/ and test/",
    drop_one_image: r"cifar10: 3 train images, cifar10 has 4; complete it, or .* folder:PATH",
    truncate_an_image: r"train/cat/2\.png: not a readable image \(.*\); copy it again",
    replace_an_image_by_text: r"train/cat/2\.png: not a readable image but an HTML page; download the file itself",
    enlarge_an_image: r"train/cat/2\.png: image is 6x6 pixels, the data set's are 4x4; resize it",
    deepen_an_image: r"train/cat/2\.png: image of mode I;16, the data set's have 3 channels of 8 bits; convert it",
    misplace_an_image: r"train/11\.png: an image outside a class folder; put it into one, or remove it",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_class_folders(damage: Callable[[Path], None], tmp_path: Path) -> None:
    root = write_folders(tmp_path / "cifar10")
    damage(root)
    with pytest.raises(ValueError, match=DAMAGES[damage]) as raised:
        decoded("cifar10", root, TWO_CLASSES, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_a_class_too_many_for_the_name(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "cifar10")
    write(root / "train/dog/77.png", png(colour(1)))
    write(root / "test/dog/78.png", png(colour(1)))
    with pytest.raises(ValueError, match="cifar10: 3 classes, cifar10 has 2; complete it"):
        decoded("cifar10", root, TWO_CLASSES, tmp_path / "out")


def test_damaged_zip_files(tmp_path: Path) -> None:
    root = write_zips(tmp_path / "cifar10")
    path = root / "train-cat.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train-cat\.zip: not a whole zip file \(.*\); copy it again"):
        decoded("cifar10", root, TWO_CLASSES, tmp_path / "out1")
    at = whole.index(b"IDAT")  # inside the first member's pixels: its checksum no longer fits
    path.write_bytes(whole[: at + 6] + bytes([whole[at + 6] ^ 255]) + whole[at + 7 :])
    with pytest.raises(ValueError, match=r"train-cat\.zip, member cat/10\.png: not a readable image \(.*CRC.*\); copy"):
        decoded("cifar10", root, TWO_CLASSES, tmp_path / "out2")
    path.unlink()
    with pytest.raises(ValueError, match=r"train lacks 1 of the classes of test \(cat\)"):
        decoded("cifar10", root, TWO_CLASSES, tmp_path / "out3")


def test_archives_that_do_not_hold_what_their_name_says(tmp_path: Path) -> None:
    archive = write(tmp_path / "cifar-10-python.tar.gz", b"<html>404</html>")
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz: not a whole zip or tar file but an HTML page"):
        decoded("cifar10", tmp_path, TWO_CLASSES, tmp_path / "out1")
    archive.unlink()
    archive = write_zip(tmp_path / "other.zip", {"readme.txt": b"hello"})
    with pytest.raises(ValueError, match=r"other\.zip: holds no cifar10; it should unpack to train/"):
        decoded("cifar10", archive, TWO_CLASSES, tmp_path / "out2")
    write_zip(archive, {f"{s}/{m}": b"x" for s, t in (("train", TRAIN), ("test", TEST)) for m in t})
    with pytest.raises(ValueError, match=r"other\.zip \(unpacked\): \./train/ape/1\.png: not a readable image"):
        decoded("cifar10", archive, TWO_CLASSES, tmp_path / "out3")


def test_a_place_without_data_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "test/images").mkdir(parents=True)  # Tiny ImageNet's unlabelled half alone
    assert layouts.find("tinyimagenet", tmp_path) is None
    assert layouts.find("cifar10", tmp_path / "absent") is None
