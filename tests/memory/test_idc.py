from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim import Optimizer

from harness.core import augment, models
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import MultiFormation
from harness.core.progress import Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory import idc, random_real
from harness.memory.idc import IDCConfig, IDCIConfig
from harness.memory.shared.distances import squared_distance
from harness.memory.shared.gradients import GradientMatching
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import Synthetic, real_batches
from tests.memory.small_idc import IDC, IDCI
from tests.memory.toys import FOUR, SHAPE, Killed, KilledError, a_set, check_resumes, not_finite, seeded

Build = Callable[..., Memory]
each_method = pytest.mark.parametrize(("build", "cfg"), [(idc.build, IDC), (idc.IDC_I, IDCI)], ids=["idc", "i"])


def in_unit_range(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images whose channels fill ranges of width 2, 3 and 4, as if normalised; their labels; both ends."""
    images, labels = a_set(dtype=dtype)
    low, high = images.amin((0, 2, 3), keepdim=True)[0], images.amax((0, 2, 3), keepdim=True)[0]
    width = torch.tensor([2.0, 3.0, 4.0], dtype=dtype).view(3, 1, 1)
    images = (images - low) / (high - low) * width - width / 2
    return images, labels, images.amin((0, 2, 3)).view(3, 1, 1), images.amax((0, 2, 3)).view(3, 1, 1)


# --- steps -----------------------------------------------------------------------------------------------------------


class Quadratic(GradientMatching):
    """In place of gradients: half the squared distance to a target, weighed differently in each class and round."""

    seen: list[Tensor]  # the images that each call was given

    def real_gradients(self, batches: list[Tensor]) -> dict[str, Tensor]:
        return {}

    def backward(self, images: Tensor, real: dict[str, Tensor]) -> Tensor:
        images.grad = pull(images.detach(), len(self.seen))
        self.seen.append(images.detach().clone())
        return torch.zeros(())


def pull(images: Tensor, number: int) -> Tensor:
    """The gradient of round `number`, of normalised pixels (3 * ipc, C, H, W)."""
    weights = torch.rand(3, generator=seeded(50 + number)).double().repeat_interleave(len(images) // 3)
    return weights.view(-1, 1, 1, 1) * (images - 0.1 * torch.randn(images.shape, generator=seeded(9)).double())


@pytest.mark.parametrize("ipc", [1, 3])
@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.0])
def test_one_step_a_round_equals_the_scripts_step_a_class(
    ipc: int, momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, low, high = in_unit_range()
    rounds, lr = 6, 0.2
    monkeypatch.setattr(Quadratic, "seen", [], raising=False)
    monkeypatch.setattr(idc, "GradientMatching", Quadratic)
    monkeypatch.setattr(idc, "fit", lambda *_, optimizer: None)
    monkeypatch.setattr(idc, "draw", lambda rows, most, rng: rows[:most])  # in order, to tell images apart
    # a round more than is looked at: the last one clamps
    cfg = replace(IDCI, iterations=1, updates=rounds + 1, lr=lr, momentum=momentum, augment="none")
    idc.IDC_I(images, labels, Budget(ipc), seeded(1), cfg)
    # The script: pixels in [0, 1], one optimiser for all classes, a step after each class, so that the others coast.
    start = random_real.build(images, labels, Budget(ipc), seeded(1)).images
    unit, velocity = (start - low) / (high - low), torch.zeros_like(start)
    for number in range(rounds):
        met = []
        for k in range(3):
            own = slice(k * ipc, (k + 1) * ipc)
            met.append((unit * (high - low) + low)[own].clone())
            gradient = torch.zeros_like(unit)
            gradient[own] = pull(unit * (high - low) + low, number)[own] * (high - low)
            velocity = momentum * velocity + gradient
            unit = unit - lr * ipc / 10 * velocity
        torch.testing.assert_close(Quadratic.seen[number], torch.cat(met), rtol=0, atol=1e-9)
    assert (Quadratic.seen[-1] - Quadratic.seen[0]).abs().max() > 0.1
    # At the end, ours have coasted on to their next turn, which the script's classes would by so many more steps.
    for k in range(3):
        own = slice(k * ipc, (k + 1) * ipc)
        coasted = sum(momentum**step for step in range(1, k + 1)) * lr * ipc / 10 * velocity[own] * (high - low)
        expected = (unit * (high - low) + low)[own] - coasted
        torch.testing.assert_close(Quadratic.seen[rounds][own], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [1, 2])
def test_one_update_by_hand(factor: int) -> None:
    """The squared distance of the convolutions' gradients alone, class by class; the step of pixels in [0, 1]."""
    images, labels, low, high = in_unit_range()
    cfg = replace(IDC, factor=factor, iterations=1, updates=2, lr=0.3, momentum=0.5, real_batch=100)
    killed = Killed(1)
    with pytest.raises(KilledError):
        idc.build(images, labels, Budget(2), seeded(1), cfg, killed)
    assert killed.kept is not None
    form, rng, rows = MultiFormation(factor), seeded(1), rows_by_class(labels)
    real = torch.cat(
        [images[torch.cat([of[torch.randperm(len(of), generator=rng)]] * 2)[: 2 * factor**2]] for of in rows.values()]
    )
    start = form.init(real, "real", rng)["images"].requires_grad_()
    network = models.build("convnet2-w4", SHAPE, 3, rng).double()
    convolutions = [weight for name, weight in network.named_parameters() if weight.ndim == 4]
    assert len(convolutions) == 2
    batches = [images[of[torch.randperm(len(of), generator=rng)]] for of in rows.values()]
    parameters = augment.draw_shared(augment.IDC, 3, rng)
    decoded = form.decode({"images": start}).split(2 * factor**2)
    loss = torch.zeros(())
    for k in range(3):
        sides = []
        for content in (batches[k], decoded[k]):
            seen = augment.apply(augment.IDC, content, parameters.of(torch.full((len(content),), k)))
            answer = F.cross_entropy(network(seen), torch.full((len(content),), k))
            sides.append(torch.autograd.grad(answer, convolutions, create_graph=True))
        loss = loss + sum(((a.detach() - b) ** 2).sum() for a, b in zip(*sides, strict=True))
    (gradient,) = torch.autograd.grad(loss, start)
    coasting = 1 + 0.5 + 0.25  # its own turn and those of two other classes
    # A pixel u in [0, 1] is x / s + mean for a normalised x: du = -lr * dL/du, so dx = -lr * (high - low)^2 * dL/dx.
    expected = start - 0.3 * 2 / 10 * coasting * (high - low) ** 2 * gradient
    torch.testing.assert_close(killed.kept["stored.images"], expected.detach(), rtol=0, atol=1e-10)
    assert (expected - start).abs().max() > 1e-4


@each_method
def test_the_rate_goes_with_the_images_per_class(build: Build, cfg: IDCConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Spy(Synthetic):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            rates.append(settings["lr"])
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(idc, "Synthetic", Spy)
    cfg = replace(cfg, iterations=1, updates=1, lr=0.005, momentum=0.0)  # no momentum: nothing coasts
    for ipc in (1, 2, 5):
        build(*a_set(), Budget(ipc), seeded(1), cfg)
    assert rates == pytest.approx([0.0005, 0.001, 0.0025])


@each_method
def test_images_return_to_the_real_range_after_a_network(build: Build, cfg: IDCConfig) -> None:
    images, labels, low, high = in_unit_range()
    cfg = replace(cfg, lr=1e4)

    def outside(rounds: int) -> bool:
        killed = Killed(rounds)
        with pytest.raises(KilledError):
            build(images, labels, Budget(2), seeded(1), cfg, killed)
        assert killed.kept is not None
        stored = killed.kept["stored.images"]
        return bool(((stored < low) | (stored > high)).any())

    assert [outside(rounds) for rounds in (1, 2, 3, 4, 6)] == [True, True, False, True, False]
    built = build(images, labels, Budget(2), seeded(1), cfg)
    stored = built.stored.get("images", built.images)
    reached = [stored.amin((0, 2, 3)), stored.amax((0, 2, 3))]
    torch.testing.assert_close(reached, [low.flatten(), high.flatten()])  # each channel has its own ends


# --- what is matched, in which networks ------------------------------------------------------------------------------


def test_only_the_convolutions_are_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[GradientMatching] = []

    class Spy(GradientMatching):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            made.append(self)

    monkeypatch.setattr(idc, "GradientMatching", Spy)
    idc.build(*a_set(), Budget(1), seeded(1), IDC)
    (match,) = made
    assert list(match.weights) == ["features.0.weight", "features.4.weight"]
    assert match.distance is squared_distance


def test_other_weights_get_no_gradient_of_the_images_loss() -> None:
    images, labels = a_set()
    network = models.scratch("convnet2-w4", SHAPE, 3, images.device)
    models.draw_weights(network, seeded(0))
    network.zero_grad()
    match = GradientMatching(
        network,
        squared_distance,
        form="eager",
        real_dtype="float32",
        device=images.device,
        weights=lambda name, weight: weight.ndim == 4,
    )
    real = match.real_gradients([images[rows] for rows in rows_by_class(labels).values()])
    match.backward(images[:6].clone().requires_grad_(), real)
    assert all(weight.grad is None for weight in network.parameters())


def test_networks_train_on_real_images_between_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = a_set()
    seen: list[tuple[int, bool, TrainConfig]] = []

    def fit(
        network: models.Network, some: Tensor, theirs: Tensor, cfg: TrainConfig, rng: Generator, optimizer: Optimizer
    ) -> None:
        found = [int((images == image).flatten(1).all(1).nonzero()) for image in some]
        assert len(set(found)) == len(some)
        own = torch.tensor([2, 5, 7])[theirs]  # numbered 0 .. 2
        seen.append((len(some), torch.equal(own, labels[found]), cfg))

    monkeypatch.setattr(idc, "fit", fit)
    idc.build(images, labels, Budget(1), seeded(1), IDC)
    assert seen == [(12, True, IDC.train)] * 4  # of three updates of two networks, but for each network's last
    seen.clear()
    idc.build(images, labels, Budget(1), seeded(1), replace(IDC, trained=100))
    assert seen == [(34, True, IDC.train)] * 4  # all there are


def test_a_networks_optimiser_lives_as_long_as_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its velocity goes on from one training to the next, where a new optimiser would start from rest each time."""
    before: list[list[Tensor]] = []

    def trained(
        network: models.Network, some: Tensor, theirs: Tensor, cfg: TrainConfig, rng: Generator, optimizer: Optimizer
    ) -> None:
        velocities = [optimizer.state[weight].get("momentum_buffer") for weight in network.parameters()]
        before.append([velocity.clone() for velocity in velocities if velocity is not None])
        start = [weight.detach().clone() for weight in network.parameters()]
        fit(network, some, theirs, cfg, rng, optimizer=optimizer)
        assert all(not torch.equal(*pair) for pair in zip(start, network.parameters(), strict=True))

    monkeypatch.setattr(idc, "fit", trained)
    cfg = replace(IDC, iterations=2, updates=4)
    idc.build(*a_set(), Budget(1), seeded(1), cfg)
    weights = len([*models.scratch(cfg.model, SHAPE, 3, torch.device("cpu")).parameters()])
    assert [len(velocities) for velocities in before] == [0, weights, weights] * 2
    assert not torch.equal(before[1][0], before[2][0])


def test_at_most_so_many_decoded_images_are_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = GradientMatching.backward

    def backward(self: GradientMatching, images: Tensor, real: dict[str, Tensor]) -> Tensor:
        sizes.append(len(images))
        return whole(self, images, real)

    monkeypatch.setattr(GradientMatching, "backward", backward)
    cfg = replace(IDC, iterations=1, updates=2, lr=10.0, momentum=0.0)
    idc.build(*a_set(), Budget(2), seeded(1), cfg)
    idc.build(*a_set(), Budget(2), seeded(1), replace(cfg, synthetic_batch=3))
    assert sizes == [3 * 8] * 2 + [3 * 3] * 2


def test_images_left_out_of_an_update_do_not_move() -> None:
    cfg = replace(IDCI, iterations=1, updates=2, synthetic_batch=2, augment="none")
    killed = Killed(1)
    with pytest.raises(KilledError):
        idc.IDC_I(*a_set(), Budget(5), seeded(1), cfg, killed)
    assert killed.kept is not None
    start = random_real.build(*a_set(), Budget(5), seeded(1)).images
    moved = (killed.kept["stored.images"] != start).flatten(1).any(1)
    assert moved.view(3, 5).sum(1).tolist() == [2, 2, 2]


# --- what comes of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("build", "cfg"), [(idc.build, IDCConfig()), (idc.IDC_I, IDCIConfig())])
def test_the_loss_falls(build: Build, cfg: IDCConfig) -> None:
    images, labels = a_set(FOUR)
    train = replace(IDC.train, batch_size=32)
    small = dict(iterations=4, updates=10, lr=0.05, real_batch=30, trained=64, train=train, model="convnet2-w8")
    cfg = replace(cfg, **small)  # type: ignore[arg-type]
    network = models.scratch("convnet2-w8", SHAPE, 4, images.device)
    match = GradientMatching(
        network,
        squared_distance,
        form="eager",
        real_dtype="float32",
        device=images.device,
        weights=lambda name, weight: weight.ndim == 4,
    )

    def loss(memory: Memory) -> float:
        """In networks and under augmentations that the condensing did not meet."""
        total, owner = 0.0, torch.arange(4).repeat_interleave(len(memory.labels) // 4)
        for seed in range(5):
            models.draw_weights(network, seeded(100 + seed))
            parameters = augment.draw_shared(cfg.augment, 4, seeded(200 + seed))
            real = real_batches(cfg.augment, images, list(rows_by_class(labels).values()), parameters)
            seen = augment.apply(cfg.augment, memory.images, parameters.of(owner)).requires_grad_()
            total += match.backward(seen, match.real_gradients(real)).item()
        return total

    start = build(images, labels, Budget(2), seeded(1), replace(cfg, lr=1e-12))
    assert loss(build(images, labels, Budget(2), seeded(1), cfg)) < 0.7 * loss(start)


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 6])  # of two networks with three updates each
@pytest.mark.parametrize("model", ["convnet2-w4", "convnet1-w4-bn"])
def test_an_interrupted_build_goes_on_bit_for_bit(rounds: int, model: str) -> None:
    def resumable(rng: Generator, progress: Progress) -> Memory:
        return idc.build(*a_set(), Budget(2), rng, replace(IDC, model=model), progress)

    check_resumes(resumable, rounds)


def test_images_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"^idc: the images are not finite after update 0; use a smaller lr$"):
        idc.build(*not_finite(), Budget(2), seeded(1), replace(IDC, updates=1))
