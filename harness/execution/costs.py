"""How long units take on this machine: images that they push through a network, over measured rates."""

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

SECONDS = 0.4  # of measuring each rate
Shape = tuple[int, int, int]  # C, H, W


@dataclass(frozen=True)
class Load:
    """Images that a unit pushes through a network in one form of computing.

    Attributes:
        model: name of the network.
        images: how many images pass, each as often as it passes.
        compute: "eager" or "compiled".
        dtype: type of the products.
        is_training: whether each image passes forward and backward, rather than forward alone.
    """

    model: str
    images: float
    compute: str
    dtype: str
    is_training: bool = True

    def seconds(self, shape: Shape, device: torch.device, measured_model: str | None = None) -> float:
        """Return the expected seconds of the load for images of `shape` on one core or GPU.

        The rate of another network than `measured_model` follows from the rate of that one by the ratio of their FLOP.
        """
        ratio, model = 1.0, self.model
        if measured_model is not None and models.parse(model) != models.parse(measured_model):
            ratio = count_flop_per_image(measured_model, shape, 10) / count_flop_per_image(model, shape, 10)
            model = measured_model
        images_per_second = rate(model, shape, self.compute, self.dtype, device, training=self.is_training)
        return self.images / (ratio * images_per_second)


def estimate_seconds_left(units: Sequence[Unit], workers: int) -> float:
    """Return the wall-clock seconds for units with costs on `workers` workers: no less than the longest unit takes."""
    return max(sum(unit.cost for unit in units) / workers, max((unit.cost for unit in units), default=0.0))


@lru_cache(maxsize=64)
def count_flop_per_image(model: str, shape: Shape, classes: int) -> int:
    """Return the floating point operations of one image's forward pass."""
    with torch.device("meta"):
        return models.forward_flop(models.make(model, shape, classes), shape)


def rate(model: str, shape: Shape, form: str, dtype: str, device: torch.device, *, training: bool) -> float:
    """Return the images per second through a network, augmented, forward alone or forward and backward.

    The rate is that of one thread of a CPU, or of a GPU. It is measured once for each machine and version of torch and
    kept in the cache.
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
    heap.keep_freed_memory()  # as every engine does
    try:
        rng = Generator().manual_seed(0)
        network = models.scratch(model, shape, 10, device)
        models.draw_weights(network, rng)
        most = tuning.CUDA_GRADIENT_CHUNK if training else tuning.EVALUATED
        chunk = min(most, compute.chunk_size(device, models.bytes_per_image(network, shape)))
        forward = compute.prepare(network, "forward", form, dtype, device)
        images = torch.randn(chunk, *shape, generator=rng).to(device)

        def once() -> Tensor | None:
            parameters = augment.draw_batch(augment.DSA, chunk, rng)
            batch = augment.apply(augment.DSA, images, parameters)
            if not training:
                with torch.no_grad():
                    return forward(batch)
            network.zero_grad()
            forward(batch).square().mean().backward()
            return None

        with compute.use_device(device), compute.precision(dtype, device):
            compute.retry_without_damaged_libraries(once)
            _synchronize(device)
            # On a CPU, the seconds of this process: other work on the machine would make the cached rate too low.
            clock = time.perf_counter if device.type == "cuda" else time.process_time
            done, start = 0, clock()
            while clock() - start < SECONDS:
                once()
                _synchronize(device)
                done += chunk
            return done / (clock() - start)
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # for the workers


def _synchronize(device: torch.device) -> None:
    """Wait for the work of a GPU: calls return before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
