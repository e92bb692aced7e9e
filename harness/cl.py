"""The class-incremental track: a run as units, what each unit does, and the rows they leave."""

import inspect
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memory
from harness import config
from harness.config import CLRun
from harness.core import data, models
from harness.core import memory as memories
from harness.core.data import DataSet
from harness.core.files import Card
from harness.core.holdout import hold_out
from harness.core.memory import Budget, Memory
from harness.core.progress import Progress
from harness.core.rng import generator
from harness.core.train import TrainConfig
from harness.units import Store, Unit
from scenarios import metrics
from scenarios.stream import class_order, split

LOGGERS = ("text", "tensorboard")


@dataclass(frozen=True)
class Place:
    """Where a run finds its data and does its work: nothing that a result depends on."""

    device: str = "cpu"
    data: str | None = None
    logger: str | None = None  # an Avalanche logger to pass through: text or tensorboard
    logs: str = ""  # directory for TensorBoard


# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """One network of the plan: which stream, experience and repeat its unit stands for."""

    unit: Unit
    order: str
    experience: int
    repeat: int
    seen: list[int]  # classes, in the order they came


@dataclass(frozen=True)
class Plan:
    memories: dict[str, list[Unit]]  # by order
    trainings: list[Training]

    @property
    def units(self) -> list[Unit]:
        """Every unit once."""
        every = [unit for units in self.memories.values() for unit in units] + [t.unit for t in self.trainings]
        return list({unit.key: unit for unit in every}.values())


def load(run: CLRun, place: Place) -> DataSet:
    """The run's data set, with a tenth of train in the place of test where the run is judged on that."""
    return _dataset(run.dataset, place.data, run.split)


@lru_cache(maxsize=2)
def _dataset(name: str, directory: str | None, part: str) -> DataSet:
    dataset = data.load(name, Path(directory) if directory else None)
    return hold_out(dataset) if part == "validation" else dataset


def orders(run: CLRun, dataset: DataSet) -> dict[str, list[int]]:
    """The class orders of a run by their names: the seed's digits, or "listed"."""
    if run.class_order:
        return {"listed": list(run.class_order)}
    return {str(seed): class_order(dataset.num_classes, seed) for seed in run.orders}


def plan(run: CLRun, dataset: DataSet, place: Place) -> Plan:
    """The units of a run whose configurations and form are decided (`config.in_form`).

    A memory is a unit per group of classes: of `classes_per_unit` neighbours in the class order where the builder
    treats each class on its own, so that 5 and 10 steps share it; else of an experience's. A network is a unit that
    names its memories and classes, not the number of steps: what comes to the same training is done once.

    Raises:
        ValueError: steps does not divide the classes, the class order is no permutation of them, a class has fewer
            images than ipc.
    """
    _check(run, dataset)
    context = {"device": place.device, "data": place.data, "split": run.split}
    memory_units: dict[str, list[Unit]] = {}
    trainings = []
    for name, order in orders(run, dataset).items():
        experiences = split(order, run.steps)
        groups = _groups(run, order)
        units = [_memory_unit(run, dataset, name, group, context) for group in groups]
        memory_units[name] = units
        for t in range(run.steps):
            seen = [c for classes in experiences[: t + 1] for c in classes]
            needed = [unit for unit, group in zip(units, groups, strict=False) if set(group) & set(seen)]
            for repeat in range(run.nets):
                stream = {"steps": run.steps, "experience": t, "class_order": order}
                own = {**context, **stream, "logger": place.logger, "logs": place.logs}
                unit = _training_unit(run, dataset, name, repeat, seen, needed, own)
                trainings.append(Training(unit, name, t, repeat, seen))
    return Plan(memory_units, trainings)


def _check(run: CLRun, dataset: DataSet) -> None:
    if run.class_order and sorted(run.class_order) != list(range(dataset.num_classes)):
        raise ValueError(f"class_order: expected each of 0 .. {dataset.num_classes - 1} once")
    split(range(dataset.num_classes), run.steps)
    for name in (run.model, getattr(run.memory_config, "model", run.model)):
        with torch.device("meta"):  # it fits the images; nothing is drawn
            models.ConvNet(models.parse(name), dataset.image_shape, dataset.num_classes)
    counts = torch.bincount(dataset.train_labels, minlength=dataset.num_classes)
    if _is_stored(run) and run.ipc > int(counts.min()):
        c = int(counts.argmin())
        raise ValueError(f"ipc: {run.ipc} images a class are asked for, class {c} has {int(counts[c])}")


def _is_stored(run: CLRun) -> bool:
    return getattr(run.memory_config, "stored", True)


def _groups(run: CLRun, order: list[int]) -> list[list[int]]:
    if not _is_stored(run):
        return []
    if not getattr(run.memory_config, "per_class", False):
        return split(order, run.steps)
    return [order[first : first + run.classes_per_unit] for first in range(0, len(order), run.classes_per_unit)]


def _memory_unit(run: CLRun, dataset: DataSet, order: str, classes: list[int], context: Mapping[str, Any]) -> Unit:
    spec = {
        "builder": run.memory,
        "config": config.plain(run.memory_config),
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": classes,
        "ipc": run.ipc,
        "seed": [run.seed, order],
    }
    first_last = f"{classes[0]} .. {classes[-1]}" if len(classes) > 1 else str(classes[0])
    return Unit("memory", spec, f"{run.memory} memory, order {order}, classes {first_last}", context)


def _training_unit(
    run: CLRun, dataset: DataSet, order: str, repeat: int, seen: list[int], needed: list[Unit], own: Mapping[str, Any]
) -> Unit:
    spec = {
        "memory": [unit.key for unit in needed] if _is_stored(run) else run.memory,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": seen,
        "recipe": config.plain(run.recipe_config),
        "model": str(models.parse(run.model)),
        "seed": [run.seed, order, repeat],
    }
    label = f"{run.memory} network {repeat}, order {order}, {len(seen)} classes"
    return Unit("training", spec, label, own, tuple(unit.key for unit in needed))


# --- working --------------------------------------------------------------------------------------------------------


def work(unit: Unit, store: Store, progress: Progress) -> None:
    """Do one unit and save its result.

    Raises:
        ValueError: the data are not those the unit was planned with.
        FloatingPointError: an image or a loss is not finite.
    """
    dataset = _dataset(unit.spec["dataset"], unit.context["data"], unit.context["split"])
    if dataset.digest != unit.spec["dataset_digest"]:
        raise ValueError(f"{dataset.name}: the data have changed since the run was planned")
    device = torch.device(unit.context["device"])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    do = _condense if unit.kind == "memory" else _train
    tensors, card = do(unit, store, dataset, device, progress)
    cost = {"wall_seconds": time.perf_counter() - began, "device": _device_name(device), "torch": torch.__version__}
    if device.type == "cuda":
        cost["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    store.save(unit.key, tensors, {**card, "kind": unit.kind, "spec": dict(unit.spec), "cost": cost})


Result = tuple[dict[str, torch.Tensor], Card]


def _condense(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    spec = unit.spec
    build = memory.find(spec["builder"])
    cfg = _config_from(memory.default_config(build), spec["config"])
    images, labels = _real_images(dataset, spec["classes"], device)
    rng = generator("memory", *spec["seed"], *spec["classes"])
    extra = {"progress": progress} if "progress" in inspect.signature(build).parameters else {}
    built = build(images, labels, Budget(spec["ipc"]), rng, cfg, **extra)
    counts = torch.bincount(built.labels.cpu(), minlength=dataset.num_classes)
    if any(int(counts[c]) != spec["ipc"] for c in spec["classes"]) or int(counts.sum()) != len(built.labels):
        raise ValueError(f"{spec['builder']}: the builder's memory does not hold {spec['ipc']} images of each class")
    on_cpu = Memory(built.images.cpu(), built.labels.cpu(), built.real, built.league)
    return memories.encode(on_cpu, dataset, origin(spec))


def origin(spec: Mapping[str, Any]) -> Card:
    """What a memory's card says of its making, besides the data: enough to make and to judge it again."""
    return {name: spec[name] for name in ("builder", "config", "ipc", "seed")} | {
        "augment": config.augmentation(spec["dataset"])  # what networks are to be trained on it with
    }


def _config_from(default: Any, plain: Mapping[str, Any]) -> Any:
    """The configuration `config.plain` made `plain` from."""
    flat: dict[str, Any] = {}

    def flatten(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                flatten(value, f"{prefix}{name}.")
            else:
                flat[prefix + name] = value

    flatten(plain, "")
    return config.changed(default, flat)


def _real_images(dataset: DataSet, classes: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised train images of `classes`, in the data set's order, and their labels."""
    rows = torch.isin(dataset.train_labels, torch.tensor(classes)).nonzero().squeeze(1)
    images = dataset.train_images[rows].to(device)
    return dataset.normalise(images), dataset.train_labels[rows].to(device)


def _train(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    from scenarios.strategy import CondensedBuffer, MemoryOnly, RightByClass, evaluator

    spec, context = unit.spec, unit.context
    kept = _kept(spec, store, dataset)
    stream = _stream(dataset.name, context["data"], context["split"], tuple(context["class_order"]), context["steps"])
    t = context["experience"]
    buffer = CondensedBuffer(lambda exp: memories.of_classes(kept, _new_classes(exp, spec["classes"])), device)
    old = spec["classes"][: -len(stream.train_stream[t].classes_in_this_experience)]
    if old:
        buffer.append(memories.of_classes(kept, old))
    recipe = _config_from(TrainConfig(), spec["recipe"])
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
        evaluator=evaluator(context["logger"], Path(context["logs"]) / unit.label.replace(" ", "-")),
    )
    strategy.train(stream.train_stream[t], eval_streams=[])
    strategy.eval(stream.test_stream[: t + 1])
    memory_card = {"stored_bytes": buffer.nbytes, "images": len(buffer.buffer), "league": kept.league}
    return {"right": counts.right, "total": counts.total}, memory_card


def _kept(spec: Mapping[str, Any], store: Store, dataset: DataSet) -> Memory:
    """The memory of all classes a training unit has seen."""
    if isinstance(spec["memory"], str):
        images, labels = _real_images(dataset, spec["classes"], torch.device("cpu"))
        return memory.find(spec["memory"])(images, labels, Budget(1), generator("full"))
    parts = []
    for key in spec["memory"]:
        found = store.load(key)
        if found is None:
            raise FileNotFoundError(f"memory {key}: its file is no longer there; run again to redo it")
        parts.append(memories.decode(*found, dataset))
    return memories.join(parts)


def _new_classes(experience: Any, order: Sequence[int]) -> list[int]:
    """An experience's classes in stream order; Avalanche gives them as a set."""
    new = set(experience.classes_in_this_experience)
    return [c for c in order if c in new]


@lru_cache(maxsize=2)
def _stream(name: str, directory: str | None, part: str, order: tuple[int, ...], steps: int) -> Any:
    from scenarios.stream import class_incremental

    return class_incremental(_dataset(name, directory, part), order, steps)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, 1 thread"


@lru_cache(maxsize=1)
def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


# --- rows -----------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def rows(run: CLRun, planned: Plan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """A row per measurement of the finished units, in the order of the plan; `changes` sets the run off its preset."""
    shared: Row = {
        "track": "cl",
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "exactness": dataset.exactness,
        "preset": run.preset,
        "changes": changes,
        "memory": run.memory,
        "ipc": run.ipc if _is_stored(run) else None,
        "split": run.split,
        "seed": run.seed,
        "version": version("condensation-harness"),
        "spec": json.dumps(
            {"memory": config.plain(run.memory_config), "recipe": config.plain(run.recipe_config)}, sort_keys=True
        ),
    }
    for order, units in planned.memories.items():
        for unit in units:
            if (found := store.load(unit.key)) is not None:
                card = found[1]
                yield (
                    shared
                    | _measured(unit, card)
                    | {
                        "order": order,
                        "league": card["league"],
                        "stored_bytes": card["budget"]["bytes"],
                        "model": getattr(run.memory_config, "model", None),
                        "compute": _form(run.memory_config),
                        "metric": "memory_images",
                        "unit": "images",
                        "value": card["budget"]["images"],
                    }
                )
    recipe = {"recipe": run.recipe, "model": str(models.parse(run.model)), "compute": _form(run.recipe_config)}
    streams: dict[tuple[str, int], list[Training]] = {}
    for training in planned.trainings:
        streams.setdefault((training.order, training.repeat), []).append(training)
    for trainings in streams.values():
        yield from _stream_rows(shared | recipe | {"steps": run.steps}, trainings, store)


def _stream_rows(shared: Row, trainings: list[Training], store: Store) -> Iterator[Row]:
    """The rows of one stream and repeat: what its finished experiences give, and the sums if all are finished."""
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
        here = (
            shared
            | _measured(training.unit, card)
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
        yield here | {"metric": "seen_accuracy", "value": 100 * right[t].sum() / total[t].sum()}
        for s in range(t + 1):
            accuracy = 100 * right[t, s] / total[t, s]
            yield here | {"metric": "experience_accuracy", "tested_experience": s, "value": accuracy, "spec": None}
        last = here
    if finished == steps and last is not None:
        seen = metrics.seen_accuracy(right, total)
        matrix = 100 * right / np.where(total, total, 1)
        yield last | {"metric": "last_accuracy", "value": float(seen[-1])}
        yield last | {
            "metric": "average_incremental_accuracy",
            "value": metrics.average_incremental_accuracy(seen),
        }
        yield last | {"metric": "forgetting", "unit": "percentage points", "value": metrics.forgetting(matrix)}


def _measured(unit: Unit, card: Card) -> Row:
    cost = card["cost"]
    return {
        "key": unit.key,
        "device": cost["device"],
        "torch": cost["torch"],
        "wall_seconds": cost["wall_seconds"],
        "peak_bytes": cost.get("peak_bytes"),
    }


def _form(cfg: Any) -> str:
    """The form of computing a configuration names, such as "compiled, float32, real bfloat16"."""
    if isinstance(getattr(cfg, "train", None), TrainConfig):
        cfg = cfg.train
    parts = [getattr(cfg, "compute", "eager"), getattr(cfg, "dtype", getattr(cfg, "synthetic_dtype", "float32"))]
    return ", ".join(parts + ([f"real {cfg.real_dtype}"] if hasattr(cfg, "real_dtype") else []))
