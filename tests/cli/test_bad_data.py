"""Image data that are not what they should be get one clear line and exit code 2."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.core import data
from tests.cli.complaints import complaint

RUN = ["run", "cl"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def write_folder(root: Path, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    """Class folders of two images each."""
    rng = np.random.default_rng(0)
    for part, names in (("train", train), ("test", test)):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


def test_a_class_folder_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("set"), ("ape", "cat"), ("ape",))
    said = complaint([*RUN, "--dataset", "folder:set", "--preset", "smoke", "--steps", "1"], capsys)
    assert "cat" in said


def test_a_cut_zip(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("set"), ("ape", "cat"), ("ape", "cat"))
    for part in ("train", "test"):
        with zipfile.ZipFile(f"zips-{part}", "w") as file:
            for path in sorted(Path("set", part).rglob("*.png")):
                file.write(path, path.relative_to(Path("set", part)))
        Path("zips").mkdir(exist_ok=True)
        Path(f"zips-{part}").rename(f"zips/{part}.zip")
    whole = Path("zips/train.zip").read_bytes()
    Path("zips/train.zip").write_bytes(whole[: len(whole) // 2])
    said = complaint([*RUN, "--dataset", "folder:zips", "--preset", "smoke", "--steps", "1"], capsys)
    assert "train.zip" in said


def test_other_data_than_the_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("set"), ("ape", "cat"), ("ape", "cat"))
    said = complaint([*RUN, "--dataset", "cifar10", "--data", "set", "--preset", "smoke"], capsys)
    assert "set" in said
    assert "cifar10" in said


def test_official_data_demanded_of_others(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(data.KNOWN["digits"], digests={"official": ("0" * 64,) * 4})
    monkeypatch.setitem(data.KNOWN, "digits", other)
    assert main(["data", "check", "digits", "--official"]) == 2
    printed, errors = capsys.readouterr()
    assert errors.startswith("harness: digits: the official data are asked for, these are as listed: train images, ")
    assert len(errors.splitlines()) == 1
    assert "expected 0000" in printed  # the report, which says what differs, comes before
    assert main(["data", "check", "digits"]) == 0
