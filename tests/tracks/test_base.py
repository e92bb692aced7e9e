"""What a run must fit, and what doing a unit costs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core import memory_file
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.progress import SILENT, Progress, State
from harness.execution.units import Store
from harness.memory import BUILDERS
from harness.tracks.base import (
    Clock,
    Result,
    check_fit,
    count_images_per_class,
    do_unit,
)
from harness.tracks.memories import (
    build_memory,
)
from tests.tracks.small_runs import run_of, unit_of


@pytest.mark.parametrize(
    ("settings", "tested", "message"),
    [
        ({"model": "convnet-d9"}, [], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({"memory.model": "convnet-d9"}, [], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({}, ["convnet-d9"], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({"ipc": 13}, [], "ipc: expected at most 12 images per class, as many as class 0 has"),
        ({"memory": "lo-dm", "memory.rank": 9}, [], "low-rank: rank 9 is too large"),
        ({"memory": "idc", "memory.factor": 3}, [], "multi-formation: 8 x 8 cannot be cut by a factor of 3"),
        ({"memory": "cscore"}, [], "cscore: a file of scores is needed"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_done(
    settings: dict[str, Any], tested: list[str], message: str, toy_set: DataSet
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        check_fit(run_of(**settings), toy_set, tested)


def test_scores_must_fit_the_data(toy_set: DataSet, tmp_path: Path) -> None:
    def check(dataset: DataSet, **arrays: Any) -> None:
        np.savez(tmp_path / "scores.npz", **arrays)
        check_fit(run_of(memory="cscore", **{"memory.scores": str(tmp_path / "scores.npz")}), dataset, [])

    labels = toy_set.train_labels.numpy()
    check(toy_set, scores=np.zeros(120), labels=labels)
    check(hold_out(toy_set), scores=np.zeros(120), labels=labels)  # one for each official train image, all the same
    with pytest.raises(ValueError, match=r"^cscore: scores\.npz has 119 scores, the data 120 images$"):
        check(toy_set, scores=np.zeros(119))
    with pytest.raises(ValueError, match=r"^cscore: scores\.npz has 110 scores, the data 120 images$"):
        check(hold_out(toy_set), scores=np.zeros(110))
    with pytest.raises(ValueError, match=r"^cscore: scores\.npz has other labels than the data; its images come in "):
        check(toy_set, scores=np.zeros(120), labels=labels[::-1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2),
        ({"memory": "full"}, 12),
        ({"memory": "lo-dm"}, 4),  # 2 * 8 * 8 numbers over 2 * (8 + 8) of an image of rank 2
        ({"memory": "idc"}, 8),  # each of 2 holds 2 x 2
        ({"memory": "idc-i"}, 2),
    ],
)
def test_images_a_network_is_trained_on(settings: dict[str, Any], expected: int, toy_set: DataSet) -> None:
    assert count_images_per_class(run_of(**settings), toy_set) == expected


class Keeping(Progress):
    """Keeps the state of every tick, and resumes from what it was given."""

    def __init__(self, kept: State | None = None) -> None:
        self.kept = kept

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.kept = {name: part.clone() for name, part in state().items()}


def test_the_clock_counts_the_seconds_before_a_kill() -> None:
    fresh = Clock()
    keeping = Keeping()
    along = fresh.add_to(keeping)
    assert along.resume() is None
    along.tick(1, 2, lambda: {"done": torch.tensor(1)})
    assert keeping.kept is not None
    assert set(keeping.kept) == {"done", "seconds"}
    assert 0 < float(keeping.kept["seconds"]) <= fresh.seconds < 60
    later = Clock()
    resumed = later.add_to(Keeping({"done": torch.tensor(1), "seconds": torch.tensor(1000.0, dtype=torch.float64)}))
    assert later.seconds < 60
    assert resumed.resume() is not None
    assert 1000 < later.seconds < 1060
    old = Clock()
    old.add_to(Keeping({"done": torch.tensor(1)})).resume()  # of a version without a clock
    assert old.seconds < 60


def test_work_leaves_its_cost_beside_its_result(digits: DataSet, tmp_path: Path) -> None:
    unit, store = unit_of(run_of(ipc=1), digits, [3]), Store(tmp_path)
    do_unit(unit, store, SILENT, build_memory)
    found = store.load(unit.key)
    assert found is not None
    tensors, card = found
    assert (card["kind"], card["spec"]) == ("memory", unit.spec)
    assert set(card["cost"]) == {"flop", "wall_seconds", "device", "device_type", "torch", "peak_bytes"}
    assert card["cost"]["wall_seconds"] > 0
    assert "earlier_seconds" not in card
    assert (card["builder"], card["seed"], card["augment"]) == ("dm", [0, "set 0"], "color_crop_cutout_scale_rotate")
    assert memory_file.decode(tensors, card, digits).labels.tolist() == [3]


@pytest.mark.parametrize("name", sorted({*BUILDERS} - {"cscore"}))
def test_out_of_memory_names_a_setting_to_lower(name: str, digits: DataSet, tmp_path: Path) -> None:
    def do(*_: object) -> Result:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    unit = unit_of(run_of(memory=name), digits)
    with pytest.raises(RuntimeError, match=r"^out of memory on cpu; .*use a narrower model$") as caught:
        do_unit(unit, Store(tmp_path), SILENT, do)
    named = str(caught.value).partition("--set ")[2].partition(" ")[0]
    assert bool(named) == (name not in ("full", "random"))  # which put nothing through a device
    run_of(memory=name, **({named: 3} if named else {}))  # which refuses a setting that is not the memory's
    with pytest.raises(RuntimeError, match=r"^out of memory on cpu; --set recipe\.batch_size to less"):
        do_unit(replace(unit, kind="network"), Store(tmp_path), SILENT, do)
