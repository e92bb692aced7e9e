"""The class-incremental track: each experience trains new networks on the memory of all classes seen so far."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness import config
from harness.config import CLRun
from harness.core import foreign as imported
from harness.core import memory as memories
from harness.core import models
from harness.core.data import DataSet
from harness.core.memory import Memory
from harness.core.progress import Progress
from harness.core.recipes import TrainConfig
from harness.execution.units import Spec, Store, Unit
from harness.results.wording import quantity
from harness.scenarios import metrics
from harness.scenarios.stream import class_order, split
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
    load_cached_dataset,
    make_context,
)
from harness.tracks.memories import build_memory, group_classes, load_memory, plan_file, plan_memory, restore_recipe
from harness.tracks.rows import describe_form, describe_training_form, make_cost_columns, make_shared_columns

if TYPE_CHECKING:
    from harness.scenarios.stream import NCExperience, NCScenario

# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A unit that trains one network, and its position in the streams of the run.

    Attributes:
        unit: the unit.
        order: name of the class order.
        experience: number of the experience, from 0.
        repeat: number of the network among those of the same experience, from 0.
        seen: the classes seen so far, in class order.
    """

    unit: Unit
    order: str
    experience: int
    repeat: int
    seen: list[int]


@dataclass(frozen=True)
class StreamPlan:
    memories: dict[str, list[Unit]]  # name of a class order -> units that build its memory
    trainings: list[Training]

    @property
    def units(self) -> list[Unit]:
        """All units, each of them once."""
        every = [unit for units in self.memories.values() for unit in units] + [t.unit for t in self.trainings]
        return list({unit.key: unit for unit in every}.values())


def make_orders(run: CLRun, dataset: DataSet) -> dict[str, list[int]]:
    """Return the class orders of a run by name. The name is the seed in digits, or "listed" for `class_order`."""
    if run.class_order:
        return {"listed": list(run.class_order)}
    return {str(seed): class_order(dataset.num_classes, seed) for seed in run.orders}


def plan(run: CLRun, dataset: DataSet, place: Place) -> StreamPlan:
    """Plan the units of a run whose form of computing is resolved (see `config.resolve_form`).

    A memory is built by one unit for each group of classes. If the method treats classes separately, a group has
    `classes_per_unit` successive classes of the class order, so that runs with 5 and 10 steps share units. Otherwise it
    has the classes of one experience. Each network is trained by one unit, whose key depends on its memories and
    classes but not on the number of steps, so that runs with different numbers of steps share trainings.

    Raises:
        ValueError: steps does not divide the number of classes, the class order is not a permutation of them, or a
            class has fewer images than ipc.
    """
    _check(run, dataset)
    context = make_context(run, place)
    memory_units: dict[str, list[Unit]] = {}
    trainings = []
    for name, order in make_orders(run, dataset).items():
        experiences = split(order, run.steps)
        groups = _group_classes(run, order)
        units = [_plan_memory(run, dataset, name, group, context) for group in groups]
        memory_units[name] = units
        for t in range(run.steps):
            seen = [c for classes in experiences[: t + 1] for c in classes]
            needed = [unit for unit, group in zip(units, groups, strict=False) if set(group) & set(seen)]
            for repeat in range(run.nets):
                stream = {"steps": run.steps, "experience": t, "class_order": order}
                unit_context = {**context, **stream, "logger": place.logger, "logs": place.logs}
                unit = _plan_training(run, dataset, name, repeat, seen, needed, unit_context)
                trainings.append(Training(unit, name, t, repeat, seen))
    return StreamPlan(memory_units, trainings)


def _check(run: CLRun, dataset: DataSet) -> None:
    if run.class_order and sorted(run.class_order) != list(range(dataset.num_classes)):
        raise ValueError(f"class_order: expected each of 0 .. {dataset.num_classes - 1} once")
    split(range(dataset.num_classes), run.steps)
    check_fit(run, dataset, [run.model])
    if is_file(run.memory):
        _check_labels(imported.load(imported.parse_path(run.memory), dataset, get_file_config(run))[0])


def _check_labels(memory: Memory) -> None:
    if memory.soft is not None:
        raise ValueError("a stream trains on labels; judge a memory with soft labels by `harness run condense`")


def _group_classes(run: CLRun, order: list[int]) -> list[list[int]]:
    if not run.method.stored:
        return []
    if is_file(run.memory):
        return [order]
    return group_classes(run, order) if run.method.per_class else split(order, run.steps)


def _plan_memory(run: CLRun, dataset: DataSet, order: str, classes: list[int], context: Spec) -> Unit:
    if is_file(run.memory):
        return plan_file(run, dataset, 0, context)  # the first set for all orders
    return plan_memory(run, dataset, order, classes, context, kind="order ")


def _plan_training(
    run: CLRun, dataset: DataSet, order: str, repeat: int, seen: list[int], needed: list[Unit], context: Spec
) -> Unit:
    spec = {
        "memory": [unit.key for unit in needed] if run.method.stored else run.memory,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": seen,
        "recipe": config.to_plain(run.training),
        "model": str(models.parse(run.model)),
        "seed": [run.seed, order, repeat],
    }
    label = f"{get_memory_name(run)} network {repeat}, order {order}, {len(seen)} classes"
    images = len(seen) * count_images_per_class(run, dataset)
    return Unit("training", spec, label, {**context, "images": images}, tuple(unit.key for unit in needed))


# --- working --------------------------------------------------------------------------------------------------------


def work(unit: Unit, store: Store, progress: Progress) -> None:
    """Do one unit and save its result; see `do_unit`."""
    do_unit(unit, store, progress, build_memory if unit.kind == "memory" else _train)


def _train(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    from harness.scenarios.strategy import CondensedBuffer, MemoryOnly, RightByClass, evaluator

    spec, context = unit.spec, unit.context
    memory = load_memory(spec, store, dataset)
    _check_labels(memory)
    stream = _load_stream(
        dataset.name, context["data"], context["split"], tuple(context["class_order"]), context["steps"]
    )
    t = context["experience"]

    def condense(experience: "NCExperience") -> Memory:
        new = experience.classes_in_this_experience  # a set
        return memories.select_classes(memory, [c for c in spec["classes"] if c in new])

    buffer = CondensedBuffer(condense, device)
    old = spec["classes"][: -len(stream.train_stream[t].classes_in_this_experience)]
    if old:
        buffer.append(memories.select_classes(memory, old))
    recipe = restore_recipe(spec["recipe"])
    counts = RightByClass(dataset.num_classes)
    model = models.scratch(spec["model"], dataset.image_shape, dataset.num_classes, device)
    strategy = MemoryOnly(
        model=model,
        memory=buffer,
        recipe=recipe,
        seed=tuple(spec["seed"]),
        progress=progress,
        eval_mb_size=1000,
        device=device,
        plugins=[counts],
        evaluator=evaluator(context["logger"], Path(context["logs"]) / _log_directory(spec)),
    )
    earlier = [list(experience.classes_in_this_experience) for experience in stream.train_stream[:t]]
    strategy.skip(t, _count_iterations(memory.labels, earlier, recipe))
    strategy.train(stream.train_stream[t], eval_streams=[])
    strategy.eval(stream.test_stream[: t + 1])
    memory_card = {"stored_bytes": buffer.nbytes, "images": len(buffer.buffer), "league": memory.league}
    return {"right": counts.right, "total": counts.total}, memory_card


def _log_directory(spec: Spec) -> Path:
    """Return the directory, within that of all logs, that the networks of one stream log to."""
    _, order, repeat = spec["seed"]
    return Path(f"order-{order}", f"network-{repeat}")


def _count_iterations(labels: Tensor, experiences: list[list[int]], recipe: TrainConfig) -> int:
    """Return the number of batches that networks are trained on in the given first experiences of a stream.

    Args:
        labels: labels (N,) of the images in memory.
        experiences: the new classes of each experience.
    """
    iterations = 0
    for t in range(len(experiences)):
        seen = torch.tensor([c for classes in experiences[: t + 1] for c in classes])
        images = int(torch.isin(labels, seen).sum())
        iterations += recipe.rounds * -(-images // recipe.batch_size)
    return iterations


@lru_cache(maxsize=2)
def _load_stream(name: str, directory: str | None, part: str, order: tuple[int, ...], steps: int) -> "NCScenario":
    from harness.scenarios.stream import class_incremental

    return class_incremental(load_cached_dataset(name, directory, part), order, steps)


# --- rows -----------------------------------------------------------------------------------------------------------


def make_rows(run: CLRun, plan: StreamPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """Yield a row for each measurement of the finished units, in the order of the plan.

    Args:
        changes: the settings in which the run differs from its preset.
    """
    shared = make_shared_columns(run, dataset, changes)
    for order, units in plan.memories.items():
        for unit in units:
            if (found := store.load(unit.key)) is not None:
                card = found[1]
                yield (
                    shared
                    | make_cost_columns(unit, card)
                    | {
                        "order": order,
                        "league": card["league"],
                        "stored_bytes": card["budget"]["bytes"],
                        "model": shared["memory_model"],
                        "compute": describe_form(run.method.form),
                        "metric": "memory_images",
                        "unit": "images",
                        "value": card["budget"]["images"],
                    }
                )
    recipe = {
        "recipe": run.recipe,
        "model": str(models.parse(run.model)),
        "compute": describe_training_form(run.training),
    }
    streams: dict[tuple[str, int], list[Training]] = {}
    for training in plan.trainings:
        streams.setdefault((training.order, training.repeat), []).append(training)
    for trainings in streams.values():
        yield from _make_stream_rows(shared | recipe | {"steps": run.steps}, trainings, store)


def _make_stream_rows(shared: Row, trainings: list[Training], store: Store) -> Iterator[Row]:
    """Yield the rows of one stream and repeat: finished experiences, and a summary if all are finished."""
    steps = len(trainings)
    size = len(trainings[0].seen)
    right, total = np.zeros((steps, steps)), np.zeros((steps, steps))
    last: Row | None = None
    finished = 0
    for training in trainings:
        found = store.load(training.unit.key)
        if found is None:
            continue
        finished += 1
        tensors, card = found
        t = training.experience
        for s in range(t + 1):
            classes = training.seen[s * size : (s + 1) * size]
            right[t, s], total[t, s] = tensors["right"][classes].sum(), tensors["total"][classes].sum()
        row = (
            shared
            | make_cost_columns(training.unit, card)
            | {
                "order": training.order,
                "repeat": training.repeat,
                "experience": t,
                "classes_seen": len(training.seen),
                "league": card["league"],
                "stored_bytes": card["stored_bytes"],
                "unit": "%",
            }
        )
        yield row | {"metric": "seen_accuracy", "value": 100 * right[t].sum() / total[t].sum()}
        for s in range(t + 1):
            accuracy = 100 * right[t, s] / total[t, s]
            yield row | {"metric": "experience_accuracy", "tested_experience": s, "value": accuracy, "spec": None}
        last = row
    if finished == steps and last is not None:
        seen = metrics.seen_accuracy(right, total)
        matrix = 100 * right / np.where(total, total, 1)
        yield last | {"metric": "last_accuracy", "value": float(seen[-1])}
        yield last | {
            "metric": "average_incremental_accuracy",
            "value": metrics.average_incremental_accuracy(seen),
        }
        yield last | {"metric": "forgetting", "unit": "percentage points", "value": metrics.forgetting(matrix)}


def make_title(run: CLRun) -> str:
    """Return a description of a run in one line."""
    seeds = f"order{'' if len(run.orders) == 1 else 's'} {', '.join(map(str, run.orders))}"
    orders = "the listed order" if run.class_order else seeds
    memory = f"memory {describe_memory(run)}"
    return f"{run.dataset}, {quantity(run.steps, 'step')}, {memory}, {orders}, {quantity(run.nets, 'network')}"


def make_short_name(run: CLRun) -> str:
    """Return the part of a directory's name that differs between runs with the same data set and memory."""
    return f"{run.steps}steps"


def list_memory_files(plan: StreamPlan) -> dict[str, list[Unit]]:
    """List the memories of a run that are saved as files: name of the file -> units that build the memory."""
    return {f"order-{order}": units for order, units in plan.memories.items()}
