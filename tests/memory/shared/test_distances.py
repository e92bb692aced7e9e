from typing import Any

import pytest
import torch

from harness.memory.shared.distances import DISTANCES, Gradients, rows_distance
from tests.memory.toys import seeded


def one_class(**parts: list[Any]) -> Gradients:
    return {name: torch.tensor([part], dtype=torch.float64) for name, part in parts.items()}


def test_rows_distance_by_hand() -> None:
    # Rows (3, 4) and (4, 3): 1 - 24 / (5 * 5 + 1e-6). Rows (2, 0) and (0, 3): 1 - 0. The bias counts nothing.
    real = one_class(weight=[[3.0, 4.0], [2.0, 0.0]], bias=[1.0, 1.0])
    synthetic = one_class(weight=[[4.0, 3.0], [0.0, 3.0]], bias=[-7.0, 0.0])
    assert rows_distance(real, synthetic).item() == pytest.approx(1 - 24 / (25 + 1e-6) + 1, abs=1e-12)


def test_short_rows_count_as_unlike_themselves() -> None:
    # Rows of length 1e-3 against themselves: 1 - 1e-6 / (1e-6 + 1e-6). This is what the published 1e-6 does.
    short = one_class(weight=[[1e-3, 0.0], [0.0, 1e-3]])
    assert rows_distance(short, short).item() == pytest.approx(2 * 0.5)


def test_the_rows_of_a_convolution_are_its_filters() -> None:
    # Two filters of 1 x 1 x 2: (3, 4) on both sides, and (1, 0) against (-1, 0).
    real = one_class(weight=[[[[3.0, 4.0]]], [[[1.0, 0.0]]]])
    synthetic = one_class(weight=[[[[3.0, 4.0]]], [[[-1.0, 0.0]]]])
    assert rows_distance(real, synthetic).item() == pytest.approx(0 + 2, abs=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("cos", 1 - 8 / 9), ("mse", 1 + 1 + 0), ("l1", 1 + 1 + 0)])
def test_the_other_distances_by_hand(name: str, expected: float) -> None:
    # Weight and bias are one vector: (1, 2, 2) against (2, 1, 2). Product 2 + 2 + 4, lengths 3 and 3.
    real, synthetic = one_class(weight=[[1.0, 2.0]], bias=[2.0]), one_class(weight=[[2.0, 1.0]], bias=[2.0])
    assert DISTANCES[name](real, synthetic).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_distance_is_the_sum_of_those_of_each_class(name: str) -> None:
    real, synthetic = (
        {"a": torch.randn(3, 4, 2, 3, 3, generator=seeded(s)), "b": torch.randn(3, 4, generator=seeded(s + 9))}
        for s in (0, 1)
    )
    alone = [
        DISTANCES[name](*({key: part[k : k + 1] for key, part in side.items()} for side in (real, synthetic)))
        for k in range(3)
    ]
    torch.testing.assert_close(DISTANCES[name](real, synthetic), torch.stack(alone).sum())


def test_rows_distance_does_not_see_the_length_of_a_row() -> None:
    real, synthetic = ({"weight": torch.randn(2, 5, 7, generator=seeded(s)).double()} for s in (0, 1))
    longer = {"weight": synthetic["weight"] * torch.rand(2, 5, 1, generator=seeded(2)).double().add(0.5)}
    torch.testing.assert_close(rows_distance(real, longer), rows_distance(real, synthetic), rtol=0, atol=1e-5)
