"""The search track: architectures are ranked by training on a proxy set, and by training on all images, the truth."""

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
    cached_dataset,
    check_fit,
    describe_memory,
    do_unit,
    has_seen_validation,
    images_per_class,
    is_file,
    memory_name,
    unit_context,
)
from harness.tracks.memories import build_memory, file_unit, group_classes, load_memory, memory_unit, recipe_from
from harness.tracks.rows import add_costs, compute_form, cost_columns, shared_columns, training_form
from harness.tracks.truth import tabular_truth, truth_columns

# Added to the changes of a run whose file does not say that it was condensed without the validation images.
SEEN = "may have seen the validation images"

# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A unit that trains one architecture once, on the proxy set or on all images."""

    unit: Unit
    arch: Arch
    proxy: str
    repeat: int


@dataclass(frozen=True)
class SearchPlan:
    archs: tuple[Arch, ...]
    memory: list[Unit]  # build the proxy set; [] if the proxy is no memory
    candidates: list[Candidate]
    truth: list[Row]  # from a table

    @property
    def units(self) -> list[Unit]:
        """Every unit once."""
        every = self.memory + [candidate.unit for candidate in self.candidates]
        return list({unit.key: unit for unit in every}.values())


def plan(run: NASRun, dataset: DataSet, place: Place) -> SearchPlan:
    """The units of a run whose configurations and form are decided (`config.resolve_form`).

    A unit trains one architecture once. It is identified by its memory, recipe and network but not by the space, so
    that another space or subset with the same architecture shares it.

    Args:
        dataset: with the validation images in the place of test (`load_dataset`).
    Raises:
        ValueError: an architecture does not fit the images, a class has fewer than ipc, the proxy set lacks classes,
            or the tabular truth architectures.
    """
    archs = run.candidates.archs
    check_fit(run, dataset, [arch.model for arch in archs] if run.memory not in ZERO_COST else [])
    context = unit_context(run, place)
    memory = _memory(run, dataset, context)
    candidates = [
        Candidate(_unit(run, dataset, kind, arch, repeat, memory, context), arch, kind, repeat)
        for kind in trained_on(run)
        for arch in archs
        for repeat in range(run.nets)
    ]
    if run.memory in ZERO_COST:
        for arch in archs:
            _zero_cost(run.memory, arch, dataset)
    return SearchPlan(archs, memory, candidates, tabular_truth(run, dataset, archs))


def trained_on(run: NASRun) -> list[str]:
    """Return what architectures are trained on: the proxy, unless it needs no training, and all images."""
    on = [run.memory] if run.memory not in (FULL, *ZERO_COST) else []
    return on + ([FULL] if run.truth == "run" or run.memory == FULL else [])


def _memory(run: NASRun, dataset: DataSet, context: Spec) -> list[Unit]:
    if not run.method.stored:
        return []
    if is_file(run.memory):
        if has_seen_validation(run, dataset):
            warnings.warn(f"{memory_name(run)}: {SEEN}", stacklevel=2)
        return [file_unit(run, dataset, 0, context)]
    groups = group_classes(run, range(dataset.num_classes))
    return [memory_unit(run, dataset, "set 0", group, context) for group in groups]


def _unit(run: NASRun, dataset: DataSet, kind: str, arch: Arch, repeat: int, memory: list[Unit], context: Spec) -> Unit:
    recipe = run.training
    keys = [unit.key for unit in memory]
    images = dataset.num_classes * images_per_class(run, dataset)
    if kind == FULL:
        recipe, images = replace(recipe, epochs=run.truth_epochs), len(dataset.train_labels)
    elif kind == EARLY_STOPPING:
        images = dataset.num_classes * run.ipc
    # The seed does not depend on the images: the r-th trainings on the proxy and on all images start from the same
    # weights. This may make the two more alike than two trainings on all images.
    spec = {
        "memory": kind if kind in (FULL, EARLY_STOPPING) else keys,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "recipe": config.plain(choose_form(recipe, arch.model, images, context["device"])),
        "model": arch.model,
        "curve_every": run.curve_every,
        "seed": [run.seed, repeat],
    }
    if kind == EARLY_STOPPING:
        spec["images_per_epoch"] = images
    name = memory_name(run) if kind == run.memory else kind
    needs = tuple(keys) if kind not in (FULL, EARLY_STOPPING) else ()
    return Unit("candidate", spec, f"{arch.model} {repeat} on {name}", {**context, "images": images}, needs)


def _zero_cost(name: str, arch: Arch, dataset: DataSet) -> tuple[int, str]:
    """Return the number that ranks an architecture without training, and its unit.

    Raises:
        ValueError: the ranking is by depth, and the space has no such axis.
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
    """Train an architecture once; count correct validation images along the way, and correct test images at the end."""
    spec = unit.spec
    recipe = recipe_from(spec["recipe"])
    epoch_rows = None
    if spec["memory"] in (FULL, EARLY_STOPPING):
        train = _images("train", dataset.name, unit.context["data"], device)
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
        _images("validation", dataset.name, unit.context["data"], device),
        _images("test", dataset.name, unit.context["data"], device),
        dataset.num_classes,
        recipe,
        generator("weights", *spec["seed"]),
        generator("batches", *spec["seed"]),
        curve_every=spec["curve_every"],
        epoch_rows=epoch_rows,
        progress=progress,
    )
    card["test_images"] = len(_images("test", dataset.name, unit.context["data"], device)[1])
    if score is None:  # it diverged
        return {"curve": torch.zeros(0, 2, dtype=torch.int64), "test": torch.zeros(0, dtype=torch.int64)}, card
    return {"curve": score.curve, "test": torch.tensor([score.test])}, card


@lru_cache(maxsize=3)
def _images(part: str, name: str, directory: str | None, device: torch.device) -> LabelledImages:
    """Return normalised images and labels on the device: nine tenths of train, the tenth held out, or test."""
    dataset = cached_dataset(name, directory, "test" if part == "test" else "validation")
    if part == "train":
        return dataset.normalise(dataset.train_images.to(device)), dataset.train_labels.to(device)
    return dataset.normalise(dataset.test_images.to(device)), dataset.test_labels.to(device)


# --- rows -----------------------------------------------------------------------------------------------------------


def rows(run: NASRun, plan: SearchPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """Yield a row for each measurement of the finished units, in the order of the plan.

    Args:
        changes: the settings in which the run differs from its preset.
    """
    if has_seen_validation(run, dataset):
        changes = ", ".join(filter(None, (changes, SEEN)))
    shared = shared_columns(run, dataset, changes)
    shared |= {"space": run.space, "classes_seen": dataset.num_classes}
    cards = [found[1] for unit in plan.memory if (found := store.load(unit.key)) is not None]
    if cards and len(cards) == len(plan.memory):
        yield _memory_row(shared, plan.memory[0], cards, compute_form(run.method.form))
    if run.memory in ZERO_COST:
        for arch in plan.archs:
            value, unit = _zero_cost(run.memory, arch, dataset)
            score: Row = {"metric": "score", "unit": unit, "value": value, "repeat": 0, "changes": "", "spec": None}
            yield shared | _of_arch(arch) | score
    # Early stopping has the number of updates of a proxy set of ipc images.
    differing: dict[str, Row] = {FULL: truth_columns(run, changes), EARLY_STOPPING: {"ipc": run.ipc}}
    for candidate in plan.candidates:
        if (result := store.load(candidate.unit.key)) is not None:
            columns = shared | differing.get(candidate.proxy, {}) | {"recipe": run.recipe}
            yield from _candidate_rows(columns, candidate, *result, dataset)
    yield from plan.truth


def _memory_row(shared: Row, unit: Unit, cards: list[Card], form: str) -> Row:
    """Return what the proxy set holds and what it cost, over the units that built it."""
    cost = add_costs([card["cost"] for card in cards])
    return (
        shared
        | cost_columns(unit, cards[0])
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


def _of_arch(arch: Arch) -> Row:
    return {"arch": str(arch.id), "model": arch.model}


def _candidate_rows(
    shared: Row, candidate: Candidate, tensors: dict[str, torch.Tensor], card: Card, dataset: DataSet
) -> Iterator[Row]:
    """Yield the validation accuracy along the training and the test accuracy at its end; empty if it diverged."""
    recipe = recipe_from(candidate.unit.spec["recipe"])
    row = (
        shared
        | _of_arch(candidate.arch)
        | cost_columns(candidate.unit, card)
        | {
            "repeat": candidate.repeat,
            "league": card["league"],
            "stored_bytes": card["stored_bytes"],
            "compute": training_form(recipe),
        }
    )
    validation = row | {"metric": "validation_accuracy", "unit": "%", "split": "validation"}
    test = row | {"metric": "test_accuracy", "unit": "%", "split": "test", "epoch": recipe.rounds}
    if not len(tensors["test"]):
        yield row | {"metric": "diverged", "unit": "networks", "value": 1, "epoch": recipe.rounds}
        yield validation | {"epoch": recipe.rounds, "value": None}
        yield test | {"value": None}
        return
    held_out = len(dataset.test_labels)  # `dataset` has the validation images in the place of test
    for epoch, right in tensors["curve"].tolist():
        yield validation | {"epoch": epoch, "value": 100 * right / held_out}
    yield test | {"value": 100 * int(tensors["test"]) / card["test_images"]}


def title(run: NASRun) -> str:
    """Return what a run does, in one line."""
    ranked = f"{len(run.candidates)} of {quantity(len(spaces.find(run.space)), 'architecture')} of {run.space}"
    proxy = f"by {describe_memory(run)}"
    trained = f", against {quantity(run.truth_epochs, 'epoch')} on all images"
    against = {"run": trained, "none": ""}.get(run.truth, f", {run.truth}")
    return f"{run.dataset}, {ranked} ranked {proxy}{against}, {quantity(run.nets, 'training')} each"


def short_name(run: NASRun) -> str:
    """Return what sets a run off from others of its data set and proxy, for the name of a directory."""
    return f"{len(run.candidates)}archs"


def memory_files(plan: SearchPlan) -> dict[str, list[Unit]]:
    """Return the whole memories of a run: the name of a file -> the units that build its memory."""
    return {"proxy": plan.memory} if plan.memory else {}
