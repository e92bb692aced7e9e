"""Figures as `harness plot` makes them: what they are drawn from, and which files they may replace."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator

from harness.commands import figures
from harness.commands.figures import FeatureConfig
from harness.core import atomic as files
from harness.core import data
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import from_stored
from harness.core.memory_file import save
from harness.core.parametrisation import Pixels
from harness.results.figures import saving
from tests.results.files import write_rows

FEW = FeatureConfig(model="convnet-d3-w8", epochs=2, real_per_class=12, synthetic_per_class=2)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return data.load("digits")


def put(run: Path, dataset: DataSet, builder: str = "dm", ipc: int = 2, name: str = "set-0") -> Path:
    """A run's directory with a memory in it."""
    labels = torch.arange(dataset.num_classes).repeat_interleave(ipc)
    stored = Pixels().init(torch.zeros(len(labels), 1, 8, 8), "noise", Generator().manual_seed(ipc))
    origin = {"builder": builder, "config": {}, "ipc": ipc, "seed": [0, name]}
    save(from_stored(Pixels(), stored, labels), run / "memories" / f"{name}.safetensors", dataset, origin)
    return run


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """The rows of a stream of two steps."""
    setting = {"track": "cl", "dataset": "digits", "preset": "quick", "memory": "dm", "league": "pixel", "ipc": 2,
               "recipe": "dm", "model": "convnet3", "steps": 2, "split": "test", "unit": "%", "order": "0", "repeat": 0,
               "key": "k"}  # fmt: skip
    seen = [setting | {"metric": "seen_accuracy", "experience": e, "classes_seen": 5 * e + 5, "value": 90 - e}
            for e in range(2)]  # fmt: skip
    tested = [setting | {"metric": "experience_accuracy", "experience": e, "tested_experience": s, "value": 80 + s}
              for e in range(2) for s in range(e + 1)]  # fmt: skip
    write_rows([*seen, *tested], tmp_path / "run" / "rows.csv")
    return tmp_path / "run"


def test_every_figure_is_named_with_what_it_shows() -> None:
    assert figures.names() == sorted(figures.about())
    assert {"cl-matrix", "memory-images", "tsne"} <= set(figures.names())
    assert all(note.endswith(".") for note in figures.about().values())


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_figure_drawn_again_replaces_itself(suffix: str, stream: Path, tmp_path: Path) -> None:
    target = tmp_path / f"figure{suffix}"
    for _ in range(2):
        assert figures.draw("cl-accuracy", [stream], target) == [target, target.with_suffix(".csv")]
    assert saving.kind_of(target.read_bytes()) == "cl-accuracy"
    assert pd.read_csv(target.with_suffix(".csv"))["mean"].tolist() == [90, 89]


def test_one_figure_may_stand_in_two_formats(stream: Path, tmp_path: Path) -> None:
    figures.draw("cl-accuracy", [stream], tmp_path / "figure.png")
    figures.draw("cl-accuracy", [stream], tmp_path / "figure.pdf")
    assert sorted(path.suffix for path in tmp_path.glob("figure.*")) == [".csv", ".pdf", ".png"]


def test_another_figure_is_not_overwritten(stream: Path, tmp_path: Path) -> None:
    target = tmp_path / "figure.png"
    figures.draw("cl-accuracy", [stream], target)
    before = {path: path.read_bytes() for path in tmp_path.glob("figure.*")}
    with pytest.raises(ValueError, match=r"figure\.png: is there, and was not drawn as cl-matrix; remove it, or name"):
        figures.draw("cl-matrix", [stream], target)
    with pytest.raises(ValueError, match=r"figure\.csv: is there, with numbers of something else than cl-matrix"):
        figures.draw("cl-matrix", [stream], tmp_path / "figure.svg")
    assert {path: path.read_bytes() for path in tmp_path.glob("figure.*")} == before


def test_what_is_no_figure_of_ours_is_not_overwritten(stream: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holiday\.png: is there, and was not drawn as cl-accuracy"):
        figures.draw("cl-accuracy", [stream], tmp_path / "holiday.png")
    assert sorted(tmp_path.glob("holiday.*")) == [tmp_path / "holiday.png"]


def test_damaged_row_files_are_left_out_of_a_figure(stream: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "rows.csv").write_bytes((stream / "rows.csv").read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"cut/rows\.csv: damaged.*; 1 of 2 row files are damaged"):
        figures.draw("cl-accuracy", [stream, tmp_path / "cut"], tmp_path / "figure.png")


# --- memories -------------------------------------------------------------------------------------------------------


def test_memories_of_several_runs_stand_side_by_side(tmp_path: Path, digits: DataSet) -> None:
    runs = [put(tmp_path / builder, digits, builder) for builder in ("dm", "mim-dm")]
    figure, numbers = figures.memory_images(runs)
    assert numbers is None
    assert [axes.get_title() for axes in figure.axes] == ["dm", "mim-dm\n(reconstruction)"]
    assert [text.get_text() for text in figure.texts] == ["digits, 2 images per class"]
    assert figures.draw("memory-images", runs, tmp_path / "grid.svg") == [tmp_path / "grid.svg"]


def test_what_is_no_memory_cannot_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    files.save(path, {"right": torch.zeros(10)}, {"kind": "network"})
    with pytest.raises(ValueError, match=r"network\.safetensors: holds no memory"):
        figures.memory_images([path])


def test_memories_of_one_name_are_told_apart(tmp_path: Path, digits: DataSet) -> None:
    runs = [put(tmp_path / f"run-{i}", digits) for i in range(2)]
    figure, _ = figures.memory_images(runs)
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert titles == ["dm (run-0 set-0)", "dm (run-1 set-0)"]
    figure, _ = figures.memory_images([runs[0], put(tmp_path / "one", digits, ipc=1)])
    assert [axes.get_title().replace("\n", " ") for axes in figure.axes] == ["dm, 2 per class", "dm, 1 per class"]


@pytest.mark.parametrize("make", [figures.memory_images, figures.tsne])
def test_memories_of_different_data_are_refused(make: object, tmp_path: Path, digits: DataSet) -> None:
    runs = [put(tmp_path / "a", digits), put(tmp_path / "b", hold_out(digits))]
    with pytest.raises(ValueError, match=r"memories in one figure are of the same data; these mix digits \(.*a/mem"):
        make(runs)  # type: ignore[operator]


def test_features_are_those_of_real_and_synthetic_images(tmp_path: Path, digits: DataSet) -> None:
    figure, points = figures.tsne([put(tmp_path / builder, digits, builder) for builder in ("dm", "dsa")], cfg=FEW)
    assert points is not None
    counts = points.groupby(["memory", "kind"]).size().to_dict()
    assert counts == {("", "real"): 120, ("dm", "synthetic"): 20, ("dsa", "synthetic"): 20}  # 12 and 2 of ten classes
    assert points.groupby("class").size().tolist() == [16] * 10
    assert np.isfinite(points[["x", "y"]]).all(axis=None)
    assert [axes.get_title() for axes in figure.axes] == ["dm", "dsa"]
    said = figure.get_suptitle().replace("\n", " ")
    assert "t-SNE of 160 features under convnet-d3-w8, trained for 2 epochs on 120 real images" in said
    assert "test accuracy on these classes" in said


def test_features_depend_on_the_seed_alone(tmp_path: Path, digits: DataSet) -> None:
    run = put(tmp_path / "run", digits)
    state = torch.random.get_rng_state()
    (_, first), (_, second) = (figures.tsne([run], cfg=FEW) for _ in range(2))
    _, other = figures.tsne([run], cfg=FeatureConfig(**{**vars(FEW), "seed": 1}))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.equals(second)
    assert not first[["x", "y"]].equals(other[["x", "y"]])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nearby_features_stay_together() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (30, 5)), rng.normal(9, 0.1, (30, 5))]).astype("float32")
    places = figures.embed_in_plane(features, seed=0)
    first, second = places[:30], places[30:]
    spread = max(np.linalg.norm(part - part.mean(0), axis=1).mean() for part in (first, second))
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * spread
