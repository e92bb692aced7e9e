"""The search track: a space of architectures trained on a proxy set, and on all images, which is the truth."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from harness import config
from harness.config import EARLY_STOPPING, FULL, TABULAR, ZERO_COST, NASRun
from harness.core import models
from harness.core.atomic import Card
from harness.core.data import DataSet
from harness.core.models import ConvNetSpec
from harness.core.progress import Progress
from harness.core.rng import generator
from harness.core.train import TrainConfig
from harness.execution.units import Store, Unit
from harness.nas import proxy
from harness.nas import space as spaces
from harness.nas.proxy import LabelledImages
from harness.nas.space import Arch
from harness.results import tabular
from harness.results.statistics import searches
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

# Said of a file that does not tell it was condensed without the validation images.
SEEN = "may have seen the validation images"

# Images to train on, by kind of device, under which a network stays as it is. On a CPU, compiling its graphs takes 2 to
# 17 s of a core, and saves 0.03 to 0.12 ms an image at width 32. On CUDA this is UNMEASURED, a guess by which the
# proxies of the papers' sizes are eager and the truth of 100 epochs is compiled.
COMPILE_FROM = {"cpu": 150_000, "cuda": 2_000_000}


# --- planning -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """One training of the plan: of which architecture, on the proxy or on all images."""

    unit: Unit
    arch: Arch
    proxy: str
    repeat: int


@dataclass(frozen=True)
class SearchPlan:
    archs: tuple[Arch, ...]
    memory: list[Unit]  # that make the proxy set; none where it is no memory
    candidates: list[Candidate]
    truth: list[Row]  # of a tabular truth

    @property
    def units(self) -> list[Unit]:
        """Every unit once."""
        every = self.memory + [candidate.unit for candidate in self.candidates]
        return list({unit.key: unit for unit in every}.values())


def plan(run: NASRun, dataset: DataSet, place: Place) -> SearchPlan:
    """The units of a run whose configurations and form are decided (`config.resolve_form`).

    A unit trains one architecture once. It names its memory, recipe and network, not the space: another space or
    subset that holds the architecture shares it.

    Args:
        dataset: with the validation images in the place of test (`load_dataset`).
    Raises:
        ValueError: an architecture does not fit the images, a class has fewer than ipc, the proxy set lacks classes,
            or the tabular truth architectures.
    """
    archs = run.searched.archs
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
    return SearchPlan(archs, memory, candidates, _tabular_truth(run, dataset, archs))


def trained_on(run: NASRun) -> list[str]:
    """What each architecture is trained on: the proxy, unless it needs no training, and all images for the truth."""
    on = [run.memory] if run.memory not in (FULL, *ZERO_COST) else []
    return on + ([FULL] if run.truth == "run" or run.memory == FULL else [])


def _memory(run: NASRun, dataset: DataSet, context: Mapping[str, Any]) -> list[Unit]:
    if not run.method.stored:
        return []
    if is_file(run.memory):
        if has_seen_validation(run, dataset):
            warnings.warn(f"{memory_name(run)}: {SEEN}", stacklevel=2)
        return [file_unit(run, dataset, 0, context)]
    groups = group_classes(run, range(dataset.num_classes))
    return [memory_unit(run, dataset, "set 0", group, context) for group in groups]


def _unit(
    run: NASRun, dataset: DataSet, kind: str, arch: Arch, repeat: int, memory: list[Unit], context: Mapping[str, Any]
) -> Unit:
    recipe = _recipe(run)  # one for all, whatever the recipe says of other networks
    keys = [unit.key for unit in memory]
    images = dataset.num_classes * images_per_class(run, dataset)
    if kind == FULL:
        recipe, images = replace(recipe, epochs=run.truth_epochs), len(dataset.train_labels)
    elif kind == EARLY_STOPPING:
        images = dataset.num_classes * run.ipc
    # The seed says nothing of what is trained on: the r-th trainings on the proxy and on all images start from the same
    # weights, which may bring the two closer than two trainings on all images are.
    spec = {
        "memory": kind if kind in (FULL, EARLY_STOPPING) else keys,
        "dataset": run.dataset,
        "dataset_digest": dataset.digest,
        "classes": list(range(dataset.num_classes)),
        "recipe": config.plain(in_its_form(recipe, arch.model, images, context["device"])),
        "model": arch.model,
        "curve_every": run.curve_every,
        "seed": [run.seed, repeat],
    }
    if kind == EARLY_STOPPING:
        spec["images_per_epoch"] = images
    name = memory_name(run) if kind == run.memory else kind
    needs = tuple(keys) if kind not in (FULL, EARLY_STOPPING) else ()
    return Unit("candidate", spec, f"{arch.model} {repeat} on {name}", {**context, "images": images}, needs)


def in_its_form(recipe: TrainConfig, model: str, images: int, device: str) -> TrainConfig:
    """The recipe, eager where compiling `model` takes longer than it saves on so many images an epoch.

    On a CPU also where it saves nothing. Max pooling under norms of groups is then in float32, which is faster for it
    (1.0 to 1.4 times) than bfloat16.
    """
    kind = torch.device(device).type
    if recipe.compute == "eager":
        return recipe
    pays = recipe.rounds * images >= COMPILE_FROM[kind]
    if kind != "cpu":
        return recipe if pays else replace(recipe, compute="eager")
    if pays and _compiles_well(model):
        return recipe
    spec = models.parse(model)
    if isinstance(spec, ConvNetSpec) and spec.pooling == "maxpooling" and spec.norm in ("instancenorm", "groupnorm"):
        return replace(recipe, compute="eager", dtype="float32")
    return replace(recipe, compute="eager")


def _compiles_well(model: str) -> bool:
    """Whether a CPU's compiled network is faster: under instance norm; with average pooling under none or BatchNorm.

    Forward and backward in bfloat16 against the fastest eager form (width 32, depths 1 to 4, one core): 1.3 to 2.2
    times as fast with those, 0.2 to 1.25 times with others.
    """
    spec = models.parse(model)
    if not isinstance(spec, ConvNetSpec):
        return True
    return spec.norm == "instancenorm" or (spec.pooling == "avgpooling" and spec.norm in ("batchnorm", "nonorm"))


def _tabular_truth(run: NASRun, dataset: DataSet, archs: Sequence[Arch]) -> list[Row]:
    """The truth's rows of the table a run names.

    Raises:
        ValueError: the table is of other data, another preset or recipe, or lacks some of the architectures.
    """
    if not run.truth.startswith("tabular"):
        return []
    preset = "" if run.preset == "paper" else f"-{run.preset}"
    name = run.truth.removeprefix(TABULAR) if run.truth != "tabular" else f"{run.space}-{run.dataset}{preset}"
    table = tabular.load(name).rows()
    truth = table[(table["memory"] == FULL) & (table["space"] == run.space)]
    if other := set(truth["dataset_digest"]) - {dataset.digest}:
        raise ValueError(f"truth: {name} is of data {', '.join(sorted(other))[:12]}, not of this {dataset.name}")
    if other := set(truth["preset"]) - {run.preset}:
        raise ValueError(f"truth: {name} is of preset {', '.join(sorted(other))}, and the run of {run.preset}")
    if run.memory not in ZERO_COST:
        own = searches.recipe_fields(run.recipe, json.dumps({"recipe": config.plain(_recipe(run))}))
        searches.refuse_another_recipe(memory_name(run), own, searches.recipe_of_truth(truth))
    wanted = {str(arch.id) for arch in archs}
    if missing := sorted(wanted - set(truth["arch"]), key=int):
        first = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise ValueError(
            f"truth: {name} lacks {len(missing)} of {len(archs)} architectures ({first}); "
            "choose others by --archs, or train them: --truth run"
        )
    return [{str(k): v for k, v in row.items()} for row in truth[truth["arch"].isin(wanted)].to_dict("records")]


def _zero_cost(name: str, arch: Arch, dataset: DataSet) -> tuple[int, str]:
    """What ranks an architecture untrained, and its unit.

    Raises:
        ValueError: depth, of a space that has no such axis.
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
    """Train an architecture once; right answers on the validation images along the way, and on test at the end."""
    spec = unit.spec
    recipe = recipe_from(spec["recipe"])
    epoch_rows = None
    if spec["memory"] in (FULL, EARLY_STOPPING):
        train = _images("train", dataset.name, unit.context["data"], device)
        card: dict[str, Any] = {"stored_bytes": dataset.train_images.numel(), "images": len(dataset.train_labels)}
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
    """Normalised images on the device and their labels: nine tenths of train, the tenth held out, or test."""
    dataset = cached_dataset(name, directory, "test" if part == "test" else "validation")
    if part == "train":
        return dataset.normalise(dataset.train_images.to(device)), dataset.train_labels.to(device)
    return dataset.normalise(dataset.test_images.to(device)), dataset.test_labels.to(device)


# --- rows -----------------------------------------------------------------------------------------------------------


def rows(run: NASRun, plan: SearchPlan, store: Store, dataset: DataSet, changes: str) -> Iterator[Row]:
    """A row per measurement of the finished units, in the order of the plan; `changes` sets the run off its preset."""
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
    own: dict[str, Row] = {FULL: _truth_of(run, changes), EARLY_STOPPING: {"ipc": run.ipc}}
    for candidate in plan.candidates:
        if (result := store.load(candidate.unit.key)) is not None:
            columns = shared | own.get(candidate.proxy, {}) | {"recipe": run.recipe}
            yield from _candidate_rows(columns, candidate, *result, dataset)
    yield from plan.truth


def _memory_row(shared: Row, unit: Unit, cards: list[Any], form: str) -> Row:
    """What the proxy set holds and what it cost, over the units that made it."""
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


def _truth_of(run: NASRun, changes: str) -> Row:
    """What sets rows of the truth off those of the proxy: no memory, and what was changed of its own training only."""
    own = [change for change in re.split(r", (?=[a-z_.]+=)", changes) if change.startswith("recipe.")]
    usual = NASRun.of(run.preset, memory=run.memory).truth_epochs
    own += [f"truth_epochs={run.truth_epochs}"] if run.truth_epochs != usual else []
    spec = {"recipe": config.plain(replace(_recipe(run), epochs=run.truth_epochs))}
    return {
        "memory": FULL,
        "ipc": None,
        "memory_model": None,
        "changes": ", ".join(own),
        "spec": json.dumps(spec, sort_keys=True),
    }


def _recipe(run: NASRun) -> TrainConfig:
    return run.training


def _candidate_rows(
    shared: Row, candidate: Candidate, tensors: dict[str, torch.Tensor], card: Card, dataset: DataSet
) -> Iterator[Row]:
    """The validation accuracy along the training, and the test accuracy at its end; of one that diverged, neither."""
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
    """What a run does, in one line."""
    ranked = f"{len(run.searched)} of {quantity(len(spaces.find(run.space)), 'architecture')} of {run.space}"
    proxy = f"by {describe_memory(run)}"
    trained = f", against {quantity(run.truth_epochs, 'epoch')} on all images"
    against = {"run": trained, "none": ""}.get(run.truth, f", {run.truth}")
    return f"{run.dataset}, {ranked} ranked {proxy}{against}, {quantity(run.nets, 'training')} each"


def short_name(run: NASRun) -> str:
    """What tells a run from others of its data set and proxy, for a directory's name."""
    return f"{len(run.searched)}archs"


def memory_files(plan: SearchPlan) -> dict[str, list[Unit]]:
    """Return the whole memories of a run: the name of a file -> the units that build its memory."""
    return {"proxy": plan.memory} if plan.memory else {}
