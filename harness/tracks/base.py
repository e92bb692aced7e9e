"""What the tracks share: where a run works, its memories as units, how one is made, what its rows say of it."""

import inspect
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from harness import config, memory
from harness.config import AnyRun, CondenseRun, Run
from harness.core import atomic as files
from harness.core import compute, data, models
from harness.core import foreign as imported
from harness.core import memory as memories
from harness.core.atomic import Card
from harness.core.compute import hardware
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import Budget, Memory
from harness.core.progress import Along, Progress, State
from harness.core.rng import generator
from harness.core.train import TrainConfig, augmentation
from harness.execution.units import Store, Unit

LOGGERS = ("text", "tensorboard")
SHARED_BY = "HARNESS_GPU_SHARED_BY"  # in a worker's environment: how many have its GPU
SECONDS = "seconds"  # what a clock keeps beside a method's own state
PEAK_SLACK = 16 * 2**20  # bytes: the kernel counts resident pages by thread, and adds them up now and then
Row = dict[str, Any]
Result = tuple[dict[str, torch.Tensor], Card]


@dataclass(frozen=True)
class Place:
    """Where a run finds its data and does its work: nothing that a result depends on."""

    device: str = "cpu"
    data: str | None = None
    logger: str | None = None  # an Avalanche logger to pass through: text or tensorboard
    logs: str = ""  # directory for TensorBoard


def load(run: Run, place: Place) -> DataSet:
    """The run's data set, with a tenth of train in the place of test where the run is judged on that."""
    return dataset_of(run.dataset, place.data, run.split)


@lru_cache(maxsize=2)
def dataset_of(name: str, directory: str | None, part: str) -> DataSet:
    """A data set by name, kept for the life of the process."""
    dataset = data.load(name, Path(directory) if directory else None)
    return hold_out(dataset) if part == "validation" else dataset


def is_stored(run: Run) -> bool:
    """Whether the run's memory is a memory, rather than the data set itself."""
    return getattr(run.memory_config, "stored", True)


def budgeted(run: Run) -> str:
    """The run's memory with its budget, for people; one that is the data set itself has none."""
    return f"{name_of(run)} ({run.ipc} per class)" if is_stored(run) else name_of(run)


def check(run: Run, dataset: DataSet, tested: Sequence[str]) -> None:
    """Raise ValueError where the networks do not fit the images, or the budget or the builder's files the data.

    A builder's configuration may have `check_data(labels, rows, of)`, which raises where it does not fit train images
    with these labels at these rows of an official train set of `of` images.
    """
    for name in (*tested, model_of(run.memory_config) or run.model):
        with torch.device("meta"):  # it fits the images; nothing is drawn
            models.make(name, dataset.image_shape, dataset.num_classes)
    counts = torch.bincount(dataset.train_labels, minlength=dataset.num_classes)
    if is_stored(run) and not is_file(run.memory) and run.ipc > int(counts.min()):
        c = int(counts.argmin())
        raise ValueError(
            f"ipc: {run.ipc} images a class are asked for, class {c} has {int(counts[c])}: ask for no more"
        )
    images_per_class(run, dataset)  # the parametrisation fits the budget
    if hasattr(run.memory_config, "check_data"):
        labels, whole = dataset.train_labels, dataset.whole or len(dataset.train_labels)
        run.memory_config.check_data(labels, torch.arange(whole) if dataset.part is None else dataset.part, whole)


def images_per_class(run: Run, dataset: DataSet) -> int:
    """Images of each class that a network is trained on: those of the budget, or what they decode into."""
    if not is_stored(run):
        return len(dataset.train_labels) // dataset.num_classes
    decoded = getattr(run.memory_config, "decoded", None)
    return run.ipc if decoded is None else int(decoded(run.ipc, dataset.image_shape))


def model_of(cfg: Any) -> str | None:
    """The network a builder works with; None for one that needs none."""
    return getattr(cfg, "model", None)


def settled(run: AnyRun, dataset: DataSet) -> AnyRun:
    """A run that judges others' sets, with the budget and the number of sets that their file has."""
    if not is_file(run.memory):
        return run
    if run.track != "nas" and has_seen_validation(run, dataset):
        raise ValueError("split: a set that others condensed has seen the validation images; judge it on test")
    sets, ipc = imported.describe(imported.path_of(run.memory), dataset, run.memory_config)
    if isinstance(run, CondenseRun):
        return replace(run, ipc=ipc, sets=min(run.sets, sets))
    return replace(run, ipc=ipc)


def has_seen_validation(run: Run, dataset: DataSet) -> bool:
    """Whether a set read from a file may hold what it is judged on: unless it says it was made from the rest alone."""
    if run.split == "test" or not is_file(run.memory):
        return False
    path = imported.path_of(run.memory)
    return path.suffix != ".safetensors" or files.load(path)[1].get("dataset_digest") != dataset.digest


def name_of(run: Run) -> str:
    """The memory's name as rows and people know it: of a file, without the folders it lies in."""
    return imported.PREFIX + imported.path_of(run.memory).name if is_file(run.memory) else run.memory


def is_file(name: str) -> bool:
    return name.startswith(imported.PREFIX)


# --- memory units ---------------------------------------------------------------------------------------------------


def context_of(run: Run, place: Place) -> dict[str, Any]:
    """How a unit of the run gets at its data here."""
    return {"device": place.device, "data": place.data, "split": run.split}


def is_per_class(run: Run) -> bool:
    """Whether the run's builder treats each class on its own, whatever the others are."""
    return bool(getattr(run.memory_config, "per_class", False))


def condensed_together(run: Run, classes: Sequence[int]) -> list[list[int]]:
    """`classes` in groups, a unit for each: all of them, or `classes_per_unit` where each class stands alone."""
    size = run.classes_per_unit if is_per_class(run) else len(classes)
    return [list(classes[first : first + size]) for first in range(0, len(classes), size)]


def memory_unit(
    run: Run,
    dataset: DataSet,
    name: str,
    classes: Sequence[int],
    context: Mapping[str, Any],
    cfg: Any = None,
    *,
    kind: str = "",
) -> Unit:
    """The memory of `classes`, seeded by the run's seed and `name`; its label says `kind` before the name."""
    cfg = run.memory_config if cfg is None else cfg
    spec = {
        "builder": run.memory,
        "config": config.plain(cfg),
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(classes),
        "ipc": run.ipc,
        "seed": [run.seed, name],
    }
    if beyond := {**getattr(getattr(cfg, "host", None), "beyond", {}), **getattr(cfg, "beyond", {})}:
        spec |= {"beyond": beyond}
    if scores := getattr(cfg, "scores", ""):  # known by what it holds, not by where it lies
        path = Path(scores).resolve()
        spec |= {"config": {**config.plain(cfg), "scores": path.name}, "scores_digest": imported.digest(path)}
        context = {**context, "scores": str(path)}
    first_last = f"{classes[0]} .. {classes[-1]}" if len(classes) > 1 else str(classes[0])
    return Unit("memory", spec, f"{run.memory} memory, {kind}{name}, classes {first_last}", context)


def file_unit(run: Run, dataset: DataSet, number: int, context: Mapping[str, Any]) -> Unit:
    """Set `number` of a file that others made, as a memory unit."""
    path = imported.path_of(run.memory)
    spec = {
        "builder": imported.PREFIX + path.name,
        "config": config.plain(run.memory_config),
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "ipc": run.ipc,
        "file_digest": imported.digest(path),
        "seed": [number],
    }
    return Unit("memory", spec, f"{path.name}, set {number}", {**context, "path": str(path)})


def work_on(unit: Unit, store: Store, progress: Progress, do: Callable[..., Result]) -> None:
    """Do one unit by `do(unit, store, dataset, device, progress)` and save its result with its cost.

    What is multiplied in float32 is IEEE float32, on CUDA too, but where the unit's configuration says tf32.

    Raises:
        ValueError: the data are not those the unit was planned with.
        FloatingPointError: an image or a loss is not finite.
        RuntimeError: the device has too little memory; the message says which setting needs less.
    """
    dataset = dataset_of(unit.spec["dataset"], unit.context["data"], unit.context["split"])
    if dataset.digest != unit.spec["dataset_digest"]:
        raise ValueError(f"{dataset.name}: the data have changed since the run was planned")
    device = torch.device(unit.context["device"])
    clock = Clock()
    try:
        with compute.on(device), compute.precision("float32", device), peak_memory(device) as peak:
            tensors, card = do(unit, store, dataset, device, clock.along(progress))
    except torch.OutOfMemoryError as error:
        smaller = f"--set {setting} to less, or " if (setting := batch_setting(unit)) else ""
        raise RuntimeError(f"out of memory on {device}; {smaller}use a narrower model") from error
    cost = {
        **card.pop("cost", {}),
        "wall_seconds": clock.seconds + card.pop("earlier_seconds", 0.0),
        "device": device_name(device),
        "device_type": device.type,
        "torch": torch.__version__,
        **peak,
    }
    store.save(unit.key, tensors, {**card, "kind": unit.kind, "spec": dict(unit.spec), "cost": cost})


def batch_setting(unit: Unit) -> str | None:
    """The setting of how many images a unit's network sees at a time; None where the unit has none."""
    if unit.kind != "memory":
        return "recipe.batch_size"
    for setting in ("real_batch", "host.real_batch", "train.batch_size", "host.train.batch_size"):
        part: Any = unit.spec["config"]
        for name in setting.split("."):
            part = part.get(name) if isinstance(part, Mapping) else None
        if part is not None:
            return f"memory.{setting}"
    return None


def whole_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a memory cost whose parts cost `costs`: seconds and FLOP add up, memory does not."""
    whole: dict[str, Any] = {
        "wall_seconds": sum(cost["wall_seconds"] for cost in costs),
        "device": costs[0]["device"],
    }
    if all("flop" in cost for cost in costs):
        whole["flop"] = sum(cost["flop"] for cost in costs)
    if peaks := [cost["peak_bytes"] for cost in costs if "peak_bytes" in cost]:
        whole["peak_bytes"] = max(peaks)
    return whole


class Clock:
    """Seconds of work on a unit, those before a kill included."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def along(self, progress: Progress) -> Progress:
        """`progress` with the time spent beside its state."""

        def restore(kept: State) -> None:
            self._before = float(kept.get(SECONDS, torch.zeros(())))

        return Along(progress, lambda: {SECONDS: torch.tensor(self.seconds, dtype=torch.float64)}, restore)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Fills in `peak_bytes`: the most device memory held inside, or the most resident memory of this process.

    Left out on a CPU whose system cannot measure anew: there a process's peak may be that of earlier work.
    """
    peak: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak["peak_bytes"] = torch.cuda.max_memory_allocated(device)
        return
    is_anew = forget_resident_peak()
    yield peak
    if is_anew:
        peak["peak_bytes"] = _resident("VmHWM")


def forget_resident_peak() -> bool:
    """Let this process's peak of resident memory begin anew; whether the system did so."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmHWM") <= _resident("VmRSS") + PEAK_SLACK
    return False


def _resident(name: str) -> int:
    """Bytes of this process's resident memory now (VmRSS) or at its peak (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status: says nothing of {name}")


def condense(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    """The memory of a unit, built or read from others' file, as the tensors and card of its file."""
    spec = unit.spec
    if "path" in unit.context:
        path = _unchanged(unit.context["path"], spec["file_digest"])
        sets = imported.load(path, dataset, _config(imported.FileConfig(), spec))
        return memories.encode(sets[spec["seed"][0]], dataset, origin(spec))
    build = memory.find(spec["builder"])
    cfg = _config(memory.default_config(build), spec)
    if "scores" in unit.context:
        cfg = replace(cfg, scores=str(_unchanged(unit.context["scores"], spec["scores_digest"])))
    images, labels, rows = real_images(dataset, spec["classes"], device)
    budget, rng = Budget(spec["ipc"]), generator("memory", *spec["seed"], *spec["classes"])
    continuing = Continuing(progress, store, unit.context.get("earlier"), device)
    offered = {"progress": continuing, "rows": rows, "of": dataset.whole or len(dataset.train_labels)}
    taken = inspect.signature(build).parameters
    built = build(images, labels, budget, rng, cfg, **{k: v for k, v in offered.items() if k in taken})
    check_built(built, spec, dataset)
    tensors, card = memories.encode(memories.on_cpu(built), dataset, origin(spec))
    if (flop := condensing_flop(cfg, dataset, spec)) is not None:
        card["cost"] = {"flop": flop}
    if spec.get("continues"):
        tensors |= continuing.last
    return tensors, card | {"earlier_seconds": continuing.seconds}


def _unchanged(path: str, digest: str) -> Path:
    """The file at `path`, if it still has the digest that a unit was planned with; else a ValueError."""
    if imported.digest(Path(path)) != digest:
        raise ValueError(f"{path}: the file has changed since the run was planned")
    return Path(path)


class Continuing(Progress):
    """Takes up a method where an earlier unit of fewer updates ended, and keeps where it ends itself.

    An earlier unit of another kind of device, whose generators and rounding are others, does not count.
    """

    def __init__(self, progress: Progress, store: Store, earlier: str | None, device: torch.device) -> None:
        self._progress, self._store, self._earlier, self._device = progress, store, earlier, device
        self.last: State = {}
        self.seconds = 0.0  # of the earlier units

    def resume(self) -> State | None:
        kept = self._progress.resume()
        found = self._store.load(self._earlier) if self._earlier else None
        if found is not None and found[1]["cost"].get("device_type", "cpu") == self._device.type:
            tensors, card = found
            self.seconds = card["cost"]["wall_seconds"]
            ended = {name.removeprefix("end."): part for name, part in tensors.items() if name.startswith("end.")}
            kept = kept or ended or None
        if kept is not None:
            self._keep(kept)  # killed after its last tick, a method does not tick again
        return kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self._progress.tick(done, total, state)
        if done == total:
            self._keep(state())

    def _keep(self, state: State) -> None:
        self.last = {f"end.{name}": part.detach().clone() for name, part in state.items() if name != SECONDS}


def check_built(built: Memory, spec: Mapping[str, Any], dataset: DataSet) -> None:
    """Raise ValueError where a builder's memory is unbalanced, of other classes or images, or above its budget."""
    counts = torch.bincount(built.labels.cpu(), minlength=dataset.num_classes)
    each = len(built.labels) // len(spec["classes"])
    if each == 0 or any(int(counts[c]) != each for c in spec["classes"]) or int(counts.sum()) != len(built.labels):
        raise ValueError(f"{spec['builder']}: the builder's memory does not hold as many images of each class")
    if built.images.shape[1:] != dataset.image_shape or built.images.dtype != torch.float32:
        got = f"{tuple(built.images.shape[1:])}, {built.images.dtype}"
        raise ValueError(f"{spec['builder']}: the builder's images are {got}; {dataset.image_shape}, float32 fit")
    most = spec["ipc"] * len(spec["classes"]) * built.images[0].numel()
    if built.scalars > most:
        held = f"{built.scalars} numbers{'' if built.soft is None else ', soft labels included'}"
        raise ValueError(f"{spec['builder']}: the builder's memory holds {held}, the budget {most}")
    if built.league == "pixel" and each != spec["ipc"]:
        raise ValueError(f"{spec['builder']}: the builder's memory does not hold {spec['ipc']} images of each class")


def condensing_flop(cfg: Any, dataset: DataSet, spec: Mapping[str, Any]) -> float | None:
    """Floating point operations that building a memory takes, by the configuration's own count of passes.

    None where that is not known: the builder does not say, or trains a pool of networks until they are good enough.
    """
    if not hasattr(cfg, "passes") or "pool" in spec.get("beyond", {}) or (model := model_of(cfg)) is None:
        return None
    classes, decoded = len(spec["classes"]), getattr(cfg, "decoded", None)
    ipc = spec["ipc"] if decoded is None else decoded(spec["ipc"], dataset.image_shape)
    forward, both = cfg.passes(classes, len(dataset.train_labels) // dataset.num_classes, ipc)
    return float(forward + 3 * both) * flop_of(model, dataset.image_shape, classes)


@lru_cache(maxsize=64)
def flop_of(model: str, image_shape: tuple[int, int, int], classes: int) -> int:
    """Floating point operations of one image's forward pass."""
    with torch.device("meta"):
        return models.forward_flop(models.make(model, image_shape, classes), image_shape)


def origin(spec: Mapping[str, Any]) -> Card:
    """What a memory's card says of its making, besides the data: enough to make and to judge it again."""
    return {name: spec[name] for name in ("builder", "config", "ipc", "seed")} | {
        "augment": augmentation(spec["dataset"])  # what networks are to be trained on it with
    }


def _config(default: Any, spec: Mapping[str, Any]) -> Any:
    return config_from(default, spec["config"])


def config_from(default: Any, plain: Mapping[str, Any]) -> Any:
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


def real_images(
    dataset: DataSet, classes: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalised train images of `classes`, in the data set's order, their labels, and their official places."""
    rows = torch.isin(dataset.train_labels, torch.tensor(classes)).nonzero().squeeze(1)
    images = dataset.train_images[rows].to(device)
    places = rows if dataset.part is None else dataset.part[rows]
    return dataset.normalise(images), dataset.train_labels[rows].to(device), places


def kept(spec: Mapping[str, Any], store: Store, dataset: DataSet) -> Memory:
    """The memory a network's unit is trained on: of the units it names, or the whole data."""
    if isinstance(spec["memory"], str):
        images, labels, _ = real_images(dataset, spec["classes"], torch.device("cpu"))
        return memory.find(spec["memory"])(images, labels, Budget(1), generator("full"))
    parts = []
    for key in spec["memory"]:
        found = store.load(key)
        if found is None:
            raise FileNotFoundError(f"memory {key}: its file is no longer there; run again to redo it")
        parts.append(memories.decode(*found, dataset))
    return memories.join(parts)


def device_name(device: torch.device) -> str:
    """The hardware as rows name it, with what its seconds depend on: a CPU's threads, and who shares a GPU."""
    if device.type == "cuda":
        workers = int(os.environ.get(SHARED_BY, "1"))
        return torch.cuda.get_device_name(device) + (f", shared by {workers} workers" if workers > 1 else "")
    return f"{hardware.processor()}, 1 thread"


# --- rows -----------------------------------------------------------------------------------------------------------


def shared_row(run: Run, track: str, dataset: DataSet, changes: str) -> Row:
    """What all rows of a run say."""
    model = model_of(run.memory_config)
    return {
        "track": track,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "exactness": dataset.exactness,
        "preset": run.preset,
        "changes": changes,
        "memory": name_of(run),
        "memory_model": None if model is None else str(models.parse(model)),
        "ipc": run.ipc if is_stored(run) else None,
        "split": run.split,
        "seed": run.seed,
        "version": version("condensation-harness"),
        "spec": spec_of(run, config.plain(run.recipe_config)),
    }


def spec_of(run: Run, recipe: Mapping[str, Any]) -> str:
    """What a row says of how its memory was made and its network trained, which may not be the run's usual one."""
    return json.dumps({"memory": config.plain(run.memory_config), "recipe": recipe}, sort_keys=True)


def measured(unit: Unit, card: Card) -> Row:
    """What a row says of the work on a unit."""
    cost = card["cost"]
    return {"key": unit.key} | {name: cost.get(name) for name in ("device", "torch", "wall_seconds", "peak_bytes")}


def form_of(cfg: Any) -> str:
    """The form of computing a configuration names, such as "compiled, float32, real bfloat16"."""
    names = {f.name for f in fields(cfg)}
    for nested in ("host", "train"):
        if "compute" not in names and is_dataclass(part := getattr(cfg, nested, None)):
            return form_of(part)
    parts = [getattr(cfg, "compute", "eager"), getattr(cfg, "dtype", getattr(cfg, "synthetic_dtype", "float32"))]
    return ", ".join(parts + ([f"real {cfg.real_dtype}"] if "real_dtype" in names else []))


def recipe_from(plain: Mapping[str, Any]) -> TrainConfig:
    """The recipe a unit's spec names."""
    recipe: TrainConfig = config_from(TrainConfig(), plain)
    return recipe
