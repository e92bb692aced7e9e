"""Estimates of the seconds that units take on this machine: numbers of images divided by measured rates."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from harness.core import augment, compute, models
from harness.core.atomic import write_bytes
from harness.core.compute import hardware, heap, tuning
from harness.core.data import cache_dir
from harness.execution.units import Unit

SECONDS = 0.4  # for which each rate is measured
Shape = tuple[int, int, int]  # C, H, W


@dataclass(frozen=True)
class Load:
    """The images that pass through a network in one form of computing while a unit is done.

    Attributes:
        model: name of the network.
        images: number of images, counted once for each pass.
        compute: "eager" or "compiled".
        dtype: type of the products.
        is_training: whether passes run forward and backward; if False, only forward.
    """

    model: str
    images: float
    compute: str
    dtype: str
    is_training: bool = True

    def estimate_seconds(self, shape: Shape, device: torch.device, measured_model: str | None = None) -> float:
        """Estimate the seconds of the load for images of `shape` on one core or GPU.

        If `measured_model` is given, the rate is measured for this network and scaled by the ratio of FLOP per image.
        """
        ratio, model = 1.0, self.model
        if measured_model is not None and models.parse(model) != models.parse(measured_model):
            ratio = count_flop_per_image(measured_model, shape, 10) / count_flop_per_image(model, shape, 10)
            model = measured_model
        images_per_second = measure_rate(model, shape, self.compute, self.dtype, device, training=self.is_training)
        return self.images / (ratio * images_per_second)


def estimate_seconds_left(units: Sequence[Unit], workers: int) -> float:
    """Estimate the wall-clock seconds of units with costs on `workers` workers, at least those of the longest unit."""
    return max(sum(unit.cost for unit in units) / workers, max((unit.cost for unit in units), default=0.0))


@lru_cache(maxsize=64)
def count_flop_per_image(model: str, shape: Shape, classes: int) -> int:
    """Return the floating point operations of a forward pass of one image."""
    with torch.device("meta"):
        return models.forward_flop(models.make(model, shape, classes), shape)


def measure_rate(model: str, shape: Shape, form: str, dtype: str, device: torch.device, *, training: bool) -> float:
    """Return the images per second that are augmented and pass forward and, if `training`, backward.

    The rate is that of one CPU thread or of a GPU. It is measured once for each machine and version of torch, and
    stored in the cache directory.
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


def _measure(model: str, shape: Shape, form: str, dtype: str, device: torch.device, training: bool) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    heap.keep_freed_memory()  # engines do so, too
    try:
        rng = Generator().manual_seed(0)
        network = models.scratch(model, shape, 10, device)
        models.draw_weights(network, rng)
        most = tuning.CUDA_GRADIENT_CHUNK if training else tuning.EVALUATED
        chunk = min(most, compute.chunk_size(device, models.bytes_per_image(network, shape)))
        forward = compute.prepare(network, "forward", form, dtype, device)
        images = torch.randn(chunk, *shape, generator=rng).to(device)

        def run_pass() -> Tensor | None:
            parameters = augment.draw_batch(augment.DSA, chunk, rng)
            batch = augment.apply(augment.DSA, images, parameters)
            if not training:
                with torch.no_grad():
                    return forward(batch)
            network.zero_grad()
            forward(batch).square().mean().backward()
            return None

        with compute.use_device(device), compute.precision(dtype, device):
            compute.retry_without_damaged_libraries(run_pass)
            _synchronize(device)
            # On a CPU, count the CPU time of this process: other work on the machine must not lower the cached rate.
            clock = time.perf_counter if device.type == "cuda" else time.process_time
            done, start = 0, clock()
            while clock() - start < SECONDS:
                run_pass()
                _synchronize(device)
                done += chunk
            return done / (clock() - start)
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # leave the memory to the workers


def _synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
