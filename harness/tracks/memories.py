"""Units that build memories: plan them, build a memory, check it, and load it from the store."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from harness import config, memory
from harness.config import Run
from harness.core import foreign, memory_file
from harness.core import memory as memories
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.memory import Budget, Memory
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig, choose_augmentation
from harness.core.rng import generator
from harness.execution.costs import count_flop_per_image
from harness.execution.units import MissingResultError, Spec, Store, Unit
from harness.memory.method import MethodConfig
from harness.tracks.base import SECONDS, Result


def group_classes(run: Run, classes: Sequence[int]) -> list[list[int]]:
    """Group `classes` by memory unit: `classes_per_unit` in each if the method treats classes separately, else all."""
    size = run.classes_per_unit if run.method.per_class else len(classes)
    return [list(classes[first : first + size]) for first in range(0, len(classes), size)]


def plan_memory(
    run: Run,
    dataset: DataSet,
    name: str,
    classes: Sequence[int],
    context: Spec,
    cfg: MethodConfig | None = None,
    *,
    kind: str = "",
) -> Unit:
    """Return the unit that builds the memory of `classes`.

    Args:
        run, dataset: the run and its data set.
        name: name of the memory in the run; with the seed of the run, it seeds the memory.
        classes: the classes of the memory, in order.
        context: how the unit finds its data (see `make_context`).
        cfg: configuration of the method; by default that of the run.
        kind: text before the name in the label of the unit.
    """
    cfg = run.method if cfg is None else cfg
    spec = {
        "builder": run.memory,
        "config": config.to_plain(cfg),
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(classes),
        "ipc": run.ipc,
        "seed": [run.seed, name],
    }
    if cfg.beyond:
        spec |= {"beyond": dict(cfg.beyond)}
    if scores := cfg.scores:  # the key depends on the name and the content of the file, not on its folder
        path = Path(scores).resolve()
        spec |= {"config": {**config.to_plain(cfg), "scores": path.name}, "scores_digest": foreign.digest(path)}
        context = {**context, "scores": str(path)}
    first_last = f"{classes[0]} .. {classes[-1]}" if len(classes) > 1 else str(classes[0])
    return Unit("memory", spec, f"{run.memory} memory, {kind}{name}, classes {first_last}", context)


def plan_file(run: Run, dataset: DataSet, number: int, context: Spec) -> Unit:
    """Return the unit that reads set `number`, counted from 0, from the file of a run."""
    path = foreign.parse_path(run.memory)
    spec = {
        "builder": foreign.PREFIX + path.name,
        "config": config.to_plain(run.method),
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "ipc": run.ipc,
        "file_digest": foreign.digest(path),
        "seed": [number],
    }
    return Unit("memory", spec, f"{path.name}, set {number}", {**context, "path": str(path)})


def build_memory(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    """Build the memory of a unit, or read it from a file; return the tensors and the card of its result."""
    spec = unit.spec
    if "path" in unit.context:
        path = check_digest(unit.context["path"], spec["file_digest"])
        sets = foreign.load(path, dataset, config.restore(foreign.FileConfig(), spec["config"]))
        return memory_file.encode(sets[spec["seed"][0]], dataset, describe_origin(spec))
    method = memory.find(spec["builder"])
    cfg: MethodConfig = config.restore(method.config, spec["config"])
    if "scores" in unit.context:
        cfg = config.change(cfg, {"scores": str(check_digest(unit.context["scores"], spec["scores_digest"]))})
    images, labels, rows = select_real_images(dataset, spec["classes"], device)
    budget, rng = Budget(spec["ipc"]), generator("memory", *spec["seed"], *spec["classes"])
    continuing = Continuation(progress, store, unit.context.get("earlier"), device)
    optional = {"progress": continuing, "rows": rows, "of": dataset.whole or len(dataset.train_labels)}
    optional = {name: value for name, value in optional.items() if name in method.takes}
    built = method(images, labels, budget, rng, cfg, **optional)
    check_memory(built, spec, dataset, images.device)
    tensors, card = memory_file.encode(memories.to_cpu(built), dataset, describe_origin(spec))
    if (flop := count_condensing_flop(cfg, dataset, spec)) is not None:
        card["cost"] = {"flop": flop}
    if spec.get("continues"):
        tensors |= continuing.last
    return tensors, card | {"earlier_seconds": continuing.seconds}


def check_digest(path: str, digest: str) -> Path:
    """Check that a file has the given digest, and return its path.

    Raises:
        ValueError: the digest differs: the file has changed since the unit was planned.
    """
    if foreign.digest(Path(path)) != digest:
        raise ValueError(f"{path}: the file has changed since the run was planned")
    return Path(path)


class Continuation(Progress):
    """The progress of a unit that starts from the final state of an earlier unit, and saves its own final state.

    The earlier unit builds the same memory with fewer updates. It is ignored if it ran on another type of device, where
    random numbers and rounding differ.

    Args:
        progress: the progress of this unit.
        store: the store with the result of the earlier unit.
        earlier: key of the earlier unit; None if there is none.
        device: the device of this unit.
    """

    def __init__(self, progress: Progress, store: Store, earlier: str | None, device: torch.device) -> None:
        self._progress, self._store, self._earlier, self._device = progress, store, earlier, device
        self.last: State = {}
        self.seconds = 0.0  # seconds of work on the earlier units

    def resume(self) -> State | None:
        state = self._progress.resume()
        found = self._store.load(self._earlier) if self._earlier else None
        if found is not None and found[1]["cost"].get("device_type", "cpu") == self._device.type:
            tensors, card = found
            self.seconds = card["cost"]["wall_seconds"]
            final = {name.removeprefix("end."): part for name, part in tensors.items() if name.startswith("end.")}
            state = state or final or None
        if state is not None:
            self._save(state)  # a unit that was killed after its last tick does not tick again
        return state

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self._progress.tick(done, total, state)
        if done == total:
            self._save(state())

    def cache(self, name: str, make: Callable[[], State]) -> State:
        return self._progress.cache(name, make)

    def _save(self, state: State) -> None:
        self.last = {f"end.{name}": part.detach().clone() for name, part in state.items() if name != SECONDS}


def check_memory(built: object, spec: Spec, dataset: DataSet, device: torch.device) -> None:
    """Check the memory that a builder returned, before it is saved; messages name the builder.

    Args:
        built: the value that the builder returned.
        spec: spec of the unit, with the builder, its budget and the classes.
        dataset: the data set of the run.
        device: the device of the images that were passed to the builder.
    Raises:
        ValueError: the value is not a `Memory`; its images, labels or soft labels have a wrong type, shape or device;
            it is unbalanced, has wrong classes, or exceeds its budget.
        FloatingPointError: an image or a soft label is not finite.
    """
    name, classes = f"{spec['builder']}: the builder", spec["classes"]
    if not isinstance(built, Memory):
        raise ValueError(f"{name} returned {type(built).__name__}; a harness.core.memory.Memory is needed")
    expected_types = {
        "images": (built.images, torch.float32, dataset.image_shape),
        "labels": (built.labels, torch.int64, ()),
        "soft labels": (built.soft, torch.float32, (dataset.num_classes,)),
        **{f"stored {part}": (tensor, torch.float32, tuple(tensor.shape[1:])) for part, tensor in built.stored.items()},
    }
    for what, (tensor, dtype, shape) in expected_types.items():
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name}'s {what} are a {type(tensor).__name__}; a tensor is needed")
        if tensor.dtype != dtype or tuple(tensor.shape[1:]) != shape:
            found, expected = _describe(tensor.shape[1:], tensor.dtype), _describe(shape, dtype)
            raise ValueError(f"{name}'s {what} are {found}; expected {expected}")
        if tensor.device != device:
            raise ValueError(f"{name}'s {what} are on {tensor.device}; expected {device}, where the real images are")
    if built.not_finite:
        raise FloatingPointError(f"{spec['builder']} memory: {built.not_finite} is not finite")
    counts = Counter(built.labels.tolist())
    each = len(built.labels) // len(classes)
    if set(counts) != set(classes) or set(counts.values()) != {each}:
        raise ValueError(f"{name}'s memory does not have equally many images of each of its {len(classes)} classes")
    budget = spec["ipc"] * len(classes) * built.images[0].numel()
    if built.scalars > budget:
        size = f"{built.scalars} numbers{'' if built.soft is None else ', including soft labels'}"
        raise ValueError(f"{name}'s memory has {size}, the budget {budget}")
    if built.league == "pixel" and each != spec["ipc"]:
        raise ValueError(f"{name}'s memory does not have {spec['ipc']} images of each class")


def _describe(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"({', '.join(map(str, ('N', *shape)))}{'' if shape else ','}) {str(dtype).removeprefix('torch.')}"


def count_condensing_flop(cfg: MethodConfig, dataset: DataSet, spec: Spec) -> float | None:
    """Return the floating point operations of building a memory, computed from the passes of its configuration.

    None if the number is unknown: the configuration does not count its passes, or the method trains a pool of networks
    until they reach a certain accuracy.
    """
    classes, ipc = len(spec["classes"]), cfg.decoded(spec["ipc"], dataset.image_shape)
    passes = cfg.passes(classes, len(dataset.train_labels) // dataset.num_classes, ipc)
    if passes is None or "pool" in spec.get("beyond", {}) or cfg.model is None:
        return None
    forward, both = passes
    return float(forward + 3 * both) * count_flop_per_image(cfg.model, dataset.image_shape, classes)


def describe_origin(spec: Spec) -> Card:
    """Return the entries of a memory's card that describe how it was built, which are enough to build it again."""
    return {name: spec[name] for name in ("builder", "config", "ipc", "seed")} | {
        "augment": choose_augmentation(spec["dataset"])  # for networks that are trained on the memory
    }


def select_real_images(
    dataset: DataSet, classes: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the normalised train images of `classes` (N, C, H, W), their labels (N,) and their rows (N,).

    The images are in the order of the data set. The rows are indices into the official train set.
    """
    rows = torch.isin(dataset.train_labels, torch.tensor(classes)).nonzero().squeeze(1)
    images = dataset.train_images[rows].to(device)
    official_rows = rows if dataset.part is None else dataset.part[rows]
    return dataset.normalise(images), dataset.train_labels[rows].to(device), official_rows


def load_memory(spec: Spec, store: Store, dataset: DataSet) -> Memory:
    """Load the memory that a network is trained on: the memory of the units in its spec, or all train images.

    Raises:
        MissingResultError: the result of a unit is missing, or was set aside because it cannot be decoded.
    """
    if isinstance(spec["memory"], str):
        images, labels, _ = select_real_images(dataset, spec["classes"], torch.device("cpu"))
        return memory.find(spec["memory"])(images, labels, Budget(1), generator("full"))
    parts = []
    for key in spec["memory"]:
        part = store.read(key, lambda tensors, card: memory_file.decode(tensors, card, dataset))
        if part is None:
            raise MissingResultError(key)
        parts.append(part)
    return memories.join(parts)


def restore_recipe(plain: Spec) -> TrainConfig:
    """Return the configuration of the recipe in the spec of a unit."""
    return config.restore(TrainConfig(), plain)
