"""Low-rank images around a host; their factors alone: tests/core/test_parametrisation.py."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import memory
from harness.core import augment, models
from harness.core.memory import Budget
from harness.core.parametrisation import LowRank
from harness.memory import dc, dm
from harness.memory.around import low_rank
from harness.memory.around.low_rank import LowRankConfig
from harness.memory.dc import DCConfig
from harness.memory.dm import DMConfig, MeanMatching
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import Synthetic
from tests.memory import plain_matching
from tests.memory.toys import FOUR, SHAPE, a_set, seeded

LO_DC, LO_DM = (memory.find(name) for name in ("lo-dc", "lo-dm"))
DM = DMConfig(iterations=3, lr=0.5, real_batch=8, model="convnet2-w4")
DC = DCConfig(iterations=2, updates=2, epochs=2, lr=0.5, real_batch=8, network_batch=4, model="convnet2-w4")


# --- it is the host on factors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("init", "start"), [("noise", "noise"), ("svd", "real")])
@pytest.mark.parametrize("rank", [1, 2])
def test_it_follows_the_plain_loops_on_factors(init: str, start: str, rank: int) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg = replace(LO_DC.config, host=DC, rank=rank, init=init)
    built = LO_DC(images, labels, Budget(1), seeded(1), cfg)
    expected = plain_matching.build(images, labels, 1, seeded(1), replace(DC, init=start), rank=rank)
    torch.testing.assert_close(built.images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_is_stored_are_factors_of_what_networks_see(rank: int) -> None:
    built = LO_DM(*a_set(), Budget(2), seeded(1), replace(LO_DM.config, host=DM, rank=rank))
    each = 2 * 64 // (rank * 16)
    assert {name: tuple(part.shape) for name, part in built.stored.items()} == {
        "left": (3 * each, 3, 8, rank),
        "right": (3 * each, 3, rank, 8),
    }
    assert torch.equal(built.images, built.stored["left"] @ built.stored["right"])
    assert built.labels.tolist() == [c for c in (2, 5, 7) for _ in range(each)]
    assert (built.league, built.form, built.real) == ("storage", LowRank(rank), False)
    assert 3 * 2 * 3 * 64 - 3 * 3 * rank * 16 < built.scalars <= 3 * 2 * 3 * 64  # one more would not fit


def test_one_update_by_hand() -> None:
    # The host's gradient G of the images passes through X = A B: G B^T moves A, A^T G moves B.
    images, labels = a_set(dtype=torch.float64)
    cfg = replace(LO_DM.config, host=replace(DM, iterations=1, augment="none"))
    built = LO_DM(images, labels, Budget(1), seeded(1), cfg)
    rng = seeded(1)
    start = Synthetic(images, labels, Budget(1), rng, form=LowRank(2), start="noise", lr=1.0, momentum=0.0)
    left, right = (start.stored[name].detach() for name in ("left", "right"))
    network = models.build(DM.model, SHAPE, 1, rng).double()
    seen = (left @ right).requires_grad_()
    loss = torch.zeros(())
    for k, rows in enumerate(rows_by_class(labels).values()):
        batch = images[rows[torch.randperm(len(rows), generator=rng)[:8]]]
        gap = network.embed(batch).mean(0).detach() - network.embed(seen[2 * k : 2 * k + 2]).mean(0)
        loss = loss + gap.square().sum()
    (gradient,) = torch.autograd.grad(loss, seen)
    torch.testing.assert_close(built.stored["left"], left - 0.5 * gradient @ right.mT)
    torch.testing.assert_close(built.stored["right"], right - 0.5 * left.mT @ gradient)


def test_noise_has_the_variance_of_the_rank() -> None:
    cfg = replace(LO_DM.config, host=replace(DM, iterations=1, lr=1e-9), rank=3)
    assert LO_DM(*a_set(), Budget(5), seeded(1), cfg).images.var().item() == pytest.approx(3, rel=0.1)


def test_svd_starts_next_to_real_images() -> None:
    images, labels = a_set()
    cfg = replace(LO_DM.config, host=replace(DM, iterations=1, lr=1e-9), rank=4, init="svd")
    built = LO_DM(images, labels, Budget(2), seeded(1), cfg)
    for image, c in zip(built.images, built.labels, strict=True):
        likeness = F.cosine_similarity(images.flatten(1), image.flatten().unsqueeze(0))
        assert likeness.max() > 0.9
        assert labels[likeness.argmax()] == c
    noise = LO_DM(images, labels, Budget(2), seeded(1), replace(cfg, init="noise"))
    assert F.cosine_similarity(images.flatten(1), noise.images[0].flatten().unsqueeze(0)).max() < 0.5


def test_the_loss_falls() -> None:
    images, labels = a_set(FOUR)
    host = DMConfig(iterations=60, lr=1.0, real_batch=30, model="convnet2-w8")
    rows = list(rows_by_class(labels).values())

    def loss(synthetic: Tensor) -> float:
        """Of networks and augmentations that the condensing did not meet."""
        total = 0.0
        for seed in range(5):
            match = MeanMatching(images, 4, len(synthetic) // 4, host)
            models.draw_weights(match.network, seeded(100 + seed))
            parameters = augment.draw_shared(host.augment, 4, seeded(200 + seed))
            total += match.backward(synthetic.clone().requires_grad_(), rows, parameters).item()
        return total

    cfg = replace(LO_DM.config, host=host)
    start = LO_DM(images, labels, Budget(1), seeded(1), replace(cfg, host=replace(host, iterations=1, lr=1e-9)))
    assert loss(LO_DM(images, labels, Budget(1), seeded(1), cfg).images) < 0.7 * loss(start.images)


# --- names -----------------------------------------------------------------------------------------------------------


def test_it_fits_around_whatever_learns_images() -> None:
    builder = memory.find("lo-dcc")
    cfg = builder.config
    assert (cfg.host_name, cfg.host) == ("dcc", memory.find("dcc").config)
    host = replace(cfg.host, iterations=2, updates=2, epochs=1, from_update=1, real_batch=4, model="convnet1-w4")
    built = builder(*a_set(), Budget(1), seeded(1), replace(cfg, host=host))
    assert len(built.labels) == 6
    assert builder.summary.startswith("dcc on low-rank images")


@pytest.mark.parametrize("host", ["herding", "random", "full", "idc", "lo-dm", "mmd-pixel"])
def test_it_does_not_fit_around_others(host: str) -> None:
    message = rf"^lo: {host} cannot store its images in another form; lo- can be used with dc, dcc, dm, dsa, dsac$"
    with pytest.raises(ValueError, match=message):
        memory.find(f"lo-{host}")


def test_a_rank_too_large_is_an_error_that_names_the_largest() -> None:
    cfg = replace(LO_DM.config, host=DM, rank=5)
    with pytest.raises(ValueError, match=r"would exceed the budget of 1 per class; use a rank of at most 4$"):
        LO_DM(*a_set(), Budget(1), seeded(1), cfg)
    assert len(LO_DM(*a_set(), Budget(1), seeded(1), replace(cfg, rank=4)).labels) == 3
    assert len(LO_DM(*a_set(), Budget(2), seeded(1), cfg).labels) == 3  # 2 * 64 numbers, 5 * 16 an image


# --- configured ------------------------------------------------------------------------------------------------------


def settled(host: str, dataset: str, ipc: int) -> LowRankConfig:
    cfg = memory.find(f"lo-{host}").config.for_setting(dataset, ipc)
    assert isinstance(cfg, LowRankConfig)
    return cfg


def test_the_published_settings() -> None:
    assert LowRankConfig(DM, "dm").rank == 2
    large = settled("dm", "cifar10", 50)
    assert (large.rank, vars(large.host)["lr"]) == (4, 1000.0)
    assert (settled("dm", "cifar10", 10).rank, vars(settled("dm", "cifar10", 10).host)["lr"]) == (2, 1.0)
    assert (settled("dm", "cifar100", 50).rank, vars(settled("dm", "cifar100", 50).host)["lr"]) == (2, 1.0)
    assert settled("dsa", "cifar100", 10).rank == 8
    assert (settled("dm", "mnist", 50).rank, vars(settled("dm", "mnist", 50).host)["augment"]) == (8, "none")
    assert settled("dc", "mnist", 1).rank == 2
    assert settled("dm", "tinyimagenet", 10).rank == 4


@pytest.mark.parametrize("name", ["dc", "dsa"])
def test_the_loops_are_those_of_the_nominal_budget(name: str) -> None:
    own = settled(name, "cifar10", 10)
    assert own.decoded(10, (3, 32, 32)) == 80
    assert (vars(own.host)["updates"], vars(own.host)["epochs"]) == dc.DCConfig.loops[10]


@pytest.mark.parametrize("entry", low_rank.PUBLISHED)
def test_no_published_setting_exceeds_its_budget(entry: tuple[str, str, int]) -> None:
    # methods.md 8.3: the scripts' settings of MNIST do.
    host, dataset, ipc = entry
    shape = {"mnist": (1, 28, 28), "tinyimagenet": (3, 64, 64)}.get(dataset, (3, 32, 32))
    cfg = settled(host, dataset, ipc)
    numbers = cfg.decoded(ipc, shape) * cfg.rank * (shape[1] + shape[2])
    assert numbers <= ipc * shape[1] * shape[2] < numbers + cfg.rank * (shape[1] + shape[2])


def test_what_it_costs_is_the_hosts_for_the_decoded_images() -> None:
    cfg = LowRankConfig(DMConfig(iterations=10), "dm")
    assert cfg.passes(classes=10, images=500, ipc=80) == (10 * 10 * 256, 10 * 10 * 80)
    assert cfg.model == "convnet3"
    assert cfg.per_class
    assert not LowRankConfig(DMConfig(model="convnet3-bn"), "dm").per_class
    assert not LowRankConfig(DCConfig(), "dc").per_class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, r"^low-rank: rank is at least 1, got 0$"),
        ({"init": "real"}, r"^init: 'real' is unknown; choose from noise, svd$"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LowRankConfig(DM, "dm"), **change)


def test_the_hosts_own_start_does_not_count() -> None:
    cfg = replace(LO_DM.config, host=DM)
    first, second = (
        LO_DM(*a_set(), Budget(1), seeded(1), replace(cfg, host=replace(DM, init=init))) for init in ("real", "noise")
    )
    assert torch.equal(first.images, second.images)
    assert dm.DMConfig().init == "real"
