import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.data import DataSet
from harness.scenarios.stream import NormalisedImages, class_incremental, class_order, split

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]


@pytest.mark.parametrize("seed", range(5))
def test_class_order_is_the_published_one(seed: int, published: Path) -> None:
    with (published / "cl_class_orders.csv").open() as file:
        orders = {int(row["seed"]): [int(row[f"pos{p}"]) for p in range(100)] for row in csv.DictReader(file)}
    assert class_order(100, seed) == orders[seed]


def test_class_order_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]
    class_order(10, 5)
    after = np.random.get_state(legacy=False)["state"]
    assert (after["key"].tolist(), after["pos"]) == (before["key"].tolist(), before["pos"])


def test_split_gives_consecutive_equal_parts() -> None:
    assert split([5, 3, 1, 0, 2, 4], 3) == [[5, 3], [1, 0], [2, 4]]
    assert split([1, 0], 1) == [[1, 0]]


@pytest.mark.parametrize("steps", [0, 3, 20, -1])
def test_steps_that_do_not_divide_the_classes_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps: {steps} does not divide the 10 classes; choose from 1, 2, 5, 10"):
        split(range(10), steps)


def test_a_stream_follows_the_order_and_keeps_the_labels(toy_set: DataSet) -> None:
    stream = class_incremental(toy_set, ORDER, 5)
    assert len(stream.train_stream) == len(stream.test_stream) == 5
    for t, classes in enumerate(split(ORDER, 5)):
        for experience, per_class in ((stream.train_stream[t], 12), (stream.test_stream[t], 4)):
            assert set(experience.classes_in_this_experience) == set(classes)
            samples = list(experience.dataset)
            assert sorted(int(label) for _, label, _ in samples) == sorted(classes * per_class)
            assert {int(task) for _, _, task in samples} == {0}
        assert set(stream.train_stream[t].classes_seen_so_far) == set(ORDER[: 2 * t + 2])


def test_classes_partition_the_label_set(toy_set: DataSet) -> None:
    stream = class_incremental(toy_set, ORDER, 2)
    parts = [set(experience.classes_in_this_experience) for experience in stream.train_stream]
    assert set.union(*parts) == set(range(10))
    assert sum(map(len, parts)) == 10


def test_a_streams_images_are_the_sets_own_normalised(toy_set: DataSet) -> None:
    samples = list(class_incremental(toy_set, ORDER, 5).train_stream[1].dataset)
    for c in (4, 0):
        images = torch.stack([image for image, label, _ in samples if label == c])
        expected = (toy_set.train_images[toy_set.train_labels == c].float() / 255 - 0.5) / 0.25
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", [ORDER[:-1], [*ORDER[:-1], 3], [*ORDER[:-1], 10]])
def test_an_order_that_is_no_permutation_is_refused(toy_set: DataSet, order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"class order: expected each of 0 \.\. 9 once"):
        class_incremental(toy_set, order, 1)


def test_normalised_images_read_one_image_at_a_time(toy_set: DataSet) -> None:
    images = NormalisedImages(toy_set.train_images, toy_set.train_labels, toy_set)
    assert len(images) == 120
    assert images.targets[:11] == [*range(10), 0]
    image, label = images[7]
    assert (image.dtype, image.shape, label) == (torch.float32, (1, 8, 8), 7)
    assert image[0, 0, 0].item() == pytest.approx((toy_set.train_images[7, 0, 0, 0].item() / 255 - 0.5) / 0.25)
