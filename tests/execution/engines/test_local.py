"""Workers of the local engine: faults, replacements, and where they run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.execution.engines import Event, Outcome, local, run
from harness.execution.units import Store
from tests.execution.engines.walks import rounds, toy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_unit_whose_worker_dies_is_tried_once_more(tmp_path: Path, store: Store) -> None:
    once = toy.walk_unit("once", tmp_path, fault="die once", cost=2.0)
    always = toy.walk_unit("always", tmp_path, fault="die")
    units = [once, toy.walk_unit("fine", tmp_path, cost=1.0), always]
    events: list[Event] = []
    outcome = run(units, store, toy.walk, jobs=1, report=events.append)
    assert outcome == Outcome(("once", "fine"), {"always": "worker died (exit code -9)"}, (), None)
    assert [event.label for event in events if event.kind == "started"] == ["once", "once", "fine", "always", "always"]
    assert [event.label for event in events if event.kind == "failed"] == ["always"]


def test_a_worker_that_failed_on_a_gpu_is_replaced(tmp_path: Path, store: Store) -> None:
    faults = {"first": None, "bad": "raise", "second": None, "bad on a GPU": "raise on a GPU", "third": None}
    units = [toy.walk_unit(name, tmp_path, fault=fault, cost=-n) for n, (name, fault) in enumerate(faults.items())]
    failed = {"bad": "ArithmeticError: two lines", "bad on a GPU": "ArithmeticError: on a GPU"}
    assert run(units, store, toy.walk, jobs=1) == Outcome(("first", "second", "third"), failed, (), None)
    process_of = {line[0]: line[2] for line in rounds(tmp_path)}
    assert process_of["first"] == process_of["second"] != process_of["third"]


def test_workers_that_cannot_start_end_the_run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.walk, "__module__", "nowhere_to_be_found")  # found here, not by those who unpickle it
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", toy)
    monkeypatch.setattr(local, "FALSE_STARTS", 1)
    with pytest.raises(RuntimeError, match="worker processes do not start: exit code 1"):
        run([toy.walk_unit("one", tmp_path)], store, toy.walk)


@pytest.mark.parametrize(("presses", "grace"), [(1, 0.2), (2, 60.0)])
def test_a_hanging_worker_is_killed(
    presses: int, grace: float, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_SECONDS", grace)

    def press(event: Event) -> None:
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        begun = time.monotonic()
        outcome = run([toy.walk_unit("hanging", tmp_path, fault="hang")], store, toy.walk, report=press)
        assert time.monotonic() - begun < 30  # it hangs for 60 s
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome == Outcome((), {}, ("hanging",), "interrupted")
    assert multiprocessing.active_children() == []


def test_workers_are_spread_evenly_over_environments(store: Store, tmp_path: Path) -> None:
    units = [toy.walk_unit(f"walk {number}", tmp_path, seed=number, companions=3) for number in range(3)]
    environments = [{"TOY_PLACE": "first"}, {"TOY_PLACE": "second"}]
    outcome = run(units, store, toy.meet, jobs=3, environments=environments)
    assert len(outcome.done) == 3
    cards = [result[1] for unit in units if (result := store.load(unit.key)) is not None]
    assert Counter(card["place"] for card in cards) == {"first": 2, "second": 1}
    assert "TOY_PLACE" not in os.environ


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("def save_nothing(unit, store, progress):\n    store.save(unit.key, {}, {})\n")
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from harness.execution.engines import run\n"
        "from harness.execution.units import Store, Unit\n"
        "from work import save_nothing\n"
        "units = [Unit('toy', {'name': 'a'}, 'a')]\n"
        "print(*run(units, Store(Path('store')), save_nothing, engine='local', jobs=1).done)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("a\n", "")
