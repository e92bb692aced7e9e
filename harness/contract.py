"""Tests of what every memory builder has to satisfy, for the authors of builders:

    pytest --pyargs harness.contract                              all builders of other packages
    HARNESS_BUILDERS=mine,dm pytest --pyargs harness.contract     the builders mine and dm

A builder is tested with its configuration under the preset smoke. If its defaults take long, its configuration sets
shorter ones: `presets: ClassVar[...] = {"smoke": {"iterations": 2}}`. Each `check_...` may be called on its own.
"""

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, is_dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

import harness
from harness import memory
from harness.config import CLRun, CondenseRun, Run, assemble, resolve_form, restore, to_plain
from harness.core import atomic as files
from harness.core.memory import Budget, Memory
from harness.core.progress import Progress, State
from harness.memory.method import Method, MethodConfig

CLASSES = (2, 5, 7)  # of `toy`
SHAPE = (3, 8, 8)
HOW = (
    "no other package offers a memory builder: install one with an entry point in the group harness.memories, "
    "or name some, HARNESS_BUILDERS=dm,herding"
)


def toy() -> tuple[Tensor, Tensor]:
    """Return images (27, 3, 8, 8), nine of each of three classes in turn, and their labels (27,), global ids."""
    images = torch.randn(27, *SHAPE, generator=Generator().manual_seed(0))
    return images, torch.tensor([7, 2, 5]).repeat(9)


def smoke_config(name: str) -> MethodConfig:
    """Return the configuration of a method under the preset smoke."""
    run, _ = resolve_form(assemble(CondenseRun, "smoke", {"memory": name}), torch.device("cpu"))
    return run.method


def make(method: Method[MethodConfig], cfg: MethodConfig, ipc: int = 2, seed: int = 7, **more: Any) -> Memory:
    """Build a memory of the images that `toy` returns."""
    return method(*toy(), Budget(ipc), Generator().manual_seed(seed), cfg, **more)


def is_same(one: Memory, other: Memory) -> bool:
    """Return whether all tensors of two memories are equal, bit for bit."""
    tensors = [
        {"images": made.images, "labels": made.labels, "soft": made.soft, **made.stored} for made in (one, other)
    ]
    first, second = ({name: part for name, part in parts.items() if part is not None} for parts in tensors)
    return first.keys() == second.keys() and all(torch.equal(part, second[name]) for name, part in first.items())


# --- how it is called -----------------------------------------------------------------------------------------------


def check_parameters(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that build(images, labels, budget, rng, cfg) is a valid call, and that `cfg` has a default."""
    images, labels = toy()
    try:
        method(images=images, labels=labels, budget=Budget(2), rng=Generator().manual_seed(7), cfg=cfg)
    except TypeError as error:
        raise AssertionError(f"build(images, labels, budget, rng, cfg) must be a valid call: {error}") from error
    assert type(method.config) is type(cfg), "the default of cfg must be the builder's configuration"


def check_config(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that the configuration is a frozen dataclass of JSON-able values with the attribute `per_class`."""
    assert is_dataclass(cfg), f"a configuration must be a dataclass, got {type(cfg).__name__}"
    with pytest.raises(FrozenInstanceError):  # @dataclass(frozen=True)
        cfg.anything = 1  # type: ignore[attr-defined]
    assert isinstance(cfg.per_class, bool), (
        f"{type(cfg).__name__}.per_class says whether each class depends on its own images alone: "
        f"per_class: ClassVar[bool] = True or False; got {cfg.per_class!r}"
    )
    back = restore(method.config, json.loads(json.dumps(to_plain(cfg), allow_nan=False)))
    assert back == cfg, f"the configuration must survive JSON, which names results; {cfg} became {back}"


# --- what it returns --------------------------------------------------------------------------------------------------


def check_budget(method: Method[MethodConfig], cfg: MethodConfig, ipc: int = 2) -> None:
    """Check that all classes have equally many images, in ascending order of classes, within the budget."""
    if not cfg.stored:
        return
    made = make(method, cfg, ipc)
    each = len(made.labels) // len(CLASSES)
    assert made.labels.tolist() == [c for c in CLASSES for _ in range(each)], (
        f"expected equally many images of each of the classes {CLASSES}, ascending, got labels {made.labels.tolist()}"
    )
    assert made.league != "pixel" or each == ipc, f"the budget is {ipc} images of each class, the memory has {each}"
    assert made.images.shape[1:] == SHAPE, f"expected images {SHAPE}, got {tuple(made.images.shape[1:])}"
    most = ipc * len(CLASSES) * toy()[0][0].numel()
    assert made.scalars <= most, f"the budget is {most} numbers, the memory holds {made.scalars}"


def check_types(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that images and labels have the types and the device of the data, and are detached and finite."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = (part.to(device) for part in toy())
    made = method(images, labels, Budget(2), Generator().manual_seed(7), cfg)
    pairs = [("images", made.images, images), ("labels", made.labels, labels)]
    for name, tensor, given in pairs + ([] if made.soft is None else [("soft", made.soft, images)]):
        assert tensor.dtype == given.dtype, f"{name} of {given.dtype} became {tensor.dtype}"
        assert tensor.device == given.device, f"{name} on {given.device} came back on {tensor.device}"
        assert not tensor.requires_grad, f"{name} still require gradients; detach them"
    assert made.not_finite is None, f"{made.not_finite} is not finite"


def check_real(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that a memory with `real=True`, which is stored in 8 bits, holds images of the data."""
    made, (images, labels) = make(method, cfg), toy()
    if not made.real:
        return
    for image, c in zip(made.images, made.labels.tolist(), strict=True):
        assert (images[labels == c] == image).flatten(1).all(1).any(), (
            f"Memory(..., real=True) holds an image that is no real image of class {c}; leave real out"
        )


def check_inputs(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that the call leaves the data unchanged, and that writing to the memory does."""
    images, labels = toy()
    made = method(images, labels, Budget(2), Generator().manual_seed(7), cfg)
    for name, tensor, before in (("images", images, toy()[0]), ("labels", labels, toy()[1])):
        assert torch.equal(tensor, before), f"the call changed its argument {name}"
    if cfg.stored:
        made.images.zero_()
        assert torch.equal(images, toy()[0]), "the memory is a view of the data; index or clone them"


def check_seed(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that the same seed gives the same memory, bit for bit, for any state of the global generators."""
    first = make(method, cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        numpy_state, python_state = np.random.get_state(), random.getstate()
        np.random.seed(1)
        random.seed(1)
        second = make(method, cfg)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    assert is_same(first, second), "two calls with rng at the same seed differ; draw everything from rng"


def check_global_generators(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that the global generators of torch, NumPy and Python are not used."""

    def states() -> dict[str, object]:
        _, words, *more = np.random.get_state()
        return {"torch": torch.get_rng_state().tolist(), "NumPy": [*words, *more], "Python": random.getstate()}

    before = states()
    make(method, cfg)
    moved = [name for name, state in states().items() if state != before[name]]
    assert not moved, f"the global generator of {' and '.join(moved)} has moved; draw from rng"


def check_too_few(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check that a class with fewer images than the budget raises a ValueError."""
    if not cfg.stored:
        return
    images, labels = toy()
    with pytest.raises(ValueError, match=r"."):  # in whatever words
        method(images[:-1], labels[:-1], Budget(9), Generator().manual_seed(7), cfg)


def check_independence(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check, if per_class is True, that the memory of a class does not depend on images of another."""
    if not cfg.per_class:
        return
    images, labels = toy()
    others = torch.where((labels == CLASSES[-1]).view(-1, 1, 1, 1), images.flip(3) + 1, images)
    one, other = (method(batch, labels, Budget(2), Generator().manual_seed(7), cfg) for batch in (images, others))
    for part in ("images", "soft"):
        first, second = (getattr(made, part) for made in (one, other))
        if first is None and second is None:
            continue
        first, second = first[one.labels != CLASSES[-1]], second[other.labels != CLASSES[-1]]
        same = first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=1e-5)
        assert same, "per_class is True, but a class's memory depends on the images of another"


# --- interruptions -----------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stops a builder at a round."""


class Rounds(Progress):
    """Count rounds, and at one of them save the state to a file and stop; another call resumes from the file."""

    def __init__(self, path: Path, kill_at: int | None = None) -> None:
        self.path, self.kill_at, self.count = path, kill_at, 0

    def resume(self) -> State | None:
        return files.load(self.path)[0] if self.path.exists() else None

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        assert 0 < done <= total, f"progress.tick(done, total, state) counts from 1 to total; got {done} of {total}"
        self.count += 1
        if self.count == self.kill_at or (self.kill_at is None and done == total):
            files.save(self.path, state(), {})
        if self.count == self.kill_at:
            raise KilledError


def check_kill(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check, if it takes `progress`, that a builder that was killed and called again returns the same memory."""
    if "progress" not in method.takes:
        return
    with TemporaryDirectory() as folder:
        whole = Rounds(Path(folder, "whole"))
        undisturbed = make(method, cfg, progress=whole)
        assert whole.count, "it takes progress but never calls progress.tick"
        for kill_at in sorted({1, (whole.count + 1) // 2, whole.count}):
            rounds = Rounds(Path(folder, str(kill_at)), kill_at)
            with pytest.raises(KilledError):
                make(method, cfg, progress=rounds)
            made = make(method, cfg, progress=rounds)
            assert is_same(made, undisturbed), (
                f"killed after round {kill_at} of {whole.count} and resumed, it returns another memory; the state "
                "must hold all that later rounds depend on, including rng.get_state()"
            )
            assert rounds.count <= whole.count, "resumed, it repeats rounds that were done before the kill"


def check_iterations(method: Method[MethodConfig], cfg: MethodConfig) -> None:
    """Check, if it has `iterations`, that more of them continue fewer, as `--at` requires."""
    if "progress" not in method.takes or cfg.iterations is None or cfg.iterations < 2:
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "half")
        make(method, cfg.with_iterations(cfg.iterations // 2), progress=Rounds(path))
        assert path.exists(), "with fewer iterations it never reports its last round, done == total"
        made = make(method, cfg, progress=Rounds(path))
        assert is_same(made, make(method, cfg)), (
            f"{cfg.iterations // 2} iterations, continued up to {cfg.iterations}, give another memory than "
            f"{cfg.iterations} at once; if a round depends on the number of rounds, name the field otherwise"
        )


# --- in whole runs --------------------------------------------------------------------------------------------------


def check_condense(name: str, out: Path) -> None:
    """Check that `harness run condense` evaluates it on digits."""
    _check_run(CondenseRun, {"memory": name}, "test_accuracy", out)


def check_stream(name: str, out: Path) -> None:
    """Check that `harness run cl` evaluates it in a stream of digits in two steps."""
    _check_run(CLRun, {"memory": name, "steps": 2}, "last_accuracy", out)


def _check_run(kind: type[Run], settings: Mapping[str, object], metric: str, out: Path) -> None:
    run = kind.of("smoke", dataset="digits", **settings)
    rows = harness.run(run, harness.Options(out=out, engine="serial", device="cpu"))
    values = rows[rows["metric"] == metric]["value"]
    assert len(values) == 1, f"the run left {len(values)} rows of {metric}"
    assert values.between(0, 100).all(), f"{metric} is {values.iloc[0]} %"
    assert set(rows["memory"]) == {settings["memory"]}


# --- the tests ------------------------------------------------------------------------------------------------------

CHECKS: Mapping[str, Callable[[Method[MethodConfig], MethodConfig], None]] = {
    "parameters": check_parameters,
    "config": check_config,
    "1 image of each class": partial(check_budget, ipc=1),
    "2 images of each class": check_budget,
    "all images of each class": partial(check_budget, ipc=9),
    "types": check_types,
    "real": check_real,
    "inputs": check_inputs,
    "seed": check_seed,
    "global generators": check_global_generators,
    "too few": check_too_few,
    "independence": check_independence,
    "kill": check_kill,
    "iterations": check_iterations,
}
RUNS: Mapping[str, Callable[[str, Path], None]] = {"run condense": check_condense, "run cl": check_stream}


def offered() -> list[str]:
    """Return the builders to test: those in HARNESS_BUILDERS, or all that other packages offer."""
    if named := os.environ.get("HARNESS_BUILDERS", ""):
        return [name.strip() for name in named.split(",")]
    return sorted(set(memory.names()) - memory.BUILDERS.keys())


def cases(names: list[str]) -> list[Any]:
    """Return a case for each builder and check, or a skipped one that says how to offer a builder."""
    if not names:
        return [pytest.param("", "", marks=pytest.mark.skip(reason=HOW), id="none")]
    return [pytest.param(name, what, id=f"{name}: {what}") for name in names for what in (*CHECKS, *RUNS)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, as workers of a run do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained", "ignore:no QP solver found")  # Avalanche's imports
@pytest.mark.parametrize(("name", "what"), cases(offered()))
def test_builder(name: str, what: str, tmp_path: Path) -> None:
    """Run the check `what` on the builder `name`."""
    if what in RUNS:
        RUNS[what](name, tmp_path)
    else:
        CHECKS[what](memory.find(name), smoke_config(name))
