import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from numpy.typing import NDArray
from PIL import Image

from harness.core.data import layouts
from harness.core.data.source import Decoded, Sizes

TWO_CLASSES = Sizes((3, 4, 4), 2, 4, 2)  # the synthetic class folders below
Array = NDArray[np.uint8]


def colour(value: int, size: int = 4) -> Array:
    """A (size, size, 3) image that carries `value` in its red."""
    return np.dstack([np.full((size, size), v, dtype=np.uint8) for v in (value, 7, 250)])


def png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Numbers cross the classes, and sorting them as text would differ: 10 < 9.
TRAIN = {"cat/10.png": 100, "cat/2.png": 20, "ape/9.png": 90, "ape/1.png": 10}
TEST = {"cat/0.png": 5, "ape/3.png": 35}


def write_folders(root: Path) -> Path:
    for split, members in (("train", TRAIN), ("test", TEST)):
        for member, value in members.items():
            write(root / split / member, png(colour(value)))
    return root


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as zipped:
        for member, content in members.items():
            zipped.writestr(member, content)
    return path


def write_zips(root: Path) -> Path:
    for part in ("ape", "cat"):
        members = {member: png(colour(value)) for member, value in TRAIN.items() if member.startswith(part)}
        write_zip(root / f"train-{part}.zip", members)
    write_zip(root / "test.zip", {member: png(colour(value)) for member, value in TEST.items()})
    return root


def decoded(name: str, path: Path, sizes: Sizes | None, into: Path) -> tuple[Decoded, dict[str, Array]]:
    source = layouts.find(name, path)
    assert source is not None
    into.mkdir()
    result = layouts.decode(source, name, sizes, into)
    assert sorted(file.name for file in into.iterdir()) == sorted(f"{a}.npy" for a in ARRAYS)  # nothing else is left
    return result, {array: np.load(into / f"{array}.npy") for array in ARRAYS}


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


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
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: damaged gzip file .*; copy it again"):
        decoded("mnist", folder, MNIST, tmp_path / "out1")
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-50]))
    with pytest.raises(ValueError, match=r"mnist: not the files of mnist \(.*\); copy them again"):
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
