"""Data sets by name, and where they come from."""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from harness.core import data
from harness.core.data import download as downloads
from harness.core.data.source import Progress, Sizes
from tests.core.data.small_set import know, reds, write_set

# --- names and constants ---------------------------------------------------------------------------------------------


def test_names() -> None:
    expected = ("cifar100", "cifar10", "mnist", "fashionmnist", "svhn", "tinyimagenet", "imagenet64", "digits")
    assert data.names() == expected


@pytest.mark.parametrize("call", [data.load, data.check, data.fetch, lambda name: data.import_data(Path(), name)])
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("CIFAR-100", r" \(did you mean 'cifar100'\?\)"), ("minst", r" \(did you mean 'mnist'\?\)"), ("?", "")],
)
def test_an_unknown_name_suggests_the_nearest(call: Callable[[str], object], wrong: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"is unknown{meant}; choose from .*svhn, tinyimagenet.*folder:PATH"):
        call(wrong)


def test_normalise_by_hand_and_back() -> None:
    dataset = data.load("digits")
    dataset = replace(dataset, mean=(0.5, 0.25), std=(0.5, 2.0))
    images = torch.tensor([[[[255, 0]], [[51, 255]]]], dtype=torch.uint8)  # (1, 2, 1, 2)
    normalised = dataset.normalise(images)
    # (1 - 0.5) / 0.5, (0 - 0.5) / 0.5; (0.2 - 0.25) / 2, (1 - 0.25) / 2
    torch.testing.assert_close(normalised, torch.tensor([[[[1.0, -1.0]], [[-0.025, 0.375]]]]))
    torch.testing.assert_close(dataset.denormalise(normalised), images / 255)
    assert images.dtype == torch.uint8
    assert images.flatten().tolist() == [255, 0, 51, 255]  # the input is untouched
    assert dataset.denormalise(torch.full((1, 2, 1, 1), 9.0)).flatten().tolist() == [1.0, 1.0]  # clipped
    assert dataset.denormalise(torch.full((1, 2, 1, 1), -9.0)).flatten().tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"images: expected uint8, 0 to 255, got torch\.float32"):
        dataset.normalise(normalised)


def test_channel_statistics_by_hand() -> None:
    images = torch.tensor([[[[0, 255]], [[51, 51]]], [[[255, 0]], [[51, 102]]]], dtype=torch.uint8)  # (2, 2, 1, 2)
    mean, std = data.channel_statistics(images)
    assert mean == pytest.approx((0.5, 0.25))  # (0 + 1 + 1 + 0) / 4; (0.2 * 3 + 0.4) / 4
    assert std == pytest.approx((0.5, 0.0075**0.5))  # (3 * 0.05^2 + 0.15^2) / 4


# --- digits ----------------------------------------------------------------------------------------------------------


def test_digits_are_balanced_and_official() -> None:
    digits = data.load("digits")
    assert digits.exactness == "official"
    assert digits.image_shape == (1, 8, 8)
    assert digits.num_classes == 10
    assert digits.train_images.dtype == torch.uint8
    assert (int(digits.train_images.min()), int(digits.train_images.max())) == (0, 255)
    train, test = digits.train_labels.bincount(), digits.test_labels.bincount()
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # all of scikit-learn's
    assert test.tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]  # a fifth, rounded down
    mean, std = data.channel_statistics(digits.train_images)
    assert digits.mean == pytest.approx(mean, abs=5e-5)
    assert digits.std == pytest.approx(std, abs=5e-5)


def test_digits_keep_the_order_and_the_last_of_a_class_are_test() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = data.load("digits")
    zeros = np.flatnonzero(bunch.target == 0)
    scaled = np.round(bunch.images[zeros] * 255 / 16 + 1e-9)  # 8 / 16 of 255 is 127.5, which goes up
    train, test = digits.train_images[digits.train_labels == 0], digits.test_images[digits.test_labels == 0]
    np.testing.assert_array_equal(train[:, 0], scaled[:-35])
    np.testing.assert_array_equal(test[:, 0], scaled[-35:])
    assert digits.train_labels[:10].tolist() == bunch.target[:10].tolist()


# --- where data come from --------------------------------------------------------------------------------------------


def test_layouts_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, environment, imported = (write_set(tmp_path / f"{i}/cifar10", shift=i) for i in range(3))
    data.import_data(imported, "cifar10")
    assert reds(data.load("cifar10").train_images) == [12, 22, 32, 42]
    monkeypatch.setenv("HARNESS_DATA", str(environment.parent))
    assert reds(data.load("cifar10").train_images) == [11, 21, 31, 41]
    assert reds(data.load("cifar10", given.parent).train_images) == [10, 20, 30, 40]  # DIR/<name>
    assert reds(data.load("cifar10", given).train_images) == [10, 20, 30, 40]  # DIR itself
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "nothing here"))
    assert reds(data.load("cifar10").train_images) == [12, 22, 32, 42]


def test_no_other_place_is_tried_than_the_given(tmp_path: Path) -> None:
    data.import_data(write_set(tmp_path / "cifar10"), "cifar10")
    (tmp_path / "empty").mkdir()
    looked_for = r"train\*\.zip .* torchvision's CIFAR10 files or cifar-10-python\.tar\.gz, in it or in .*/cifar10$"
    with pytest.raises(FileNotFoundError, match=f"empty: holds no cifar10 data; expected train/ .*{looked_for}"):
        data.load("cifar10", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="absent: is no such directory"):
        data.load("cifar10", tmp_path / "absent")


def test_missing_data_name_the_ways_to_supply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = "--data DIR, .* HARNESS_DATA=DIR, .* `harness data import` or `harness data fetch`; .* --dataset digits$"
    for name in ("cifar10", "tinyimagenet"):
        with pytest.raises(FileNotFoundError, match=f"^{name}: not in the cache .*{ways}") as raised:
            data.load(name)
        assert "\n" not in str(raised.value)
    monkeypatch.delenv("HARNESS_OFFLINE")
    monkeypatch.setattr(downloads, "fetch", lambda *_: (_ for _ in ()).throw(ConnectionError("host unreachable")))
    with pytest.raises(FileNotFoundError, match=r"the download failed \(host unreachable\); supply it by"):
        data.load("cifar10")


def test_fetch_says_why_it_does_not() -> None:
    with pytest.raises(FileNotFoundError, match=r"tinyimagenet: .*no address to download it from is known; supply"):
        data.fetch("tinyimagenet")
    with pytest.raises(FileNotFoundError, match=r"cifar10: .*HARNESS_OFFLINE=1 forbids the download"):
        data.fetch("cifar10")


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_load_downloads_once_and_needs_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([1, 2], dtype=np.uint8)
    images = np.arange(2 * 28 * 28, dtype=np.uint16).astype(np.uint8).reshape(2, 28, 28)
    kind = torchvision.datasets.FashionMNIST
    contents = {
        file: gzip.compress(idx(images if "images" in file else labels), mtime=0) for file, _ in list(kind.resources)
    }
    resources = [(file, hashlib.md5(content).hexdigest()) for file, content in contents.items()]
    monkeypatch.setattr(kind, "resources", resources)
    know(monkeypatch, "fashionmnist", sizes=Sizes((1, 28, 28), 10, 2, 2))
    monkeypatch.delenv("HARNESS_OFFLINE")
    broken = True

    def download(url: str, target: Path, md5: str, progress: Progress | None) -> None:
        if broken and "t10k" in target.name:
            raise ConnectionError("gone")
        target.write_bytes(contents[target.name])
        if progress:
            progress(1, 2)

    monkeypatch.setattr(downloads, "_download", download)
    with pytest.raises(FileNotFoundError, match=r"fashionmnist: .*the download failed \(.*gone.*\)"):
        data.load("fashionmnist")
    with pytest.raises(FileNotFoundError, match="neither imported nor downloaded yet"):
        data.check("fashionmnist")  # which does not download
    broken = False
    seen: list[tuple[int, int]] = []
    dataset = data.load("fashionmnist", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (1, 2)]  # the two files that were missing
    assert dataset.exactness == "official"  # by the MD5 of its files
    assert torch.equal(dataset.train_images, torch.from_numpy(images)[:, None])
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert data.load("fashionmnist").digest == dataset.digest
    assert data.check("fashionmnist").found == str(data.cache_dir() / "downloads/fashionmnist")


def test_an_import_stands_on_its_own(tmp_path: Path) -> None:
    first, second = write_set(tmp_path / "first"), write_set(tmp_path / "second", shift=5)
    report = data.import_data(first, "cifar10")
    assert (report.train_size, report.test_size, report.num_classes) == (4, 2, 2)
    assert report.found == str(first)
    (first / "train/cat/0.png").unlink()
    assert reds(data.load("cifar10").train_images) == [10, 20, 30, 40]
    assert data.check("cifar10") == report
    data.import_data(second, "cifar10")
    assert reds(data.load("cifar10").train_images) == [15, 25, 35, 45]
    with pytest.raises(FileNotFoundError, match="absent: is no such directory"):
        data.import_data(tmp_path / "absent", "cifar10")
    with pytest.raises(ValueError, match="digits: comes with scikit-learn; there is nothing to import"):
        data.import_data(first, "digits")


def test_folder_takes_its_constants_from_its_train_pixels(tmp_path: Path) -> None:
    root = write_set(tmp_path / "mine")
    dataset = data.load(f"folder:{root}")
    assert dataset.name == f"folder:{root}"
    assert dataset.classes == ("ape", "cat")
    assert dataset.exactness == "as listed: digest unknown"
    # red: 15 of 16 pixels of each image are 10, 20, 30 or 40, the other 200; green: 0 but for the same pixel
    assert dataset.mean[:2] == pytest.approx(((15 * 25 + 200) / 16 / 255, 200 / 16 / 255))
    assert dataset.std[1] == pytest.approx(200 / 255 * (15 / 256) ** 0.5)  # p (1 - p) with p = 1 / 16
    normalised = dataset.normalise(dataset.train_images)
    torch.testing.assert_close(normalised.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    with pytest.raises(FileNotFoundError, match="nowhere: is no such directory; expected train/"):
        data.load(f"folder:{tmp_path}/nowhere")


def test_a_folder_of_constant_images_cannot_be_normalised(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.full((2, 2), 9, dtype=np.uint8)).save(tmp_path / split / name / "1.png")
    with pytest.raises(ValueError, match="a channel is the same in all train pixels"):
        data.load(f"folder:{tmp_path}")


def test_describe_tells_where_each_would_come_from(tmp_path: Path) -> None:
    root = write_set(tmp_path / "cifar10")
    before = {listing.name: listing for listing in data.describe()}
    assert tuple(before) == data.names()
    assert before["digits"].found == "scikit-learn"
    assert before["cifar10"].found == before["svhn"].found == ""
    assert before["svhn"].downloadable
    assert not before["imagenet64"].downloadable
    assert {listing.found for listing in data.describe(tmp_path) if listing.name == "cifar10"} == {str(root)}
    data.import_data(root, "cifar10")
    assert {listing.name: listing for listing in data.describe()}["cifar10"].found == str(root)
