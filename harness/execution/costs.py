"""How long the units of a run take on this machine: images they push through a network, over measured rates."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from harness.config import Run
from harness.core import augment, compute, models
from harness.core.atomic import write_bytes
from harness.core.compute import hardware, heap
from harness.core.data import DataSet, cache_dir
from harness.execution.units import Unit
from harness.tracks.base import images_per_class, model_of
from harness.tracks.memories import config_from, flop_per_image, recipe_from

SECONDS = 0.4  # of measuring each rate
AVALANCHE_SECONDS = 2.0  # per training unit: the stream, evaluation, a share of what a worker imports


def with_costs(units: Sequence[Unit], run: Run, dataset: DataSet) -> list[Unit]:
    """The units with the seconds each is expected to take on one core, or on the GPU."""
    # Where a unit goes on from an earlier one, a share of the work is left to it.
    return [replace(unit, cost=unit.context.get("share", 1.0) * _seconds(unit, run, dataset)) for unit in units]


def seconds_left(units: Sequence[Unit], workers: int) -> float:
    """Wall-clock seconds for units with costs, shared among `workers`: no less than the longest takes."""
    return max(sum(unit.cost for unit in units) / workers, max((unit.cost for unit in units), default=0.0))


def _seconds(unit: Unit, run: Run, dataset: DataSet) -> float:
    device = torch.device(unit.context["device"])
    shape = dataset.image_shape
    if unit.kind != "memory":
        recipe, model = recipe_from(unit.spec["recipe"]), unit.spec["model"]
        images: float = unit.context["images"] * recipe.rounds
        overhead = AVALANCHE_SECONDS if unit.kind == "training" else 0.0
        return overhead + images / _rate(model, run.model, shape, recipe.compute, recipe.dtype, device, training=True)
    cfg = run.memory_config
    if not hasattr(cfg, "passes") or (model := model_of(cfg)) is None:
        return 0.0  # a builder that trains nothing, or does not say what it costs
    classes, per_class = len(unit.spec["classes"]), len(dataset.train_labels) // dataset.num_classes
    if "continues" in unit.spec:
        cfg = config_from(cfg, unit.spec["config"])
    forward, both = cfg.passes(classes, per_class, images_per_class(run, dataset))
    form = getattr(cfg, "host", cfg)
    form = form if hasattr(form, "compute") else getattr(form, "train", form)
    how = getattr(form, "compute", "eager")
    weights = getattr(form, "dtype", getattr(form, "synthetic_dtype", "float32"))
    without = getattr(form, "real_dtype", "float32")
    real = form.real_passes(classes, per_class) if hasattr(form, "real_passes") else 0
    seconds: float = (both - real) / _rate(model, model, shape, how, weights, device, training=True)
    if real:
        seconds += real / _rate(model, model, shape, how, without, device, training=True)
    if forward:
        seconds += forward / _rate(model, model, shape, how, without, device, training=False)
    return seconds


def _rate(
    model: str, known: str, shape: tuple[int, int, int], form: str, dtype: str, device: torch.device, *, training: bool
) -> float:
    """The rate of `model`: measured for the run's own network, of others worked out from it by their FLOP."""
    if models.parse(model) == models.parse(known):
        return rate(model, shape, form, dtype, device, training=training)
    ratio = flop_per_image(known, shape, 10) / flop_per_image(model, shape, 10)
    return ratio * rate(known, shape, form, dtype, device, training=training)


def rate(
    model: str, shape: tuple[int, int, int], form: str, dtype: str, device: torch.device, *, training: bool
) -> float:
    """Images per second through `model`, augmented, forward alone or forward and backward.

    One thread of a CPU, or a GPU. Measured once for each machine and version of torch, and kept in the cache.
    """
    cpu = f"{hardware.processor()} {hardware.instructions()}"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    passes = "both" if training else "forward"
    key = f"{where}, torch {torch.__version__}, {models.parse(model)}, {shape}, {form}, {dtype}, {passes}"
    path = cache_dir() / "rates.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if key not in known:
        known[key] = _measure(model, shape, form, dtype, device, training)
        write_bytes(path, json.dumps(known, indent=1, sort_keys=True).encode())
    return known[key]


def _measure(
    model: str, shape: tuple[int, int, int], form: str, dtype: str, device: torch.device, training: bool
) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    heap.keep_freed_memory()  # as whatever works on units
    try:
        rng = Generator().manual_seed(0)
        network = models.scratch(model, shape, 10, device)
        models.draw_weights(network, rng)
        most = compute.CUDA_GRADIENT_CHUNK if training else compute.EVALUATED
        chunk = min(most, compute.chunk_size(device, models.bytes_per_image(network, shape)))
        forward = compute.fast(network, "forward", form, dtype, device)
        images = torch.randn(chunk, *shape, generator=rng).to(device)

        def once() -> Any:
            parameters = augment.draw_batch(augment.DSA, chunk, rng)
            batch = augment.apply(augment.DSA, images, parameters)
            if not training:
                with torch.no_grad():
                    return forward(batch)
            network.zero_grad()
            return forward(batch).square().mean().backward()

        with compute.on(device), compute.precision(dtype, device):
            compute.despite_cut_short(once)
            _wait_for(device)
            # Of a CPU its own seconds: other work on the machine would be taken for slowness, and that kept for good.
            clock = time.perf_counter if device.type == "cuda" else time.process_time
            done, began = 0, clock()
            while clock() - began < SECONDS:
                once()
                _wait_for(device)
                done += chunk
            return done / (clock() - began)
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # which this process would keep from those that work


def _wait_for(device: torch.device) -> None:
    """Until what a GPU was told to do is done: calls return before that."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
