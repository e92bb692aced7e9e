"""Files of sets that do not fit are refused with a reason, and never run."""

import os
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.core.data import DataSet
from harness.core.foreign import FileConfig, load
from harness.core.foreign_layouts import EXPECTED
from tests.core.foreign.published_sets import (
    EXPECTED_IMAGES,
    EXPECTED_LABELS,
    LABELS,
    as_published,
    learned,
    refusal,
)

# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (learned(), "a tensor alone, without labels"),  # MTT's images_best.pt
        ({"images": learned(), "weights": LABELS}, "a dict of 'images', 'weights'"),
        ({}, "a dict of nothing"),
        ({"data": []}, "a dict whose 'data' is not a list of [images, labels]"),
        ({"data": [learned(), LABELS]}, "a dict whose 'data' is not a list of [images, labels]"),
        ({"data": [[learned()]]}, "a dict whose 'data' is not a list of [images, labels]"),
        ([learned(), LABELS, LABELS], "a list of 3 that is not [images, labels]"),
        ([learned(), 3], "a list of 2 that is not [images, labels]"),
        ((), "a tuple of 0 that is not [images, labels]"),
        (3, "int"),
        (np.float64(3), "float64"),
    ],
)
def test_another_layout_is_refused_with_what_fits(content: Any, got: str, path: Path, dataset: DataSet) -> None:
    torch.save(content, path)
    assert refusal(path, dataset, FileConfig("normalised")) == f"{EXPECTED}, got {got}"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            learned(size=8),
            LABELS,
            f"{EXPECTED_IMAGES}, got (6, 3, 8, 8), torch.float32",
        ),
        (learned()[0], LABELS, f"{EXPECTED_IMAGES}, got (3, 4, 4), torch.float32"),
        (
            learned().int(),
            LABELS,
            f"{EXPECTED_IMAGES}, got (6, 3, 4, 4), torch.int32",
        ),
        (torch.empty(6, 3, 4, 4, device="meta"), LABELS, "expected dense, real, unquantised tensors on the CPU"),
        (
            learned(),
            LABELS.float(),
            f"{EXPECTED_LABELS}, got (6,), torch.float32",
        ),
        (learned(), LABELS > 0, f"{EXPECTED_LABELS}, got (6,), torch.bool"),
        (
            learned(),
            torch.eye(6).long(),
            f"{EXPECTED_LABELS}, got (6, 6), torch.int64",
        ),
        (learned(), LABELS[:5], "expected as many labels as images, got 5 labels and 6 images"),
        (learned(), LABELS + 1, "expected labels in 0 .. 2 for toy, got 1 to 3"),
        (learned(), LABELS - 1, "expected labels in 0 .. 2 for toy, got -1 to 1"),
        (learned(), LABELS % 2, "expected equally many images of each of the 3 classes of toy, got 0 to 4 of a class"),
        (
            learned()[:5],
            LABELS[:5],
            "expected equally many images of each of the 3 classes of toy, got 1 to 2 of a class",
        ),
        (learned()[:0], LABELS[:0], "expected at least one image, got none"),
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
    assert refusal(path, dataset) == "expected sets of equal size, got sets of 3 to 6 images"


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
    assert said.startswith("refused: its pickle imports ")
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
            r"refused: its pickle imports pathlib\.PurePosixPath, and only tensors are loaded; ",
        ),
        (np.zeros(3), r"refused: its pickle imports numpy\._?core\.multiarray\._reconstruct, "),
        (torch.nn.Linear(1, 1), r"refused: its pickle imports torch\.nn\.modules\.linear\.Linear, "),
        (np.float32(1), r"refused: its pickle contains more than tensors \(.*Float32DType.*\); "),
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
