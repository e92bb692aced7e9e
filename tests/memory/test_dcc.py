"""DCC and DSAC: gradients summed over classes before they are compared."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.core import augment, compute, models
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import LowRank
from harness.memory import dc, dcc, dsa, random_real
from harness.memory.dc import DCConfig
from harness.memory.dcc import DCCConfig, DSACConfig
from harness.memory.dsa import DSAConfig
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.distances import rows_distance
from harness.memory.shared.gradients import GradientMatching
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import real_batches
from tests.memory import plain_matching
from tests.memory.toys import FOUR, SHAPE, a_set, seeded

SMALL: dict[str, Any] = dict(
    iterations=2, updates=3, epochs=2, lr=0.5, real_batch=8, network_lr=0.1, network_batch=4, model="convnet2-w4"
)
DCC, DSAC = DCCConfig(**SMALL), DSACConfig(**SMALL)
Build = Callable[..., Memory]
each_method = pytest.mark.parametrize(("build", "cfg"), [(dcc.DCC, DCC), (dcc.DSAC, DSAC)], ids=["dcc", "dsac"])

# (from_iteration, from_update) -> of 2 networks with 3 updates, those that sum over classes
SWITCHES = {
    (0, 0): [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
    (1, 10): [(1, 0), (1, 1), (1, 2)],
    (250, 2): [(0, 2), (1, 2)],
    (1, 1): [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
    (250, 10): [],
}


def together(iteration: int, update: int, cfg: DCCConfig) -> bool:
    return (iteration, update) in SWITCHES[cfg.from_iteration, cfg.from_update]


# --- the plain loops -------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("ipc", [1, 3])
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_plain_loops_are_followed(build: Build, cfg: DCCConfig, ipc: int, switch: tuple[int, int]) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg, rngs = replace(cfg, from_iteration=switch[0], from_update=switch[1]), (seeded(1), seeded(1))
    memory = build(images, labels, Budget(ipc), rngs[0], cfg)
    expected = plain_matching.build(images, labels, ipc, rngs[1], cfg, lambda i, u: together(i, u, cfg))
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)
    start = random_real.build(images, labels, Budget(ipc), seeded(1))
    assert (memory.images - start.images).abs().max() > 1e-2  # it did move
    assert memory.labels.tolist() == [2] * ipc + [5] * ipc + [7] * ipc
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


@each_method
@pytest.mark.parametrize(
    "change",
    [
        {"model": "convnet2-w4-bn"},
        {"model": "convnet2-w4-ln-swish"},
        {"distance": "mse", "lr": 5.0},
        {"init": "noise"},
    ],
)
def test_the_plain_loops_are_followed_in_other_settings(build: Build, cfg: DCCConfig, change: dict[str, Any]) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg = replace(cfg, from_iteration=1, from_update=1, **change)
    memory = build(images, labels, Budget(2), seeded(1), cfg)
    expected = plain_matching.build(images, labels, 2, seeded(1), cfg, lambda i, u: together(i, u, cfg))
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)


@each_method
@pytest.mark.parametrize("init", ["noise", "real"])
def test_the_gradient_passes_through_low_rank_factors(build: Build, cfg: DCCConfig, init: str) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg = replace(cfg, from_iteration=1, from_update=1, init=init)
    memory = build(images, labels, Budget(1), seeded(1), cfg, form=LowRank(2))
    expected = plain_matching.build(images, labels, 1, seeded(1), cfg, lambda i, u: together(i, u, cfg), rank=2)
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)


# --- the switch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "cfg", "host", "theirs"),
    [(dcc.DCC, DCC, dc.METHOD, DCConfig(**SMALL)), (dcc.DSAC, DSAC, dsa.METHOD, DSAConfig(**SMALL))],
    ids=["dcc", "dsac"],
)
def test_before_the_switch_it_is_the_host_from_real_images(
    build: Build, cfg: DCCConfig, host: Build, theirs: gradient_matching.GradientMatchingConfig
) -> None:
    own = build(*a_set(), Budget(2), seeded(1), cfg).images
    assert torch.equal(own, host(*a_set(), Budget(2), seeded(1), replace(theirs, init="real")).images)
    switched = build(*a_set(), Budget(2), seeded(1), replace(cfg, from_update=2)).images
    assert (switched - own).abs().max() > 1e-3


def test_the_switch_counts_networks_and_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    forms: list[str] = []

    def spy(form: str) -> Callable[..., Tensor]:
        own = getattr(GradientMatching, form)

        def backward(*arguments: Any) -> Tensor:
            forms.append(form)
            loss: Tensor = own(*arguments)
            return loss

        return backward

    for form in ("backward", "backward_together"):
        monkeypatch.setattr(GradientMatching, form, spy(form))
    cfg = replace(DCC, iterations=3, updates=2, epochs=1, from_iteration=2, from_update=1)
    dcc.DCC(*a_set(), Budget(1), seeded(1), cfg)
    assert forms == ["backward", "backward_together"] * 2 + ["backward_together"] * 2


# --- the formula -----------------------------------------------------------------------------------------------------


def test_the_mean_over_classes_is_compared_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Class gradients (1, 0) and (0, 1) on the real side have the mean (1/2, 1/2); the synthetic one is (3, 4):
    # 1 - 3.5 / (sqrt(1/2) * 5). Class by class the distances are 1 - 3/5 and 1 - 4/5.
    network = models.scratch("convnet1-w4", SHAPE, 2, torch.device("cpu"))
    match = GradientMatching(network, rows_distance, form="eager", real_dtype="float32", device=torch.device("cpu"))
    monkeypatch.setattr(match, "weights", {"w": torch.zeros(1, 2)})
    factors = torch.tensor([[3.0], [4.0]])  # the loss is weights x factors x the images' mean: their gradient is known
    monkeypatch.setattr(match, "_state", lambda: match.weights)
    monkeypatch.setattr(match, "_loss", lambda weights, images, *_: (weights["w"] @ factors).sum() * images.mean())
    real = {"w": torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])}
    images = torch.ones(2, *SHAPE)
    together = match.backward_together(images.clone().requires_grad_(), real)
    assert together.item() == pytest.approx(1 - 3.5 / (0.5**0.5 * 5), abs=1e-5)
    apart = match.backward(images.clone().requires_grad_(), real)
    assert apart.item() == pytest.approx(2 / 5 + 1 / 5, abs=1e-5)


# --- what comes of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("build", "cfg"), [(dcc.DCC, DCCConfig()), (dcc.DSAC, DSACConfig())])
@pytest.mark.parametrize("switch", [250, 0])
def test_the_loss_falls(build: Build, cfg: DCCConfig, switch: int) -> None:
    images, labels = a_set(FOUR)
    cfg = replace(cfg, iterations=10, updates=4, epochs=3, lr=2.0, real_batch=30, model="convnet2-w8")
    cfg, rows = replace(cfg, from_iteration=switch), list(rows_by_class(labels).values())
    network = models.scratch("convnet2-w8", SHAPE, 4, images.device)
    match = GradientMatching(network, rows_distance, form="eager", real_dtype="float32", device=images.device)
    owner = torch.arange(4).repeat_interleave(2)

    def loss(synthetic: Tensor) -> float:
        """In networks and under augmentations that the condensing did not meet."""
        total = 0.0
        for seed in range(5):
            models.draw_weights(network, seeded(100 + seed))
            parameters = augment.draw_shared(cfg.augment, 4, seeded(200 + seed))
            real = match.real_gradients(real_batches(cfg.augment, images, rows, parameters))
            seen = augment.apply(cfg.augment, synthetic, parameters.of(owner)).detach().requires_grad_()
            backward = match.backward_together if switch == 0 else match.backward
            total += backward(seen, real).item()
        return total

    before = loss(random_real.build(images, labels, Budget(2), seeded(1)).images)
    assert loss(build(images, labels, Budget(2), seeded(1), cfg).images) < 0.85 * before


# --- configured ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "loops"), [(1, (10, 5)), (2, (10, 50)), (10, (10, 50)), (20, (20, 25)), (50, (50, 10)), (60, (50, 10))]
)
def test_the_loops_are_dcs_but_for_one_image_per_class(ipc: int, loops: tuple[int, int]) -> None:
    for cfg in (DCCConfig(), DSACConfig()):
        own = cfg.for_setting("cifar10", ipc)
        assert (own.updates, own.epochs) == loops
        assert type(own) is type(cfg)


@each_method
def test_a_builder_takes_the_loops_of_its_budget(build: Build, cfg: DCCConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    monkeypatch.setattr(
        gradient_matching, "fit", lambda network, images, labels, inner, rng: trained.append(inner.epochs)
    )
    build(*a_set(), Budget(1), seeded(1), replace(cfg, iterations=2, updates=None, epochs=None))
    assert trained == [5] * 9 * 2  # unlike DC, which never trains the network at one image per class


def test_the_defaults_are_the_papers() -> None:
    for cfg in (DCCConfig(), DSACConfig()):
        assert (cfg.iterations, cfg.lr, cfg.momentum, cfg.real_batch, cfg.network_lr) == (1000, 0.1, 0.5, 256, 0.01)
        assert (cfg.init, cfg.from_iteration, cfg.from_update, cfg.per_class) == ("real", 250, 10, False)
    assert (DCCConfig().augment, DSACConfig().augment) == ("none", "color_crop_cutout_flip_scale_rotate")


def test_summed_gradients_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "gradient_chunk", lambda _: 2)
    cfg = replace(DCC, from_iteration=0)
    few = dcc.DCC(*a_set(dtype=torch.float64), Budget(2), seeded(1), cfg).images
    monkeypatch.setattr(compute, "gradient_chunk", lambda _: 64)
    torch.testing.assert_close(few, dcc.DCC(*a_set(dtype=torch.float64), Budget(2), seeded(1), cfg).images)
