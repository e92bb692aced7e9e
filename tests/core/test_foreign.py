import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness.core import atomic as files
from harness.core.data import DataSet
from harness.core.foreign import FileConfig, describe, digest, load, path_of
from harness.core.foreign_layouts import FITS
from harness.core.memory import Memory, from_stored
from harness.core.memory_file import encode, save
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)
LABELS = torch.tensor([2, 0, 1, 2, 0, 1])
FITTING_IMAGES = "images (N, 3, 4, 4) of a float type, or uint8, fit toy"
FITTING_LABELS = "labels (N,) of an integer type, or probabilities (N, 3), fit"


@pytest.fixture
def dataset() -> DataSet:
    images, labels = torch.zeros(6, 3, 4, 4, dtype=torch.uint8), torch.arange(6) % 3
    return DataSet("toy", images, labels, images, labels, ("a", "b", "c"), MEAN, STD, "d" * 64, "official")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.pt"


def learned(seed: int = 0, size: int = 4) -> Tensor:
    return 2 * torch.randn(len(LABELS), 3, size, size, generator=Generator().manual_seed(seed))


def pixels(seed: int = 0) -> Tensor:
    return torch.rand(len(LABELS), 3, 4, 4, generator=Generator().manual_seed(seed))


def as_published(*sets: list[Any]) -> dict[str, Any]:
    """As DC's script leaves it, accuracies as NumPy's numbers included."""
    return {"data": list(sets), "accs_all_exps": {"ConvNet": [np.float64(0.9), np.float64(0.925)], "MLP": []}}


def refusal(path: Path, dataset: DataSet, cfg: FileConfig = FileConfig()) -> str:
    """The one line that says why, less the path it begins with."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(path, dataset, cfg)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert said.count(str(path)) == 1
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


# --- names and files ------------------------------------------------------------------------------------------------


def test_the_path_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert path_of("file:sets/a:b.pt") == Path("sets/a:b.pt")
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("file:~/a.pt") == Path("/home/me/a.pt")


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
    with pytest.raises(ValueError, match=r": holds no image; a folder for each class, with images in it, fits$"):
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


def test_the_set_that_they_are_normalised_as_has_as_many_channels(path: Path, dataset: DataSet) -> None:
    torch.save([learned(), LABELS], path)
    said = refusal(path, dataset, FileConfig("normalised:mnist"))
    assert said == "memory.space: channels of mnist: 1, of the images: 3"


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
    assert said.startswith("the file does not say what its numbers are; say so by --set memory.space=normalised or ")
    assert "--set memory.space=unit (values are 0." in said


def test_a_layout_of_normalised_images_with_values_of_pixels_is_ambiguous(path: Path, dataset: DataSet) -> None:
    torch.save(as_published([pixels(), LABELS]), path)
    assert "its layout has normalised images, these may be pixels in [0, 1]; say so by --set " in refusal(path, dataset)
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
    assert refusal(path, dataset).endswith(": normalised ones stay within 50")


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (learned(), "a tensor alone, without labels"),  # MTT's images_best.pt
        ({"images": learned(), "weights": LABELS}, "a dict of 'images', 'weights'"),
        ({}, "a dict of nothing"),
        ({"data": []}, "a dict whose 'data' is no list of [images, labels]"),
        ({"data": [learned(), LABELS]}, "a dict whose 'data' is no list of [images, labels]"),
        ({"data": [[learned()]]}, "a dict whose 'data' is no list of [images, labels]"),
        ([learned(), LABELS, LABELS], "a list of 3 that is no [images, labels]"),
        ([learned(), 3], "a list of 2 that is no [images, labels]"),
        ((), "a tuple of 0 that is no [images, labels]"),
        (3, "int"),
        (np.float64(3), "float64"),
    ],
)
def test_another_layout_is_refused_with_what_fits(content: Any, got: str, path: Path, dataset: DataSet) -> None:
    torch.save(content, path)
    assert refusal(path, dataset, FileConfig("normalised")) == f"{FITS}; got {got}"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            learned(size=8),
            LABELS,
            f"{FITTING_IMAGES}; got (6, 3, 8, 8), torch.float32",
        ),
        (learned()[0], LABELS, f"{FITTING_IMAGES}; got (3, 4, 4), torch.float32"),
        (
            learned().int(),
            LABELS,
            f"{FITTING_IMAGES}; got (6, 3, 4, 4), torch.int32",
        ),
        (torch.empty(6, 3, 4, 4, device="meta"), LABELS, "plain, dense tensors fit"),
        (
            learned(),
            LABELS.float(),
            f"{FITTING_LABELS}; got (6,), torch.float32",
        ),
        (learned(), LABELS > 0, f"{FITTING_LABELS}; got (6,), torch.bool"),
        (
            learned(),
            torch.eye(6).long(),
            f"{FITTING_LABELS}; got (6, 6), torch.int64",
        ),
        (learned(), LABELS[:5], "as many labels as images fit; got 5 and 6"),
        (learned(), LABELS + 1, "labels in 0 .. 2 fit toy; got 1 to 3"),
        (learned(), LABELS - 1, "labels in 0 .. 2 fit toy; got -1 to 1"),
        (learned(), LABELS % 2, "as many images of each of toy's 3 classes fit; got 0 to 4 of a class"),
        (learned()[:5], LABELS[:5], "as many images of each of toy's 3 classes fit; got 1 to 2 of a class"),
        (learned()[:0], LABELS[:0], "a set of one image at least fits; got none"),
        (learned() / 0, LABELS, "an image is not finite"),
        (learned().double() * 1e300, LABELS, "an image is not finite"),  # nor is it as float32
    ],
)
def test_a_set_that_does_not_fit_the_data(
    images: Tensor, labels: Tensor, message: str, path: Path, dataset: DataSet
) -> None:
    for content in (as_published([images, labels]), as_published([learned(), LABELS], [images, labels])):
        torch.save(content, path)
        assert refusal(path, dataset) == message
    torch.save([images, labels], path)
    assert refusal(path, dataset, FileConfig("normalised")) == message


def test_all_sets_of_a_file_have_one_size(path: Path, dataset: DataSet) -> None:
    torch.save(as_published([learned(), LABELS], [learned()[:3], LABELS[:3]]), path)
    assert refusal(path, dataset) == "sets of one size fit; got sets of 3 to 6 images"


# --- what is never run ----------------------------------------------------------------------------------------------


class Calls:
    """Once unpickled, calls `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "arguments", "asked"),
    [
        (os.system, "touch {}", "posix.system"),
        (os.mkdir, "{}", "posix.mkdir"),
        (exec, "import pathlib; pathlib.Path('{}').touch()", "exec"),
    ],
)
def test_a_files_code_is_named_and_not_run(
    function: Any, arguments: str, asked: str, zipped: bool, path: Path, dataset: DataSet
) -> None:
    touched = path.with_name("touched")
    content = as_published([learned(), LABELS]) | {"more": Calls(function, arguments.format(touched))}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    said = refusal(path, dataset)
    assert not touched.exists()
    assert said.startswith("refused: its pickle asks for ")
    assert asked in said.split(",")[0]
    assert "weights_only" not in said  # no advice on how to run it all the same

    # What stands there would do it, were it unpickled the usual way.
    pickle.loads(pickle.dumps(content["more"]))
    assert touched.exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            PurePosixPath("a"),
            r"refused: its pickle asks for pathlib\.PurePosixPath, reading a set takes tensors alone; ",
        ),
        (np.zeros(3), r"refused: its pickle asks for numpy\._?core\.multiarray\._reconstruct, "),
        (torch.nn.Linear(1, 1), r"refused: its pickle asks for torch\.nn\.modules\.linear\.Linear, "),
        (np.float32(1), r"refused: its pickle is more than tensors \(.*Float32DType.*\); "),
    ],
)
def test_what_a_set_needs_not_is_named(more: Any, reason: str, path: Path, dataset: DataSet) -> None:
    torch.save(as_published([learned(), LABELS]) | {"more": more}, path)
    with pytest.raises(ValueError, match=reason):
        load(path, dataset)
    refusal(path, dataset)


def test_nothing_stays_allowed(path: Path, dataset: DataSet) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save(as_published([learned(), LABELS]), path)
    load(path, dataset)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4", pickle.dumps([1]), pickle.dumps([1], protocol=0)])
def test_bytes_of_another_kind(content: bytes, path: Path, dataset: DataSet) -> None:
    path.write_bytes(content)
    assert refusal(path, dataset).startswith(("not a whole file as torch.save writes it (", "refused: "))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short(zipped: bool, path: Path, dataset: DataSet) -> None:
    torch.save(as_published([learned(), LABELS]), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for part in range(0, len(content), 97):
        path.write_bytes(content[:part])
        refusal(path, dataset)


# --- ours -----------------------------------------------------------------------------------------------------------


def ours(form: Parametrisation, labels: list[int]) -> Memory:
    real = torch.zeros(len(labels) * form.views, 3, 4, 4)
    return from_stored(form, form.init(real, "noise", Generator().manual_seed(0)), torch.tensor(labels))


@pytest.mark.parametrize("form", [Pixels(), LowRank(1), MultiFormation(2)], ids=str)
def test_a_memory_of_ours_is_read_class_by_class(form: Parametrisation, tmp_path: Path, dataset: DataSet) -> None:
    path, memory = tmp_path / "m.safetensors", ours(form, [2, 2, 0, 0, 1, 1])
    save(memory, path, replace(dataset, digest="e" * 64), {})  # from another copy of the data
    (loaded,) = load(path, dataset)
    views = 2 * form.views
    assert loaded.labels.tolist() == [0] * views + [1] * views + [2] * views
    assert torch.equal(loaded.images, torch.cat([memory.images[views:], memory.images[:views]]))
    assert (loaded.form, loaded.league, set(loaded.stored)) == (memory.form, memory.league, set(memory.stored))


@pytest.mark.parametrize(
    ("form", "stored", "ipc"),
    # a stored image of 48 numbers is one of the budget, whatever it decodes into; factors of rank 1 take 24
    [(Pixels(), 2, 2), (MultiFormation(2), 2, 2), (LowRank(1), 4, 2), (LowRank(1), 3, 2), (LowRank(1), 1, 1)],
)
def test_a_file_of_ours_is_described_by_its_budget(
    form: Parametrisation, stored: int, ipc: int, tmp_path: Path, dataset: DataSet
) -> None:
    save(ours(form, [0] * stored + [1] * stored + [2] * stored), tmp_path / "m.safetensors", dataset, {})
    assert describe(tmp_path / "m.safetensors", dataset) == (1, ipc)


def test_soft_labels_count_in_what_a_file_is_described_by(tmp_path: Path, dataset: DataSet) -> None:
    # 2 images of 48 numbers of each class are the budget of 2; with 3 probabilities beside each, that of 3.
    hard = ours(Pixels(), [0, 0, 1, 1, 2, 2])
    save(replace(hard, league="soft", soft=torch.full((6, 3), 1 / 3)), tmp_path / "m.safetensors", dataset, {})
    assert describe(tmp_path / "m.safetensors", dataset) == (1, 3)


def test_real_images_of_ours_stay_real(tmp_path: Path, dataset: DataSet) -> None:
    images = dataset.normalise(torch.arange(6 * 48, dtype=torch.int64).remainder(256).byte().view(6, 3, 4, 4))
    save(Memory(images, LABELS, real=True), tmp_path / "m.safetensors", dataset, {})
    (loaded,) = load(tmp_path / "m.safetensors", dataset)
    assert loaded.real
    assert torch.equal(loaded.images, images[[1, 4, 2, 5, 0, 3]])


@pytest.mark.parametrize("cfg", [FileConfig("normalised"), FileConfig(factor=2)])
def test_a_file_of_ours_needs_no_settings(cfg: FileConfig, tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "m.safetensors"
    save(ours(Pixels(), [0, 1, 2]), path, dataset, {})
    said = refusal(path, dataset, cfg)
    assert said == "a memory's file says itself how it is stored; leave memory.space and memory.factor out"


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        ([0, 1, 2], {"dataset": "cifar10"}, "made from cifar10, not from toy"),
        ([0, 1, 2], {"space": {"mean": [0.5], "std": [0.5]}}, "normalised by {'mean': [0.5], 'std': [0.5]}, not by "),
        ([0, 1], {}, "as many images of each of toy's 3 classes fit; got 0 to 1 of a class"),
        ([0, 1, 2, 2], {}, "as many images of each of toy's 3 classes fit; got 1 to 2 of a class"),
        ([0, 1, 2], {"league": "sport"}, "memory: league 'sport' is unknown; choose from "),
        ([0, 1, 2], {"format": 7}, "a memory of format 1, encoded uint8 or float32, fits; got format 7, "),
    ],
)
def test_a_file_of_ours_that_does_not_fit(
    labels: list[int], changes: dict[str, Any], message: str, tmp_path: Path, dataset: DataSet
) -> None:
    tensors, card = encode(ours(Pixels(), labels), dataset, {})
    files.save(tmp_path / "m.safetensors", tensors, card | changes)
    assert refusal(tmp_path / "m.safetensors", dataset).startswith(message)


def test_a_file_of_ours_is_finite(tmp_path: Path, dataset: DataSet) -> None:
    tensors, card = encode(ours(LowRank(1), [0, 1, 2]), dataset, {})
    tensors["left"][0, 0, 0, 0] = float("nan")
    files.save(tmp_path / "m.safetensors", tensors, card)
    assert refusal(tmp_path / "m.safetensors", dataset) == "an image is not finite"


def test_a_damaged_file_of_ours(tmp_path: Path, dataset: DataSet) -> None:
    path = tmp_path / "m.safetensors"
    save(ours(Pixels(), [0, 1, 2]), path, dataset, {})
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path, dataset).startswith("not a whole file of ours ")
