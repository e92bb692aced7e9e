"""The official files of data sets."""

import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision

from harness.core.data.source import Decoded, Sizes
from tests.core.data.written_layouts import (
    Array,
    decoded,
    write,
)

# --- official files --------------------------------------------------------------------------------------------------


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CIFAR-100 of 3 train and 2 test images, 2 classes, in torchvision's layout, with fitting MD5s."""
    rng = np.random.default_rng(0)
    kind = torchvision.datasets.CIFAR100
    folder = tmp_path / "cifar100/cifar-100-python"
    contents = {
        "train": {"data": rng.integers(0, 256, (3, 3072), dtype=np.uint8), "fine_labels": [1, 0, 1]},
        "test": {"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "fine_labels": [0, 1]},
        "meta": {"fine_label_names": ["apple", "bear"]},
    }
    written = {name: write(folder / name, pickle.dumps(content)) for name, content in contents.items()}
    sums = {name: md5(path.read_bytes()) for name, path in written.items()}
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    return tmp_path / "cifar100"


CIFAR = Sizes((3, 32, 32), 2, 3, 2)


def assert_is_cifar(result: Decoded, arrays: dict[str, Array]) -> None:
    rng = np.random.default_rng(0)  # the same draws as the fixture, rows laid out channel by channel
    assert result == (("apple", "bear"), True)
    np.testing.assert_array_equal(
        arrays["train_images"].reshape(3, -1), rng.integers(0, 256, (3, 3072), dtype=np.uint8)
    )
    np.testing.assert_array_equal(arrays["test_images"].reshape(2, -1), rng.integers(0, 256, (2, 3072), dtype=np.uint8))
    assert arrays["train_labels"].tolist() == [1, 0, 1]


def test_torchvisions_cifar_layout_by_any_of_its_folders(cifar: Path, tmp_path: Path) -> None:
    for i, place in enumerate((tmp_path, cifar, cifar / "cifar-100-python")):
        assert_is_cifar(*decoded("cifar100", place, CIFAR, tmp_path / f"out{i}"))


def test_an_official_archive_is_left_as_it_is(cifar: Path, tmp_path: Path) -> None:
    archive = tmp_path / "store/cifar-100-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar / "cifar-100-python", "cifar-100-python")
    archive.parent.chmod(0o555)
    try:
        assert_is_cifar(*decoded("cifar100", archive.parent, CIFAR, tmp_path / "out"))
        assert_is_cifar(*decoded("cifar100", archive, CIFAR, tmp_path / "out2"))  # the file itself
        assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    finally:
        archive.parent.chmod(0o755)


def test_an_altered_official_file_is_not_unpickled(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cifar / "cifar-100-python/test"
    path.write_bytes(path.read_bytes() + b"x")
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled before its MD5 was checked"))
    with pytest.raises(ValueError, match=r"cifar-100-python/test: MD5 is \w+, that of cifar100 is \w+; copy"):
        decoded("cifar100", cifar, CIFAR, tmp_path / "out")
    path.unlink()
    with pytest.raises(ValueError, match="cifar-100-python/test: missing, but belongs to cifar100"):
        decoded("cifar100", cifar, CIFAR, tmp_path / "out2")


def idx(array: Array) -> bytes:
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


IDX_IMAGES = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
MNIST = Sizes((1, 28, 28), 10, 3, 2)


def write_idx(folder: Path, packed: bool) -> list[tuple[str, str]]:
    """MNIST's four files in small; their (name, MD5)."""
    contents = {
        "train-images-idx3-ubyte": idx(IDX_IMAGES[:3]),
        "train-labels-idx1-ubyte": idx(np.array([7, 0, 9], dtype=np.uint8)),
        "t10k-images-idx3-ubyte": idx(IDX_IMAGES[3:]),
        "t10k-labels-idx1-ubyte": idx(np.array([1, 2], dtype=np.uint8)),
    }
    if packed:
        contents = {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
    for name, content in contents.items():
        write(folder / name, content)
    return [(name, md5(content)) for name, content in contents.items()]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["fashionmnist/FashionMNIST/raw", "raw", "."])
def test_idx_files_packed_or_not(packed: bool, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = write_idx(tmp_path / "in" / folder, packed)
    if packed:
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", listed)
    result, arrays = decoded("fashionmnist", tmp_path / "in", MNIST, tmp_path / "out")
    assert result.verified is packed  # only the packed files have a published MD5
    assert result.classes[9] == "Ankle boot"
    np.testing.assert_array_equal(arrays["train_images"], IDX_IMAGES[:3, None])
    np.testing.assert_array_equal(arrays["test_images"], IDX_IMAGES[3:, None])
    assert arrays["train_labels"].tolist() == [7, 0, 9]


def test_idx_files_with_another_md5_are_not_verified(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST/raw", packed=True)
    result, _ = decoded("mnist", tmp_path, MNIST, tmp_path / "out")
    assert result == (tuple("0123456789"), False)


def test_damaged_idx_files(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    write_idx(folder, packed=True)
    images = folder / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: not a whole gzip file .*; copy it again"):
        decoded("mnist", folder, MNIST, tmp_path / "out1")
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-50]))
    with pytest.raises(ValueError, match=r"mnist: not the files of mnist \(.*\); copy it again"):
        decoded("mnist", folder, MNIST, tmp_path / "out2")
    images.unlink()
    with pytest.raises(ValueError, match=r"mnist: train-images-idx3-ubyte\.gz is missing"):
        decoded("mnist", folder, MNIST, tmp_path / "out3")


def test_idx_labels_beyond_the_classes(tmp_path: Path) -> None:
    write_idx(tmp_path / "in", packed=False)
    write(tmp_path / "in/t10k-labels-idx1-ubyte", idx(np.array([1, 10], dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"test has images .* labels \(2,\) up to 10, which do not fit mnist"):
        decoded("mnist", tmp_path / "in", MNIST, tmp_path / "out")


def test_svhn_mat_files_count_ten_as_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    split_list = {}
    for split, labels in (("train", [[10], [3], [1]]), ("test", [[2], [10]])):
        images = rng.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        path = tmp_path / f"svhn/{split}_32x32.mat"
        path.parent.mkdir(exist_ok=True)
        scipy.io.savemat(path, {"X": images, "y": np.array(labels, dtype=np.uint8)})
        split_list[split] = ["", path.name, md5(path.read_bytes())]
        if split == "train":
            expected = images.transpose(3, 2, 0, 1)
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)
    result, arrays = decoded("svhn", tmp_path, Sizes((3, 32, 32), 10, 3, 2), tmp_path / "out")
    assert result == (tuple("0123456789"), True)
    np.testing.assert_array_equal(arrays["train_images"], expected)
    assert arrays["train_labels"].tolist() == [0, 3, 1]
