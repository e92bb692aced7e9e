from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.config import CLRun, assemble, resolve_form
from harness.core import memory_file
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import Memory
from harness.execution.units import Store
from harness.scenarios.stream import class_order
from harness.tracks import stream
from harness.tracks.base import Place
from harness.tracks.memories import select_real_images
from harness.tracks.rows import describe_form
from harness.tracks.stream import StreamPlan, plan

CPU = torch.device("cpu")
LISTED = "3,1,4,0,5,9,2,6,8,7"


def run_of(**settings: Any) -> CLRun:
    usual = {"dataset": "digits", "memory": "random", "steps": 5, "model": "convnet-d1-w8", "classes_per_unit": 2}
    run, _ = resolve_form(assemble(CLRun, "smoke", {**usual, **settings}), CPU)
    return run


def plan_of(toy_set: DataSet, **settings: Any) -> StreamPlan:
    return plan(run_of(**settings), toy_set, Place())


def memory_keys(of: StreamPlan) -> set[str]:
    return {unit.key for units in of.memories.values() for unit in units}


def training_keys(of: StreamPlan) -> dict[int, str]:
    """By number of classes seen."""
    return {len(training.seen): training.unit.key for training in of.trainings}


def test_a_plan_has_memories_by_group_and_networks_by_step(toy_set: DataSet) -> None:
    both = plan_of(toy_set, orders="0-1", nets=3)
    assert {order: len(units) for order, units in both.memories.items()} == {"0": 5, "1": 5}
    found = [(t.order, t.experience, t.repeat) for t in both.trainings]
    assert sorted(found) == [(order, t, net) for order in ("0", "1") for t in range(5) for net in range(3)]
    assert len(both.units) == len({unit.key for unit in both.units}) == 10 + 30
    for training in both.trainings:
        assert training.seen == class_order(10, int(training.order))[: 2 * training.experience + 2]
        assert [*training.unit.needs] == [u.key for u in both.memories[training.order][: training.experience + 1]]


@pytest.mark.parametrize("memory", ["random", "dm"])
def test_5_and_2_steps_share_memories_and_trainings(memory: str, toy_set: DataSet) -> None:
    five, two = plan_of(toy_set, memory=memory), plan_of(toy_set, memory=memory, steps=2)
    assert memory_keys(five) == memory_keys(two)
    assert set(training_keys(five)) & set(training_keys(two)) == {10}
    assert training_keys(five)[10] == training_keys(two)[10]
    assert training_keys(two)[5] not in training_keys(five).values()


def test_herding_depends_on_what_comes_together(toy_set: DataSet) -> None:
    five, two = plan_of(toy_set, memory="herding"), plan_of(toy_set, memory="herding", steps=2)
    assert [unit.spec["classes"] for unit in two.memories["0"]] == [class_order(10, 0)[:5], class_order(10, 0)[5:]]
    assert not memory_keys(five) & memory_keys(two)
    assert training_keys(five)[10] != training_keys(two)[10]


def test_dm_with_batch_norm_depends_on_classes_together(toy_set: DataSet) -> None:
    bn = {"memory": "dm", "memory.model": "convnet-d1-w8-bn"}
    assert not memory_keys(plan_of(toy_set, **bn)) & memory_keys(plan_of(toy_set, steps=2, **bn))


def test_the_full_data_need_no_memory_unit(toy_set: DataSet) -> None:
    full = plan_of(toy_set, memory="full")
    assert full.memories == {"0": []}
    assert all(training.unit.needs == () for training in full.trainings)


@pytest.mark.parametrize("more", [{"nets": 2}, {"orders": "0-2"}, {"steps": 10}])
def test_a_larger_run_reuses_a_smaller_ones_units(more: dict[str, Any], toy_set: DataSet) -> None:
    small, large = plan_of(toy_set), plan_of(toy_set, **more)
    assert {unit.key for unit in small.units} <= {unit.key for unit in large.units}


@pytest.mark.parametrize(
    "other",
    [
        {"ipc": 3},
        {"seed": 1},
        {"orders": "1"},
        {"class_order": LISTED},
        {"memory": "dm"},
        {"dataset": "mnist"},
    ],
)
def test_what_a_memory_depends_on_is_in_its_key(other: dict[str, Any], toy_set: DataSet) -> None:
    assert not memory_keys(plan_of(toy_set)) & memory_keys(plan_of(toy_set, **other))


@pytest.mark.parametrize(
    "other", [{"recipe.epochs": 4}, {"model": "convnet-d1-w4"}, {"recipe.lr": 0.5}, {"compute": "compiled"}]
)
def test_settings_of_training_leave_memories_alone(other: dict[str, Any], toy_set: DataSet) -> None:
    usual, changed = plan_of(toy_set), plan_of(toy_set, **other)
    assert memory_keys(usual) == memory_keys(changed)
    assert not set(training_keys(usual).values()) & set(training_keys(changed).values())


def test_keys_do_not_depend_on_the_place(toy_set: DataSet) -> None:
    elsewhere = Place("cuda", "/elsewhere", "text", "/logs")
    here, there = plan(run_of(), toy_set, Place()), plan(run_of(), toy_set, elsewhere)
    assert [unit.key for unit in here.units] == [unit.key for unit in there.units]


def test_validation_and_test_results_have_other_keys(toy_set: DataSet) -> None:
    result, tuning = plan_of(toy_set), plan(run_of(split="validation"), hold_out(toy_set), Place())
    assert not {unit.key for unit in result.units} & {unit.key for unit in tuning.units}


def test_a_listed_order_is_followed(toy_set: DataSet) -> None:
    listed = plan_of(toy_set, class_order=LISTED)
    assert list(listed.memories) == ["listed"]
    assert listed.trainings[-1].seen == [int(c) for c in LISTED.split(",")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, "steps: 3 does not divide the 10 classes; choose from 1, 2, 5, 10"),
        ({"ipc": 13}, "ipc: expected at most 12 images per class, as many as class 0 has"),
        ({"class_order": "0,1,2"}, r"class_order: expected each of 0 \.\. 9 once"),
        ({"model": "convnet-d9"}, "model: convnet-d9-.* pools 8 x 8 images away"),
        ({"memory": "dm", "memory.model": "convnet-d9"}, "model: convnet-d9-.* pools 8 x 8 images away"),
    ],
)
def test_a_run_that_does_not_fit_its_data_is_refused(settings: dict[str, Any], message: str, toy_set: DataSet) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(toy_set, **settings)


def test_the_budget_does_not_bind_the_full_data(toy_set: DataSet) -> None:
    assert plan_of(toy_set, memory="full", ipc=1000).units


def test_planning_leaves_the_global_generator_alone(toy_set: DataSet) -> None:
    before = torch.random.get_rng_state()
    plan_of(toy_set)
    assert torch.random.get_rng_state().equal(before)


def test_real_images_are_normalised_and_in_order(toy_set: DataSet) -> None:
    images, labels, _ = select_real_images(toy_set, [7, 2], CPU)
    assert labels.tolist() == [2, 7] * 12
    expected = (toy_set.train_images[2].float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(images[0], expected, rtol=0, atol=1e-6)


def test_a_memory_survives_its_file(toy_set: DataSet) -> None:
    images, labels, _ = select_real_images(toy_set, [1], CPU)
    for real in (True, False):
        memory = Memory(images[:3], labels[:3], real=real)
        back = memory_file.decode(*memory_file.encode(memory, toy_set, {}), toy_set)
        assert back.images.equal(memory.images)
        assert (back.labels.tolist(), back.real, back.league) == ([1, 1, 1], real, "pixel")


def test_a_matrix_of_counts_becomes_rows(toy_set: DataSet, tmp_path: Any) -> None:
    """Two steps by hand: after the first 8 of 20 right; after the second 2 of the old 20 and 19 of the new 20."""
    run, order = run_of(steps=2), class_order(10, 0)
    of, store = plan(run, toy_set, Place()), Store(tmp_path)
    for training, old, new in zip(of.trainings, (8, 2), (0, 19), strict=True):
        right, total = torch.zeros(10, dtype=torch.int64), torch.zeros(10, dtype=torch.int64)
        total[training.seen] = 4
        right[order[0]], right[order[5]] = old, new  # whose class within the experience does not matter
        cost = {"wall_seconds": 1.5, "device": "CPU", "torch": "2"}
        card = {"stored_bytes": 640, "league": "pixel", "cost": cost}
        store.save(training.unit.key, {"right": right, "total": total}, card)
    rows = list(stream.make_rows(run, of, store, toy_set, ""))
    found = [(row["metric"], row["experience"], row.get("tested_experience"), row["value"]) for row in rows]
    assert found == [
        ("seen_accuracy", 0, None, 40.0),
        ("experience_accuracy", 0, 0, 40.0),
        ("seen_accuracy", 1, None, 52.5),  # 21 of 40
        ("experience_accuracy", 1, 0, 10.0),
        ("experience_accuracy", 1, 1, 95.0),
        ("last_accuracy", 1, None, 52.5),
        ("average_incremental_accuracy", 1, None, pytest.approx(46.25)),
        ("forgetting", 1, None, pytest.approx(30.0)),  # from 40 to 10
    ]
    assert all(row["classes_seen"] == 5 * (int(row["experience"] or 0) + 1) for row in rows)
    unfinished = Store(tmp_path / "other")
    unfinished.save(of.trainings[1].unit.key, *store.load(of.trainings[1].unit.key))  # type: ignore[misc]
    metrics = [row["metric"] for row in stream.make_rows(run, of, unfinished, toy_set, "")]
    assert metrics == ["seen_accuracy", "experience_accuracy", "experience_accuracy"]  # no sums over a part


def test_another_preset_of_the_same_units_keeps_its_name(toy_set: DataSet) -> None:
    run = replace(run_of(), preset="quick")
    assert [unit.key for unit in plan(run, toy_set, Place()).units] == [u.key for u in plan_of(toy_set).units]


def test_forms_in_words() -> None:
    assert describe_form(run_of(memory="dm", compute="eager").method.form) == "eager, float32, real float32"
    assert describe_form(run_of(memory="herding").method.form) == "eager, float32"
