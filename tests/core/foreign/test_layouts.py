"""The layouts of other programs, besides DC's and IDC's .pt files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from harness.core.data import DataSet
from harness.core.foreign import FileConfig, describe, digest, load
from tests.core.foreign.published_sets import LABELS, MEAN, STD, learned, refusal

ORDER = [1, 4, 2, 5, 0, 3]  # class by class
NORMALISED = FileConfig("normalised")


def draw_pixels(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (6, 3, 4, 4), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def normalise(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def soften(labels: Tensor = LABELS) -> Tensor:
    return torch.full((6, 3), 0.1).scatter(1, labels[:, None], 0.8)


# --- images and labels in two files ---------------------------------------------------------------------------------


def save_numpy(value: Tensor, path: Path) -> None:
    np.save(path, value.numpy())


@pytest.mark.parametrize(("put", "suffix"), [(torch.save, "pt"), (save_numpy, "npy")])
def test_images_with_labels_beside_them(
    put: Callable[[Tensor, Path], None], suffix: str, tmp_path: Path, dataset: DataSet
) -> None:
    put(learned(), tmp_path / f"images_best.{suffix}")
    assert "got a tensor alone, without labels" in refusal(tmp_path / f"images_best.{suffix}", dataset, NORMALISED)
    put(LABELS, tmp_path / f"labels_best.{suffix}")
    path = tmp_path / f"images_best.{suffix}"
    assert "the file does not state the space of its values" in refusal(path, dataset, FileConfig())
    (memory,) = load(path, dataset, NORMALISED)
    assert torch.equal(memory.images, learned()[ORDER])
    assert memory.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_labels_beside_belong_to_the_digest(tmp_path: Path) -> None:
    torch.save(learned(), tmp_path / "images_best.pt")
    seen = {digest(tmp_path / "images_best.pt")}
    for labels in (LABELS, LABELS.flip(0)):
        torch.save(labels, tmp_path / "labels_best.pt")
        seen.add(digest(tmp_path / "images_best.pt"))
    assert len(seen) == 3


def test_labels_beside_are_a_tensor(tmp_path: Path, dataset: DataSet) -> None:
    torch.save(learned(), tmp_path / "images_best.pt")
    torch.save({"labels": LABELS}, tmp_path / "labels_best.pt")
    with pytest.raises(ValueError, match=r"labels_best\.pt: expected labels as one tensor, got a dict of 'labels'$"):
        load(tmp_path / "images_best.pt", dataset, NORMALISED)


# --- soft labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        [learned(), soften()],
        {"images": learned(), "labels": soften()},
        {"images": learned(), "labels": LABELS, "soft": soften()},
        {"images": learned(), "soft_labels": soften()},
        {"data": [[learned(), soften()]]},
    ],
)
def test_soft_labels_are_taken(content: object, tmp_path: Path, dataset: DataSet) -> None:
    torch.save(content, tmp_path / "set.pt")
    (memory,) = load(tmp_path / "set.pt", dataset, NORMALISED)
    assert memory.league == "soft"
    assert memory.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert memory.soft is not None
    assert torch.equal(memory.soft, soften()[ORDER])
    assert describe(tmp_path / "set.pt", dataset, NORMALISED) == (1, 3)  # 6 * 48 + 6 * 3 numbers


@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (
            5 * soften(),
            "expected soft labels that are probabilities and sum to 1, got values 0.5 to 4; if they are",
        ),
        (soften() / 0, "a soft label is not finite"),
        (soften()[:5], "expected soft labels (6, 3) of a float type, got (5, 3), torch.float32"),
    ],
)
def test_soft_labels_are_probabilities(soft: Tensor, message: str, tmp_path: Path, dataset: DataSet) -> None:
    torch.save([learned(), soft], tmp_path / "set.pt")
    assert message in refusal(tmp_path / "set.pt", dataset, NORMALISED)


def test_soft_labels_of_several_images_in_one_are_refused(tmp_path: Path, dataset: DataSet) -> None:
    torch.save([learned(), soften()], tmp_path / "set.pt")
    assert "leave memory.factor out" in refusal(tmp_path / "set.pt", dataset, FileConfig("normalised", factor=2))


# --- NumPy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("image_syn", "label_syn")])
def test_npz_pairs(names: tuple[str, str], tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **dict(zip(names, (learned().numpy(), LABELS.numpy()), strict=True)))  # type: ignore[arg-type]
    (memory,) = load(path, dataset, NORMALISED)
    assert torch.equal(memory.images, learned()[ORDER])


def test_8_bit_pixels_say_what_they_are(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=draw_pixels().permute(0, 2, 3, 1).numpy(), labels=LABELS.numpy())  # (N, H, W, C)
    (memory,) = load(path, dataset)
    torch.testing.assert_close(memory.images, normalise(draw_pixels())[ORDER])
    assert "images are 8-bit pixels, not normalised; leave memory.space out" in refusal(path, dataset, NORMALISED)


def test_npz_files_that_do_not_fit(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=np.array([{}, {}], dtype=object), labels=LABELS.numpy())
    assert "not a whole .npz file (Object arrays cannot be loaded when allow_pickle=False)" in refusal(
        path, dataset, NORMALISED
    )
    np.savez(path, pictures=learned().numpy(), labels=LABELS.numpy())
    assert refusal(path, dataset, NORMALISED).endswith("got a dict of 'labels', 'pictures'")
    np.savez(path, images=learned().numpy(), labels=LABELS.numpy())
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a whole .npz file" in refusal(path, dataset, NORMALISED)


# --- folders of images ----------------------------------------------------------------------------------------------


def put_folder(root: Path, names: tuple[str, ...]) -> Path:
    for row, c in enumerate(LABELS.tolist()):
        (root / names[c]).mkdir(parents=True, exist_ok=True)
        pixels = draw_pixels()[row].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / names[c] / f"{row}.png")
    return root


@pytest.mark.parametrize("names", [("ape", "bee", "cat"), ("0", "1", "2")])
def test_a_folder_of_images_is_a_memory(names: tuple[str, ...], tmp_path: Path, dataset: DataSet) -> None:
    path = put_folder(tmp_path / "set", names)
    (path / ".ipynb_checkpoints").mkdir()
    (memory,) = load(path, dataset)
    torch.testing.assert_close(memory.images, normalise(draw_pixels())[ORDER])
    before = digest(path)
    (path / names[0] / "1.png").rename(path / names[1] / "1.png")
    assert digest(path) != before
    assert "expected equally many images of each of the 3 classes of toy, got 1 to 3 of a class" in refusal(
        path, dataset, FileConfig()
    )


def test_folders_are_named_as_classes(tmp_path: Path, dataset: DataSet) -> None:
    said = refusal(put_folder(tmp_path / "set", ("ape", "bee", "cow")), dataset, FileConfig())
    assert "folder ape is not a class of toy" in said or "folder cow is not a class of toy" in said
    assert "name folders as its classes (ape, bee, cat, ...) or by their numbers, 0 to 2" in said


# --- what is no set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_at_any_byte(zipped: bool, tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "set.pt"
    torch.save({"data": [[learned(), LABELS]]}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in range(0, len(content), 41):
        path.write_bytes(content[:size])
        said = refusal(path, dataset, NORMALISED)
        assert said.startswith(("not a whole file as torch.save writes it (", "refused: its pickle ")), size


def test_an_html_page_is_told_as_such(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "set.pt"
    path.write_bytes(b"\n<!DOCTYPE html><html>Sign in")
    assert "not a whole file as torch.save writes it but an HTML page; download the file itself" in refusal(
        path, dataset, NORMALISED
    )
