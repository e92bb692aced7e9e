"""The interface of a track, and what all tracks share: loading data, checking a run, and doing a unit."""

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
from harness.execution.resources import describe_device, measure_peak_memory
from harness.execution.units import Store, Unit

LOGGERS = ("text", "tensorboard")
SECONDS = "seconds"  # name of the elapsed seconds in a checkpoint; the other names belong to the method
Result = tuple[dict[str, torch.Tensor], Card]
Row = dict[str, str | int | float | None]  # column -> value


class Plan(Protocol):
    """The units of a run, with the information that the track needs to make rows of their results."""

    @property
    def units(self) -> list[Unit]:
        """All units, each of them once."""


AnyPlan = TypeVar("AnyPlan", bound=Plan)
TrackRun = TypeVar("TrackRun", bound=Run, contravariant=True)


class Track(Protocol[TrackRun, AnyPlan]):
    """The functions that a module of this package provides for one type of run."""

    def plan(self, run: TrackRun, dataset: DataSet, place: "Place") -> AnyPlan:
        """Plan the units of a run whose form of computing is resolved (see `config.resolve_form`).

        Raises:
            ValueError: the run does not fit the data set.
        """

    def work(self, unit: Unit, store: Store, progress: Progress) -> None:
        """Do one unit and save its result."""

    def make_rows(self, run: TrackRun, plan: AnyPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
        """Yield a row for each measurement of the finished units, in the order of the plan."""

    def make_title(self, run: TrackRun) -> str:
        """Return a description of a run in one line."""

    def make_short_name(self, run: TrackRun) -> str:
        """Return the part of a directory's name that differs between runs with the same data set and memory."""

    def list_memory_files(self, plan: AnyPlan) -> dict[str, list[Unit]]:
        """List the memories of a run that are saved as files: name of the file -> units that build the memory."""


@dataclass(frozen=True)
class Place:
    """The device and the directories of a run; they are no part of the key of a unit.

    Attributes:
        device: name of the device.
        data: directory of the data sets; None for the default places.
        logger: an Avalanche logger, "text" or "tensorboard"; None for none.
        logs: directory for TensorBoard.
    """

    device: str = "cpu"
    data: str | None = None
    logger: str | None = None
    logs: str = ""


def load_dataset(run: Run, place: Place) -> DataSet:
    """Load the data set of a run; in split "validation", a fixed tenth of train takes the place of the test images."""
    return load_cached_dataset(run.dataset, place.data, run.split)


@lru_cache(maxsize=2)
def load_cached_dataset(name: str, directory: str | None, part: str) -> DataSet:
    """Load a data set by name, in split `part`; the last two are cached."""
    dataset = data.load(name, Path(directory) if directory else None)
    return hold_out(dataset) if part == "validation" else dataset


def describe_memory(run: Run) -> str:
    """Return the name of the memory of a run with its images per class, if it stores images, for messages."""
    return f"{get_memory_name(run)} ({run.ipc} per class)" if run.method.stored else get_memory_name(run)


def check_fit(run: Run, dataset: DataSet, tested: Sequence[str]) -> None:
    """Check that a run fits its data set.

    Args:
        tested: names of the networks that are trained on the memory.
    Raises:
        ValueError: a network does not fit the images, or the budget or a file of the method does not fit the data set.
    """
    for name in (*tested, run.method.model or run.model):
        with torch.device("meta"):  # checks the shapes; no weights are drawn
            models.make(name, dataset.image_shape, dataset.num_classes)
    counts = torch.bincount(dataset.train_labels, minlength=dataset.num_classes)
    if run.method.stored and not is_file(run.memory) and run.ipc > int(counts.min()):
        c = int(counts.argmin())
        raise ValueError(
            f"ipc: expected at most {int(counts[c])} images per class, as many as class {c} has, got {run.ipc}"
        )
    count_images_per_class(run, dataset)  # raises an error if the parametrisation does not fit the budget
    labels, whole = dataset.train_labels, dataset.whole or len(dataset.train_labels)
    run.method.check_data(labels, torch.arange(whole) if dataset.part is None else dataset.part, whole)


def count_images_per_class(run: Run, dataset: DataSet) -> int:
    """Return how many images of each class a network is trained on: the budget, or the images it decodes into."""
    if not run.method.stored:
        return len(dataset.train_labels) // dataset.num_classes
    return run.method.decoded(run.ipc, dataset.image_shape)


def get_file_config(run: Run) -> FileMemory:
    """Return the configuration for reading the file of a run whose memory comes from a file."""
    assert isinstance(run.method, FileMemory)
    return run.method


def adopt_file_budget(run: AnyRun, dataset: DataSet) -> AnyRun:
    """Set the budget and the number of sets of a run to those of its file, if its memory comes from a file.

    Raises:
        ValueError: the run evaluates on validation images that the set may have been made from.
    """
    if not is_file(run.memory):
        return run
    if run.track != "nas" and has_seen_validation(run, dataset):
        raise ValueError("split: the set may have been made from the validation images; evaluate it on test")
    path = foreign.parse_path(run.memory)
    run = replace(run, memory_config=foreign.resolve(path, dataset, get_file_config(run)))
    sets, ipc = foreign.describe(path, dataset, get_file_config(run))
    if isinstance(run, CondenseRun):
        return replace(run, ipc=ipc, sets=min(run.sets, sets))
    return replace(run, ipc=ipc)


def has_seen_validation(run: Run, dataset: DataSet) -> bool:
    """Return whether a set from a file may have been made from the validation images.

    False only if its card states that it was made from the train images of this split.
    """
    if run.split == "test" or not is_file(run.memory):
        return False
    path = foreign.parse_path(run.memory)
    return path.suffix != ".safetensors" or atomic.load(path)[1].get("dataset_digest") != dataset.digest


def get_memory_name(run: Run) -> str:
    """Return the name of the memory of a run for rows; the name of a file has no folders."""
    return foreign.PREFIX + foreign.parse_path(run.memory).name if is_file(run.memory) else run.memory


def is_file(name: str) -> bool:
    """Return whether the name of a memory is that of a file: "file:PATH"."""
    return name.startswith(foreign.PREFIX)


def make_context(run: Run, place: Place) -> dict[str, str | None]:
    """Make the context of the run's units: how they find their data on this machine."""
    return {"device": place.device, "data": place.data, "split": run.split}


# --- doing a unit ------------------------------------------------------------------------------------------------


def do_unit(unit: Unit, store: Store, progress: Progress, do: Callable[..., Result]) -> None:
    """Do one unit by `do(unit, store, dataset, device, progress)`, and save its result with its cost.

    Products in float32 are IEEE float32 on every device, unless the configuration of the unit has dtype tf32.

    Raises:
        ValueError: the data have changed since the unit was planned.
        FloatingPointError: an image or a loss is not finite.
        RuntimeError: the device has too little memory; the message names the setting to lower.
    """
    dataset = load_cached_dataset(unit.spec["dataset"], unit.context["data"], unit.context["split"])
    if dataset.digest != unit.spec["dataset_digest"]:
        raise ValueError(f"{dataset.name}: the data have changed since the run was planned")
    device = torch.device(unit.context["device"])
    clock = Clock()
    try:
        with (
            preserve_global_state(device),
            compute.use_device(device),
            compute.precision("float32", device),
            measure_peak_memory(device) as peak,
        ):
            tensors, card = do(unit, store, dataset, device, clock.add_to(progress))
    except torch.OutOfMemoryError as error:
        smaller = f"--set {setting} to less, or " if (setting := find_batch_setting(unit)) else ""
        raise RuntimeError(f"out of memory on {device}; {smaller}use a narrower model") from error
    cost = {
        **card.pop("cost", {}),
        "wall_seconds": clock.seconds + card.pop("earlier_seconds", 0.0),
        "device": describe_device(device),
        "device_type": device.type,
        "torch": torch.__version__,
        **peak,
    }
    store.save(unit.key, tensors, {**card, "kind": unit.kind, "spec": dict(unit.spec), "cost": cost})


def find_batch_setting(unit: Unit) -> str | None:
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
    """Counts the seconds of work on a unit, including work before an interruption."""

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def add_to(self, progress: Progress) -> Progress:
        """Return a progress that saves the seconds in the checkpoints of `progress`, and restores them."""

        def restore(state: State) -> None:
            self._before = float(state.get(SECONDS, torch.zeros(())))

        return ExtendedProgress(progress, lambda: {SECONDS: torch.tensor(self.seconds, dtype=torch.float64)}, restore)
