"""What a track is, where a run works, and what a run's memory says of itself before it is built."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from harness.config import AnyRun, CondenseRun, FileMemory, Run
from harness.core import atomic, compute, data, foreign, models
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.isolation import preserve_global_state
from harness.core.progress import ExtendedProgress, Progress, State
from harness.execution.resources import device_name, peak_memory
from harness.execution.units import Store, Unit

LOGGERS = ("text", "tensorboard")
SECONDS = "seconds"  # name of the elapsed seconds in a checkpoint, beside the method's own state
Result = tuple[dict[str, torch.Tensor], Card]
Row = dict[str, str | int | float | None]  # column -> value


class Plan(Protocol):
    """The units of a run, with what a track needs to make rows of them."""

    @property
    def units(self) -> list[Unit]:
        """Every unit once."""


AnyPlan = TypeVar("AnyPlan", bound=Plan)
TrackRun = TypeVar("TrackRun", bound=Run, contravariant=True)


class Track(Protocol[TrackRun, AnyPlan]):
    """What a module of this package provides for one type of run."""

    def plan(self, run: TrackRun, dataset: DataSet, place: "Place") -> AnyPlan:
        """Return the units of a run whose configurations and form of computing are decided.

        Raises:
            ValueError: the run does not fit the data set.
        """

    def work(self, unit: Unit, store: Store, progress: Progress) -> None:
        """Do one unit and save its result."""

    def rows(self, run: TrackRun, plan: AnyPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
        """Yield a row for each measurement of the finished units, in the order of the plan."""

    def title(self, run: TrackRun) -> str:
        """Return what a run does, in one line."""

    def short_name(self, run: TrackRun) -> str:
        """Return what sets a run off from others of its data set and memory, for the name of a directory."""

    def memory_files(self, plan: AnyPlan) -> dict[str, list[Unit]]:
        """Return the whole memories of a run: the name of a file -> the units that build its memory."""


@dataclass(frozen=True)
class Place:
    """Where a run finds its data and does its work; no result depends on it.

    Attributes:
        device: name of the device.
        data: directory of the data sets; None for the usual places.
        logger: an Avalanche logger, "text" or "tensorboard"; None for none.
        logs: directory for TensorBoard.
    """

    device: str = "cpu"
    data: str | None = None
    logger: str | None = None
    logs: str = ""


def load_dataset(run: Run, place: Place) -> DataSet:
    """Return the data set of a run, in its split: on validation, a tenth of train stands in place of test."""
    return cached_dataset(run.dataset, place.data, run.split)


@lru_cache(maxsize=2)
def cached_dataset(name: str, directory: str | None, part: str) -> DataSet:
    """Return a data set by name; this process keeps the last two."""
    dataset = data.load(name, Path(directory) if directory else None)
    return hold_out(dataset) if part == "validation" else dataset


def describe_memory(run: Run) -> str:
    """Return the name of the memory of a run with its budget, for people; the data set itself has no budget."""
    return f"{memory_name(run)} ({run.ipc} per class)" if run.method.stored else memory_name(run)


def check_fit(run: Run, dataset: DataSet, tested: Sequence[str]) -> None:
    """Raise ValueError where the networks do not fit the images, or the budget or the method's files the data."""
    for name in (*tested, run.method.model or run.model):
        with torch.device("meta"):  # it fits the images; nothing is drawn
            models.make(name, dataset.image_shape, dataset.num_classes)
    counts = torch.bincount(dataset.train_labels, minlength=dataset.num_classes)
    if run.method.stored and not is_file(run.memory) and run.ipc > int(counts.min()):
        c = int(counts.argmin())
        raise ValueError(
            f"ipc: {run.ipc} images a class are asked for, class {c} has {int(counts[c])}: ask for no more"
        )
    images_per_class(run, dataset)  # the parametrisation fits the budget
    labels, whole = dataset.train_labels, dataset.whole or len(dataset.train_labels)
    run.method.check_data(labels, torch.arange(whole) if dataset.part is None else dataset.part, whole)


def images_per_class(run: Run, dataset: DataSet) -> int:
    """Return how many images of each class a network is trained on: the budget, or the images it decodes into."""
    if not run.method.stored:
        return len(dataset.train_labels) // dataset.num_classes
    return run.method.decoded(run.ipc, dataset.image_shape)


def file_config(run: Run) -> FileMemory:
    """How the file of a run that judges others' sets is read."""
    assert isinstance(run.method, FileMemory)
    return run.method


def adopt_file_budget(run: AnyRun, dataset: DataSet) -> AnyRun:
    """Return the run with the budget and the number of sets of its file, if its memory comes from a file.

    Raises:
        ValueError: the set may hold the validation images on which the run would judge it.
    """
    if not is_file(run.memory):
        return run
    if run.track != "nas" and has_seen_validation(run, dataset):
        raise ValueError("split: a set that others condensed has seen the validation images; judge it on test")
    path = foreign.parse_path(run.memory)
    run = replace(run, memory_config=foreign.resolve(path, dataset, file_config(run)))
    sets, ipc = foreign.describe(path, dataset, file_config(run))
    if isinstance(run, CondenseRun):
        return replace(run, ipc=ipc, sets=min(run.sets, sets))
    return replace(run, ipc=ipc)


def has_seen_validation(run: Run, dataset: DataSet) -> bool:
    """Return whether a set from a file may hold the validation images: unless its card says that it does not."""
    if run.split == "test" or not is_file(run.memory):
        return False
    path = foreign.parse_path(run.memory)
    return path.suffix != ".safetensors" or atomic.load(path)[1].get("dataset_digest") != dataset.digest


def memory_name(run: Run) -> str:
    """Return the name of the memory of a run, as rows have it: a file without its folders."""
    return foreign.PREFIX + foreign.parse_path(run.memory).name if is_file(run.memory) else run.memory


def is_file(name: str) -> bool:
    """Return whether the name of a memory stands for a file."""
    """Return whether the name of a memory stands for a file."""
    return name.startswith(foreign.PREFIX)


def unit_context(run: Run, place: Place) -> dict[str, str | None]:
    """Return how a unit of the run finds its data on this machine."""
    return {"device": place.device, "data": place.data, "split": run.split}


# --- doing a unit ------------------------------------------------------------------------------------------------


def do_unit(unit: Unit, store: Store, progress: Progress, do: Callable[..., Result]) -> None:
    """Do one unit by `do(unit, store, dataset, device, progress)` and save its result with its cost.

    Products in float32 are IEEE float32, on CUDA too, unless the configuration of the unit asks for tf32.

    Raises:
        ValueError: the data differ from those that the unit was planned with.
        FloatingPointError: an image or a loss is not finite.
        RuntimeError: the device has too little memory; the message names the setting to lower.
    """
    dataset = cached_dataset(unit.spec["dataset"], unit.context["data"], unit.context["split"])
    if dataset.digest != unit.spec["dataset_digest"]:
        raise ValueError(f"{dataset.name}: the data have changed since the run was planned")
    device = torch.device(unit.context["device"])
    clock = Clock()
    try:
        with (
            preserve_global_state(device),
            compute.use_device(device),
            compute.precision("float32", device),
            peak_memory(device) as peak,
        ):
            tensors, card = do(unit, store, dataset, device, clock.add_to(progress))
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
    """Return the setting for the number of images in a batch of a unit; None if the unit has no such setting."""
    if unit.kind != "memory":
        return "recipe.batch_size"
    for setting in ("real_batch", "host.real_batch", "train.batch_size", "host.train.batch_size"):
        part: object = unit.spec["config"]
        for name in setting.split("."):
            part = part.get(name) if isinstance(part, Mapping) else None
        if part is not None:
            return f"memory.{setting}"
    return None


class Clock:
    """Counts the seconds of work on a unit, those before a kill included."""

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def add_to(self, progress: Progress) -> Progress:
        """Return `progress` with the seconds in its checkpoints."""

        def restore(state: State) -> None:
            self._before = float(state.get(SECONDS, torch.zeros(())))

        return ExtendedProgress(progress, lambda: {SECONDS: torch.tensor(self.seconds, dtype=torch.float64)}, restore)
