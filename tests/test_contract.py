"""The contract of builders: ours keep it, and each promise that is broken is noticed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness import contract, memory
from harness.config import CondenseRun, assemble, resolve_form
from harness.core.data import DataSet
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress, State
from harness.execution import costs
from harness.memory import random_real
from harness.memory.method import from_function
from harness.memory.shared.sampling import rows_by_class
from harness.tracks import static
from harness.tracks.base import Place
from harness.tracks.estimates import estimate_costs


@dataclass(frozen=True)
class Config:
    iterations: int = 4

    per_class: ClassVar[bool] = True


def learned(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: Config = Config(),
    progress: Progress = SILENT,
) -> Memory:
    """Random images, to which every iteration adds noise: a method at its smallest."""
    start = random_real.build(images, labels, budget, rng)
    kept, first = progress.resume(), 0
    pixels = start.images
    if kept is not None:
        pixels, first = kept["pixels"], int(kept["done"])
        rng.set_state(kept["rng"])
    for number in range(first, cfg.iterations):
        pixels = pixels + torch.randn(pixels.shape, generator=rng)
        state: Callable[[], State] = partial(_state, pixels, number + 1, rng)
        progress.tick(number + 1, cfg.iterations, state)
    return Memory(pixels, start.labels)


def _state(pixels: Tensor, done: int, rng: Generator) -> State:
    return {"pixels": pixels, "done": torch.tensor(done), "rng": rng.get_state()}


@pytest.mark.parametrize("what", list(contract.CHECKS))
def test_a_method_at_its_smallest_keeps_the_contract(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(memory.BUILDERS, "learned", from_function(learned))
    contract.CHECKS[what](from_function(learned), contract.smoke_config("learned"))


@pytest.mark.parametrize("what", list(contract.CHECKS))
@pytest.mark.parametrize("name", ["random", "full", "dm", "lo-dm"])
def test_ours_keep_it(name: str, what: str) -> None:
    contract.CHECKS[what](memory.find(name), contract.smoke_config(name))


@dataclass(frozen=True)
class CountedConfig(Config):
    model: str = "convnet3"

    def passes(self, classes: int, images: int, ipc: int) -> tuple[int, int]:
        return 0, classes * ipc


def test_a_configuration_with_a_cost_needs_no_form(toy_set: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Any = CountedConfig()) -> Memory:
        return random_real.build(images, labels, budget, rng)

    monkeypatch.setitem(memory.BUILDERS, "counted", from_function(build))
    monkeypatch.setattr(costs, "measure_rate", lambda *_, **__: 10.0)
    run, _ = resolve_form(
        assemble(CondenseRun, "smoke", {"memory": "counted", "model": "convnet-d1-w8"}), torch.device("cpu")
    )
    unit, *_ = estimate_costs(static.plan(run, toy_set, Place()).units, run, toy_set)
    assert unit.cost == 2.0  # 10 classes of 2 images, forward and backward


@pytest.mark.parametrize("what", list(contract.RUNS))
def test_it_works_in_whole_runs(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(memory.BUILDERS, "learned", from_function(learned))
    contract.RUNS[what]("learned", tmp_path)


# --- what is noticed ------------------------------------------------------------------------------------------------


def changed(change: Callable[[Memory], Memory]) -> Any:
    """A builder that does this to a memory of random images."""

    def build(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config()) -> Memory:
        return change(random_real.build(images, labels, budget, rng))

    return build


def soft(labels: Callable[[], Tensor]) -> Callable[[Memory], Memory]:
    """The memory with soft labels."""
    return lambda made: Memory(made.images, made.labels, league="soft", soft=labels())


def unseeded(draw: Callable[[], float]) -> Any:
    return changed(lambda made: Memory(made.images + draw(), made.labels))


def asks_for_more(
    images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config(), *, temperature: float
) -> Memory:
    return random_real.build(images, labels, budget, rng)


def writes(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config()) -> Memory:
    images -= images.mean()
    return random_real.build(images, labels, budget, rng)


def a_view(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config()) -> Memory:
    return Memory(images[:6], labels[:6])


def takes_what_there_is(
    images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config()
) -> Memory:
    rows = torch.cat([of_class[: budget.ipc] for of_class in rows_by_class(labels).values()])
    return Memory(images[rows], labels[rows], real=True)


def by_the_mean_of_all(
    images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Config = Config()
) -> Memory:
    made = random_real.build(images, labels, budget, rng)
    return Memory(made.images - images.mean(0), made.labels)


def forgets_its_generator(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: Config = Config(),
    progress: Progress = SILENT,
) -> Memory:
    class Without(Progress):
        def resume(self) -> State | None:
            kept = progress.resume()
            return None if kept is None else kept | {"rng": rng.get_state()}

        def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
            progress.tick(done, total, state)

    return learned(images, labels, budget, rng, cfg, Without())


def never_ticks(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: Config = Config(),
    progress: Progress = SILENT,
) -> Memory:
    return learned(images, labels, budget, rng, cfg)


def starts_afresh(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: Config = Config(),
    progress: Progress = SILENT,
) -> Memory:
    class Without(Progress):
        def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
            progress.tick(done, total, state)

    return learned(images, labels, budget, rng, cfg, Without())


def knows_its_end(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: Config = Config(),
    progress: Progress = SILENT,
) -> Memory:
    return learned(images / cfg.iterations, labels, budget, rng, cfg, progress)


def twice(made: Memory, league: str = "pixel") -> Memory:
    return Memory(made.images.repeat_interleave(2, 0), made.labels.repeat_interleave(2), league=league)


GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("what", "build", "message"),
    [
        ("parameters", asks_for_more, "build(images, labels, budget, rng, cfg) must be a valid call"),
        (
            "2 images of each class",
            changed(lambda m: Memory(m.images[1:], m.labels[1:])),
            "expected equally many images of each of",
        ),
        (
            "2 images of each class",
            changed(lambda m: Memory(m.images, m.labels.flip(0))),
            "expected equally many images of each of",
        ),
        (
            "2 images of each class",
            changed(lambda m: Memory(m.images[..., ::2], m.labels)),
            "expected images (3, 8, 8), got",
        ),
        ("1 image of each class", changed(twice), "the budget is 1 images of each class, the memory has 2"),
        (
            "all images of each class",
            changed(partial(twice, league="storage")),
            "the budget is 5184 numbers, the memory holds 10368",  # 3 classes x 9 images x 3 x 8 x 8
        ),
        (
            "types",
            changed(lambda m: Memory(m.images.double(), m.labels)),
            "images of torch.float32 became torch.float64",
        ),
        ("types", changed(lambda m: Memory(m.images, m.labels.int())), "labels of torch.int64 became torch.int32"),
        ("types", changed(lambda m: Memory(m.images.requires_grad_(), m.labels)), "images still require gradients"),
        ("types", changed(lambda m: Memory(m.images / 0, m.labels)), "an image is not finite"),
        ("types", changed(soft(lambda: torch.ones(6, 3).double())), "soft of torch.float32 became torch.float64"),
        ("types", changed(soft(lambda: torch.ones(6, 3, requires_grad=True))), "soft still require gradients"),
        ("real", changed(lambda m: replace(m, images=m.images + 1)), "holds an image that is no real image of class 2"),
        ("inputs", writes, "the call changed its argument images"),
        ("inputs", a_view, "the memory is a view of the data; index or clone them"),
        ("seed", unseeded(lambda: float(torch.rand(()))), "two calls with rng at the same seed differ"),
        ("seed", unseeded(np.random.default_rng(0).random), "two calls with rng at the same seed differ"),
        ("seed", changed(soft(lambda: torch.rand(6, 3))), "two calls with rng at the same seed differ"),
        ("global generators", unseeded(lambda: float(torch.rand(()))), "the global generator of torch has moved"),
        ("global generators", unseeded(np.random.rand), "the global generator of NumPy has moved"),
        ("global generators", unseeded(random.random), "the global generator of Python has moved"),
        ("too few", takes_what_there_is, "DID NOT RAISE"),
        ("independence", by_the_mean_of_all, "per_class is True, but a class's memory depends on the images of an"),
        ("kill", never_ticks, "it takes progress but never calls progress.tick"),
        ("kill", starts_afresh, "resumed, it repeats rounds that were done before the kill"),
        ("kill", forgets_its_generator, "killed after round 1 of 4 and resumed, it returns another memory"),
        ("iterations", knows_its_end, "if a round depends on the number of rounds, name the field otherwise"),
    ],
)
def test_a_broken_promise_is_noticed(what: str, build: Any, message: str) -> None:
    method = from_function(build)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        contract.CHECKS[what](method, method.config)
    assert message in str(caught.value)


@dataclass
class LooseConfig:
    per_class: ClassVar[bool] = True


@dataclass(frozen=True)
class PathConfig:
    where: Path = Path("here")

    per_class: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("cfg", "kind", "message"),
    [
        (LooseConfig(), ValueError, "LooseConfig must be a frozen dataclass"),
        (PathConfig(), TypeError, "not JSON serializable"),
        ({"iterations": 3}, ValueError, "needs a parameter cfg that defaults to a dataclass"),
    ],
    ids=["loose", "path", "dict"],
)
def test_a_configuration_that_cannot_be_is_noticed(cfg: Any, kind: type[Exception], message: str) -> None:
    def build(images: Tensor, labels: Tensor, budget: Budget, rng: Generator, cfg: Any = cfg) -> Memory:
        return random_real.build(images, labels, budget, rng)

    def check() -> None:
        method = from_function(build)
        contract.check_config(method, method.config)

    with pytest.raises(kind) as caught:
        check()
    assert message in str(caught.value)


# --- which builders are tested --------------------------------------------------------------------------------------


def test_the_builders_of_others_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_BUILDERS", raising=False)
    ours = set(memory.BUILDERS)
    assert not ours & set(contract.offered())
    monkeypatch.setattr(memory, "names", lambda: ["dm", "theirs", *ours])
    assert contract.offered() == ["theirs"]
    monkeypatch.setenv("HARNESS_BUILDERS", "theirs, dm")
    assert contract.offered() == ["theirs", "dm"]


def test_each_builder_has_a_case_for_each_promise() -> None:
    each = len(contract.CHECKS) + len(contract.RUNS)
    assert len(contract.cases(["a", "b"])) == 2 * each
    assert contract.cases(["a"])[2].id == "a: 1 image of each class"
    (none,) = contract.cases([])
    (mark,) = none.marks
    assert (mark.name, mark.kwargs["reason"]) == ("skip", contract.HOW)


def test_checking_moves_no_generator_of_others() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    contract.check_seed(random_real.METHOD, random_real.METHOD.config)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (repr(np.random.get_state()), random.getstate()) == before[1:]
