"""A search on a proxy set as `harness run nas` does it, against a loop over a DataLoader."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from harness import config
from harness.commands.bench.timing import CIFAR, Result, make_noise, rates, use_torch_pooling
from harness.config import NASRun
from harness.core import augment, compute, models
from harness.core.progress import Progress
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.execution import engines
from harness.execution.resources import count_usable_cpus, list_gpu_environments, list_worker_environments
from harness.execution.units import Store, Unit
from harness.nas import proxy
from harness.nas.form import choose_form
from harness.nas.proxy import LabelledImages
from harness.tracks.memories import restore_recipe
from harness.tracks.rows import describe_training_form

WORKERS_TRIED = (1, 2, 4, 8)  # on each GPU


@dataclass(frozen=True)
class Size:
    """How much a search bench trains: which architectures, on how many images, for how long."""

    images: int = 500  # of the proxy set
    epochs: int = 60
    validation: int = 5000
    test: int = 10_000
    archs: str = "width=32,pooling!=none"
    subset: int = 12


SIZES = {"paper": Size(epochs=200), "quick": Size()}


def bench_nas(preset: str, seconds: float, device: torch.device) -> Result:
    """Time the training and scoring of candidates as `run nas` does it, workers included.

    Both forms get the same architectures, images, batches, augmentation and epochs, once: `seconds` has no effect. The
    plain form takes the candidates one by one and computes in float32; the shipped form computes as the preset says. On
    GPUs the shipped form is timed with each number of `WORKERS_TRIED` on each GPU. Its time is the best of these, and
    `jobs` is the value of `--jobs` that gives it.
    """
    return time_search(SIZES[preset], preset, device)


def time_search(size: Size, preset: str, device: torch.device) -> Result:
    """Time a search of any size; see `bench_nas`."""
    settings = {"archs": size.archs, "subset": size.subset}
    run, _ = config.resolve_form(config.assemble(NASRun, preset, settings), device)
    recipe = replace(run.training, epochs=size.epochs)
    candidates = [arch.model for arch in run.candidates]
    units = [_make_unit(model, recipe, size, device) for model in candidates]
    _make_images(size.images, size.validation, size.test, device)  # before the clock starts
    plain_seconds = 0.0
    for model in candidates:
        began = time.perf_counter()
        _train_plainly(model, recipe, size, device)
        plain_seconds += time.perf_counter() - began
    by_jobs = time_workers(units, device)
    jobs = min(by_jobs, key=lambda number: by_jobs[number])
    shipped_seconds = by_jobs[jobs]
    images = 3 * size.images * size.epochs + size.validation + size.test  # a backward pass counts as two forward
    return {
        "ratio": plain_seconds / shipped_seconds,
        "plain_seconds": plain_seconds,
        "shipped_seconds": shipped_seconds,
        "networks": len(units),
        "epochs": size.epochs,
        "jobs": jobs,
        **({"seconds_by_jobs": by_jobs} if device.type == "cuda" else {}),
        "plain_per_minute": 60 * len(units) / plain_seconds,
        "shipped_per_minute": 60 * len(units) / shipped_seconds,
        "form": "; ".join(sorted({describe_training_form(restore_recipe(unit.spec["recipe"])) for unit in units})),
        **rates(shipped_seconds, sum(map(_count_flop, candidates)) * images, device),
    }


def time_workers(units: list[Unit], device: torch.device) -> dict[int, float]:
    """Time all units with each number of worker processes, their start included.

    Returns:
        Number of worker processes -> seconds. A CPU is tried with one worker a core, each GPU with those of
        `WORKERS_TRIED` that fit its memory.
    Raises:
        RuntimeError: a unit failed with the fewest workers, or the bench was interrupted.
    """
    gpus = len(list_gpu_environments(str(device)))
    times: dict[int, float] = {}
    for jobs in [tried * gpus for tried in WORKERS_TRIED] if gpus else [count_usable_cpus()]:
        environments = list_worker_environments(str(device), jobs)
        began = time.perf_counter()
        with TemporaryDirectory() as directory:
            outcome = engines.run(units, Store(Path(directory)), _score_candidate, jobs=jobs, environments=environments)
        if outcome.stopped:
            raise RuntimeError(f"bench: {outcome.stopped}")
        if outcome.failed and not times:
            raise RuntimeError(f"bench: {next(iter(outcome.failed.items()))}")
        if outcome.failed:  # this many workers, and so any more, do not fit the memory of a GPU
            break
        times[jobs] = time.perf_counter() - began
    return times


def _make_unit(model: str, recipe: TrainConfig, size: Size, device: torch.device) -> Unit:
    candidate_recipe = config.to_plain(choose_form(recipe, model, size.images, str(device)))
    spec = {"model": model, "recipe": candidate_recipe, "images": [size.images, size.validation, size.test]}
    return Unit("bench", spec, model, {"device": str(device)}, cost=_count_flop(model))


def _count_flop(model: str) -> int:
    """FLOP of a forward pass of one image; it decides the order of work, as seconds do in a run."""
    return models.forward_flop(models.make(model, CIFAR, 10), CIFAR)


@lru_cache(maxsize=1)
def _make_images(train: int, validation: int, test: int, device: torch.device) -> list[LabelledImages]:
    """Return noise images for training, validation and testing."""
    return [make_noise(10, count // 10, device) for count in (train, validation, test)]


def _score_candidate(unit: Unit, store: Store, progress: Progress) -> None:
    """Train and score a candidate in a worker process."""
    recipe = restore_recipe(unit.spec["recipe"])
    weights, rng, device = generator("weights"), generator("batches"), torch.device(unit.context["device"])
    with compute.use_device(device), compute.precision("float32", device):
        train, validation, test = _make_images(*unit.spec["images"], device)
        score = proxy.score(
            unit.spec["model"], train, validation, test, 10, recipe, weights, rng, curve_every=0, progress=progress
        )
    store.save(unit.key, {} if score is None else {"curve": score.curve}, {})


def _train_plainly(model: str, recipe: TrainConfig, size: Size, device: torch.device) -> None:
    """Train and score a candidate by a loop over a DataLoader."""
    train, *held_out = _make_images(size.images, size.validation, size.test, device)
    network = use_torch_pooling(models.build(model, CIFAR, 10, generator("weights"))).to(device)
    rng = generator("batches")
    loader = DataLoader(TensorDataset(*train), batch_size=recipe.batch_size, shuffle=True, generator=rng)
    optimizer = torch.optim.SGD(network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    for _ in range(recipe.rounds):
        for images, labels in loader:
            augmented = augment.apply(recipe.augment, images, augment.draw_batch(recipe.augment, len(images), rng))
            loss = F.cross_entropy(network(augmented), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        for part in held_out:
            for images, labels in DataLoader(TensorDataset(*part), batch_size=recipe.batch_size):
                (network(images).argmax(1) == labels).sum().item()
