"""What a bench reports and how a search is timed with several workers; no test depends on a measured time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch

from harness.commands import bench
from harness.commands.bench import search, timing
from harness.commands.bench.timing import Comparison
from harness.execution import engines
from harness.execution.engines import Outcome
from harness.execution.units import Store, Unit

UNITS = [Unit("bench", {"model": name}, name) for name in ("one", "two")]
Trials = list[tuple[int, int]]  # workers, and environments for them


def make_engine(trials: Trials, *, fails_from: int = 99) -> Callable[..., Outcome]:
    """An engine that does no work and notes how it was called; it fails with `fails_from` workers or more."""

    def run(
        units: Sequence[Unit], store: Store, work: object, *, jobs: int, environments: Sequence[Mapping[str, str]]
    ) -> Outcome:
        trials.append((jobs, len(environments)))
        outcome = Outcome(tuple(unit.label for unit in units), {}, (), None)
        return replace(outcome, done=("one",), failed={"two": "out of memory"}) if jobs >= fails_from else outcome

    return run


@pytest.fixture
def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("_two_gpus")
@pytest.mark.parametrize(
    ("device", "expected"),
    [("cuda", [(2, 2), (4, 2), (8, 2), (16, 2)]), ("cuda:1", [(1, 1), (2, 1), (4, 1), (8, 1)]), ("cpu", [(3, 1)])],
)
def test_a_search_is_timed_with_several_workers_on_each_gpu(
    device: str, expected: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: Trials = []
    monkeypatch.setattr(engines, "run", make_engine(trials))
    monkeypatch.setattr(search, "count_usable_cpus", lambda: 3)
    assert list(search.time_workers(UNITS, torch.device(device))) == [jobs for jobs, _ in expected]
    assert trials == expected


@pytest.mark.usefixtures("_two_gpus")
def test_more_workers_than_fit_a_gpu_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    trials: Trials = []
    monkeypatch.setattr(engines, "run", make_engine(trials, fails_from=4))
    assert list(search.time_workers(UNITS, torch.device("cuda:0"))) == [1, 2]
    assert [jobs for jobs, _ in trials] == [1, 2, 4]
    monkeypatch.setattr(engines, "run", make_engine(trials, fails_from=1))
    with pytest.raises(RuntimeError, match="'two', 'out of memory'"):
        search.time_workers(UNITS, torch.device("cuda:0"))


def test_an_interrupted_search_reports_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "run", lambda *_, **__: Outcome(("one",), {}, ("two",), "interrupted"))
    with pytest.raises(RuntimeError, match="interrupted"):
        search.time_workers(UNITS, torch.device("cpu"))


def test_a_search_on_a_cpu_reports_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    size = search.Size(20, 1, 20, 20, "width=32,depth=1,pooling=avg,norm=none", 2)
    monkeypatch.setattr(search, "SIZES", {"quick": size})
    monkeypatch.setattr(search, "count_usable_cpus", lambda: 1)
    result = bench.run("nas", "quick", 0.0, 1, "cpu")
    assert (result["jobs"], result["networks"], result["device"]) == (1, 2, "cpu")
    assert "seconds_by_jobs" not in result


def test_ratios_are_medians_and_quartiles_of_pairs() -> None:
    # Medians 4 and 2; ratios of the pairs 1, 2, 3, whose exclusive quartiles are 1 and 3.
    times = Comparison(plain=[2.0, 4.0, 6.0], shipped=[2.0, 2.0, 2.0])
    assert times.as_result("eager", torch.device("cpu"), flop=10) == {
        "ratio": 2.0, "ratio_quartiles": [1.0, 3.0], "plain_seconds": 4.0, "shipped_seconds": 2.0, "pairs": 3,
        "form": "eager",
    }  # fmt: skip
    assert timing.rates(2.0, 4 * 10**12, torch.device("cuda")) == {"iterations_per_second": 0.5, "tflop_per_second": 2}


def test_forms_take_turns_at_least_five_times() -> None:
    calls: list[str] = []
    times = timing.compare(lambda: calls.append("plain"), lambda: calls.append("shipped"), 0.0)
    assert calls == ["plain", "shipped"] * 6  # once before the measurement
    assert len(times.plain) == len(times.shipped) == 5
