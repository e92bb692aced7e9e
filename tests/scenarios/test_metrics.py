import math

import numpy as np
import pytest

from harness.scenarios.metrics import average_incremental_accuracy, forgetting, seen_accuracy


def test_forgetting_of_a_3_x_3_matrix_by_hand() -> None:
    accuracy = np.array([[90.0, 0.0, 0.0], [60.0, 80.0, 0.0], [70.0, 50.0, 95.0]])
    # Experience 0: best 90 before the end, 70 at the end; experience 1: 80 and 50. (20 + 30) / 2.
    assert forgetting(accuracy) == pytest.approx(25.0)


def test_forgetting_ignores_what_lies_above_the_diagonal() -> None:
    accuracy = np.array([[90.0, 99.0, 99.0], [60.0, 80.0, 99.0], [70.0, 50.0, 95.0]])
    # The best of experience 1 over t = 0 and 1 would be 99 if the entry before it came were looked at.
    assert forgetting(np.tril(accuracy)) == forgetting(accuracy) == pytest.approx(25.0)


def test_forgetting_is_negative_where_the_end_is_best() -> None:
    assert forgetting(np.array([[50.0, 0.0], [60.0, 90.0]])) == pytest.approx(-10.0)


def test_forgetting_of_one_experience_is_missing() -> None:
    assert math.isnan(forgetting(np.array([[80.0]])))


def test_seen_accuracy_weighs_experiences_by_their_images() -> None:
    right = np.array([[5.0, 7.0], [3.0, 30.0]])
    total = np.array([[10.0, 90.0], [10.0, 90.0]])
    # After 0: 5 of 10, the 7 of the unseen experience do not count; after 1: 33 of 100, not the mean of 30 % and 33 %.
    np.testing.assert_allclose(seen_accuracy(right, total), [50.0, 33.0])


def test_average_incremental_accuracy_is_the_mean() -> None:
    assert average_incremental_accuracy(np.array([90.0, 60.0, 30.0])) == pytest.approx(60.0)
