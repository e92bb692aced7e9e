"""The cache of decoded data sets."""

import os
import threading
from pathlib import Path

import pytest
import torch

from harness.core import data
from harness.core.data import DataSet, layouts
from harness.core.data.source import Decoded, Sizes, Source
from tests.core.data.small_set import count_decoding, reds, write_image, write_set

# --- the cache -------------------------------------------------------------------------------------------------------


def test_only_a_changed_source_is_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    decoding = count_decoding(monkeypatch)
    first, second = data.load("cifar10", root), data.load("cifar10", root)
    assert decoding == ["cifar10"]
    assert torch.equal(first.train_images, second.train_images)
    assert (second.digest, second.classes, second.mean) == (first.digest, first.classes, first.mean)
    write_image(root / "train/cat/0.png", red=11)  # one pixel value
    assert reds(data.load("cifar10", root).train_images) == [11, 20, 30, 40]
    os.utime(root / "test/cat/1.png", (1, 1))  # the time alone
    data.load("cifar10", root)
    (root / "test/ape/0.png").rename(root / "test/ape/00.png")  # a name alone
    data.load("cifar10", root)
    assert len(decoding) == 4


def test_a_moved_source_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    decoding = count_decoding(monkeypatch)
    data.load("cifar10", root)
    root.rename(tmp_path / "elsewhere")
    data.load("cifar10", tmp_path / "elsewhere")
    assert len(decoding) == 1


def test_writing_to_the_tensors_stays_private(tmp_path: Path) -> None:
    root = write_set(tmp_path / "cifar10")
    data.load("cifar10", root).train_images.zero_()
    assert reds(data.load("cifar10", root).train_images) == [10, 20, 30, 40]


@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy", "card.json"])
def test_a_cache_entry_cut_short_is_decoded_again(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    digest = data.load("cifar10", root).digest
    (path,) = data.cache_dir().rglob(file)
    path.write_bytes(path.read_bytes()[:-1])
    decoding = count_decoding(monkeypatch)
    assert data.load("cifar10", root).digest == digest
    assert data.load("cifar10", root).digest == digest
    assert len(decoding) == 1


def test_check_notices_altered_pixels_in_the_cache(tmp_path: Path) -> None:
    root = write_set(tmp_path / "cifar10")
    data.load("cifar10", root)
    (path,) = data.cache_dir().rglob("train_images.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"cifar10: the decoded pixels or labels changed .*; delete .*/data/cifar10"):
        data.check("cifar10", root)


def test_two_that_decode_at_once_both_end_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    both = threading.Barrier(2, timeout=10)
    decode = layouts.decode

    def together(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
        result = decode(source, name, sizes, into)
        both.wait()  # neither has put its result in place before the other has one too
        return result

    monkeypatch.setattr(layouts, "decode", together)
    loaded: list[DataSet] = []
    threads = [threading.Thread(target=lambda: loaded.append(data.load("cifar10", root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reds(dataset.train_images) for dataset in loaded] == [[10, 20, 30, 40]] * 2
    assert len(list((data.cache_dir() / "data/cifar10").iterdir())) == 1  # one entry, nothing left over


def test_a_result_that_another_put_in_place_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_set(tmp_path / "cifar10")
    decode = layouts.decode
    entries: list[int] = []

    def overtaken(source: Source, name: str, sizes: Sizes | None, into: Path) -> Decoded:
        monkeypatch.setattr(layouts, "decode", decode)
        data.load("cifar10", root)  # the other process, from start to end
        entries.append(next(data.cache_dir().rglob("card.json")).parent.stat().st_ino)
        return decode(source, name, sizes, into)

    monkeypatch.setattr(layouts, "decode", overtaken)
    assert reds(data.load("cifar10", root).train_images) == [10, 20, 30, 40]
    entry = next((data.cache_dir() / "data/cifar10").iterdir())
    assert [entry.stat().st_ino] == entries


def test_damaged_data_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    root = write_set(tmp_path / "cifar10")
    (root / "train/cat/0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train/cat/0\.png: not a readable image"):
        data.load("cifar10", root)
    assert list((data.cache_dir() / "data/cifar10").iterdir()) == []


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.cache_dir() == tmp_path / ".cache/condensation-harness"


def test_a_cache_that_cannot_be_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be made \(.*\); set HARNESS_CACHE to a writable place"):
        data.load("cifar10", write_set(tmp_path / "cifar10"))
