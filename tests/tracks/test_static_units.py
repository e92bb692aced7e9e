"""Units of the static track: judged on the way, killed and resumed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.core.data import DataSet
from harness.core.progress import Progress, State
from harness.execution.units import Store
from harness.tracks import static
from tests.tracks.static_runs import cost_of, done, memory_units, plan_of, tensors_of


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
    network = next(evaluation.unit for evaluation in of.evaluations if evaluation.condensed is of.sets[-1])
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
