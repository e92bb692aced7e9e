"""`harness bench`: the speed of the shipped forms and of plain ones, timed in turn in one process."""

import math
from collections.abc import Callable
from functools import partial

import torch

from harness.commands.bench.distribution import bench_dm
from harness.commands.bench.matching import bench_matching
from harness.commands.bench.search import bench_nas
from harness.commands.bench.timing import MNIST, SIZES, Result
from harness.commands.bench.training import bench_fit, bench_stream
from harness.core import compute
from harness.core.compute import hardware
from harness.core.registry import known
from harness.execution.resources import count_usable_cpus, pick_device

__all__ = ["BENCHMARKS", "run"]

BENCHMARKS: dict[str, Callable[[str, float, torch.device], Result]] = {  # of (preset, seconds, device)
    **{name: partial(bench_matching, name) for name in ("dc", "dcc", "dsa", "idc")},
    "dm": bench_dm,
    "dm-mnist": partial(bench_dm, shape=MNIST),
    "fit": bench_fit,
    "nas": bench_nas,
    "stream": bench_stream,
}


def run(name: str, preset: str, seconds: float, threads: int | None, device: str) -> Result:
    """Time a benchmark.

    Args:
        name: one of `BENCHMARKS`.
        preset: paper or quick, the sizes that are timed.
        seconds: how long to measure the slower form; each form runs at least five times.
        threads: threads of both forms; by default one for each core.
        device: auto, cpu, cuda or cuda:N.
    Returns:
        The ratio (plain over shipped; for `stream`, strategy over plain), its quartiles over pairs, both times in
        seconds, the form of the shipped one, and the threads; on CUDA also the GPU's name, iterations and TFLOP a
        second.
    Raises:
        ValueError: the benchmark, the preset or the device does not exist, or threads or seconds are out of range.
    """
    known(name, BENCHMARKS, "bench")
    known(preset, SIZES, "preset")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: 1 or more, got {threads}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds: a number, 0 or more, got {seconds:g}")
    where = pick_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or count_usable_cpus())
    try:
        with compute.use_device(where), compute.precision("float32", where):
            result = BENCHMARKS[name](preset, seconds, where)
        machine = {"threads": torch.get_num_threads(), "device": str(where), "processor": hardware.processor()}
        if where.type == "cuda":
            machine["gpu"] = torch.cuda.get_device_name(where)
        return {"bench": name, **result, "preset": preset, **machine}
    finally:
        torch.set_num_threads(before)
