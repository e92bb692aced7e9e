"""What the tests of builders share: a small labelled set, seeds, and a kill with its aftermath."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Generator, Tensor

from harness.core import compute, models
from harness.core.compute import forms
from harness.core.memory import Memory
from harness.core.progress import Progress, State

SHAPE = (3, 8, 8)
SIZES = {7: 20, 2: 5, 5: 9}  # images of each class, in no order
FOUR = {0: 30, 1: 30, 2: 30, 3: 30}
Resumable = Callable[[Generator, Progress], Memory]


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set(sizes: dict[int, int] = SIZES, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Classes in a mixed order, each about a pattern of its own."""
    rng = seeded(0)
    labels = torch.tensor([c for c, size in sizes.items() for _ in range(size)])
    labels = labels[torch.randperm(len(labels), generator=rng)]
    patterns = torch.randn(10, *SHAPE, generator=rng)
    return (patterns[labels] + 0.5 * torch.randn(len(labels), *SHAPE, generator=rng)).to(dtype), labels


def not_finite() -> tuple[Tensor, Tensor]:
    """`a_set` whose every value is NaN."""
    images, labels = a_set()
    return images * math.nan, labels


class KilledError(Exception):
    pass


class Killed(Progress):
    """Stops after `rounds` rounds, keeping their state; with `kept`, goes on from there."""

    def __init__(self, rounds: int, kept: State | None = None) -> None:
        self.rounds, self.kept = rounds, kept
        self.done: list[tuple[int, int]] = []

    def resume(self) -> State | None:
        return self.kept

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        self.done.append((done, total))
        if done == self.rounds:
            self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
            raise KilledError


def noted_precisions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dtypes that are asked for around what runs, the innermost last; float32 is around them all."""
    stack = ["float32"]

    @contextmanager
    def noted(dtype: str, device: torch.device) -> Iterator[None]:
        stack.append(dtype)
        yield
        stack.pop()

    for module in (compute, forms):
        monkeypatch.setattr(module, "precision", noted)
    return stack


def check_resumes(build: Resumable, rounds: int) -> None:
    """Fail unless a build killed after `rounds` goes on bit for bit, and leaves its generator where it would be."""
    rngs, whole = (seeded(1), seeded(1)), Killed(0)
    expected = build(rngs[0], whole)
    total = len(whole.done)
    assert whole.done == [(done, total) for done in range(1, total + 1)]
    killed = Killed(rounds)
    with pytest.raises(KilledError):
        build(seeded(1), killed)
    models.scratch.cache_clear()  # what goes on is another process, which knows nothing of this one's networks
    resumed = Killed(0, killed.kept)
    memory = build(rngs[1], resumed)
    assert torch.equal(memory.images, expected.images)
    assert torch.equal(memory.labels, expected.labels)
    assert all(torch.equal(part, expected.stored[name]) for name, part in memory.stored.items())
    assert resumed.done == whole.done[rounds:]
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())
