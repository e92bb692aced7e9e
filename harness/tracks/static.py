"""The condensation track: sets condensed and judged by fresh networks, as in the tables of the papers."""

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
    describe_memory,
    do_unit,
    file_config,
    images_per_class,
    is_file,
    memory_name,
    unit_context,
)
from harness.tracks.memories import build_memory, file_unit, group_classes, load_memory, memory_unit, recipe_from
from harness.tracks.rows import add_costs, compute_form, cost_columns, shared_columns, spec_column, training_form

# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CondensedSet:
    """A condensed set of the plan.

    Attributes:
        number: of the set, from 0.
        updates: how often the images are updated; None if they are selected, or come from a file.
        units: the units that build the set.
    """

    number: int
    updates: int | None
    units: list[Unit]


@dataclass(frozen=True)
class Judged:
    """A unit that trains one network, with the set it is trained on, rounded to 8 bits or not."""

    unit: Unit
    condensed: CondensedSet
    model: str
    repeat: int
    is_rounded: bool


@dataclass(frozen=True)
class StaticPlan:
    sets: list[CondensedSet]
    judged: list[Judged]

    @property
    def units(self) -> list[Unit]:
        """Every unit once."""
        every = [unit for made in self.sets for unit in made.units] + [judged.unit for judged in self.judged]
        return list({unit.key: unit for unit in every}.values())

    @property
    def networks(self) -> list[Unit]:
        """The units that train a network."""
        return list({judged.unit.key: judged.unit for judged in self.judged}.values())


def plan(run: CondenseRun, dataset: DataSet, place: Place) -> StaticPlan:
    """The units of a run whose configurations and form are decided (`config.resolve_form`).

    A set takes one unit, or one for each `classes_per_unit` classes if the method treats each class on its own. If the
    set is judged after several numbers of iterations (`at`), each of them takes a unit that continues the one before. A
    network takes one unit, which is identified by its memory.

    Raises:
        ValueError: a class has fewer images than ipc, a network does not fit the images, or the method has no
            iterations to count.
    """
    tested = run.eval_models or (run.model,)
    check_fit(run, dataset, tested)
    context = unit_context(run, place)
    sets = [made for number in range(run.sets) for made in _sets(run, dataset, number, context)]
    judged = []
    for made in sets:
        for model in tested:
            for is_rounded in (False, True) if run.uint8 and _can_be_rounded(run, dataset) else (False,):
                for repeat in range(run.nets):
                    unit = _network_unit(run, dataset, made, model, repeat, is_rounded, context)
                    judged.append(Judged(unit, made, model, repeat, is_rounded))
    return StaticPlan(sets, judged)


def _sets(run: CondenseRun, dataset: DataSet, number: int, context: Spec) -> Iterator[CondensedSet]:
    """Yield set `number` after each number of iterations at which it is judged."""
    lengths = _lengths(run)
    if is_file(run.memory):
        yield CondensedSet(number, None, [file_unit(run, dataset, number, context)])
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
            unit = memory_unit(run, dataset, f"set {number}", group, context, cfg)
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


def _lengths(run: CondenseRun) -> list[MethodConfig]:
    """The method's configuration after each number of iterations in `at`, and at its own end."""
    cfg = run.method
    if not run.at:
        return [cfg]
    if cfg.iterations is None:
        raise ValueError(f"at: {run.memory} has no iterations to be judged after; leave it out")
    if run.at[-1] > cfg.iterations:
        raise ValueError(f"at: {run.at[-1]} is beyond the {cfg.iterations} iterations of {run.memory}")
    return [cfg.with_iterations(count) for count in sorted({*run.at, cfg.iterations})]


def _can_be_rounded(run: CondenseRun, dataset: DataSet) -> bool:
    """Return whether rounding to 8 bits changes the memory: selected images have 8 bits, factors no pixels."""
    if is_file(run.memory):
        first = imported.load(imported.parse_path(run.memory), dataset, file_config(run))[0]
        return first.form.stores_pixels and not first.real
    return run.method.total is not None and run.method.stores_pixels


def _network_unit(
    run: CondenseRun,
    dataset: DataSet,
    made: CondensedSet,
    model: str,
    repeat: int,
    is_rounded: bool,
    context: Spec,
) -> Unit:
    spec = {
        "memory": [unit.key for unit in made.units] if made.units else run.memory,
        "rounded": is_rounded,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "recipe": config.plain(config.recipe_for(run, model)),
        "model": str(models.parse(model)),
        "seed": [run.seed, made.number, repeat],
    }
    after = "" if made.updates is None else f" after {made.updates} updates"
    label = f"{model} {repeat} on set {made.number} of {memory_name(run)}{after}{', 8 bits' if is_rounded else ''}"
    images = dataset.num_classes * images_per_class(run, dataset)
    return Unit("network", spec, label, {**context, "images": images}, tuple(unit.key for unit in made.units))


# --- working --------------------------------------------------------------------------------------------------------


def work(unit: Unit, store: Store, progress: Progress) -> None:
    """Do one unit and save its result; see `do_unit`."""
    do_unit(unit, store, progress, build_memory if unit.kind == "memory" else _judge)


def _judge(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    """Train a network on a set from scratch; count its correct test images by class, once, at the end."""
    spec = unit.spec
    memory = load_memory(spec, store, dataset)
    if spec["rounded"]:
        rounded = memory_file.round_to_8_bits(memory, dataset)
        assert rounded is not None  # `plan` asks only where there are pixels
        memory = rounded
    recipe = recipe_from(spec["recipe"])
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


def rows(run: CondenseRun, plan: StaticPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """Yield a row for each measurement of the finished units, in the order of the plan.

    Args:
        changes: the settings in which the run differs from its preset.
    """
    shared = shared_columns(run, dataset, changes)
    for made in plan.sets:
        found = [store.load(unit.key) for unit in made.units]
        cards = [card for _, card in filter(None, found)]
        if cards and len(cards) == len(made.units):
            yield from _set_rows(shared, made, cards, compute_form(run.method.form))
    for judged in plan.judged:
        if (result := store.load(judged.unit.key)) is None:
            continue
        tensors, card = result
        row = (
            shared
            | cost_columns(judged.unit, card)
            | {
                "league": card["league"],
                "stored_bytes": card["stored_bytes"],
                "recipe": run.recipe,
                "model": str(models.parse(judged.model)),
                "set": judged.condensed.number,
                "repeat": judged.repeat,
                "classes_seen": dataset.num_classes,
                "iterations": judged.condensed.updates,
                "compute": training_form(recipe_from(judged.unit.spec["recipe"])),
                "metric": "test_accuracy_uint8" if judged.is_rounded else "test_accuracy",
                "unit": "%",
                "spec": spec_column(run, judged.unit.spec["recipe"]),
                "value": 100 * float(tensors["right"].sum()) / float(tensors["total"].sum()),
            }
        )
        yield row


def _set_rows(shared: Row, made: CondensedSet, cards: list[Card], form: str) -> Iterator[Row]:
    """Yield what a whole set holds and what it cost, summed over the units that built it."""
    cost = add_costs([card["cost"] for card in cards])
    row = (
        shared
        | cost_columns(made.units[0], cards[0])
        | {
            "wall_seconds": cost["wall_seconds"],
            "peak_bytes": cost.get("peak_bytes"),
            "league": cards[0]["league"],
            "stored_bytes": sum(card["budget"]["bytes"] for card in cards),
            "set": made.number,
            "iterations": made.updates,
            "compute": form,
        }
    )
    for metric, unit in (("memory_images", "images"), ("memory_scalars", "scalars")):
        value = sum(card["budget"][unit] for card in cards)
        yield row | {"metric": metric, "unit": unit, "value": value}
    if "flop" in cost:
        yield row | {"metric": "condensing_flop", "unit": "FLOP", "value": cost["flop"]}


def title(run: CondenseRun) -> str:
    """Return what a run does, in one line."""
    tested = ", ".join(run.eval_models or (run.model,))
    sets = f"{quantity(run.sets, 'set')} by {describe_memory(run)}"
    return f"{run.dataset}, {sets}, {quantity(run.nets, 'network')} each: {tested}"


def short_name(run: CondenseRun) -> str:
    """Return what sets a run off from others of its data set and memory, for the name of a directory."""
    return f"{run.ipc}ipc"


def memory_files(plan: StaticPlan) -> dict[str, list[Unit]]:
    """Return the whole memories of a run: the name of a file -> the units that build its memory."""
    last = {made.number: made for made in plan.sets}
    return {f"set-{number}": made.units for number, made in last.items() if made.units}
