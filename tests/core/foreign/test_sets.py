"""Sets that others condensed are read as they are."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.data import DataSet
from harness.core.foreign import FileConfig, describe, digest, load, parse_path
from harness.core.parametrisation import MultiFormation, Pixels
from tests.core.foreign.published_sets import (
    LABELS,
    MEAN,
    STD,
    as_published,
    learned,
    pixels,
    refusal,
)

# --- names and files ------------------------------------------------------------------------------------------------


def test_the_path_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_path("file:sets/a:b.pt") == Path("sets/a:b.pt")
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_path("file:~/a.pt") == Path("/home/me/a.pt")


def test_the_digest_is_that_of_the_bytes_there_now(path: Path) -> None:
    for content, changed in ((b"one", 1), (b"two", 2), (b"three", 2)):  # same size, then same time
        path.write_bytes(content)
        os.utime(path, ns=(changed, changed))
        assert digest(path) == digest(path) == hashlib.sha256(content).hexdigest()


def test_no_file(tmp_path: Path, dataset: DataSet) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file$"):
        load(tmp_path / "none.pt", dataset)
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file$"):
        digest(tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r": no images found; expected a folder for each class, with images in it$"):
        load(tmp_path, dataset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": "pixels"}, "^space: 'pixels' is unknown; choose from declared, normalised, unit, normalised:"),
        ({"space": "normalised:cifar"}, r"did you mean 'normalised:cifar10'\?"),
        ({"factor": 0}, "^factor: at least 1 is needed, got 0$"),
    ],
)
def test_a_configuration_checks_itself(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FileConfig(**settings)


def test_images_that_stored_ones_decode_into() -> None:
    assert FileConfig().decoded(10, (3, 32, 32)) == 10
    assert FileConfig(factor=3).decoded(10, (3, 32, 32)) == 90


# --- what others save -----------------------------------------------------------------------------------------------


def test_published_sets_are_read_as_they_are_but_class_by_class(path: Path, dataset: DataSet) -> None:
    torch.save(as_published([learned(0), LABELS], [learned(1), LABELS]), path)
    first, second = load(path, dataset)
    # LABELS are 2 0 1 2 0 1: class 0 stands at rows 1 and 4, in this order.
    assert torch.equal(first.images, learned(0)[[1, 4, 2, 5, 0, 3]])
    assert torch.equal(second.images, learned(1)[[1, 4, 2, 5, 0, 3]])
    assert first.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (first.labels.dtype, first.images.dtype) == (torch.int64, torch.float32)
    assert (first.league, first.real, first.form, dict(first.stored)) == ("pixel", False, Pixels(), {})
    assert describe(path, dataset) == (2, 2)


def test_the_older_kind_of_file_is_read_too(path: Path, dataset: DataSet) -> None:
    content = as_published([learned(), LABELS])
    torch.save(content, path, _use_new_zipfile_serialization=False)
    (memory,) = load(path, dataset)
    assert torch.equal(memory.images, learned()[[1, 4, 2, 5, 0, 3]])


@pytest.mark.parametrize("older", [False, True])
def test_numpys_numbers_are_read_under_both_their_names(older: bool, path: Path, dataset: DataSet) -> None:
    torch.save(as_published([learned(), LABELS]), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    names = (b"numpy.core.multiarray", b"numpy._core.multiarray")
    assert sum(content.count(name + b"\nscalar\n") for name in names) == 1
    for name in names:
        content = content.replace(name + b"\n", names[not older] + b"\n")
    path.write_bytes(content)
    assert len(load(path, dataset)) == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_pixels_are_normalised(kind: Callable[[Any], Any], path: Path, dataset: DataSet) -> None:
    torch.save(kind([pixels(), LABELS]), path)
    (memory,) = load(path, dataset, FileConfig("unit"))
    expected = (pixels() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(memory.images, expected[[1, 4, 2, 5, 0, 3]])
    torch.testing.assert_close(dataset.denormalise(memory.images), pixels()[[1, 4, 2, 5, 0, 3]])


def test_a_pair_may_be_said_to_be_normalised(path: Path, dataset: DataSet) -> None:
    torch.save([learned(), LABELS], path)
    (memory,) = load(path, dataset, FileConfig("normalised"))
    assert torch.equal(memory.images, learned()[[1, 4, 2, 5, 0, 3]])


def test_images_may_be_normalised_as_those_of_another_set(path: Path, dataset: DataSet) -> None:
    """As DCC's script does: CIFAR-100, by the constants of CIFAR-10."""
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    torch.save(as_published([(pixels() - mean) / std, LABELS]), path)
    (memory,) = load(path, dataset, FileConfig("normalised:cifar10"))
    torch.testing.assert_close(dataset.denormalise(memory.images), pixels()[[1, 4, 2, 5, 0, 3]])


def test_another_sets_constants_have_as_many_channels(path: Path, dataset: DataSet) -> None:
    torch.save([learned(), LABELS], path)
    said = refusal(path, dataset, FileConfig("normalised:mnist"))
    assert said == "memory.space: mnist has images of 1 channels, the set has 3"


def test_several_in_one(path: Path, dataset: DataSet) -> None:
    torch.save([pixels(), LABELS], path)
    cfg = FileConfig("unit", factor=2)
    (memory,) = load(path, dataset, cfg)
    plain = load(path, dataset, FileConfig("unit"))[0].images
    assert torch.equal(memory.stored["images"], plain)
    assert torch.equal(memory.images, MultiFormation(2).decode({"images": plain}))
    assert memory.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert (memory.league, memory.form) == ("storage", MultiFormation(2))
    assert describe(path, dataset, cfg) == (1, 2)
    assert len(memory.labels) == 3 * cfg.decoded(2, dataset.image_shape)


def test_a_factor_must_divide_the_images(path: Path, dataset: DataSet) -> None:
    torch.save([pixels(), LABELS], path)
    said = refusal(path, dataset, FileConfig("unit", factor=3))
    assert said == "multi-formation: 4 x 4 cannot be cut by a factor of 3"


def test_parameters_and_other_number_types_are_taken(path: Path, dataset: DataSet) -> None:
    images = learned().double()
    torch.save(as_published([torch.nn.Parameter(images), LABELS.to(torch.uint8)]), path)
    (memory,) = load(path, dataset)
    assert torch.equal(memory.images, images.float()[[1, 4, 2, 5, 0, 3]])
    assert memory.labels.dtype == torch.int64
    assert not memory.images.requires_grad


# --- what the numbers are -------------------------------------------------------------------------------------------


def test_a_pair_does_not_say_what_its_numbers_are(path: Path, dataset: DataSet) -> None:
    torch.save([pixels(), LABELS], path)
    said = refusal(path, dataset)
    assert said.startswith("the file does not state the space of its values; use --set memory.space=normalised or ")
    assert "--set memory.space=unit (values are 0." in said


def test_normalised_images_with_values_of_pixels(path: Path, dataset: DataSet) -> None:
    torch.save(as_published([pixels(), LABELS]), path)
    assert "its layout implies normalised images, but they may be pixels in [0, 1]; use --set " in refusal(
        path, dataset
    )
    (normalised,) = load(path, dataset, FileConfig("normalised"))
    (unit,) = load(path, dataset, FileConfig("unit"))
    assert torch.equal(normalised.images, pixels()[[1, 4, 2, 5, 0, 3]])
    assert not torch.equal(unit.images, normalised.images)


def test_one_set_beyond_pixels_settles_it_for_all(path: Path, dataset: DataSet) -> None:
    torch.save(as_published([pixels(), LABELS], [learned(), LABELS]), path)
    assert torch.equal(load(path, dataset)[0].images, pixels()[[1, 4, 2, 5, 0, 3]])


@pytest.mark.parametrize(("value", "fits"), [(1.0009, True), (-0.0009, True), (1.0011, False), (-0.0011, False)])
def test_pixels_lie_between_0_and_1(value: float, fits: bool, path: Path, dataset: DataSet) -> None:
    images = pixels()
    images[0, 0, 0, 0] = value
    torch.save([images, LABELS], path)
    if fits:
        assert len(load(path, dataset, FileConfig("unit"))) == 1
    else:
        assert refusal(path, dataset, FileConfig("unit")).endswith(": memory.space=unit means pixels in [0, 1]")


@pytest.mark.parametrize("space", ["declared", "normalised", "unit"])
def test_pixels_of_8_bits_are_told_as_such(space: str, path: Path, dataset: DataSet) -> None:
    torch.save([(255 * pixels()).round(), LABELS], path)
    said = refusal(path, dataset, FileConfig(space))
    assert "they look like pixels 0 .. 255, not normalised; divide them by 255 for memory.space=unit" in said


def test_normalised_values_are_bounded(path: Path, dataset: DataSet) -> None:
    images = learned()
    images[0, 0, 0, 0] = 50.0
    torch.save(as_published([images, LABELS]), path)
    assert len(load(path, dataset)) == 1
    images[0, 0, 0, 0] = -50.1
    torch.save(as_published([images, LABELS]), path)
    assert refusal(path, dataset).endswith(": normalised values stay within 50")
