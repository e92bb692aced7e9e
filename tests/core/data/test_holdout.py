import torch

from harness.core.data import DataSet
from harness.core.data.holdout import hold_out


def a_set(labels: list[int]) -> DataSet:
    """Images that carry their row in their one pixel."""
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    test = torch.full((2, 1, 1, 1), 255, dtype=torch.uint8)
    names = tuple("abc")
    return DataSet(
        "toy", images, torch.tensor(labels), test, torch.tensor([0, 1]), names, (0.5,), (0.5,), "d", "official"
    )


def test_the_last_tenth_of_each_class_is_held_out() -> None:
    # 40 of class 0 in the even rows, 20 each of classes 1 and 2 in turn: 4, 2 and 2 are held, the last of each.
    labels = [0 if row % 2 == 0 else 1 + row // 2 % 2 for row in range(80)]
    before = a_set(labels)
    after = hold_out(before)
    held = after.test_images.flatten().tolist()
    assert held == [72, 73, 74, 75, 76, 77, 78, 79]
    assert after.test_labels.tolist() == [labels[row] for row in held]
    assert after.train_images.flatten().tolist() == [row for row in range(80) if row not in held]
    assert after.train_labels.tolist() == [labels[row] for row in range(80) if row not in held]


def test_no_test_image_is_used_and_the_digest_is_another() -> None:
    before = a_set([0, 1, 2] * 10)
    after = hold_out(before)
    assert 255 not in after.test_images
    assert after.digest not in (before.digest, hold_out(a_set([0] * 4)).name)
    assert after.digest == hold_out(before).digest
    assert (after.name, after.classes, after.mean) == (before.name, before.classes, before.mean)


def test_small_classes_lose_one_image() -> None:
    after = hold_out(a_set([0, 0, 0, 1, 1, 2, 2]))  # 0.3, 0.2 and 0.2 of an image: one each
    assert after.test_images.flatten().tolist() == [2, 4, 6]
    assert after.train_images.flatten().tolist() == [0, 1, 3, 5]
