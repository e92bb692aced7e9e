from dataclasses import replace

import pytest
import torch

from harness.core import train
from harness.core.models import parse
from harness.core.recipes import RECIPES, TrainConfig
from harness.core.train import set_learning_rate
from tests.core.training import CFG, new_network


def rates_of(cfg: TrainConfig) -> list[float]:
    """The learning rate of each epoch."""
    optimizer = train.make_optimizer(new_network(), cfg)
    rates = []
    for epoch in range(cfg.rounds):
        set_learning_rate(optimizer, cfg, epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("model", ["convnet3", "convnet3-bn"])
def test_the_recipe_is_that_of_the_papers(model: str) -> None:
    # methods.md 5: SGD .01, momentum .9, decay 5e-4, batch 256, 1000 + 1 epochs, x .1 after the one of index 501
    dm = RECIPES["dm"]("cifar10", parse(model))
    assert (dm.epochs, dm.lr, dm.momentum, dm.weight_decay, dm.batch_size) == (1000, 0.01, 0.9, 5e-4, 256)
    assert (dm.augment, dm.cutmix) == ("color_crop_cutout_flip_scale_rotate", 0.0)
    assert (dm.rounds, dm.drops) == (1001, (502,))
    group = train.make_optimizer(new_network(), dm).param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"], group["dampening"]) == (0.9, 5e-4, False, 0)


@pytest.mark.parametrize(
    ("dataset", "model", "epochs", "strategy"),
    [
        ("cifar10", "convnet3", 300, "none"),
        ("svhn", "mlp", 300, "none"),
        ("fashionmnist", "resnet18-bn", 300, "none"),
        ("mnist", "convnet3", 1000, "dc:crop_scale_rotate"),
        ("digits", "vgg11-bn", 1000, "dc:crop_scale_rotate"),
        ("cifar10", "convnet3-bn", 1000, "dc:crop_noise"),
        ("mnist", "convnet3-w32-bn", 1000, "dc:crop_noise"),
    ],
)
def test_dc_augments_digits_and_for_convnets_with_batchnorm(
    dataset: str, model: str, epochs: int, strategy: str
) -> None:
    # methods.md 3, the table of DC's evaluation, and 5: 300 epochs without augmentation, else 1000
    assert RECIPES["dc"](dataset, parse(model)) == TrainConfig(epochs, 0.01, 0.9, 5e-4, 256, strategy)


@pytest.mark.parametrize(("dataset", "flip"), [("cifar10", "_flip"), ("mnist", ""), ("svhn", ""), ("digits", "")])
def test_idc_trains_in_small_batches_with_cutmix(dataset: str, flip: str) -> None:
    # methods.md 4.8: 1000 epochs, batch 64, x .2 at 2/3 and 5/6, without cutout, CutMix with probability .5
    expected = TrainConfig(1000, 0.01, 0.9, 5e-4, 64, f"idc:color_crop{flip}_scale_rotate", 0.5, "idc")
    assert RECIPES["idc"](dataset, parse("convnet3")) == RECIPES["idc"](dataset, parse("convnet3-bn")) == expected
    assert (expected.rounds, expected.drops) == (1000, (666, 833))


@pytest.mark.parametrize(
    ("epochs", "at_full_rate", "at_a_tenth"),
    [(1, 2, 0), (2, 3, 0), (3, 3, 1), (4, 4, 1), (5, 4, 2), (300, 152, 149), (1000, 502, 499)],
)
def test_learning_rates(epochs: int, at_full_rate: int, at_a_tenth: int) -> None:
    rates = rates_of(TrainConfig(epochs=epochs, lr=0.5))
    assert rates == [0.5] * at_full_rate + [0.05] * at_a_tenth
    assert rates[: epochs // 2 + 2] == [0.5] * min(epochs // 2 + 2, len(rates))  # up to index epochs // 2 + 1


@pytest.mark.parametrize(
    ("epochs", "lengths"),
    [(12, [8, 2, 2]), (6, [4, 1, 1]), (7, [4, 1, 2]), (2, [1, 0, 1]), (1, [0, 0, 1]), (1000, [666, 167, 167])],
)
def test_learning_rates_of_idc(epochs: int, lengths: list[int]) -> None:
    """Twelve epochs: full rate before epoch 2 * 12 // 3 = 8, a fifth before 5 * 12 // 6 = 10, then a twenty-fifth."""
    steps = [rate for rate, length in zip((0.5, 0.1, 0.02), lengths, strict=True) for _ in range(length)]
    assert rates_of(TrainConfig(epochs=epochs, lr=0.5, schedule="idc")) == pytest.approx(steps)


@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_a_constant_schedule_runs_the_epochs_asked_for(epochs: int) -> None:
    cfg = TrainConfig(epochs=epochs, lr=0.5, schedule="constant")
    assert (cfg.rounds, cfg.drops) == (epochs, ())
    assert rates_of(cfg) == [0.5] * epochs


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("dm", [False, True, True, True, False, True]),  # afresh at the start and in epoch 5 // 2 + 2 = 4
        ("idc", [False, True, True, True, True]),  # drops at 3 and 4 leave the momentum alone
        ("constant", [False, True, True, True, True]),
    ],
)
def test_momentum_is_forgotten_where_the_schedule_says_so(schedule: str, expected: list[bool]) -> None:
    cfg = replace(CFG, schedule=schedule)
    optimizer = train.make_optimizer(new_network(), cfg)
    kept = []
    for epoch in range(cfg.rounds):
        set_learning_rate(optimizer, cfg, epoch)
        kept.append(len(optimizer.state) > 0)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert kept == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"^epochs: at least 1 is needed, got 0$"),
        ({"batch_size": 0}, r"^batch_size: at least 1 is needed, got 0$"),
        ({"lr": 0.0}, r"^lr: a finite number above 0 is needed, got 0.0$"),
        ({"lr": float("nan")}, r"^lr: a finite number.* is needed, got nan$"),
        ({"lr": float("inf")}, r"^lr: a finite number.* is needed, got inf$"),
        ({"momentum": 1.0}, r"^momentum: a number below 1 is needed, got 1.0$"),
        ({"momentum": float("nan")}, r"^momentum: .* is needed, got nan$"),
        ({"weight_decay": -0.1}, r"^weight_decay: at least 0 is needed, got -0.1$"),
        ({"weight_decay": float("nan")}, r"^weight_decay: a finite number is needed, got nan$"),
        ({"augment": "color_blur"}, r"^augment: 'blur' is unknown"),
        ({"schedule": "cosine"}, r"^schedule: 'cosine' is unknown; choose from dm, idc, nas, constant$"),
        ({"cutmix": 1.5}, r"^cutmix: at most 1 is needed, got 1.5$"),
        ({"cutmix": float("nan")}, r"^cutmix: .* is needed, got nan$"),
    ],
)
def test_a_recipe_checks_itself(change: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TrainConfig(), **change)  # type: ignore[arg-type]
