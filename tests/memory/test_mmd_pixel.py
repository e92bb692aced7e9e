from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.core.memory import Budget
from harness.memory import mmd_pixel, random_real
from harness.memory.mmd_pixel import MMDPixelConfig
from tests.memory.toys import a_set, not_finite, seeded

CFG = MMDPixelConfig(iterations=3, real_batch=8)
CLASSES = (2, 5, 7)


@pytest.mark.parametrize("ipc", [1, 2, 4])
def test_every_image_of_a_class_moves_alike(ipc: int) -> None:
    images, labels = a_set(dtype=torch.float64)
    start = random_real.build(images, labels, Budget(ipc), seeded(1)).images
    moves = (mmd_pixel.build(images, labels, Budget(ipc), seeded(1), CFG).images - start).unflatten(0, (3, ipc))
    torch.testing.assert_close(moves, moves[:, :1].expand_as(moves))
    assert (moves.flatten(1).abs().amax(1) > 0.1).all()
    assert (moves[0, 0] - moves[1, 0]).abs().max() > 0.1  # each class by its own


def test_the_first_move_by_hand() -> None:
    # One pixel, two images of one class: 0 and 4, whose mean is 2. From the one that is drawn the gap is 2; its
    # gradient is 2 * 2, by the mean of one image. With lr 0.25 it moves half of the gap, and once more half of what
    # is left and half of the last move: 1 + (0.5 + 0.5).
    images, labels = torch.tensor([0.0, 4.0]).view(2, 1, 1, 1), torch.tensor([3, 3])
    cfg = MMDPixelConfig(iterations=1, lr=0.25)
    start = random_real.build(images, labels, Budget(1), seeded(0)).images.item()
    toward = 1 if start == 0 else -1
    once = mmd_pixel.build(images, labels, Budget(1), seeded(0), cfg)
    assert once.images.item() == start + toward * 1
    twice = mmd_pixel.build(images, labels, Budget(1), seeded(0), replace(cfg, iterations=2))
    assert twice.images.item() == start + toward * 2


@pytest.mark.parametrize("ipc", [1, 3])
@pytest.mark.parametrize("init", ["real", "noise"])
def test_full_batches_close_the_gap(ipc: int, init: str) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg = MMDPixelConfig(iterations=150, real_batch=256, init=init)  # more than any class has: all of it
    built = mmd_pixel.build(images, labels, Budget(ipc), seeded(1), cfg).images.unflatten(0, (3, ipc))
    means = torch.stack([images[labels == c].mean(0) for c in CLASSES])
    torch.testing.assert_close(built.mean(1), means, rtol=0, atol=1e-9)
    if init == "real":  # closed form: a constant image is added
        start = random_real.build(images, labels, Budget(ipc), seeded(1)).images.unflatten(0, (3, ipc))
        torch.testing.assert_close(built, start + (means - start.mean(1)).unsqueeze(1), rtol=0, atol=1e-9)


def test_the_defaults_are_dms_optimiser() -> None:
    cfg = MMDPixelConfig()
    assert (cfg.iterations, cfg.lr, cfg.momentum, cfg.real_batch, cfg.init) == (20_000, 1.0, 0.5, 256, "real")
    assert cfg.per_class
    assert cfg.total == 20_000
    assert cfg.for_setting("cifar10", 1250) == cfg


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, r"^iterations: at least 1 is needed, got 0$"),
        ({"real_batch": 0}, r"^real_batch: at least 1 is needed, got 0$"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)


def test_images_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"^mmd-pixel: the images are not finite after update 0"):
        mmd_pixel.build(*not_finite(), Budget(2), seeded(1), CFG)
