"""Claims: one process at a time works on a unit, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.execution import claims
from harness.execution.claims import Claim
from harness.execution.units import Store, Unit

KEY = Unit("memory", {"method": "dm", "classes": (0, 1), "ipc": 10}, "dm memory, classes 0-1").key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def acquire(store: Store) -> Claim:
    claim = store.claim(KEY)
    assert claim is not None
    return claim


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_claim_excludes_others_until_it_is_released(store: Store) -> None:
    with acquire(store) as claim:
        assert claim.is_at(store.path(KEY, ".claim"))
        assert store.claim(KEY) is None
        assert Store(store.root).claim(KEY) is None
    assert [*store.path(KEY).parent.iterdir()] == []
    with acquire(store) as again:
        assert again.is_at(store.path(KEY, ".claim"))


HOLD = """
import sys, time
from pathlib import Path
from harness.execution.units import Store
claim = Store(Path(sys.argv[1])).claim(sys.argv[2])
Path(sys.argv[3]).write_text(str(claim is not None))
time.sleep(60)
"""


def test_a_claim_ends_with_its_process(store: Store, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root), KEY, str(answer)], env=environment)
    try:
        assert wait_until(lambda: answer.exists() and answer.read_text() != "", 30)
        assert answer.read_text() == "True"
        assert store.claim(KEY) is None
        temporary = store.path(KEY).with_name(f".{KEY}.checkpoint.safetensors.0123abcd")
        temporary.touch()  # killed while writing it
        holder.send_signal(signal.SIGKILL)
        # not yet waited for: a zombie has its number still, and is dead all the same
        assert wait_until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        with acquire(store) as claim:
            assert claim.is_at(store.path(KEY, ".claim"))
            assert not temporary.exists()
            assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.claim"]
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_a_reused_process_number_is_recognised(store: Store) -> None:
    path = store.path(KEY, ".claim")
    with acquire(store):
        text = path.read_text()
    path.write_text(text)
    assert store.claim(KEY) is None  # this very process, alive
    path.write_text(text.replace(f'"start": "{claims.get_start_ticks(os.getpid())}"', '"start": "1"'))
    assert path.read_text() != text
    with acquire(store) as claim:
        assert claim.is_at(path)


def test_claims_of_other_hosts_age_by_the_file_system_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.write_text('{"host": "another", "pid": 1, "start": "1"}')
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this host's clock is decades ahead
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 59,) * 2)
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 2,) * 2)
    with acquire(store) as claim:
        assert claim.is_at(path)


def test_a_claim_file_that_is_still_empty_holds(store: Store) -> None:
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.touch()
    assert store.claim(KEY) is None
    os.utime(path, (path.stat().st_mtime - 61,) * 2)
    with acquire(store) as claim:
        assert claim.is_at(path)


def test_the_heartbeat_keeps_a_claim(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.3)
    path = store.path(KEY, ".claim")
    with acquire(store) as claim:
        os.utime(path, (0, 0))
        assert wait_until(lambda: path.stat().st_mtime > 0)
        assert store.claim(KEY) is None
        assert claim.is_at(path)
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 60)
    with acquire(store) as claim:  # a heart that beats too slowly
        os.utime(path, (0, 0))
        with acquire(store) as taken:
            assert taken.is_at(path)
            claim.release()
            assert taken.is_at(path)  # who lost a claim does not take away its successor's


def test_a_live_claim_that_was_renamed_still_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two see the same stale claim; the slower one moves the quicker one's new claim aside, taking it for the stale one.
    path = store.path(KEY, ".claim")
    path.parent.mkdir(parents=True)
    path.write_text('{"host": "another", "pid": 1, "start": "1"}')
    os.utime(path, (0, 0))
    quicker: list[Claim] = []
    is_stale = claims.is_stale

    def is_stale_but_slow(asked: Path) -> bool:
        verdict = is_stale(asked)
        if not quicker:
            monkeypatch.setattr(claims, "is_stale", is_stale)
            quicker.append(acquire(Store(store.root)))
        return verdict

    monkeypatch.setattr(claims, "is_stale", is_stale_but_slow)
    assert store.claim(KEY) is None
    assert not quicker[0].is_at(path)
    assert store.claim(KEY) is None  # a third
    quicker[0].release()
    assert [*path.parent.iterdir()] == []
    with acquire(store) as claim:
        assert claim.is_at(path)
