"""Digests of data sets, and what they say of where the pixels come from."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from harness.core import data
from harness.core.data.known import exactness_of
from tests.core.data.small_set import SMALL, know, write_image, write_set

# --- digests and exactness -------------------------------------------------------------------------------------------


def test_digests_by_hand() -> None:
    images, labels = torch.tensor([[[[3]]], [[[5]]]], dtype=torch.uint8), torch.tensor([1, 0])
    four = data.digests(images, labels, images[:1], labels[:1], num_classes=255)
    contents = (b"\x03\x05", b"\x01\x00", b"\x03", b"\x01")
    assert four == tuple(hashlib.sha256(content).hexdigest() for content in contents)
    wide = data.digests(images, labels, images[:1], labels[:1], num_classes=256)
    assert wide[1] == hashlib.sha256((1).to_bytes(8, "little") + bytes(8)).hexdigest()
    assert data.combine(four) == hashlib.sha256("".join(four).encode()).hexdigest()


def test_the_digest_tells_one_pixel_and_the_order_apart(tmp_path: Path) -> None:
    root = write_set(tmp_path / "cifar10")
    report = data.check("cifar10", root)
    write_image(root / "train/cat/0.png", red=11)
    pixel = data.check("cifar10", root)
    assert pixel.digest != report.digest
    assert [key for key in report.digests if report.digests[key] != pixel.digests[key]] == ["train_images"]
    write_set(root)
    (root / "train/cat/0.png").rename(root / "train/cat/9.png")  # from first to last
    order = data.check("cifar10", root)
    assert order.digest not in (report.digest, pixel.digest)
    changed = [key for key in report.digests if report.digests[key] != order.digests[key]]
    assert changed == ["train_images", "train_labels"]


def test_exactness_by_known_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    report = data.check("cifar10", root)
    assert report.exactness == "as listed: digest unknown"
    assert report.expected == {}
    four = (*report.digests.values(),)
    know(monkeypatch, "cifar10", digests={"as listed: 96 images lossy": four})
    assert data.load("cifar10", root).exactness == "as listed: 96 images lossy"
    know(monkeypatch, "cifar10", digests={"official": four})
    assert data.load("cifar10", root, official=True).exactness == "official"
    know(monkeypatch, "cifar10", digests={"official": ("0" * 64, four[1], "1" * 64, four[3])})
    report = data.check("cifar10", root)
    assert report.exactness == "as listed: train images, test images differ from the official ones"
    assert report.expected["train_images"] == "0" * 64
    with pytest.raises(
        ValueError, match=r"cifar10: the official data are asked for, these are as listed: train images"
    ):
        data.load("cifar10", root, official=True)
    with pytest.raises(ValueError, match="supply the official archive by --data DIR"):
        data.require_official(data.load("cifar10", root))


def test_a_known_digest_outweighs_the_md5_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    four, other = ("0" * 64,) * 4, ("1" * 64,) * 4
    assert exactness_of("svhn", four, verified=True) == "official"
    assert exactness_of("svhn", four, verified=False) == "as listed: digest unknown"
    know(monkeypatch, "svhn", digests={"official": other})
    assert exactness_of("svhn", four, verified=True).startswith("as listed: train images, train labels, test ")
    assert exactness_of("svhn", other, verified=False) == "official"


def test_another_data_sets_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    report = data.check("cifar10", root)
    know(monkeypatch, "cifar10", digests={"official": (*report.digests.values(),)})
    know(monkeypatch, "svhn", sizes=SMALL.sizes)
    with pytest.raises(ValueError, match="holds cifar10, not svhn; name the data set cifar10"):
        data.load("svhn", root)


def test_cards_are_plain_json(tmp_path: Path) -> None:
    data.load("cifar10", write_set(tmp_path / "cifar10"))
    (path,) = data.cache_dir().rglob("card.json")
    assert json.loads(path.read_text())["classes"] == ["ape", "cat"]
