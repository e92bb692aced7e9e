import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from harness.commands import figures
from harness.commands.export import _name_folders, export
from harness.core import atomic as files
from harness.core import data, foreign
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import from_stored
from harness.core.memory_file import load, save
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels

ORIGIN = {"builder": "dm", "config": {"iterations": 3}, "ipc": 2, "seed": [0, "set 0"]}


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return data.load("digits")


def put(run: Path, name: str, dataset: DataSet, form: Parametrisation, seed: int = 0) -> Path:
    """A memory of two stored images a class in a run's directory."""
    labels = torch.arange(10).repeat_interleave(2)
    stored = form.init(torch.zeros(20 * form.views, 1, 8, 8), "noise", Generator().manual_seed(seed))
    path = run / "memories" / f"{name}.safetensors"
    save(from_stored(form, stored, labels), path, dataset, ORIGIN)
    return path


@pytest.fixture
def run(tmp_path: Path, digits: DataSet) -> Path:
    put(tmp_path / "run", "set-0", digits, Pixels())
    put(tmp_path / "run", "set-1", digits, MultiFormation(2), seed=1)
    return tmp_path / "run"


def test_each_memory_has_a_card_and_a_picture(run: Path, digits: DataSet) -> None:
    written = export(run)
    suffixes = ("safetensors", "json", "pt", "png")
    flat = [path for path in written if path.parent == run / "export"]
    assert flat == [run / "export" / f"set-{i}.{suffix}" for i in (0, 1) for suffix in suffixes]
    assert sorted(path for path in (run / "export").rglob("*") if path.is_file()) == sorted(written)
    for name in ("set-0", "set-1"):
        copy, original = (run / place / f"{name}.safetensors" for place in ("export", "memories"))
        assert copy.read_bytes() == original.read_bytes()
        assert len(load(copy, digits)[0].labels) == (20 if name == "set-0" else 80)
        card = json.loads((run / "export" / f"{name}.json").read_text())
        assert card == files.load(original)[1]
        assert card["config"] == {"iterations": 3}


def test_the_picture_shows_decoded_images(run: Path) -> None:
    export(run)
    sizes = []
    for name in ("set-0", "set-1"):
        with Image.open(run / "export" / f"{name}.png") as image:
            sizes.append(image.size)
    # 2 and 2 * 2 * 2 images of each class side by side
    assert sizes[1][0] > 2 * sizes[0][0]
    drawn = run / "grid.png"
    figures.draw("memory-images", [run / "memories" / "set-1.safetensors"], drawn)
    assert drawn.read_bytes() == (run / "export" / "set-1.png").read_bytes()


def test_single_images_are_those_of_the_memory(run: Path, digits: DataSet) -> None:
    export(run)
    memory, _ = load(run / "memories" / "set-0.safetensors", digits)
    for number in (0, 19):
        with Image.open(run / "export" / "set-0" / str(int(memory.labels[number])) / f"{number:05d}.png") as image:
            pixels = torch.from_numpy(np.array(image))
        assert torch.equal(pixels, (digits.denormalise(memory.images[number]) * 255).round().byte()[0])
    assert len(list((run / "export" / "set-1").rglob("*.png"))) == 80  # what they decode into


def test_what_is_exported_is_a_memory_again(run: Path, digits: DataSet) -> None:
    export(run)
    memory, _ = load(run / "memories" / "set-0.safetensors", digits)
    (from_pt,) = foreign.load(run / "export" / "set-0.pt", digits)
    assert torch.equal(from_pt.images, memory.images)
    assert torch.equal(from_pt.labels, memory.labels)
    (from_images,) = foreign.load(run / "export" / "set-0", digits)
    rounded = digits.normalise((digits.denormalise(memory.images) * 255).round().byte())
    torch.testing.assert_close(from_images.images, rounded)
    assert torch.equal(from_images.labels, memory.labels)


def test_soft_labels_are_exported(tmp_path: Path, digits: DataSet) -> None:
    memory, _ = load(put(tmp_path, "set-0", digits, Pixels()), digits)
    soft = torch.full((20, 10), 0.05).scatter(1, memory.labels[:, None], 0.55)
    save(replace(memory, league="soft", soft=soft), tmp_path / "memories" / "set-0.safetensors", digits, ORIGIN)
    export(tmp_path)
    ((_, labels),) = torch.load(tmp_path / "export" / "set-0.pt", weights_only=True)["data"]
    assert torch.equal(labels, soft)


def test_classes_that_cannot_name_a_folder_are_numbered() -> None:
    assert _name_folders(("T-shirt", "Ankle boot")) == ["T-shirt", "Ankle boot"]
    for names in (("T-shirt/top", "Bag"), ("..", "a"), ("a", "a")):
        assert _name_folders(names) == ["0", "1"]


def test_low_rank_memories_are_drawn_as_images(tmp_path: Path, digits: DataSet) -> None:
    put(tmp_path, "set-0", digits, LowRank(1))
    assert (tmp_path / "export" / "set-0.png") in export(tmp_path)


def test_another_directory_can_be_named(run: Path, tmp_path: Path) -> None:
    written = export(run, tmp_path / "a" / "b")
    assert {path.relative_to(tmp_path / "a" / "b").parts[0][:5] for path in written} == {"set-0", "set-1"}
    assert not (run / "export").exists()


def test_a_second_export_changes_nothing(run: Path) -> None:
    times = [path.stat().st_mtime_ns for path in export(run)]
    assert [path.stat().st_mtime_ns for path in export(run)] == times


def test_new_memories_of_a_run_are_added(run: Path, digits: DataSet) -> None:
    first = export(run)
    put(run, "set-2", digits, Pixels(), seed=2)
    new = set(export(run)) - set(first)
    assert {path.relative_to(run / "export").parts[0] for path in new} == {
        "set-2", "set-2.safetensors", "set-2.json", "set-2.pt", "set-2.png"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["set-0.safetensors", "set-1.json", "set-1.png"])
def test_other_files_are_not_overwritten(name: str, run: Path) -> None:
    there = run / "export" / name
    there.parent.mkdir()
    there.write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"{name}: exists with other content; remove it, or name another") as caught:
        export(run)
    assert str(caught.value).startswith(str(there))
    assert there.read_bytes() == b"mine"
    assert list(there.parent.iterdir()) == [there]  # nothing else was written


def test_a_run_without_memories_is_refused(tmp_path: Path) -> None:
    for run, why in ((tmp_path, "holds no memory yet$"), (tmp_path / "nowhere", "no such directory; pass a run's, ")):
        with pytest.raises(FileNotFoundError, match=f": {why}") as caught:
            export(run)
        assert str(caught.value).startswith(str(run))
    assert list(tmp_path.iterdir()) == []


def test_a_memory_of_the_validation_split_is_exported(tmp_path: Path, digits: DataSet) -> None:
    put(tmp_path, "set-0", hold_out(digits), Pixels())
    assert len(export(tmp_path)) == 4 + 20


def test_a_memory_of_other_data_is_refused(tmp_path: Path, toy_set: DataSet) -> None:
    tensors, card = files.load(put(tmp_path, "set-0", toy_set, Pixels()))
    files.save(tmp_path / "memories" / "set-0.safetensors", tensors, card | {"dataset": "digits"})
    with pytest.raises(ValueError, match=r"set-0\.safetensors: made from other digits data than those found; see "):
        export(tmp_path)
    assert not (tmp_path / "export").exists()


def test_a_damaged_memory_is_refused(run: Path) -> None:
    path = run / "memories" / "set-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(files.DamagedFileError, match=r"set-1\.safetensors: "):
        export(run)
    assert not (run / "export").exists()


def test_the_snippet_of_the_documentation_trains(run: Path, monkeypatch: pytest.MonkeyPatch, digits: DataSet) -> None:
    page = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "set-0.pt" in code]
    export(run)
    monkeypatch.chdir(run)
    names = {"network": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))}
    exec(snippet, names)
    assert names["loss"].isfinite()  # type: ignore[operator]
