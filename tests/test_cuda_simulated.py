"""What computes, on a simulated CUDA device: no mixed devices, no wrong generators, few launches and waits."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

import harness
from harness import memory
from harness.config import AnyRun, CLRun, CondenseRun, NASRun
from harness.core.fields import replace_known
from harness.core.memory import Budget
from harness.core.rng import generator
from tests.simulated_cuda import DEVICE, SimulatedCuda

CLASSES, IPC = 10, 2


@pytest.fixture
def cuda() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as device:
        yield device


def test_mixed_devices_and_other_generators_raise(cuda: SimulatedCuda) -> None:
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    assert (there + there).device == DEVICE
    with pytest.raises(
        RuntimeError, match=r"all tensors to be on the same device: add at tests/test_cuda_simulated\.py"
    ):
        there + here
    with pytest.raises(RuntimeError, match="generator of the device of the result: rand"):
        torch.rand(3, generator=Generator().manual_seed(1), device=DEVICE)
    with pytest.raises(RuntimeError, match="generator of the device of the result: rand"):
        torch.rand(3, generator=generator("simulated", device=DEVICE))
    assert torch.rand(3, generator=generator("simulated", device=DEVICE), device=DEVICE).is_cuda
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        there.numpy()


def test_launches_and_waits_are_counted(cuda: SimulatedCuda) -> None:
    images = torch.ones(4, 2, device=DEVICE)
    cuda.forget()
    total = (images.T * 2).sum()
    assert Counter(line.split()[0] for line in cuda.launches.elements()) == {"mul": 1, "sum": 1}
    assert not cuda.waits
    assert float(total) == 16
    assert images[torch.tensor([0, 1]).to(DEVICE, non_blocking=True)].shape == (2, 2)
    assert [line.split()[0] for line in cuda.waits] == ["_local_scalar_dense"]
    images[torch.tensor([0, 1])]
    assert [line.split()[0] for line in cuda.waits] == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        *((CondenseRun, name, {}) for name in ("herding", "el2n", "mmd-pixel", "dsa", "idc", "lo-dsa", "mim-dm")),
        (CondenseRun, "dm", {"networks": "trained:5-60", "model": "convnet-d1-w4-bn"}),
        (CLRun, "dm", {"steps": 2}),
        (NASRun, "random", {"archs": "width=32,depth=1,pooling=max", "subset": 2}),
    ],
)
def test_runs_use_one_device(
    kind: type[AnyRun], name: str, settings: dict[str, Any], cuda: SimulatedCuda, tmp_path: Path
) -> None:
    small = {"model": "convnet-d1-w4", "recipe.epochs": 1}
    run = kind.of("smoke", dataset="digits", memory=name, **small | settings)
    rows = harness.run(run, harness.Options(out=tmp_path, device="cuda:0", engine="serial"))
    assert set(rows["device"].dropna()) == {"NVIDIA H200"}


# Method -> the most launches and waits of an update for ten classes. A copy that does not block is no wait.
LIMITS = {"dm": (320, 0), "dsa": (1220, 0)}


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_an_update_starts_little_and_waits_for_nothing(name: str, cuda: SimulatedCuda) -> None:
    method = memory.find(name)
    images = torch.randn(CLASSES * 8, 3, 16, 16, generator=Generator().manual_seed(0)).to(DEVICE)
    labels = torch.arange(CLASSES).repeat(8).to(DEVICE)

    def count(iterations: int) -> tuple[int, int]:
        settings = {"model": "convnet2-w8", "iterations": iterations, "updates": 1, "epochs": 1, "real_batch": 8}
        cuda.forget()
        method(images, labels, Budget(IPC), generator("few launches"), replace_known(method.config, settings))
        return sum(cuda.launches.values()), sum(cuda.waits.values())

    count(1)  # some of the first launches and waits are of what is kept for later calls
    few, more = count(2), count(4)
    launches, waits = (more[0] - few[0]) / 2, (more[1] - few[1]) / 2
    assert launches <= LIMITS[name][0]
    assert waits <= LIMITS[name][1]
