"""Devices, workers and their environments, and the memory that a process takes."""

import mmap

import pytest
import torch

from harness.core.compute import tuning
from harness.execution import resources
from harness.execution.resources import (
    SHARED_BY,
    count_full_rate_workers,
    count_workers,
    describe_device,
    list_gpu_environments,
    list_worker_environments,
    measure_peak_memory,
    pick_device,
    reset_resident_peak,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [("cpu", None, []), ("cuda", None, ["0", "1", "2"]), ("cuda", "2,GPU-7", ["2", "GPU-7"]), ("cuda:1", None, [None])],
)
def test_each_worker_sees_one_of_the_gpus(
    device: str, visible: str | None, names: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in list_gpu_environments(device)] == names


@pytest.mark.parametrize(
    ("device", "engine", "jobs", "workers", "at_full_rate"),
    [
        ("cpu", "local", None, 7, 7),  # a core each
        ("cpu", "local", 3, 3, 3),
        ("cpu", "serial", 3, 1, 1),
        ("cuda", "local", None, 2 * tuning.WORKERS_PER_GPU, 2),
        ("cuda", "local", 1, 1, 1),
        ("cuda", "local", 8, 8, 2),  # four share each of two GPUs
        ("cuda:1", "local", None, tuning.WORKERS_PER_GPU, 1),
        ("cuda", "serial", None, 1, 1),
    ],
)
def test_how_many_units_are_worked_on_at_a_time(
    device: str, engine: str, jobs: int | None, workers: int, at_full_rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(resources, "count_usable_cpus", lambda: 7)
    assert count_workers(device, engine, jobs) == workers
    assert count_full_rate_workers(device, workers) == at_full_rate


def test_a_worker_knows_how_many_share_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list_worker_environments("cpu", 4) == [{}]
    assert list_worker_environments("cuda:1", 1) == [{SHARED_BY: "1"}]
    assert list_worker_environments("cuda", 3) == [{"CUDA_VISIBLE_DEVICES": gpu, SHARED_BY: "2"} for gpu in "01"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU")
    names = []
    for workers in ("1", "2"):
        monkeypatch.setenv(SHARED_BY, workers)
        names.append(describe_device(torch.device("cuda")))
    assert names == ["GPU", "GPU, shared by 2 workers"]  # whose seconds are others


@pytest.mark.parametrize("name", ["gpu", "cudas", "cuda:", "cuda:x", "cuda:2"])
def test_a_device_that_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"^device: [^\n]*$"):
        pick_device(name)


def test_the_peak_is_of_what_is_done_inside() -> None:
    if not reset_resident_peak():
        pytest.skip("the system cannot measure anew")
    peaks = []
    for mib in (1, 96, 1):
        with measure_peak_memory(CPU) as peak, mmap.mmap(-1, mib * 2**20) as held:  # fresh pages, none of a used heap
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
        peaks.append(peak["peak_bytes"] / 2**20)
    assert peaks[1] > peaks[0] + 64
    assert peaks[1] > peaks[2] + 64


def test_a_peak_that_cannot_be_measured_anew_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "reset_resident_peak", lambda: False)
    with measure_peak_memory(CPU) as peak:
        pass
    assert peak == {}


def test_a_quota_of_the_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers and schedulers set it; joblib reads it of cgroups in the same place."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert resources.count_usable_cpus() == 1
