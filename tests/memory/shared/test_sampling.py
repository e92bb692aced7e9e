from collections import Counter

import pytest
import torch
from torch import Generator

from harness.core.memory import Budget
from harness.memory.shared.sampling import check_enough, draw, renumber, rows_by_class


def test_rows_by_class_by_hand() -> None:
    rows = rows_by_class(torch.tensor([5, 2, 5, 9, 2, 5]))
    assert list(rows) == [2, 5, 9]
    assert [of_class.tolist() for of_class in rows.values()] == [[1, 4], [0, 2, 5], [3]]


def test_classes_are_renumbered_in_ascending_order() -> None:
    assert renumber(torch.tensor([7, 2, 5, 2])).tolist() == [2, 0, 1, 0]


def test_rows_partition_the_set() -> None:
    labels = torch.randint(10, (200,), generator=Generator().manual_seed(0))
    rows = rows_by_class(labels)
    assert sorted(torch.cat(list(rows.values())).tolist()) == list(range(200))
    for c, of_class in rows.items():
        assert (labels[of_class] == c).all()
        assert of_class.tolist() == sorted(of_class.tolist())


def test_draw_is_without_replacement() -> None:
    rows = torch.tensor([10, 20, 30, 40, 50])
    rng = Generator().manual_seed(0)
    for _ in range(20):
        some = draw(rows, 3, rng).tolist()
        assert len(set(some)) == 3
        assert set(some) <= set(rows.tolist())


def test_draw_gives_all_shuffled_where_there_are_fewer() -> None:
    rows = torch.arange(20)
    some = draw(rows, 256, Generator().manual_seed(0)).tolist()
    assert sorted(some) == list(range(20))
    assert some != list(range(20))
    assert rows.tolist() == list(range(20))  # not shuffled in place


def test_each_row_is_drawn_equally_often() -> None:
    rng = Generator().manual_seed(0)
    counts = Counter(row for _ in range(1000) for row in draw(torch.arange(5), 2, rng).tolist())
    # binomial(1000, 2/5): mean 400, standard deviation 15
    assert all(abs(counts[row] - 400) < 65 for row in range(5))


def test_too_few_images_are_named() -> None:
    rows = rows_by_class(torch.tensor([4, 4, 4, 8, 8]))
    check_enough(rows, Budget(2))
    with pytest.raises(ValueError, match=r"^class 8: the budget asks for 3 images, the data has 2; use a smaller ipc$"):
        check_enough(rows, Budget(3))
