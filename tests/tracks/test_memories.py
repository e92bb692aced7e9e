"""Memories as units: planning, building and checking them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness import memory
from harness.config import CLRun, assemble
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.fields import configuration
from harness.core.memory import Budget, Memory, from_stored
from harness.core.parametrisation import LowRank, MultiFormation
from harness.core.progress import SILENT, Progress
from harness.execution.costs import count_flop_per_image
from harness.execution.units import Store
from harness.memory import random_real
from harness.memory.method import AroundConfig, from_function
from harness.tracks.base import (
    Place,
    adopt_file_budget,
    do_unit,
    make_context,
)
from harness.tracks.memories import (
    build_memory,
    check_memory,
    count_condensing_flop,
    plan_file,
    plan_memory,
    select_real_images,
)
from tests.tracks.small_runs import CPU, run_of, unit_of


def test_a_label_says_of_what_the_memory_is(toy_set: DataSet) -> None:
    run, context = run_of(), make_context(run_of(), Place())
    of_set = plan_memory(run, toy_set, "set 1", [3, 4, 5], context)
    of_order = plan_memory(run, toy_set, "1", [7], context, kind="order ")
    assert (of_set.label, of_order.label) == ("dm memory, set 1, classes 3 .. 5", "dm memory, order 1, classes 7")
    assert (of_set.spec["seed"], of_order.spec["seed"]) == ([0, "set 1"], [0, "1"])


@configuration
class ConstantsConfig(AroundConfig):
    """Of a builder around another, which reads constants of its own."""

    @property
    def beyond(self) -> dict[str, Any]:
        return {**self.host.beyond, "constants": 3}


def test_constants_outside_fields_are_in_the_key(toy_set: DataSet) -> None:
    pooled = run_of(networks="trained:50-100").method
    alone, around = (
        plan_memory(run_of(), toy_set, "set 0", [0, 1], {}, cfg).spec["beyond"]
        for cfg in (pooled, ConstantsConfig(pooled))
    )
    assert set(alone) == {"pool"}
    assert around == {**alone, "constants": 3}


def test_a_file_of_scores_is_known_by_its_content(toy_set: DataSet, tmp_path: Path) -> None:
    units = []
    for place, last in (("here", 1.0), ("there", 1.0), ("other", 2.0)):
        path = tmp_path / place / "scores.npy"
        path.parent.mkdir()
        np.save(path, np.append(np.zeros(119), last))
        units.append(unit_of(run_of(memory="cscore", **{"memory.scores": str(path)}), toy_set))
    here, there, other = units
    assert here.key == there.key != other.key
    assert here.context["scores"] == str(tmp_path / "here" / "scores.npy")
    assert str(tmp_path) not in json.dumps(dict(here.spec))
    assert here.spec["config"]["scores"] == "scores.npy"


def test_a_file_of_a_set_is_known_by_its_content_and_its_number(toy_set: DataSet, tmp_path: Path) -> None:
    keys = []
    for place, seed in (("here", 0), ("there", 0), ("other", 1)):
        path = tmp_path / place / "set.pt"
        path.parent.mkdir()
        sets = torch.randn(3, 20, 1, 8, 8, generator=Generator().manual_seed(seed))
        torch.save({"data": [[images, torch.arange(10).repeat(2)] for images in sets]}, path)
        run = adopt_file_budget(run_of(memory=f"file:{path}", sets=2), toy_set)
        assert (run.ipc, run.sets) == (2, 2)  # of the file, but no more sets than asked for
        keys += [plan_file(run, toy_set, number, {}).key for number in (0, 1)]
    assert keys[:2] == keys[2:4]
    assert len(set(keys)) == 4


def test_a_file_has_the_sets_and_the_budget_it_has(toy_set: DataSet, tmp_path: Path) -> None:
    torch.save({"data": [[torch.randn(30, 1, 8, 8), torch.arange(10).repeat(3)]]}, tmp_path / "set.pt")
    of_file = {"memory": f"file:{tmp_path / 'set.pt'}"}
    settled = adopt_file_budget(run_of(**of_file, sets=5), toy_set)
    assert (settled.ipc, settled.sets) == (3, 1)
    assert adopt_file_budget(assemble(CLRun, "smoke", of_file), toy_set).ipc == 3
    with pytest.raises(ValueError, match=r"^split: the set may have been made from the validation images; evaluate"):
        adopt_file_budget(run_of(**of_file, split="validation"), hold_out(toy_set))
    ours = run_of(sets=4)
    assert adopt_file_budget(ours, toy_set) is ours


def test_places_are_those_of_the_official_train_set(toy_set: DataSet) -> None:
    part = hold_out(toy_set)
    images, labels, places = select_real_images(part, [2, 7], CPU)
    assert torch.equal(toy_set.train_labels[places], labels)
    assert torch.equal(images, toy_set.normalise(toy_set.train_images[places]))
    assert len(places) == 2 * 11  # of 12 images each, one is held out
    assert set(places.tolist()) <= set((part.part if part.part is not None else places).tolist())


def test_data_that_have_changed_are_not_worked_on(digits: DataSet, tmp_path: Path) -> None:
    unit = unit_of(run_of(), replace(digits, digest="0" * 64))
    with pytest.raises(ValueError, match=r"^digits: the data have changed since the run was planned$"):
        do_unit(unit, Store(tmp_path), SILENT, build_memory)


def test_a_file_that_has_changed_is_not_worked_on(digits: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    torch.save({"data": [[torch.randn(20, 1, 8, 8), torch.arange(10).repeat(2)]]}, path)
    run = adopt_file_budget(run_of(memory=f"file:{path}"), digits)
    unit = plan_file(run, digits, 0, make_context(run, Place()))
    torch.save({"data": [[torch.randn(20, 1, 8, 8), torch.arange(10).repeat(2)]]}, path)
    with pytest.raises(ValueError, match=r"set\.pt: the file has changed since the run was planned$"):
        do_unit(unit, Store(tmp_path / "units"), SILENT, build_memory)


SPEC = {"builder": "theirs", "classes": [1, 2], "ipc": 2}


def of_labels(labels: list[int]) -> Memory:
    return Memory(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels))


def as_labels(dtype: torch.dtype) -> Memory:
    made = of_labels([1, 1, 2, 2])
    return replace(made, labels=made.labels.to(dtype))


def with_soft(labels: list[int]) -> Memory:
    return replace(of_labels(labels), league="soft", soft=torch.ones(len(labels), 10))


def stored_in(form: LowRank | MultiFormation, each: int) -> Memory:
    stored = form.init(torch.zeros(2 * each * form.views, 1, 8, 8), "noise", Generator().manual_seed(0))
    return from_stored(form, stored, torch.tensor([1, 2]).repeat_interleave(each))


@pytest.mark.parametrize(
    "built",
    [
        of_labels([1, 1, 2, 2]),
        of_labels([2, 1, 2, 1]),
        stored_in(LowRank(2), 4),
        stored_in(MultiFormation(2), 2),
        with_soft([1, 2]),
    ],
)
def test_a_memory_within_its_budget_passes(built: Memory, toy_set: DataSet) -> None:
    check_memory(built, SPEC, toy_set, CPU)


UNEVEN = "memory does not have equally many images of each of its 2 classes"


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (of_labels([1, 1, 2]), UNEVEN),
        (of_labels([1, 1, 1, 2]), UNEVEN),
        (of_labels([1, 1, 3, 3]), UNEVEN),
        (of_labels([1, 1, 2, 2, 3, 3]), UNEVEN),
        (of_labels([1]), UNEVEN),
        (
            Memory(torch.zeros(4, 1, 16, 16), torch.tensor([1, 1, 2, 2])),
            r"images are \(N, 1, 16, 16\) float32; expected \(N, 1, 8, 8\) float32",
        ),
        (
            Memory(torch.zeros(4, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 1, 2, 2])),
            r"images are \(N, 1, 8, 8\) float64; expected \(N, 1, 8, 8\) float32",
        ),
        (as_labels(torch.int32), r"labels are \(N,\) int32; expected \(N,\) int64"),
        (as_labels(torch.float32), r"labels are \(N,\) float32; expected \(N,\) int64"),
        (of_labels([-1, -1, 2, 2]), UNEVEN),
        (of_labels([1, 1, 99, 99]), UNEVEN),
        (
            replace(with_soft([1, 2]), soft=torch.ones(2, 2)),
            r"soft labels are \(N, 2\) float32; expected \(N, 10\) float32",
        ),
        (
            replace(of_labels([1, 2]), images=torch.zeros(2, 1, 8, 8, device="meta")),
            "images are on meta; expected cpu.*",
        ),
        ((torch.zeros(4, 1, 8, 8), torch.tensor([1, 1, 2, 2])), r"returned tuple; a harness\.core\.memory\.Memory.*"),
        (None, "returned NoneType; .*"),
        (of_labels([1, 2]), "memory does not have 2 images of each class"),
        (of_labels([1, 1, 1, 2, 2, 2]), "memory has 384 numbers, the budget 256"),
        (stored_in(LowRank(2), 5), "memory has 320 numbers, the budget 256"),  # 10 images of 2 * (8 + 8)
        (with_soft([1, 1, 2, 2]), "memory has 296 numbers, including soft labels, the budget 256"),  # and 4 * 10
        (stored_in(MultiFormation(2), 3), "memory has 384 numbers, the budget 256"),
    ],
)
def test_what_is_no_memory_of_the_budget_is_refused(built: object, message: str, toy_set: DataSet) -> None:
    with pytest.raises(ValueError, match=rf"^theirs: the builder('s)? {message}$"):
        check_memory(built, SPEC, toy_set, CPU)


@dataclass(frozen=True)
class AskingConfig:
    """Nothing to choose."""

    per_class: ClassVar[bool] = True


def test_a_builder_is_offered_what_it_asks_for(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: dict[str, Any] = {}

    def build(
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        cfg: AskingConfig = AskingConfig(),
        progress: Progress = SILENT,
        rows: Tensor | None = None,
        of: int | None = None,
    ) -> Memory:
        got.update(rows=rows, of=of, progress=progress, labels=labels)
        return random_real.build(images, labels, budget, rng)

    monkeypatch.setitem(memory.BUILDERS, "asking", from_function(build))
    for split, whole in (("test", digits), ("validation", hold_out(digits))):
        run = run_of(memory="asking", split=split)
        do_unit(unit_of(run, whole, [4, 7]), Store(tmp_path), SILENT, build_memory)
        assert got["of"] == 1442
        assert isinstance(got["progress"], Progress)
        assert torch.equal(digits.train_labels[got["rows"]], got["labels"])
        assert set(got["labels"].tolist()) == {4, 7}


def test_flop_of_condensing_by_hand(toy_set: DataSet) -> None:
    # convnet1-w8 on 1 x 8 x 8, padded by 3 as the authors' code pads one channel: a convolution 12 x 12 x (8 x 9) and,
    # after pooling, a classifier 6 x 6 x 8 x 10, two operations each
    once = 2 * (144 * 72 + 288 * 10)
    assert count_flop_per_image("convnet-d1-w8", (1, 8, 8), 10) == once
    spec = {"classes": list(range(10)), "ipc": 2}

    def of(**settings: Any) -> float | None:
        return count_condensing_flop(run_of(**settings).method, toy_set, spec)

    # 3 updates: 12 real images a class, all there are, forward; 2 synthetic ones forward and, as twice that, backward
    assert of() == 3 * 10 * (12 + 3 * 2) * once
    assert of(memory="lo-dm") == 3 * 10 * (12 + 3 * 4) * once  # the same numbers hold 4 images
    assert of(memory="herding") == (10 * 12 + 3 * 2 * 10 * 12) * once  # features of all, after 1 + 1 epochs
    for trains_nothing in ("random", "mmd-pixel", "full"):
        assert of(memory=trains_nothing) is None
