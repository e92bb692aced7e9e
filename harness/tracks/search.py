"""The search track: architectures are ranked by training on a proxy set and, as the truth, on all images."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from harness import config
from harness.config import EARLY_STOPPING, FULL, ZERO_COST, NASRun
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.progress import Progress
from harness.core.rng import generator
from harness.execution.units import Spec, Store, Unit
from harness.nas import proxy
from harness.nas import space as spaces
from harness.nas.form import choose_form
from harness.nas.proxy import LabelledImages
from harness.nas.space import Arch
from harness.results.wording import quantity
from harness.tracks.base import (
    Place,
    Result,
    Row,
    check_fit,
    count_images_per_class,
    describe_memory,
    do_unit,
    get_memory_name,
    has_seen_validation,
    is_file,
    load_cached_dataset,
    make_context,
)
from harness.tracks.memories import build_memory, group_classes, load_memory, plan_file, plan_memory, restore_recipe
from harness.tracks.rows import add_costs, describe_form, describe_training_form, make_cost_columns, make_shared_columns
from harness.tracks.truth import load_tabular_truth, make_truth_columns

# Added to the column `changes` unless the file of the memory states that the validation images were not used.
SEEN = "may have seen the validation images"

# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A unit that trains one architecture once.

    Attributes:
        unit: the unit.
        arch: the architecture.
        proxy: what it is trained on: the name of the memory, "early-stopping" or "full".
        repeat: number of the training of this architecture, from 0.
    """

    unit: Unit
    arch: Arch
    proxy: str
    repeat: int


@dataclass(frozen=True)
class SearchPlan:
    archs: tuple[Arch, ...]
    memory: list[Unit]  # units that build the proxy set; [] if the proxy is not a memory
    candidates: list[Candidate]
    truth: list[Row]  # rows of a table of the truth; [] if there is none

    @property
    def units(self) -> list[Unit]:
        """All units, each of them once."""
        every = self.memory + [candidate.unit for candidate in self.candidates]
        return list({unit.key: unit for unit in every}.values())


def plan(run: NASRun, dataset: DataSet, place: Place) -> SearchPlan:
    """Plan the units of a run whose form of computing is resolved (see `config.resolve_form`).

    A unit trains one architecture once. Its key depends on its memory, recipe and network but not on the search space,
    so that spaces and subsets with the same architecture share the unit.

    Args:
        dataset: the data set with the validation images in place of the test images (see `load_dataset`).
    Raises:
        ValueError: an architecture does not fit the images, a class has fewer images than ipc, the proxy set lacks
            classes, or the table of the truth lacks architectures.
    """
    archs = run.candidates.archs
    check_fit(run, dataset, [arch.model for arch in archs] if run.memory not in ZERO_COST else [])
    context = make_context(run, place)
    memory = _plan_memory(run, dataset, context)
    candidates = [
        Candidate(_plan_candidate(run, dataset, kind, arch, repeat, memory, context), arch, kind, repeat)
        for kind in list_training_sets(run)
        for arch in archs
        for repeat in range(run.nets)
    ]
    if run.memory in ZERO_COST:
        for arch in archs:
            _score_without_training(run.memory, arch, dataset)
    return SearchPlan(archs, memory, candidates, load_tabular_truth(run, dataset, archs))


def list_training_sets(run: NASRun) -> list[str]:
    """List what architectures are trained on: the proxy, unless it needs no training, and all images ("full")."""
    proxies = [run.memory] if run.memory not in (FULL, *ZERO_COST) else []
    return proxies + ([FULL] if run.truth == "run" or run.memory == FULL else [])


def _plan_memory(run: NASRun, dataset: DataSet, context: Spec) -> list[Unit]:
    if not run.method.stored:
        return []
    if is_file(run.memory):
        if has_seen_validation(run, dataset):
            warnings.warn(f"{get_memory_name(run)}: {SEEN}", stacklevel=2)
        return [plan_file(run, dataset, 0, context)]
    groups = group_classes(run, range(dataset.num_classes))
    return [plan_memory(run, dataset, "set 0", group, context) for group in groups]


def _plan_candidate(
    run: NASRun, dataset: DataSet, kind: str, arch: Arch, repeat: int, memory: list[Unit], context: Spec
) -> Unit:
    recipe = run.training
    keys = [unit.key for unit in memory]
    images = dataset.num_classes * count_images_per_class(run, dataset)
    if kind == FULL:
        recipe, images = replace(recipe, epochs=run.truth_epochs), len(dataset.train_labels)
    elif kind == EARLY_STOPPING:
        images = dataset.num_classes * run.ipc
    # The seed does not depend on the images, so repeat r on the proxy and on all images starts from the same weights.
    # These two trainings may therefore be more alike than two trainings on all images.
    spec = {
        "memory": kind if kind in (FULL, EARLY_STOPPING) else keys,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "recipe": config.to_plain(choose_form(recipe, arch.model, images, context["device"])),
        "model": arch.model,
        "curve_every": run.curve_every,
        "seed": [run.seed, repeat],
    }
    if kind == EARLY_STOPPING:
        spec["images_per_epoch"] = images
    name = get_memory_name(run) if kind == run.memory else kind
    needs = tuple(keys) if kind not in (FULL, EARLY_STOPPING) else ()
    return Unit("candidate", spec, f"{arch.model} {repeat} on {name}", {**context, "images": images}, needs)


def _score_without_training(name: str, arch: Arch, dataset: DataSet) -> tuple[int, str]:
    """Return the score of an architecture by a proxy in ZERO_COST, and the unit of the score.

    Raises:
        ValueError: the proxy is depth, and the space has no axis depth.
    """
    if name == "params":
        return spaces.count_parameters(arch.model, dataset.image_shape, dataset.num_classes), "parameters"
    if name == "macs":
        return spaces.count_macs(arch.model, dataset.image_shape, dataset.num_classes), "MACs"
    depth = dict(arch.axes).get("depth")
    if not isinstance(depth, int):
        raise ValueError("proxy: this space has no axis depth; use params or macs")
    return depth, "layers"


# --- working --------------------------------------------------------------------------------------------------------


def work(unit: Unit, store: Store, progress: Progress) -> None:
    """Do one unit and save its result; see `do_unit`."""
    do_unit(unit, store, progress, build_memory if unit.kind == "memory" else _train)


def _train(unit: Unit, store: Store, dataset: DataSet, device: torch.device, progress: Progress) -> Result:
    """Train an architecture once; count correct validation images during the training, and test images at its end."""
    spec = unit.spec
    recipe = restore_recipe(spec["recipe"])
    epoch_rows = None
    if spec["memory"] in (FULL, EARLY_STOPPING):
        train = _load_images("train", dataset.name, unit.context["data"], device)
        card: Card = {"stored_bytes": dataset.train_images.numel(), "images": len(dataset.train_labels)}
        card["league"] = "full"
    else:
        memory = load_memory(spec, store, dataset)
        train = memory.images.to(device), memory.targets.to(device)
        card = {"stored_bytes": memory.nbytes, "images": len(memory.labels), "league": memory.league}
    if spec["memory"] == EARLY_STOPPING:
        rng = generator("early stopping", *spec["seed"])
        epoch_rows = proxy.early_stopping_rows(len(train[1]), spec["images_per_epoch"], recipe.rounds, rng)
    score = proxy.score(
        spec["model"],
        train,
        _load_images("validation", dataset.name, unit.context["data"], device),
        _load_images("test", dataset.name, unit.context["data"], device),
        dataset.num_classes,
        recipe,
        generator("weights", *spec["seed"]),
        generator("batches", *spec["seed"]),
        curve_every=spec["curve_every"],
        epoch_rows=epoch_rows,
        progress=progress,
    )
    card["test_images"] = len(_load_images("test", dataset.name, unit.context["data"], device)[1])
    if score is None:  # the training diverged
        return {"curve": torch.zeros(0, 2, dtype=torch.int64), "test": torch.zeros(0, dtype=torch.int64)}, card
    return {"curve": score.curve, "test": torch.tensor([score.test])}, card


@lru_cache(maxsize=3)
def _load_images(part: str, name: str, directory: str | None, device: torch.device) -> LabelledImages:
    """Load normalised images and labels to the device. `part` is "train", "validation" or "test".

    "validation" is a fixed tenth of the official train set, and "train" is the rest of it.
    """
    dataset = load_cached_dataset(name, directory, "test" if part == "test" else "validation")
    if part == "train":
        return dataset.normalise(dataset.train_images.to(device)), dataset.train_labels.to(device)
    return dataset.normalise(dataset.test_images.to(device)), dataset.test_labels.to(device)


# --- rows -----------------------------------------------------------------------------------------------------------


def make_rows(run: NASRun, plan: SearchPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """Yield a row for each measurement of the finished units, in the order of the plan.

    Args:
        changes: the settings in which the run differs from its preset.
    """
    if has_seen_validation(run, dataset):
        changes = ", ".join(filter(None, (changes, SEEN)))
    shared = make_shared_columns(run, dataset, changes)
    shared |= {"space": run.space, "classes_seen": dataset.num_classes}
    cards = [found[1] for unit in plan.memory if (found := store.load(unit.key)) is not None]
    if cards and len(cards) == len(plan.memory):
        yield _make_memory_row(shared, plan.memory[0], cards, describe_form(run.method.form))
    if run.memory in ZERO_COST:
        for arch in plan.archs:
            value, unit = _score_without_training(run.memory, arch, dataset)
            score: Row = {"metric": "score", "unit": unit, "value": value, "repeat": 0, "changes": "", "spec": None}
            yield shared | _make_arch_columns(arch) | score
    # Early stopping makes as many updates as training on a proxy set of ipc images per class.
    other_columns: dict[str, Row] = {FULL: make_truth_columns(run, changes), EARLY_STOPPING: {"ipc": run.ipc}}
    for candidate in plan.candidates:
        if (result := store.load(candidate.unit.key)) is not None:
            columns = shared | other_columns.get(candidate.proxy, {}) | {"recipe": run.recipe}
            yield from _make_candidate_rows(columns, candidate, *result, dataset)
    yield from plan.truth


def _make_memory_row(shared: Row, unit: Unit, cards: list[Card], form: str) -> Row:
    """Return the row on the size and the cost of the proxy set, summed over the units that built it."""
    cost = add_costs([card["cost"] for card in cards])
    return (
        shared
        | make_cost_columns(unit, cards[0])
        | {
            "wall_seconds": cost["wall_seconds"],
            "peak_bytes": cost.get("peak_bytes"),
            "league": cards[0]["league"],
            "stored_bytes": sum(card["budget"]["bytes"] for card in cards),
            "compute": form,
            "metric": "memory_images",
            "unit": "images",
            "value": sum(card["budget"]["images"] for card in cards),
        }
    )


def _make_arch_columns(arch: Arch) -> Row:
    return {"arch": str(arch.id), "model": arch.model}


def _make_candidate_rows(
    shared: Row, candidate: Candidate, tensors: dict[str, torch.Tensor], card: Card, dataset: DataSet
) -> Iterator[Row]:
    """Yield the validation accuracies during a training and the test accuracy at its end; None if it diverged."""
    recipe = restore_recipe(candidate.unit.spec["recipe"])
    row = (
        shared
        | _make_arch_columns(candidate.arch)
        | make_cost_columns(candidate.unit, card)
        | {
            "repeat": candidate.repeat,
            "league": card["league"],
            "stored_bytes": card["stored_bytes"],
            "compute": describe_training_form(recipe),
        }
    )
    validation = row | {"metric": "validation_accuracy", "unit": "%", "split": "validation"}
    test = row | {"metric": "test_accuracy", "unit": "%", "split": "test", "epoch": recipe.rounds}
    if not len(tensors["test"]):
        yield row | {"metric": "diverged", "unit": "networks", "value": 1, "epoch": recipe.rounds}
        yield validation | {"epoch": recipe.rounds, "value": None}
        yield test | {"value": None}
        return
    count = len(dataset.test_labels)  # `dataset` has the validation images in place of the test images
    for epoch, correct in tensors["curve"].tolist():
        yield validation | {"epoch": epoch, "value": 100 * correct / count}
    yield test | {"value": 100 * int(tensors["test"]) / card["test_images"]}


def make_title(run: NASRun) -> str:
    """Return a description of a run in one line."""
    archs = f"{len(run.candidates)} of {quantity(len(spaces.find(run.space)), 'architecture')} of {run.space}"
    proxy = f"by {describe_memory(run)}"
    trainings = f", against {quantity(run.truth_epochs, 'epoch')} on all images"
    truth = {"run": trainings, "none": ""}.get(run.truth, f", {run.truth}")
    return f"{run.dataset}, {archs} ranked {proxy}{truth}, {quantity(run.nets, 'training')} each"


def make_short_name(run: NASRun) -> str:
    """Return the part of a directory's name that differs between runs with the same data set and proxy."""
    return f"{len(run.candidates)}archs"


def list_memory_files(plan: SearchPlan) -> dict[str, list[Unit]]:
    """List the memories of a run that are saved as files: name of the file -> units that build the memory."""
    return {"proxy": plan.memory} if plan.memory else {}
