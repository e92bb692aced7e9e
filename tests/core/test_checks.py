"""What configurations share: every wrong value is one line that names the setting."""

import math
from dataclasses import dataclass

import pytest

from harness.core.checks import check_above, check_counts, check_sgd


@dataclass
class Config:
    lr: float = 0.1
    momentum: float = 0.0
    other: float = 1.0
    count: int | None = 1


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, -math.inf])
def test_rates_are_finite_and_above_0(wrong: float) -> None:
    check_above(Config(), "lr", "other")
    with pytest.raises(ValueError, match=rf"^other: a finite number above 0 is needed, got {wrong}$"):
        check_above(Config(other=wrong), "lr", "other")
    with pytest.raises(ValueError, match=r"^lr: "):
        check_sgd(Config(lr=wrong))
    with pytest.raises(ValueError, match=r"^other: "):
        check_sgd(Config(other=wrong), "other")


@pytest.mark.parametrize("momentum", [1.0, 2.0, -0.1, math.nan])
def test_momentum_is_0_or_more_and_below_1(momentum: float) -> None:
    for fits in (0.0, 0.99):
        check_sgd(Config(momentum=fits))
    with pytest.raises(ValueError, match=rf"^momentum: 0 or more and below 1 is needed, got {momentum}$"):
        check_sgd(Config(momentum=momentum))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan])
def test_counts_are_whole_numbers_or_left_open(wrong: int) -> None:
    check_counts(Config(), "count")
    check_counts(Config(count=None), "count")
    check_counts(Config(count=0), "count", least=0)
    with pytest.raises(ValueError, match=rf"^count: at least 1 is needed, got {wrong}$"):
        check_counts(Config(count=wrong), "count")
