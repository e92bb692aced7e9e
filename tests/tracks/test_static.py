"""Track condense: its plan, what its units leave, rows; sets of others; scores from outside."""

import csv
import io
import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import memory
from harness.commands import run as runs
from harness.commands.export import export
from harness.commands.run import Finished, Options
from harness.config import CLRun, CondenseRun, Run, assemble, resolve_form
from harness.core import data, memory_file, models
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.progress import SILENT, Progress, State
from harness.core.rng import generator
from harness.core.train import correct_by_class, fit
from harness.execution import costs
from harness.execution.costs import flop_per_image
from harness.execution.engines import Event
from harness.execution.units import Store, Unit
from harness.results import rows as rowfiles
from harness.tracks import static
from harness.tracks.base import Place, images_per_class
from harness.tracks.estimates import estimate_costs
from harness.tracks.static import StaticPlan, plan

CPU = torch.device("cpu")
SMALL = {"dataset": "digits", "memory": "dm", "model": "convnet-d1-w8", "classes_per_unit": 5}


def run_of(preset: str = "smoke", **settings: Any) -> CondenseRun:
    run, _ = resolve_form(assemble(CondenseRun, preset, {**SMALL, **settings}), CPU)
    return run


def plan_of(dataset: DataSet, /, **settings: Any) -> StaticPlan:
    return plan(run_of(**settings), dataset, Place())


def keys(units: list[Unit]) -> set[str]:
    return {unit.key for unit in units}


def memory_units(of: StaticPlan) -> list[Unit]:
    return [unit for unit in of.units if unit.kind == "memory"]


def carry_out(
    run: Run, out: Path, watch: Callable[[list[Event]], None] = lambda events: None, **options: Any
) -> tuple[Finished, Counter[str]]:
    """The finished run, and how often each kind of event was told; `watch` is told all up to each."""
    chosen = Options(**{"out": out, "engine": "serial", **options})
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        watch(events)

    finished = runs.carry_out(runs.prepare(run, chosen), chosen, report)
    assert not finished.outcome.failed
    return finished, Counter(event.kind for event in events)


def complete(run: Run, out: Path, **options: Any) -> Finished:
    finished, _ = carry_out(run, out, **options)
    assert not finished.outcome.left
    return finished


def without_cost(directory: Path) -> str:
    """The rows of a run as text, but for the time and the memory that the work took."""
    table = list(csv.reader(io.StringIO((directory / "rows.csv").read_text())))
    costs = {table[0].index(name) for name in ("wall_seconds", "peak_bytes")}
    return "\n".join(",".join(cell for number, cell in enumerate(line) if number not in costs) for line in table)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return data.load("digits")


# --- planning -------------------------------------------------------------------------------------------------------


def test_a_plan_has_each_set_and_each_network_on_it(toy_set: DataSet) -> None:
    of = plan_of(toy_set, sets=3, nets=2, eval_models="convnet-d1-w8,mlp")
    assert [made.number for made in of.sets] == [0, 1, 2]
    assert [unit.spec["classes"] for made in of.sets for unit in made.units] == [[*range(5)], [*range(5, 10)]] * 3
    found = [(j.condensed.number, j.model, j.repeat, j.is_rounded) for j in of.judged]
    everyone = [
        (number, model, repeat, is_rounded)
        for number in range(3)
        for model in ("convnet-d1-w8", "mlp")
        for repeat in range(2)
        for is_rounded in (False, True)
    ]
    assert sorted(found) == sorted(everyone)
    assert len(of.units) == len(keys(of.units)) == 3 * 2 + 24
    assert keys(of.networks) == {judged.unit.key for judged in of.judged}
    for judged in of.judged:
        assert judged.unit.needs == tuple(unit.key for unit in judged.condensed.units)


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
    assert [judged.unit.spec["memory"] for judged in of.judged] == ["full"] * 2
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
    assert {judged.is_rounded for judged in plan_of(toy_set, **settings).judged} == (
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
    recipes = {judged.model: judged.unit.spec["recipe"] for judged in of.judged}
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


def test_a_set_at_its_end_is_the_same_with_and_without_stops_on_the_way(toy_set: DataSet) -> None:
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
        ({"ipc": 13}, "ipc: 13 images a class are asked for, class 0 has 12"),
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
    monkeypatch.setattr(costs, "rate", lambda *_, **__: 1000.0)
    run = run_of("paper", memory=builder, nets=1, sets=1, ipc=10)
    units = estimate_costs(plan(run, toy_set, Place()).units, run, toy_set)
    condensing = sum(unit.cost for unit in units if unit.kind == "memory")
    assert (condensing > 1) == (run.method.model is not None)
    images = 120 * 101 if builder == "full" else 10 * images_per_class(run, toy_set) * 1001
    assert next(unit.cost for unit in units if unit.kind == "network") == pytest.approx(images / 1000)


@pytest.mark.parametrize("builder", ["dm", "dsa", "lo-dm"])
def test_stops_on_the_way_cost_nothing(builder: str, toy_set: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "rate", lambda *_, **__: 1000.0)
    key, seconds = "memory.host.iterations" if builder == "lo-dm" else "memory.iterations", []
    for at in ("", "1,4"):
        settings: dict[str, Any] = {"memory": builder, key: 6}
        run = run_of(**settings | ({"at": at} if at else {}))
        units = estimate_costs(memory_units(plan(run, toy_set, Place())), run, toy_set)
        seconds.append(sum(unit.cost for unit in units))
    assert seconds[0] == pytest.approx(seconds[1])
    assert seconds[0] > 0


# --- what units leave -----------------------------------------------------------------------------------------------


def done(units: list[Unit], store: Store) -> None:
    for unit in units:
        static.work(unit, store, SILENT)


def tensors_of(unit: Unit, store: Store) -> dict[str, torch.Tensor]:
    found = store.load(unit.key)
    assert found is not None
    return found[0]


def cost_of(unit: Unit, store: Store) -> dict[str, Any]:
    found = store.load(unit.key)
    assert found is not None
    return dict(found[1]["cost"])


@pytest.mark.parametrize("builder", ["dm", "dsa", "idc", "lo-dm", "mim-dsa", "mmd-pixel"])
def test_stops_on_the_way_change_nothing(builder: str, digits: DataSet, tmp_path: Path) -> None:
    """6 iterations at once, after stops at 2 and 4, and 2 alone: bit-identical, per group of classes too."""
    key = "memory.host.iterations" if "-d" in builder else "memory.iterations"
    store, alone = Store(tmp_path / "a"), Store(tmp_path / "b")
    chain = plan_of(digits, memory=builder, at="2,4", **{key: 6})
    whole, short = (plan_of(digits, memory=builder, **{key: count}) for count in (6, 2))
    done(memory_units(chain), store)
    for of in (whole, short):
        done(memory_units(of), alone)
    first, second, last = (made.units for made in chain.sets)
    assert len(last) == (2 if builder in ("dm", "lo-dm", "mmd-pixel") else 1)
    for chained, unchained in ((last, whole.sets[0].units), (first, short.sets[0].units)):
        for ours, theirs in zip(chained, unchained, strict=True):
            ends, plain = tensors_of(ours, store), tensors_of(theirs, alone)
            assert set(plain) <= {"images", "labels", "left", "right"}
            assert all(torch.equal(ends[name], part) for name, part in plain.items())
    for one, two, three in zip(first, second, last, strict=True):
        costs = [cost_of(unit, store) for unit in (one, two, three)]
        assert 0 < costs[0]["wall_seconds"] < costs[1]["wall_seconds"] < costs[2]["wall_seconds"]
        if builder != "mmd-pixel":
            assert [cost["flop"] / costs[0]["flop"] for cost in costs] == pytest.approx([1, 2, 3])


def test_a_stop_whose_file_is_gone_is_made_up_for(digits: DataSet, tmp_path: Path) -> None:
    of, store, other = plan_of(digits, at="2"), Store(tmp_path / "a"), Store(tmp_path / "b")
    done(memory_units(of), store)
    done(of.sets[1].units, other)  # without those it goes on from
    for unit in of.sets[1].units:
        assert torch.equal(tensors_of(unit, store)["images"], tensors_of(unit, other)["images"])


def test_a_stop_of_another_kind_of_device_is_not_gone_on_from(digits: DataSet, tmp_path: Path) -> None:
    of, store, other = plan_of(digits, at="2"), Store(tmp_path / "a"), Store(tmp_path / "b")
    done(memory_units(of), other)
    for unit in of.sets[0].units:
        found = other.load(unit.key)
        assert found is not None
        tensors, card = found
        spoilt = {name: part * 0 if name.startswith("end.stored") else part for name, part in tensors.items()}
        store.save(unit.key, spoilt, card | {"cost": card["cost"] | {"device_type": "cuda", "wall_seconds": 1000.0}})
    done(of.sets[1].units, store)
    for unit in of.sets[1].units:
        assert torch.equal(tensors_of(unit, store)["images"], tensors_of(unit, other)["images"])
        assert cost_of(unit, store)["wall_seconds"] < 1000


class KilledError(Exception):
    pass


class Killing(Progress):
    """Stops at the first tick, and then resumes from the state it kept there."""

    def __init__(self) -> None:
        self.kept: State | None = None

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        if self.kept is None:
            self.kept = {name: part.detach().clone() for name, part in state().items()}
            raise KilledError


@pytest.mark.parametrize("builder", ["dm", "dsa", "idc", "lo-dm", "mim-dm", "herding", "el2n"])
def test_a_killed_unit_goes_on_and_its_seconds_count(builder: str, digits: DataSet, tmp_path: Path) -> None:
    of = plan_of(digits, memory=builder, **({} if builder in ("herding", "el2n") else {"at": "1"}))
    network = next(judged.unit for judged in of.judged if judged.condensed is of.sets[-1])
    undisturbed, store = Store(tmp_path / "a"), Store(tmp_path / "b")
    done([*memory_units(of), network], undisturbed)
    for unit in [*memory_units(of), network]:
        killing = Killing()  # a unit of one update has then nothing left to do
        with pytest.raises(KilledError):
            static.work(unit, store, killing)
        assert killing.kept is not None
        killing.kept["seconds"] = torch.tensor(1000.0, dtype=torch.float64)  # as if it had taken long
        static.work(unit, store, killing)
        ours, theirs = tensors_of(unit, store), tensors_of(unit, undisturbed)
        assert set(ours) == set(theirs)
        assert all(torch.equal(part, theirs[name]) for name, part in ours.items())
        stops = 2 if unit.kind == "memory" and unit.needs else 1  # those before a stop on the way count too
        assert 1000 * stops < cost_of(unit, store)["wall_seconds"] < 1000 * stops + 60
        assert cost_of(unit, undisturbed)["wall_seconds"] < 60


# --- rows -----------------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {"sets": 2, "nets": 2, "eval_models": "convnet-d1-w8,mlp", "at": "2", "memory.iterations": 4}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A run with everything in it, undisturbed, by the serial engine: where its units are, and what came of it."""
    out = tmp_path_factory.mktemp("oracle")
    return out, complete(run_of(**FULL), out)


def test_a_run_leaves_rows_for_every_measurement(oracle: tuple[Path, Finished], digits: DataSet) -> None:
    rows = oracle[1].rows
    assert list(rows.columns) == list(rowfiles.COLUMNS)
    assert Counter(rows["metric"]) == {
        "memory_images": 4,  # 2 sets, after 2 and after 4 updates
        "memory_scalars": 4,
        "condensing_flop": 4,
        "test_accuracy": 16,  # by 2 kinds of networks, 2 of each
        "test_accuracy_uint8": 16,
    }
    network = "convnet-d1-w8-instancenorm-relu-avgpooling"
    expected = {
        "track": "condense", "dataset": "digits", "dataset_digest": digits.digest, "exactness": "official",
        "preset": "smoke", "changes": "memory.iterations=4", "memory": "dm", "league": "pixel", "ipc": 2,
        "memory_model": network, "seed": 0, "split": "test",
        "torch": torch.__version__, "order": "", "arch": "",
    }  # fmt: skip
    for column, value in expected.items():
        assert set(rows[column]) == {value}, column
    assert rows[["steps", "experience", "tested_experience"]].isna().all(axis=None)
    assert set(rows["set"]) == {0, 1}
    assert set(rows["iterations"]) == {2, 4}
    assert (rows["wall_seconds"] > 0).all()
    assert (rows["peak_bytes"] > 50 * 2**20).all()
    assert (rows[["key", "version", "device", "spec"]] != "").all(axis=None)
    in_8_bits = rows["metric"] == "test_accuracy_uint8"
    assert set(rows.loc[in_8_bits, "stored_bytes"]) == {20 * 64}
    assert set(rows.loc[~in_8_bits, "stored_bytes"]) == {4 * 20 * 64}
    accuracies = rows["metric"].str.startswith("test_accuracy")
    tested, sets = rows[accuracies], rows[~accuracies]
    assert set(tested["model"]) == {network, "mlp"}
    assert (set(tested["recipe"]), set(tested["unit"]), set(tested["classes_seen"])) == ({"dm"}, {"%"}, {10})
    assert set(tested["repeat"]) == {0, 1}
    assert set(tested["compute"]) == {"eager, float32"}
    assert tested["value"].between(0, 100).all()
    assert set(sets["compute"]) == {"eager, float32, real float32"}
    assert (set(sets["model"]), set(sets["recipe"])) == ({""}, {""})
    assert sets["repeat"].isna().all()


def test_a_row_says_how_its_own_network_was_trained(tmp_path: Path, digits: DataSet) -> None:
    settings: dict[str, Any] = {"memory": "random", "recipe": "dc", "recipe.epochs": 1}
    settings["eval_models"] = "convnet-d1-w8-bn,mlp"
    rows = complete(run_of(**settings), tmp_path).rows
    augment = {
        model: json.loads(spec)["recipe"]["augment"]
        for model, spec in zip(rows["model"], rows["spec"], strict=True)
        if model
    }
    assert augment == {
        "convnet-d1-w8-batchnorm-relu-avgpooling": "dc:crop_noise",
        "mlp": "dc:crop_scale_rotate",
    }


def test_rows_of_a_set_are_sums_over_its_units(oracle: tuple[Path, Finished], digits: DataSet) -> None:
    out, finished = oracle
    rows, store = finished.rows, Store(out / "units")
    for made in plan_of(digits, **FULL).sets:
        here = rows[(rows["set"] == made.number) & (rows["iterations"] == made.updates) & (rows["model"] == "")]
        values, costs = here.set_index("metric")["value"], [cost_of(unit, store) for unit in made.units]
        assert len(costs) == 2
        # per update 16 real images a class forward, and 2 synthetic ones forward and, as twice that, backward
        passes = 10 * (16 + 3 * 2) * (made.updates or 0)
        flop = passes * flop_per_image("convnet-d1-w8", (1, 8, 8), 5)
        assert dict(values) == {"memory_images": 20, "memory_scalars": 20 * 64, "condensing_flop": flop}
        assert here["wall_seconds"].tolist() == pytest.approx([sum(cost["wall_seconds"] for cost in costs)] * 3)
        assert set(here["peak_bytes"]) == {max(cost["peak_bytes"] for cost in costs)}


@pytest.mark.parametrize("is_rounded", [False, True])
def test_a_rows_accuracy_is_that_of_a_network_trained_on_the_set(
    is_rounded: bool, oracle: tuple[Path, Finished], digits: DataSet
) -> None:
    _, finished = oracle
    kept, card = memory_file.load(finished.directory / "memories" / "set-1.safetensors", digits)
    assert (card["builder"], card["ipc"], card["config"]["iterations"]) == ("dm", 2, 4)
    if is_rounded:
        pixels = (digits.denormalise(kept.images) * 255).round().clamp(0, 255).to(torch.uint8)
        assert not torch.equal(digits.normalise(pixels), kept.images)
        kept = replace(kept, images=digits.normalise(pixels))
    network = models.build("mlp", (1, 8, 8), 10, generator("weights", 0, 1, 1))
    recipe = run_of(**FULL).recipe_config
    assert recipe is not None
    fit(network, kept.images, kept.labels, recipe, generator("batches", 0, 1, 1))
    right = correct_by_class(network.eval(), digits.normalise(digits.test_images), digits.test_labels, 10)
    metric = "test_accuracy_uint8" if is_rounded else "test_accuracy"
    rows = finished.rows[finished.rows["metric"] == metric]
    row = rows.query("set == 1 and iterations == 4 and model == 'mlp' and repeat == 1")
    assert row["value"].tolist() == [pytest.approx(100 * int(right.sum()) / 355)]


def test_a_run_directory_holds_the_sets_at_their_end(oracle: tuple[Path, Finished]) -> None:
    out, finished = oracle
    assert finished.directory.parent == out
    assert finished.directory.name.startswith("condense-digits-dm-2ipc-smoke-")
    found = {str(path.relative_to(finished.directory)) for path in finished.directory.rglob("*") if path.is_file()}
    sets = {f"memories/set-{number}.safetensors" for number in (0, 1)}
    assert found == {"config.json", "environment.json", "rows.csv", "units.json", *sets}
    assert rowfiles.read(finished.directory).equals(finished.rows)


def test_an_unfinished_set_has_no_rows_and_a_finished_network_has(digits: DataSet, tmp_path: Path) -> None:
    run = run_of()
    of, store = plan(run, digits, Place()), Store(tmp_path)
    static.work(of.sets[0].units[0], store, SILENT)
    assert list(static.rows(run, of, store, digits, "")) == []
    static.work(of.sets[0].units[1], store, SILENT)
    static.work(of.judged[1].unit, store, SILENT)
    metrics = [row["metric"] for row in static.rows(run, of, store, digits, "")]
    assert metrics == ["memory_images", "memory_scalars", "condensing_flop", "test_accuracy_uint8"]


def test_the_local_engine_gives_the_serial_ones_rows(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    finished, events = carry_out(run_of(**FULL), tmp_path, engine="local", jobs=2)
    assert events["done"] == 8 + 32
    assert without_cost(finished.directory) == without_cost(oracle[1].directory)


def test_stopped_again_and_again_it_ends_with_the_same_rows(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    def interrupt(events: list[Event]) -> None:
        if events[-1].kind == "started" and [event.kind for event in events].count("started") == 5:
            signal.raise_signal(signal.SIGTERM)

    calls, inside = 0, 0
    while True:
        finished, _ = carry_out(run_of(**FULL), tmp_path, interrupt)
        calls += 1
        inside += len([*(tmp_path / "units").glob("??/*.checkpoint.safetensors")])
        if not finished.outcome.left:
            break
    assert calls > 3
    assert inside > 0  # not only between units
    assert without_cost(finished.directory) == without_cost(oracle[1].directory)


def test_shards_make_the_whole(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    first, _ = carry_out(run_of(**FULL), tmp_path, shard=(1, 2))
    assert len(first.rows) < len(oracle[1].rows)
    second, _ = carry_out(run_of(**FULL), tmp_path, shard=(2, 2))
    assert without_cost(second.directory) == without_cost(oracle[1].directory)


# --- leagues --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "league", "images", "scalars", "metrics"),
    [
        ("random", "pixel", 20, 1280, {"test_accuracy"}),
        ("lo-dm", "storage", 40, 1280, {"test_accuracy"}),  # 4 images a class of 2 * (8 + 8) numbers each
        ("idc", "storage", 80, 1280, {"test_accuracy", "test_accuracy_uint8"}),
        ("full", "full", None, None, {"test_accuracy"}),
    ],
)
def test_what_a_memory_of_a_league_leaves(
    builder: str, league: str, images: int | None, scalars: int | None, metrics: set[str], tmp_path: Path
) -> None:
    rows = complete(run_of(memory=builder), tmp_path).rows
    values = rows[rows["metric"].str.startswith("memory")].set_index("metric")["value"]
    assert dict(values) == ({} if images is None else {"memory_images": images, "memory_scalars": scalars})
    assert set(rows["league"]) == {league}
    assert {metric for metric in rows["metric"] if metric.startswith("test")} == metrics
    assert rows["iterations"].isna().all() == (builder in ("random", "full"))
    if builder == "random":
        assert set(rows["stored_bytes"]) == {1280}  # 8 bits a value
    if builder == "full":
        assert rows["ipc"].isna().all()


def test_images_in_less_room_work_in_a_stream_too(digits: DataSet, tmp_path: Path) -> None:
    run = assemble(CLRun, "smoke", {**SMALL, "memory": "lo-dm", "steps": 2})
    finished = complete(run, tmp_path)
    seen = finished.rows[finished.rows["metric"] == "seen_accuracy"]
    assert set(seen["league"]) == {"storage"}
    assert seen["stored_bytes"].tolist() == [5 * 2 * 64 * 4, 10 * 2 * 64 * 4]
    kept, _ = memory_file.load(finished.directory / "memories" / "order-0.safetensors", digits)
    assert Counter(kept.labels.tolist()) == dict.fromkeys(range(10), 4)


# --- others' sets ---------------------------------------------------------------------------------------------------


def accuracies(finished: Finished, **where: int) -> list[tuple[str, str, float]]:
    rows = finished.rows[finished.rows["metric"].str.startswith("test")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return sorted(zip(rows["metric"], rows["model"], rows["value"], strict=True))


def test_an_exported_set_is_judged_as_it_was(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    written = export(oracle[1].directory, tmp_path / "handed on")
    (path,) = (path for path in written if path.name == "set-0.safetensors")
    run = run_of(memory=f"file:{path}", nets=2, eval_models="convnet-d1-w8,mlp", sets=3)
    finished = complete(run, tmp_path)
    rows = finished.rows
    assert (set(rows["memory"]), set(rows["ipc"]), set(rows["set"])) == ({"file:set-0.safetensors"}, {2}, {0})
    assert set(rows["stored_bytes"]) == {5120, 1280}  # and in 8 bits
    assert (set(rows["league"]), set(rows["memory_model"])) == ({"pixel"}, {""})
    assert rows["iterations"].isna().all()
    assert Counter(rows["metric"]) == {
        "memory_images": 1, "memory_scalars": 1, "test_accuracy": 4, "test_accuracy_uint8": 4
    }  # fmt: skip
    assert accuracies(finished) == accuracies(oracle[1], set=0, iterations=4)


def test_an_exported_set_of_factors_is_judged_as_it_was(tmp_path: Path) -> None:
    ours = complete(run_of(memory="lo-dm"), tmp_path)
    path, *_ = export(ours.directory)
    theirs = complete(run_of(memory=f"file:{path}"), tmp_path)
    assert accuracies(theirs) == accuracies(ours)
    assert set(theirs.rows["league"]) == {"storage"}
    assert set(theirs.rows["stored_bytes"]) == set(ours.rows["stored_bytes"])


def test_a_file_of_several_sets(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    pairs = [[torch.randn(30, 1, 8, 8, generator=rng), torch.arange(10).repeat(3)] for _ in range(3)]
    torch.save({"data": pairs, "accs_all_exps": {}}, tmp_path / "res_DM.pt")
    finished = complete(run_of(memory=f"file:{tmp_path / 'res_DM.pt'}", sets=2), tmp_path)
    rows = finished.rows
    assert (set(rows["set"]), set(rows["ipc"])) == ({0, 1}, {3})
    assert set(rows["memory"]) == {"file:res_DM.pt"}
    assert rows[rows["metric"] == "memory_images"]["value"].tolist() == [30, 30]
    kept, _ = memory_file.load(finished.directory / "memories" / "set-1.safetensors", data.load("digits"))
    assert torch.equal(kept.images, pairs[1][0][pairs[1][1].argsort(stable=True)])


def test_a_file_serves_as_the_memory_of_a_stream(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    path = oracle[1].directory / "memories" / "set-0.safetensors"
    settings = {**SMALL, "memory": f"file:{path}", "steps": 5, "orders": "0-1"}
    finished, events = carry_out(assemble(CLRun, "smoke", settings), tmp_path)
    assert events["done"] == 1 + 2 * 5  # one file for both orders, a network for each of their steps
    rows = finished.rows
    seen = rows[rows["metric"] == "seen_accuracy"]
    assert (set(seen["memory"]), set(seen["ipc"])) == ({"file:set-0.safetensors"}, {2})
    assert seen.query("order == '1'")["stored_bytes"].tolist() == [classes * 2 * 64 * 4 for classes in (2, 4, 6, 8, 10)]
    assert Counter(rows["metric"])["last_accuracy"] == 2


# --- scores from outside --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score for every image of digits, all different, with the labels to check the order by."""
    path = tmp_path_factory.mktemp("scores") / "scores.npz"
    drawn = np.random.default_rng(0).permutation(len(digits.train_labels)) / 10_000
    np.savez(path, scores=drawn, labels=digits.train_labels.numpy())
    return path


def best(digits: DataSet, scores: Path, among: torch.Tensor) -> dict[int, torch.Tensor]:
    """By class, the images of the two highest scores of those at the rows `among`, the best first."""
    numbers = torch.from_numpy(np.load(scores)["scores"])
    found = {}
    for c in range(10):
        rows = among[digits.train_labels[among] == c]
        found[c] = digits.normalise(digits.train_images[rows[numbers[rows].argsort(descending=True)[:2]]])
    return found


@pytest.mark.parametrize("kind", [CondenseRun, CLRun])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_best_scores_are_kept(kind: type[Run], split: str, scores: Path, digits: DataSet, tmp_path: Path) -> None:
    settings = {**SMALL, "memory": "cscore", "memory.scores": str(scores), "split": split}
    finished = complete(assemble(kind, "smoke", settings | ({"steps": 2} if kind is CLRun else {})), tmp_path)
    among, dataset = torch.arange(1442), digits
    if split == "validation":
        dataset = hold_out(digits)
        assert dataset.part is not None
        among = dataset.part
    assert set(finished.rows["split"]) == {split}
    (path,) = (finished.directory / "memories").iterdir()
    kept, _ = memory_file.load(path, dataset)
    for c, images in best(digits, scores, among).items():
        torch.testing.assert_close(kept.images[kept.labels == c], images, rtol=0, atol=1e-6)


def test_scores_that_change_under_a_run_are_refused(scores: Path, digits: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(scores.read_bytes())
    (unit, *_) = memory_units(plan_of(digits, memory="cscore", **{"memory.scores": str(path)}))
    np.savez(path, scores=np.zeros(len(digits.train_labels)), labels=digits.train_labels.numpy())
    with pytest.raises(ValueError, match=r"scores\.npz: the file has changed since the run was planned"):
        static.work(unit, Store(tmp_path), SILENT)
    assert not Store(tmp_path).has(unit.key)


def test_scores_elsewhere_with_the_same_content_are_the_same_units(
    scores: Path, digits: DataSet, tmp_path: Path
) -> None:
    moved = tmp_path / "scores.npz"
    moved.write_bytes(scores.read_bytes())
    of = [plan_of(digits, memory="cscore", **{"memory.scores": str(path)}) for path in (scores, moved)]
    assert keys(of[0].units) == keys(of[1].units)


# --- the validation split -------------------------------------------------------------------------------------------


def test_choices_are_made_on_held_out_images(digits: DataSet, tmp_path: Path) -> None:
    finished = complete(run_of(memory="random", split="validation"), tmp_path)
    held = hold_out(digits)
    assert set(finished.rows["split"]) == {"validation"}
    assert set(finished.rows["dataset_digest"]) == {held.digest}
    (value,) = finished.rows.query("metric == 'test_accuracy'")["value"]
    images = len(held.test_labels)
    assert images == 143  # a tenth of 1442, class by class
    assert value * images / 100 == pytest.approx(round(value * images / 100))
    assert not keys(plan_of(digits, memory="random").units) & keys(
        plan(run_of(memory="random", split="validation"), held, Place()).units
    )
