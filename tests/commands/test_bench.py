"""What a bench reports; the times themselves are nobody's to promise."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.commands import bench
from harness.execution import engines
from harness.execution.engines import Outcome
from harness.execution.units import Store, Unit

UNITS = [Unit("bench", {"model": name}, name) for name in ("one", "two")]
Tried = list[tuple[int, int]]


def engine(tried: Tried, *, fails_from: int = 99) -> Callable[..., Outcome]:
    """Notes workers and environments; four workers are the fastest."""

    def run(
        units: Sequence[Unit], store: Store, work: Any, *, jobs: int, environments: Sequence[Mapping[str, str]]
    ) -> Outcome:
        tried.append((jobs, len(environments)))
        time.sleep(0.02 + 0.02 * abs(jobs - 4))
        outcome = Outcome(tuple(unit.label for unit in units), {}, (), None)
        return replace(outcome, done=("one",), failed={"two": "out of memory"}) if jobs >= fails_from else outcome

    return run


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("device", "tried"),
    [("cuda", [(2, 2), (4, 2), (8, 2), (16, 2)]), ("cuda:1", [(1, 1), (2, 1), (4, 1), (8, 1)]), ("cpu", [(3, 1)])],
)
def test_a_search_is_timed_with_several_workers_on_each_gpu(
    device: str, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Tried = []
    monkeypatch.setattr(engines, "run", engine(seen))
    monkeypatch.setattr(bench, "usable_cpus", lambda: 3)
    times = bench._search_times(UNITS, torch.device(device))
    assert seen == tried
    assert list(times) == [jobs for jobs, _ in tried]
    if device != "cpu":
        assert min(times, key=lambda jobs: times[jobs]) == 4


@pytest.mark.usefixtures("gpus")
def test_more_workers_than_fit_a_gpu_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Tried = []
    monkeypatch.setattr(engines, "run", engine(seen, fails_from=4))
    assert list(bench._search_times(UNITS, torch.device("cuda:0"))) == [1, 2]
    assert [jobs for jobs, _ in seen] == [1, 2, 4]
    monkeypatch.setattr(engines, "run", engine(seen, fails_from=1))
    with pytest.raises(RuntimeError, match=r"^bench: \('two', 'out of memory'\)$"):
        bench._search_times(UNITS, torch.device("cuda:0"))


def test_a_bench_that_is_told_to_stop_reports_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "run", lambda *_, **__: Outcome(("one",), {}, ("two",), "interrupted"))
    with pytest.raises(RuntimeError, match=r"^bench: interrupted$"):
        bench._search_times(UNITS, torch.device("cpu"))


def test_a_search_on_a_cpu_says_how_many_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NAS_SIZES", {"quick": (20, 1)})
    monkeypatch.setattr(bench, "HELD_OUT", (20, 20))
    monkeypatch.setattr(bench, "SEARCHED", {"archs": "width=32,depth=1,pooling=avg,norm=none", "subset": "2"})
    monkeypatch.setattr(bench, "usable_cpus", lambda: 1)
    result = bench.run("nas", "quick", 0.0, 1, "cpu")
    assert (result["jobs"], result["networks"], result["device"]) == (1, 2, "cpu")
    assert result["ratio"] == result["plain_seconds"] / result["shipped_seconds"]
    assert "seconds_by_jobs" not in result
