"""What the tracks share: units of memory, what a builder may give back, what work costs."""

import json
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness import memory
from harness.config import CLRun, CondenseRun, assemble, resolve_form
from harness.core import data, memory_file
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.fields import configuration
from harness.core.memory import Budget, Memory, from_stored
from harness.core.parametrisation import LowRank, MultiFormation
from harness.core.progress import SILENT, Progress, State
from harness.execution import resources
from harness.execution.costs import flop_per_image
from harness.execution.resources import peak_memory, reset_resident_peak
from harness.execution.units import Store, Unit
from harness.memory import BUILDERS, random_real
from harness.memory.method import AroundConfig, from_function
from harness.tracks import static, stream
from harness.tracks.base import (
    Clock,
    Place,
    Result,
    adopt_file_budget,
    check_fit,
    do_unit,
    images_per_class,
    unit_context,
)
from harness.tracks.memories import (
    build_memory,
    check_memory,
    condensing_flop,
    file_unit,
    memory_unit,
    real_images,
)
from harness.tracks.rows import add_costs, compute_form, shared_columns, training_form

CPU = torch.device("cpu")


def run_of(**settings: Any) -> CondenseRun:
    usual = {"dataset": "digits", "memory": "dm", "model": "convnet-d1-w8"}
    run, _ = resolve_form(assemble(CondenseRun, "smoke", {**usual, **settings}), CPU)
    return run


def unit_of(run: CondenseRun, dataset: DataSet, classes: list[int] | None = None) -> Unit:
    chosen = list(range(10)) if classes is None else classes
    return memory_unit(run, dataset, "set 0", chosen, unit_context(run, Place()))


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return data.load("digits")


# --- units of memory ------------------------------------------------------------------------------------------------


def test_a_label_says_of_what_the_memory_is(toy_set: DataSet) -> None:
    run, context = run_of(), unit_context(run_of(), Place())
    of_set = memory_unit(run, toy_set, "set 1", [3, 4, 5], context)
    of_order = memory_unit(run, toy_set, "1", [7], context, kind="order ")
    assert (of_set.label, of_order.label) == ("dm memory, set 1, classes 3 .. 5", "dm memory, order 1, classes 7")
    assert (of_set.spec["seed"], of_order.spec["seed"]) == ([0, "set 1"], [0, "1"])


@configuration
class ConstantsConfig(AroundConfig):
    """Of a builder around another, which reads constants of its own."""

    @property
    def beyond(self) -> dict[str, Any]:
        return {**self.host.beyond, "constants": 3}


def test_what_results_depend_on_besides_fields_is_in_the_key_of_host_and_plug_in_alike(toy_set: DataSet) -> None:
    pooled = run_of(networks="trained:50-100").method
    alone, around = (
        memory_unit(run_of(), toy_set, "set 0", [0, 1], {}, cfg).spec["beyond"]
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
        images = torch.randn(20, 1, 8, 8, generator=Generator().manual_seed(seed))
        torch.save({"data": [[images, torch.arange(10).repeat(2)]] * 3}, path)
        run = adopt_file_budget(run_of(memory=f"file:{path}", sets=2), toy_set)
        assert (run.ipc, run.sets) == (2, 2)  # of the file, but no more sets than asked for
        keys += [file_unit(run, toy_set, number, {}).key for number in (0, 1)]
    assert keys[:2] == keys[2:4]
    assert len(set(keys)) == 4


def test_a_file_has_the_sets_and_the_budget_it_has(toy_set: DataSet, tmp_path: Path) -> None:
    torch.save({"data": [[torch.randn(30, 1, 8, 8), torch.arange(10).repeat(3)]]}, tmp_path / "set.pt")
    of_file = {"memory": f"file:{tmp_path / 'set.pt'}"}
    settled = adopt_file_budget(run_of(**of_file, sets=5), toy_set)
    assert (settled.ipc, settled.sets) == (3, 1)
    assert adopt_file_budget(assemble(CLRun, "smoke", of_file), toy_set).ipc == 3
    with pytest.raises(ValueError, match=r"^split: a set that others condensed has seen the validation images; judge"):
        adopt_file_budget(run_of(**of_file, split="validation"), hold_out(toy_set))
    ours = run_of(sets=4)
    assert adopt_file_budget(ours, toy_set) is ours


def test_places_are_those_of_the_official_train_set(toy_set: DataSet) -> None:
    part = hold_out(toy_set)
    images, labels, places = real_images(part, [2, 7], CPU)
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
    unit = file_unit(run, digits, 0, unit_context(run, Place()))
    torch.save({"data": [[torch.randn(20, 1, 8, 8), torch.arange(10).repeat(2)]]}, path)
    with pytest.raises(ValueError, match=r"set\.pt: the file has changed since the run was planned$"):
        do_unit(unit, Store(tmp_path / "units"), SILENT, build_memory)


# --- what a run must fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "tested", "message"),
    [
        ({"model": "convnet-d9"}, [], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({"memory.model": "convnet-d9"}, [], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({}, ["convnet-d9"], "model: convnet-d9-.* pools 8 x 8 images away"),
        ({"ipc": 13}, [], "ipc: 13 images a class are asked for, class 0 has 12"),
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
    assert images_per_class(run_of(**settings), toy_set) == expected


# --- what a builder gives back --------------------------------------------------------------------------------------

SPEC = {"builder": "theirs", "classes": [1, 2], "ipc": 2}


def of_labels(labels: list[int]) -> Memory:
    return Memory(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels))


def with_soft(labels: list[int]) -> Memory:
    return replace(of_labels(labels), league="soft", soft=torch.ones(len(labels), 3))


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
    check_memory(built, SPEC, toy_set)


UNEVEN = "memory does not hold as many images of each class"


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
            r"images are \(1, 16, 16\), torch.float32; \(1, 8, 8\), float32 fit",
        ),
        (
            Memory(torch.zeros(4, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 1, 2, 2])),
            r"images are \(1, 8, 8\), torch.float64; \(1, 8, 8\), float32 fit",
        ),
        (of_labels([1, 2]), "memory does not hold 2 images of each class"),
        (of_labels([1, 1, 1, 2, 2, 2]), "memory holds 384 numbers, the budget 256"),
        (stored_in(LowRank(2), 5), "memory holds 320 numbers, the budget 256"),  # 10 images of 2 * (8 + 8)
        (with_soft([1, 1, 2, 2]), "memory holds 268 numbers, soft labels included, the budget 256"),  # and 4 * 3
        (stored_in(MultiFormation(2), 3), "memory holds 384 numbers, the budget 256"),
    ],
)
def test_a_memory_that_is_uneven_or_too_large_is_refused(built: Memory, message: str, toy_set: DataSet) -> None:
    with pytest.raises(ValueError, match=rf"^theirs: the builder's {message}$"):
        check_memory(built, SPEC, toy_set)


# --- what is offered to a builder -----------------------------------------------------------------------------------


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


# --- cost -----------------------------------------------------------------------------------------------------------


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


def test_parts_of_a_memory_add_up_but_for_what_they_hold() -> None:
    costs = [
        {"wall_seconds": 1.5, "device": "CPU", "flop": 10.0, "peak_bytes": 7},
        {"wall_seconds": 2.0, "device": "CPU", "flop": 5.0, "peak_bytes": 9},
    ]
    assert add_costs(costs) == {"wall_seconds": 3.5, "device": "CPU", "flop": 15.0, "peak_bytes": 9}
    unknown = [costs[0], {"wall_seconds": 1.0, "device": "CPU"}]
    assert add_costs(unknown) == {"wall_seconds": 2.5, "device": "CPU", "peak_bytes": 7}


def test_the_peak_is_of_what_is_done_inside() -> None:
    if not reset_resident_peak():
        pytest.skip("the system cannot measure anew")
    peaks = []
    for mib in (1, 96, 1):
        with peak_memory(CPU) as peak, mmap.mmap(-1, mib * 2**20) as held:  # fresh pages, none of a used heap
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
        peaks.append(peak["peak_bytes"] / 2**20)
    assert peaks[1] > peaks[0] + 64
    assert peaks[1] > peaks[2] + 64


def test_a_peak_that_cannot_be_measured_anew_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "reset_resident_peak", lambda: False)
    with peak_memory(CPU) as peak:
        pass
    assert peak == {}


def test_flop_of_condensing_by_hand(toy_set: DataSet) -> None:
    # convnet1-w8 on 1 x 8 x 8, padded by 3 as the authors' code pads one channel: a convolution 12 x 12 x (8 x 9) and,
    # after pooling, a classifier 6 x 6 x 8 x 10, two operations each
    once = 2 * (144 * 72 + 288 * 10)
    assert flop_per_image("convnet-d1-w8", (1, 8, 8), 10) == once
    spec = {"classes": list(range(10)), "ipc": 2}

    def of(**settings: Any) -> float | None:
        return condensing_flop(run_of(**settings).method, toy_set, spec)

    # 3 updates: 12 real images a class, all there are, forward; 2 synthetic ones forward and, as twice that, backward
    assert of() == 3 * 10 * (12 + 3 * 2) * once
    assert of(memory="lo-dm") == 3 * 10 * (12 + 3 * 4) * once  # the same numbers hold 4 images
    assert of(memory="herding") == (10 * 12 + 3 * 2 * 10 * 12) * once  # features of all, after 1 + 1 epochs
    for trains_nothing in ("random", "mmd-pixel", "full"):
        assert of(memory=trains_nothing) is None


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
def test_a_device_that_is_too_small_names_a_setting_that_the_memory_has(
    name: str, digits: DataSet, tmp_path: Path
) -> None:
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


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dm", "eager, float32, real bfloat16"),
        ("lo-dm", "eager, float32, real bfloat16"),
        ("mim-dsa", "eager, float32, real bfloat16"),
        ("idc", "eager, float32, real bfloat16"),  # its own, not that of the networks it trains
        ("herding", "eager, float32"),
        ("random", "eager, float32"),
    ],
)
def test_forms_of_computing_in_words(name: str, words: str) -> None:
    assert compute_form(run_of(memory=name, real_dtype="bfloat16").method.form) == words


def test_rows_say_where_tf32_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    asked = {"memory": "dm", "compute": "eager", "recipe.dtype": "tf32", "memory.synthetic_dtype": "tf32"}
    run, _ = resolve_form(assemble(CondenseRun, "smoke", asked), torch.device("cuda"))
    assert compute_form(run.method.form) == "eager, tf32, real float32"
    assert run.recipe_config is not None
    assert training_form(run.training) == "eager, tf32"


def test_what_all_rows_of_a_run_say(toy_set: DataSet) -> None:
    run = run_of(memory="lo-dm", seed=3)
    row = shared_columns(run, toy_set, "x=1")
    said = ("track", "dataset", "preset", "changes", "memory", "ipc", "split", "seed", "exactness", "dataset_digest")
    assert [row[name] for name in said] == [
        "condense", "toy", "smoke", "x=1", "lo-dm", 2, "test", 3, "as listed: made up", "0" * 64
    ]  # fmt: skip
    assert row["memory_model"] == "convnet-d1-w8-instancenorm-relu-avgpooling"
    spec = json.loads(str(row["spec"]))
    assert (spec["memory"]["rank"], spec["memory"]["host"]["iterations"], spec["recipe"]["epochs"]) == (2, 3, 3)
    assert shared_columns(run_of(memory="random"), toy_set, "")["memory_model"] is None
    assert shared_columns(run_of(memory="full"), toy_set, "")["ipc"] is None


def test_a_title_gives_a_budget_to_what_has_one() -> None:
    dm, full = (CLRun.of("smoke", dataset="digits", memory=name, steps=2) for name in ("dm", "full"))
    assert stream.title(dm) == "digits, 2 steps, memory dm (2 per class), order 0, 1 network"
    assert stream.title(full) == "digits, 2 steps, memory full, order 0, 1 network"
    assert static.title(CondenseRun.of("smoke", dataset="digits", memory="full")).startswith("digits, 1 set by full, ")
