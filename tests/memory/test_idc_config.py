from dataclasses import replace
from typing import Any

import pytest

from harness.core.memory import Budget
from harness.memory import idc
from harness.memory.idc import IDCConfig, IDCIConfig
from tests.memory.small_idc import IDC, IDCI
from tests.memory.toys import a_set, seeded


def test_the_defaults_are_the_papers() -> None:
    cfg = IDCConfig()
    assert (cfg.iterations, cfg.updates, cfg.total) == (2000, 100, 200_000)
    assert (cfg.lr, cfg.momentum, cfg.real_batch, cfg.synthetic_batch) == (0.005, 0.5, 64, 128)
    assert (cfg.factor, IDCIConfig().factor, cfg.distance, cfg.augment) == (2, 1, "mse", "idc:color_crop_cutout")
    train = cfg.train
    assert (train.epochs, train.batch_size, train.lr, train.momentum, train.weight_decay) == (1, 64, 0.01, 0.9, 5e-4)
    assert (train.cutmix, train.augment, train.rounds, cfg.trained) == (0.5, "idc:color_crop", 1, 2000)
    assert not cfg.per_class


def test_digits_and_clothes_are_matched_by_absolute_differences() -> None:
    assert [IDCConfig().for_setting(name, 10).distance for name in ("mnist", "fashionmnist", "svhn", "cifar10")] == [
        "l1",
        "l1",
        "mse",
        "mse",
    ]


def test_a_budget_decodes_into_four_times_as_many_images() -> None:
    assert IDCConfig().decoded(10, (3, 32, 32)) == 40
    assert IDCIConfig().decoded(10, (3, 32, 32)) == 10
    built = idc.build(*a_set(), Budget(1), seeded(1), IDC)
    assert (built.league, len(built.labels), built.scalars) == ("storage", 12, 3 * 3 * 8 * 8)
    full_size = idc.IDC_I(*a_set(), Budget(1), seeded(1), IDCI)
    assert (full_size.league, len(full_size.labels), full_size.stored) == ("pixel", 3, {})


def test_passes_count_the_images_of_all_updates() -> None:
    # methods.md 4.8: 200k updates of 64 real images and 40 synthetic ones (thrice) of 10 classes, and 2000 trained on.
    cfg = IDCConfig()
    assert cfg.real_passes(classes=10, images=5000) == 200_000 * 640
    assert [cfg.count_matched(10, images) for images in (40, 200)] == [200_000 * 400, 200_000 * 1280]
    assert cfg.passes(classes=10, images=5000, ipc=40) == (0, 200_000 * (640 + 1200 + 2000))
    assert cfg.passes(classes=10, images=100, ipc=200) == (0, 200_000 * (640 + 3 * 1280 + 1000))  # at most 128 and all


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, r"^iterations: at least 1 is needed, got 0$"),
        ({"updates": 0}, r"^updates: at least 1 is needed, got 0$"),
        ({"trained": 0}, r"^trained: at least 1 is needed, got 0$"),
        ({"synthetic_batch": 0}, r"^synthetic_batch: at least 1 is needed, got 0$"),
        ({"distance": "kl"}, r"^distance: 'kl' is unknown; choose from rows, cos, mse, l1$"),
        ({"factor": 0}, r"^factor: at least 1 is needed, got 0$"),
        ({"augment": "blur"}, r"^augment: 'blur' is unknown"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(IDC, **change)


def test_a_factor_that_does_not_divide_the_images_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^multi-formation: 8 x 8 cannot be cut by a factor of 3$"):
        idc.build(*a_set(), Budget(1), seeded(1), replace(IDC, factor=3))
