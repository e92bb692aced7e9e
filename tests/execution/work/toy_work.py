"""Toy work for the tests of units and engines: importable by worker processes, and runnable as a parent of its own."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from harness.core.progress import Progress
from harness.execution import units
from harness.execution.engines import run
from harness.execution.units import Store, Unit

ROUNDS = 30


def walk_unit(name: str, folder: Path, *, seed: int = 0, needs: tuple[Unit, ...] = (), **more: Any) -> Unit:
    """A random walk of `ROUNDS` rounds; `more` may give cost, and for its context pause (seconds a round), fault."""
    cost = more.pop("cost", 0.0)
    spec = {"seed": seed, "rounds": ROUNDS, "name": name, "needs": [need.key for need in needs]}
    context = {"log": str(folder / "log.txt"), **more}
    return Unit("walk", spec, name, context, needs=tuple(need.key for need in needs), cost=cost)


def walk(unit: Unit, store: Store, progress: Progress) -> None:
    """The work: a walk from the sum of its needs' ends; every round is logged as "name round pid threads OMP"."""
    units.CHECKPOINT_SECONDS = unit.context.get("checkpoint_seconds", 30.0)
    commit_fault(unit.context.get("fault"), Path(unit.context["log"]).with_name(f"fault-{unit.label}"))
    rng = torch.Generator().manual_seed(unit.spec["seed"])
    place, first = torch.zeros(1000), 0
    for need in unit.needs:
        result = store.load(need)
        assert result is not None
        place += result[0]["place"]
    if (state := progress.resume()) is not None:
        place, first = state["place"], int(state["round"])
        rng.set_state(state["rng"])
    for number in range(first, unit.spec["rounds"]):
        write_line(unit, f"{number} {os.getpid()} {torch.get_num_threads()} {os.environ.get('OMP_NUM_THREADS')}")
        place = place * 0.9 + torch.randn(1000, generator=rng) * torch.rand(1000, generator=rng).sum()
        time.sleep(unit.context.get("pause", 0.0))
        kept = {"place": place, "round": torch.tensor(number + 1), "rng": rng.get_state()}
        progress.tick(number + 1, unit.spec["rounds"], lambda kept=kept: kept)  # type: ignore[misc]
    store.save(unit.key, {"place": place}, {"name": unit.label})


def meet(unit: Unit, store: Store, progress: Progress) -> None:
    """The work: wait for the unit's companions to be in hand elsewhere; the result tells the worker's TOY_PLACE."""
    folder = Path(unit.context["log"]).parent
    (folder / f"here-{unit.label}").touch()
    end = time.monotonic() + 60
    while len(list(folder.glob("here-*"))) < unit.context["companions"] and time.monotonic() < end:
        time.sleep(0.01)
    store.save(unit.key, {}, {"place": os.environ.get("TOY_PLACE")})


def commit_fault(fault: str | None, mark: Path) -> None:
    """Go wrong as asked.

    "die once" leaves a mark the first time and does nothing the second; "raise on a GPU" leaves its process as one that
    has used a GPU.
    """
    if fault == "raise":
        raise ArithmeticError("two\nlines")
    if fault == "raise on a GPU":
        torch.cuda.is_initialized = lambda: True
        raise ArithmeticError("on a GPU")
    if fault == "hang":
        mark.touch()
        time.sleep(60)
    if fault == "die" or (fault == "die once" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def write_line(unit: Unit, text: str) -> None:
    with Path(unit.context["log"]).open("a") as log:  # one short write: whole lines, whoever else writes
        log.write(f"{unit.label} {text}\n")


def idle(unit: Unit, store: Store, progress: Progress) -> None:
    """Work that saves nothing."""


def chain(folder: Path, **context: Any) -> list[Unit]:
    """Six walks: the last two need the first two."""
    first = [walk_unit(f"w{number}", folder, seed=number, **context) for number in range(4)]
    return [*first, *(walk_unit(f"sum{n}", folder, seed=9, needs=(first[n], first[0]), **context) for n in (0, 1))]


def main(folder: Path, engine: str, jobs: int, context: dict[str, Any]) -> None:
    """A parent process: wait for folder/go, run the chain, leave the outcome in outcome-PID.json."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    folder.joinpath(f"up-{os.getpid()}").touch()
    while not folder.joinpath("go").exists():
        time.sleep(0.01)
    outcome = run(chain(folder, **context), Store(folder / "store"), walk, engine=engine, jobs=jobs)
    text = {"done": outcome.done, "failed": outcome.failed, "left": outcome.left, "stopped": outcome.stopped}
    folder.joinpath(f"outcome-{os.getpid()}.json").write_text(json.dumps(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
