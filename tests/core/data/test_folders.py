"""Image folders as people have them: hidden and nested folders, wrapped archives, odd names, mixed sizes."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.core import data
from harness.core.data.folder_name import parse_folder_name


@pytest.fixture(autouse=True)
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in and a cache of its own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def put_images(*folders: str, count: int = 4, size: tuple[int, int] = (8, 8)) -> None:
    """`count` images in each folder, which differ from one another."""
    for place, folder in enumerate(folders):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", size, (number * 9, 5 * number + place, 7 * place + number)).save(f"{folder}/{number}.png")


def put_splits(root: str, *classes: str, inner: str = "") -> None:
    put_images(*(f"{root}/{split}/{name}{inner}" for split in ("train", "test") for name in classes))


def refusal(name: str) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        data.load(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- which folder is the class --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git", "$RECYCLE.BIN"])
def test_hidden_folders_are_no_classes_and_hold_no_images(hidden: str) -> None:
    put_splits("set", "cat", "dog", hidden)
    put_images(f"set/train/cat/{hidden}", f"set/test/dog/{hidden}/deeper")
    report = data.check("folder:set")
    assert report.class_sizes == {"cat": (4, 4), "dog": (4, 4)}


def test_the_folder_right_under_train_is_the_class() -> None:
    put_splits("set", "cat", "dog", inner="/2019")
    put_images("set/train/cat/2020/images")
    assert data.check("folder:set").class_sizes == {"cat": (8, 4), "dog": (4, 4)}


def test_one_class_alone_is_refused() -> None:
    put_splits("set", "animals", inner="/cat")
    put_splits("set", "animals", inner="/dog")
    assert "set: one class alone (animals), two at least are needed; the folder right under" in refusal("folder:set")


def test_check_prints_names_and_counts_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    put_splits("set", "cat", "dog")
    put_images("set/train/dog", count=5)
    assert main(["data", "check", "folder:set"]) == 0
    printed = capsys.readouterr().out
    assert "9 train and 8 test images, 2 classes, 3 x 8 x 8" in printed
    assert [line.split() for line in printed.splitlines()[-2:]] == [["cat", "4", "4"], ["dog", "5", "4"]]


# --- archives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
@pytest.mark.parametrize("wrapper", ["", "set", "a/b"])
def test_archives_wrapped_in_folders(kind: str, wrapper: str) -> None:
    put_splits(str(Path("tree", wrapper)), "cat", "dog")
    put_images("tree/__MACOSX/set")
    archive = shutil.make_archive("packed/set", kind, "tree")
    for name in (f"folder:{archive}", "folder:packed"):
        assert data.check(name).class_sizes == {"cat": (4, 4), "dog": (4, 4)}


@pytest.mark.parametrize("wrapper", ["", "train", "anything"])
def test_zips_of_splits_may_be_wrapped(wrapper: str) -> None:
    for split in ("train", "test"):
        put_images(*(str(Path("tree", split, wrapper, name)) for name in ("cat", "dog")))
        shutil.make_archive(f"set/{split}", "zip", f"tree/{split}")
    assert data.check("folder:set").class_sizes == {"cat": (4, 4), "dog": (4, 4)}


def test_a_folder_around_the_splits() -> None:
    put_splits("set/inner", "cat", "dog")
    assert data.check("folder:set").num_classes == 2


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_class_in_two_unicode_forms_is_one_class() -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    put_images(f"set/train/{composed}", f"set/test/{decomposed}", "set/train/dog", "set/test/dog")
    assert set(data.check("folder:set").class_sizes) == {composed, "dog"}


def test_names_that_are_no_utf8_are_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    put_splits("set", "dog", os.fsdecode(b"caf\xe9"))
    Path("set/train/dog/0.png").rename(os.fsdecode(b"set/train/dog/\xff.png"))
    assert main(["data", "check", "folder:set"]) == 0
    assert "caf\\xe9" in capsys.readouterr().out


def test_long_paths_are_read() -> None:
    root = "/".join(["n" * 120, "m" * 120])
    put_splits(root, "cat", "dog")
    assert data.check(f"folder:{root}").num_classes == 2
    assert "its name is too long for this file system; shorten it" in refusal(f"folder:{'x' * 300}")


def test_a_relative_folder_is_found_in_the_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_splits("set", "cat", "dog")
    here = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert f"set: is no such directory in {tmp_path}; give the whole path, or what it is" in refusal("folder:set")
    assert data.load("folder:set", here).num_classes == 2
    monkeypatch.setenv("HARNESS_DATA", str(here))
    assert data.load("folder:set").num_classes == 2


# --- sizes and splits -----------------------------------------------------------------------------------------------


def test_images_of_mixed_sizes_can_be_resized() -> None:
    put_splits("set", "cat", "dog")
    put_images("set/train/dog", size=(20, 10))
    assert "resize all by folder:PATH,resize=8" in refusal("folder:set")
    assert data.load("folder:set,resize=6").image_shape == (3, 6, 6)


def test_test_images_can_be_held_out() -> None:
    put_images("set/cat", "set/dog", count=10)
    assert "hold a share of each class out by folder:PATH,holdout=0.2" in refusal("folder:set")
    first, second = (data.load("folder:set,holdout=0.2,resize=4") for _ in range(2))
    assert (first.train_labels.bincount().tolist(), first.test_labels.bincount().tolist()) == ([8, 8], [2, 2])
    assert first.digest == second.digest


def test_a_train_folder_alone_can_be_split() -> None:
    put_images("set/train/cat", "set/train/dog")
    assert data.load("folder:set,holdout=0.5").test_labels.tolist() == [0, 0, 1, 1]
    put_images("set/test/cat", "set/test/dog")
    assert "has test images; leave holdout out" in refusal("folder:set,holdout=0.5")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:", "folder: wants a path"),
        ("folder:" + os.fsdecode(b"caf\xe9"), r"folder: caf\xe9 is not printable UTF-8 text; rename it"),
        ("folder:set,resize=big", "resize is a number of pixels, such as resize=32, got 'big'"),
        ("folder:set,resize=0", "resize is a number of pixels"),
        ("folder:set,holdout=1.5", "holdout is a share between 0 and 1"),
        ("folder:set,holdout=nan", "holdout is a share between 0 and 1"),
    ],
)
def test_options_of_a_folder_are_checked(name: str, message: str) -> None:
    assert message in refusal(name)


def test_a_folder_whose_name_looks_like_an_option() -> None:
    Path("set,resize=3").mkdir()
    assert parse_folder_name("folder:set,resize=3") == (Path("set,resize=3"), None, None)


# --- what cannot be read --------------------------------------------------------------------------------------------


def test_a_loop_of_links_is_named() -> None:
    put_splits("set", "cat", "dog")
    Path("set/train/cat/again").symlink_to("..")
    assert "set/train/cat/again: a loop of links; remove the link" in refusal("folder:set")
    Path("set/train/cat/again").unlink()
    Path("set/train/cat/9.png").symlink_to("9.png")
    assert "9.png: a loop of links; remove the link" in refusal("folder:set")
    Path("set/train/cat/9.png").unlink()
    Path("set/train/cat/9.png").symlink_to("nowhere.png")
    assert "9.png: no such file, or a broken link" in refusal("folder:set")


def test_a_huge_image_is_not_to_be_copied_again() -> None:
    put_splits("set", "cat", "dog")
    Image.new("1", (20_000, 20_000)).save("set/train/cat/9.png")
    said = refusal("folder:set")
    assert "9.png: not a readable image of a usable size (" in said
    assert said.endswith("; make it smaller, or remove it")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"(it is empty); copy it again"),
        (b"<!DOCTYPE html><p>404", "but an HTML page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "but a pointer of Git LFS; fetch the file by"),
        (b"\x89PNG\r\n", "copy it again"),
    ],
)
def test_the_likely_reason_is_told(content: bytes, reason: str) -> None:
    put_splits("set", "cat", "dog")
    Path("set/train/cat/9.png").write_bytes(content)
    said = refusal("folder:set")
    assert "set/train/cat/9.png: not a readable image" in said
    assert reason in said


def test_a_tiff_that_raises_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    put_splits("set", "cat", "dog")

    def fail(*_: object) -> None:
        raise TypeError("'<' not supported between instances of 'tuple' and 'int'")

    monkeypatch.setattr(Image.Image, "convert", fail)
    assert "not a readable image (its structure is damaged: TypeError); copy it again" in refusal("folder:set")


def test_pixels_of_resized_images_are_those_of_the_middle() -> None:
    put_splits("set", "cat", "dog")
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 200
    Image.fromarray(pixels).save("set/train/cat/0.png")
    assert data.load("folder:set,resize=8").train_images[0].eq(200).all()
