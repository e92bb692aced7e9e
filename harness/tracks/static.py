"""The condensation track: condensed sets are evaluated by training new networks, as in the tables of the papers."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness import config
from harness.config import CondenseRun
from harness.core import compute, memory_file, models
from harness.core import foreign as imported
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.progress import Progress
from harness.core.rng import generator
from harness.core.train import count_correct_by_class, fit
from harness.execution.units import Spec, Store, Unit
from harness.memory.method import MethodConfig
from harness.results.wording import quantity
from harness.tracks.base import (
    Place,
    Result,
    Row,
    check_fit,
    count_images_per_class,
    describe_memory,
    do_unit,
    get_file_config,
    get_memory_name,
    is_file,
    make_context,
)
from harness.tracks.memories import build_memory, group_classes, load_memory, plan_file, plan_memory, restore_recipe
from harness.tracks.rows import (
    add_costs,
    describe_form,
    describe_training_form,
    make_cost_columns,
    make_shared_columns,
    make_spec_column,
)

# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CondensedSet:
    """A condensed set of the plan.

    Attributes:
        number: number of the set, from 0.
        updates: number of updates of the images; None if the images are selected or come from a file.
        units: the units that build the set.
    """

    number: int
    updates: int | None
    units: list[Unit]


@dataclass(frozen=True)
class Evaluation:
    """A unit that trains one network on a condensed set.

    Attributes:
        unit: the unit.
        condensed: the set.
        model: name of the network.
        repeat: number of the network among those trained on the set, from 0.
        is_rounded: whether the set is rounded to 8 bits.
    """

    unit: Unit
    condensed: CondensedSet
    model: str
    repeat: int
    is_rounded: bool


@dataclass(frozen=True)
class StaticPlan:
    sets: list[CondensedSet]
    evaluations: list[Evaluation]

    @property
    def units(self) -> list[Unit]:
        """All units, each of them once."""
        memory_units = [unit for condensed in self.sets for unit in condensed.units]
        return list({unit.key: unit for unit in [*memory_units, *self.networks]}.values())

    @property
    def networks(self) -> list[Unit]:
        """The units that train a network."""
        return list({evaluation.unit.key: evaluation.unit for evaluation in self.evaluations}.values())


def plan(run: CondenseRun, dataset: DataSet, place: Place) -> StaticPlan:
    """Plan the units of a run whose form of computing is resolved (see `config.resolve_form`).

    A set is built by one unit, or by one unit for each `classes_per_unit` classes if the method treats classes
    separately. If the set is evaluated after several numbers of iterations (`at`), there is a unit for each number,
    which continues the previous one. Each network is trained by one unit, whose key depends on its memory.

    Raises:
        ValueError: a class has fewer images than ipc, a network does not fit the images, or the method has no
            iterations for `at`.
    """
    tested = run.eval_models or (run.model,)
    check_fit(run, dataset, tested)
    context = make_context(run, place)
    sets = [condensed for number in range(run.sets) for condensed in _plan_sets(run, dataset, number, context)]
    evaluations = []
    for condensed in sets:
        for model in tested:
            for is_rounded in (False, True) if run.uint8 and _can_be_rounded(run, dataset) else (False,):
                for repeat in range(run.nets):
                    unit = _plan_network(run, dataset, condensed, model, repeat, is_rounded, context)
                    evaluations.append(Evaluation(unit, condensed, model, repeat, is_rounded))
    return StaticPlan(sets, evaluations)


def _plan_sets(run: CondenseRun, dataset: DataSet, number: int, context: Spec) -> Iterator[CondensedSet]:
    """Yield set `number` after each number of iterations at which it is evaluated."""
    lengths = _list_lengths(run)
    if is_file(run.memory):
        yield CondensedSet(number, None, [plan_file(run, dataset, number, context)])
        return
    if not run.method.stored:
        yield CondensedSet(number, None, [])
        return
    groups = group_classes(run, range(dataset.num_classes))
    earlier: list[Unit] = []
    done = 0
    for cfg in lengths:
        units = []
        for i, group in enumerate(groups):
            unit = plan_memory(run, dataset, f"set {number}", group, context, cfg)
            if run.at:
                # An intermediate unit also saves its final state, from which the next unit continues. The last set is
                # the same as without intermediate units.
                ends = {**unit.spec, "continues": True} if cfg.iterations in run.at else unit.spec
                more = {"earlier": earlier[i].key, "share": 1 - done / (cfg.total or 1)} if earlier else {}
                needs = (earlier[i].key,) if earlier else ()
                unit = Unit("memory", ends, f"{unit.label}, {cfg.total} updates", {**context, **more}, needs)
            units.append(unit)
        earlier, done = units, cfg.total or 0
        yield CondensedSet(number, cfg.total, units)


def _list_lengths(run: CondenseRun) -> list[MethodConfig]:
    """Return the configuration of the method for each number of iterations in `at`, and for all its iterations."""
    cfg = run.method
    if not run.at:
        return [cfg]
    if cfg.iterations is None:
        raise ValueError(f"at: {run.memory} has no iterations to be judged after; leave it out")
    if run.at[-1] > cfg.iterations:
        raise ValueError(f"at: {run.at[-1]} is beyond the {cfg.iterations} iterations of {run.memory}")
    return [cfg.with_iterations(count) for count in sorted({*run.at, cfg.iterations})]


def _can_be_rounded(run: CondenseRun, dataset: DataSet) -> bool:
    """Return whether the memory stores learned pixels. Selected images have 8 bits, and factors are not pixels."""
    if is_file(run.memory):
        first = imported.load(imported.parse_path(run.memory), dataset, get_file_config(run))[0]
        return first.form.stores_pixels and not first.real
    return run.method.total is not None and run.method.stores_pixels


def _plan_network(
    run: CondenseRun,
    dataset: DataSet,
    condensed: CondensedSet,
    model: str,
    repeat: int,
    is_rounded: bool,
    context: Spec,
) -> Unit:
    spec = {
        "memory": [unit.key for unit in condensed.units] if condensed.units else run.memory,
        "rounded": is_rounded,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "recipe": config.to_plain(config.adapt_recipe(run, model)),
        "model": str(models.parse(model)),
        "seed": [run.seed, condensed.number, repeat],
    }
    after = "" if condensed.updates is None else f" after {condensed.updates} updates"
    label = (
        f"{model} {repeat} on set {condensed.number} of {get_memory_name(run)}{after}{', 8 bits' if is_rounded else ''}"
    )
    images = dataset.num_classes * count_images_per_class(run, dataset)
    return Unit("network", spec, label, {**context, "images": images}, tuple(unit.key for unit in condensed.units))


# --- working --------------------------------------------------------------------------------------------------------


def work(unit: Unit, store: Store, progress: Progress) -> None:
    """Do one unit and save its result; see `do_unit`."""
    do_unit(unit, store, progress, build_memory if unit.kind == "memory" else _evaluate)


def _evaluate(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    """Train a network on a set from scratch, then count the test images of each class that it classifies correctly."""
    spec = unit.spec
    memory = load_memory(spec, store, dataset)
    if spec["rounded"]:
        rounded = memory_file.round_to_8_bits(memory, dataset)
        assert rounded is not None  # `plan` rounds only memories that store pixels
        memory = rounded
    recipe = restore_recipe(spec["recipe"])
    network = models.scratch(spec["model"], dataset.image_shape, dataset.num_classes, device)
    models.draw_weights(network, generator("weights", *spec["seed"]))
    images, targets = memory.images.to(device), memory.targets.to(device)
    fit(network, images, targets, recipe, generator("batches", *spec["seed"]), progress)
    test, labels = dataset.normalise(dataset.test_images.to(device)), dataset.test_labels.to(device)
    logits = compute.evaluation_form(network, "forward", recipe.compute, test)
    with models.evaluating(network):
        right = count_correct_by_class(logits, test, labels, dataset.num_classes)
    card = {"stored_bytes": memory.nbytes, "images": len(memory.labels), "league": memory.league}
    return {"right": right, "total": torch.bincount(labels.cpu(), minlength=dataset.num_classes)}, card


# --- rows -----------------------------------------------------------------------------------------------------------


def make_rows(run: CondenseRun, plan: StaticPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """Yield a row for each measurement of the finished units, in the order of the plan.

    Args:
        changes: the settings in which the run differs from its preset.
    """
    shared = make_shared_columns(run, dataset, changes)
    for condensed in plan.sets:
        found = [store.load(unit.key) for unit in condensed.units]
        cards = [card for _, card in filter(None, found)]
        if cards and len(cards) == len(condensed.units):
            yield from _make_set_rows(shared, condensed, cards, describe_form(run.method.form))
    for evaluation in plan.evaluations:
        if (result := store.load(evaluation.unit.key)) is None:
            continue
        tensors, card = result
        row = (
            shared
            | make_cost_columns(evaluation.unit, card)
            | {
                "league": card["league"],
                "stored_bytes": card["stored_bytes"],
                "recipe": run.recipe,
                "model": str(models.parse(evaluation.model)),
                "set": evaluation.condensed.number,
                "repeat": evaluation.repeat,
                "classes_seen": dataset.num_classes,
                "iterations": evaluation.condensed.updates,
                "compute": describe_training_form(restore_recipe(evaluation.unit.spec["recipe"])),
                "metric": "test_accuracy_uint8" if evaluation.is_rounded else "test_accuracy",
                "unit": "%",
                "spec": make_spec_column(run, evaluation.unit.spec["recipe"]),
                "value": 100 * float(tensors["right"].sum()) / float(tensors["total"].sum()),
            }
        )
        yield row


def _make_set_rows(shared: Row, condensed: CondensedSet, cards: list[Card], form: str) -> Iterator[Row]:
    """Yield the rows on the size and the cost of a set, summed over the units that built it."""
    cost = add_costs([card["cost"] for card in cards])
    row = (
        shared
        | make_cost_columns(condensed.units[0], cards[0])
        | {
            "wall_seconds": cost["wall_seconds"],
            "peak_bytes": cost.get("peak_bytes"),
            "league": cards[0]["league"],
            "stored_bytes": sum(card["budget"]["bytes"] for card in cards),
            "set": condensed.number,
            "iterations": condensed.updates,
            "compute": form,
        }
    )
    for metric, unit in (("memory_images", "images"), ("memory_scalars", "scalars")):
        value = sum(card["budget"][unit] for card in cards)
        yield row | {"metric": metric, "unit": unit, "value": value}
    if "flop" in cost:
        yield row | {"metric": "condensing_flop", "unit": "FLOP", "value": cost["flop"]}


def make_title(run: CondenseRun) -> str:
    """Return a description of a run in one line."""
    tested = ", ".join(run.eval_models or (run.model,))
    sets = f"{quantity(run.sets, 'set')} by {describe_memory(run)}"
    return f"{run.dataset}, {sets}, {quantity(run.nets, 'network')} each: {tested}"


def make_short_name(run: CondenseRun) -> str:
    """Return the part of a directory's name that differs between runs with the same data set and memory."""
    return f"{run.ipc}ipc"


def list_memory_files(plan: StaticPlan) -> dict[str, list[Unit]]:
    """List the memories of a run that are saved as files: name of the file -> units that build the memory."""
    last = {condensed.number: condensed for condensed in plan.sets}
    return {f"set-{number}": condensed.units for number, condensed in last.items() if condensed.units}
