import math

import numpy as np
import pytest
from numpy.random import default_rng

from harness.results.statistics import ranking


def test_the_ceiling_by_hand() -> None:
    truth = np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0], [4.0, 4.0]])
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(0.8)  # one swap, as above
    assert math.isnan(ranking.noise_ceiling(truth[:, :1], default_rng(0)))


def test_the_ceiling_is_the_mean_over_all_splits() -> None:
    truth = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 2.0], [3.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    # {0} and {1, 2}: 1 2 3 4 and 1 2.5 2.5 4; {1}: 1 3 2 4 and 1 2 3 4; {2}: as {0}.
    expected = (4.5 / math.sqrt(22.5) + 0.8 + 4.5 / math.sqrt(22.5)) / 3
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(expected)


def test_the_ceiling_of_the_best_by_hand() -> None:
    # The best four by the mean of both are 2 3 4 5, of which one half has 2 3 4 5 and the other 3 2 4 5: one swap.
    truth = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0], [3.0, 2.0], [4.0, 4.0], [5.0, 5.0]])
    assert ranking.noise_ceiling(truth, default_rng(0), 4 / 6) == pytest.approx(0.8)
    assert [ranking.split_sizes(repeats) for repeats in (2, 5)] == [(1, 1), (2, 3)]


def test_many_networks_are_split_at_random() -> None:
    truth = default_rng(0).standard_normal((30, 1)) + 0.5 * default_rng(1).standard_normal((30, 12))
    exact = ranking.noise_ceiling(truth, default_rng(0), splits=462)  # 12 over 6, halved
    assert ranking.noise_ceiling(truth, default_rng(0), splits=60) == pytest.approx(exact, abs=0.02)


def test_the_ceiling_leaves_out_what_cannot_be_split() -> None:
    truth = np.array([[1.0, 1.0], [2.0, 3.0], [9.0, np.nan], [3.0, 2.0], [4.0, 4.0]])
    assert ranking.noise_ceiling(truth, default_rng(0)) == pytest.approx(0.8)
    assert math.isnan(ranking.noise_ceiling(np.ones((5, 2)), default_rng(0)))
