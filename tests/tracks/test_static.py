"""Planning runs of the static track."""

from typing import Any

import pytest

from harness import memory
from harness.core.data import DataSet
from harness.execution import costs
from harness.tracks.base import Place, count_images_per_class
from harness.tracks.estimates import estimate_costs
from harness.tracks.static import plan
from tests.tracks.static_runs import keys, memory_units, plan_of, run_of


def test_a_plan_has_each_set_and_each_network_on_it(toy_set: DataSet) -> None:
    of = plan_of(toy_set, sets=3, nets=2, eval_models="convnet-d1-w8,mlp")
    assert [made.number for made in of.sets] == [0, 1, 2]
    assert [unit.spec["classes"] for made in of.sets for unit in made.units] == [[*range(5)], [*range(5, 10)]] * 3
    found = [(j.condensed.number, j.model, j.repeat, j.is_rounded) for j in of.evaluations]
    everyone = [
        (number, model, repeat, is_rounded)
        for number in range(3)
        for model in ("convnet-d1-w8", "mlp")
        for repeat in range(2)
        for is_rounded in (False, True)
    ]
    assert sorted(found) == sorted(everyone)
    assert len(of.units) == len(keys(of.units)) == 3 * 2 + 24
    assert keys(of.networks) == {evaluation.unit.key for evaluation in of.evaluations}
    for evaluation in of.evaluations:
        assert evaluation.unit.needs == tuple(unit.key for unit in evaluation.condensed.units)


def test_networks_share_the_memories(toy_set: DataSet) -> None:
    one, other = plan_of(toy_set, eval_models="mlp"), plan_of(toy_set, eval_models="convnet-d1-w8-bn")
    assert keys(memory_units(one)) == keys(memory_units(other)) == keys(memory_units(plan_of(toy_set)))
    assert not keys(one.networks) & keys(other.networks)


def test_a_builder_that_needs_all_classes_gets_them(toy_set: DataSet) -> None:
    for settings in ({"memory": "dsa"}, {"memory.model": "convnet-d1-w8-bn"}, {"memory": "mim-dm"}):
        (unit,) = memory_units(plan_of(toy_set, **settings))
        assert unit.spec["classes"] == list(range(10))


def test_the_full_data_need_no_memory(toy_set: DataSet) -> None:
    of = plan_of(toy_set, memory="full", sets=2, ipc=1000)
    assert [evaluation.unit.spec["memory"] for evaluation in of.evaluations] == ["full"] * 2
    assert all(made.units == [] for made in of.sets)
    assert len(of.networks) == 2  # rounded nowhere, drawn anew for each set


@pytest.mark.parametrize(
    ("settings", "can_be"),
    [
        ({}, True),
        ({"memory": "idc"}, True),
        ({"memory": "lo-dm"}, False),  # factors are no pixels
        ({"memory": "random"}, False),  # 8 bits as they are
        ({"memory": "herding"}, False),
        ({"uint8": False}, False),
    ],
)
def test_only_learned_pixels_are_rounded(settings: dict[str, Any], can_be: bool, toy_set: DataSet) -> None:
    assert {evaluation.is_rounded for evaluation in plan_of(toy_set, **settings).evaluations} == (
        {False, True} if can_be else {False}
    )


@pytest.mark.parametrize("more", [{"sets": 2}, {"nets": 2}, {"eval_models": "mlp,convnet-d1-w8"}])
def test_a_larger_run_reuses_a_smaller_ones_units(more: dict[str, Any], toy_set: DataSet) -> None:
    small, large = plan_of(toy_set, nets=1), plan_of(toy_set, **{"nets": 1, **more})
    assert keys(small.units) < keys(large.units)
    chain = {"memory.iterations": 6, "at": "2,4"}
    assert keys(plan_of(toy_set, **chain).units) < keys(plan_of(toy_set, **chain, **more).units)


def test_without_rounding_less_is_done_of_the_same(toy_set: DataSet) -> None:
    assert keys(plan_of(toy_set, uint8=False).units) < keys(plan_of(toy_set).units)


@pytest.mark.parametrize("other", [{"ipc": 3}, {"seed": 1}, {"memory.lr": 2.0}, {"dataset": "mnist"}])
def test_what_a_memory_depends_on_is_in_its_key(other: dict[str, Any], toy_set: DataSet) -> None:
    assert not keys(plan_of(toy_set).units) & keys(plan_of(toy_set, **other).units)


@pytest.mark.parametrize("other", [{"recipe.epochs": 4}, {"recipe": "idc"}])
def test_what_only_networks_depend_on_leaves_memories_alone(other: dict[str, Any], toy_set: DataSet) -> None:
    usual, changed = plan_of(toy_set), plan_of(toy_set, **other)
    assert keys(memory_units(usual)) == keys(memory_units(changed))
    assert not keys(usual.networks) & keys(changed.networks)


def test_keys_do_not_depend_on_the_place(toy_set: DataSet) -> None:
    here, there = (plan(run_of(), toy_set, place) for place in (Place(), Place("cuda", "/elsewhere")))
    assert [unit.key for unit in here.units] == [unit.key for unit in there.units]


def test_a_network_is_trained_by_its_own_recipe(toy_set: DataSet) -> None:
    of = plan_of(toy_set, preset="paper", nets=1, recipe="dc", eval_models="convnet-d1-w8-bn,convnet-d1-w8,mlp")
    recipes = {evaluation.model: evaluation.unit.spec["recipe"] for evaluation in of.evaluations}
    found = {model: (recipe["epochs"], recipe["augment"]) for model, recipe in recipes.items()}
    with_batchnorm, without = (1000, "dc:crop_noise"), (1000, "dc:crop_scale_rotate")  # digits
    assert found == {"convnet-d1-w8-bn": with_batchnorm, "convnet-d1-w8": without, "mlp": without}


@pytest.mark.parametrize(
    ("settings", "updates"),
    [
        ({"at": "2,4", "memory.iterations": 6}, [2, 4, 6]),
        ({"at": "2,6", "memory.iterations": 6}, [2, 6]),
        ({"at": "6", "memory.iterations": 6}, [6]),
        ({"at": "1", "memory": "dsa"}, [2, 4]),  # 1 and 2 networks, each with 2 updates
        ({"at": "1", "memory": "lo-dm"}, [1, 3]),
        ({"at": "1", "memory": "mim-dsa"}, [2, 4]),
        ({"at": "1", "memory": "mmd-pixel"}, [1, 3]),
        ({"memory": "dsa"}, [4]),
        ({"memory": "random"}, [None]),
    ],
)
def test_sets_are_judged_at_the_iterations_asked_for(
    settings: dict[str, Any], updates: list[int | None], toy_set: DataSet
) -> None:
    of = plan_of(toy_set, sets=2, **settings)
    assert [(made.number, made.updates) for made in of.sets] == [(n, count) for n in (0, 1) for count in updates]
    for before, made in zip(of.sets, of.sets[1:], strict=False):
        if before.number == made.number:
            for unit, earlier in zip(made.units, before.units, strict=True):
                assert (unit.needs, unit.context["earlier"]) == ((earlier.key,), earlier.key)
    assert all(unit.needs == () for unit in [*of.sets[0].units, *of.sets[len(updates)].units])


def test_the_last_set_does_not_depend_on_earlier_stops(toy_set: DataSet) -> None:
    assert keys(plan_of(toy_set).units) < keys(plan_of(toy_set, at="1").units)
    # But asked for by name, the end keeps its state, to be gone on from.
    assert not keys(memory_units(plan_of(toy_set))) & keys(memory_units(plan_of(toy_set, at="1,3")))


def test_fewer_stops_on_the_way_give_the_same_units(toy_set: DataSet) -> None:
    often, once = (plan_of(toy_set, at=at, **{"memory.iterations": 6}) for at in ("2,4", "4"))
    assert keys(once.units) < keys(often.units)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": "4"}, "at: 4 is beyond the 3 iterations of dm"),
        ({"at": "4", "memory": "lo-dm"}, "at: 4 is beyond the 3 iterations of lo-dm"),
        ({"at": "1", "memory": "herding"}, "at: herding has no iterations to be judged after; leave it out"),
        ({"at": "1", "memory": "full"}, "at: full has no iterations to be judged after; leave it out"),
        ({"ipc": 13}, "ipc: expected at most 12 images per class, as many as class 0 has"),
        ({"eval_models": "mlp,convnet-d9"}, "model: convnet-d9-.* pools 8 x 8 images away"),
    ],
)
def test_a_run_that_cannot_be_is_refused(settings: dict[str, Any], message: str, toy_set: DataSet) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        plan_of(toy_set, **settings)


@pytest.mark.parametrize("builder", sorted(memory.BUILDERS.keys() - {"cscore"}))
def test_every_builder_can_be_planned_and_estimated(
    builder: str, toy_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "measure_rate", lambda *_, **__: 1000.0)
    run = run_of("paper", memory=builder, nets=1, sets=1, ipc=10)
    units = estimate_costs(plan(run, toy_set, Place()).units, run, toy_set)
    condensing = sum(unit.cost for unit in units if unit.kind == "memory")
    assert (condensing > 1) == (run.method.model is not None)
    images = 120 * 101 if builder == "full" else 10 * count_images_per_class(run, toy_set) * 1001
    assert next(unit.cost for unit in units if unit.kind == "network") == pytest.approx(images / 1000)


@pytest.mark.parametrize("builder", ["dm", "dsa", "lo-dm"])
def test_stops_on_the_way_cost_nothing(builder: str, toy_set: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "measure_rate", lambda *_, **__: 1000.0)
    key, seconds = "memory.host.iterations" if builder == "lo-dm" else "memory.iterations", []
    for at in ("", "1,4"):
        settings: dict[str, Any] = {"memory": builder, key: 6}
        run = run_of(**settings | ({"at": at} if at else {}))
        units = estimate_costs(memory_units(plan(run, toy_set, Place())), run, toy_set)
        seconds.append(sum(unit.cost for unit in units))
    assert seconds[0] == pytest.approx(seconds[1])
    assert seconds[0] > 0
