"""What methods that learn images share: start, steps, and what a kill must not lose."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core import augment
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels
from harness.core.progress import Progress
from harness.memory.shared.sampling import draw, rows_by_class
from harness.memory.shared.synthetic import Draws, Synthetic, add_network, learn, real_batches
from tests.memory.toys import SHAPE, Killed, KilledError, a_set, check_resumes, seeded

FORMS: list[Parametrisation] = [Pixels(), LowRank(2), MultiFormation(2)]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def synthetic(ipc: int = 2, form: Parametrisation = Pixels(), **change: Any) -> Synthetic:
    settings: dict[str, Any] = {"start": "real", "lr": 0.1, "momentum": 0.5} | change
    return Synthetic(*a_set(dtype=torch.float64), Budget(ipc), seeded(1), form=form, **settings)


def pull(some: Synthetic, seed: int) -> Tensor:
    """Give every image a gradient; what was given."""
    gradient = torch.randn(some.images.shape, generator=seeded(seed)).double()
    (some.images * gradient).sum().backward()
    return gradient


# --- where learning starts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "ipc", "decoded"), [(Pixels(), 2, 2), (LowRank(2), 2, 4), (LowRank(3), 2, 2), (MultiFormation(2), 2, 8)]
)
def test_images_are_counted_as_networks_see_them(form: Parametrisation, ipc: int, decoded: int) -> None:
    some = synthetic(ipc, form)
    assert (some.ipc, some.classes) == (decoded, 3)
    assert some.images.shape == (3 * decoded, *SHAPE)
    assert some.labels.tolist() == [2] * decoded + [5] * decoded + [7] * decoded
    assert some.local.tolist() == [0] * decoded + [1] * decoded + [2] * decoded
    assert some.images.requires_grad
    assert some.images.is_leaf
    built = some.memory()
    assert built.scalars <= 3 * ipc * 3 * 8 * 8
    assert torch.equal(built.images, some.images.detach())
    assert torch.equal(built.labels, some.labels)
    assert not built.images.requires_grad
    assert built.league == form.league


def test_pixels_start_from_real_images_of_their_class() -> None:
    images, labels = a_set(dtype=torch.float64)
    rows, rng = rows_by_class(labels), seeded(1)
    expected = torch.cat([images[draw(rows[c], 2, rng)] for c in (2, 5, 7)])
    assert torch.equal(synthetic(2).images, expected)


def test_noise_is_standard_normal_in_the_images_type() -> None:
    noise = synthetic(5, start="noise").images
    assert noise.dtype == torch.float64
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_too_few_real_images_for_all_tiles_begin_again() -> None:
    images, labels = a_set(dtype=torch.float64)  # class 2 has 5 images; 3 images hold 12 tiles
    form = MultiFormation(2)
    some = synthetic(3, form)
    rng, rows = seeded(1), rows_by_class(labels)[2]
    order = draw(rows, 12, rng)
    again = torch.cat([order, order, order])[:12]
    expected = form.init(images[again], "real", rng)["images"]
    assert torch.equal(some.stored["images"][:3], expected)


def test_an_unknown_start_and_too_few_images_are_errors() -> None:
    with pytest.raises(ValueError, match=r"^init: 'zeros' is unknown; choose from real, noise$"):
        synthetic(start="zeros")
    with pytest.raises(ValueError, match=r"^class 2: the budget asks for 6 images, the data has 5; use a smaller ipc$"):
        synthetic(6)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_steps_of_pixels_are_descent_with_momentum() -> None:
    some = synthetic()
    start = some.images.detach().clone()
    first = pull(some, 1)
    some.step()
    torch.testing.assert_close(some.images.detach(), start - 0.1 * first)
    assert some.images.grad is None  # forgotten
    second = pull(some, 2)
    some.step()
    torch.testing.assert_close(some.images.detach(), start - 0.1 * first - 0.1 * (0.5 * first + second))


def test_steps_of_low_rank_images_move_both_factors() -> None:
    # X = A B: by the chain rule the gradient G of X is G B^T for A and A^T G for B.
    some = synthetic(form=LowRank(2), start="noise")
    left, right = (some.stored[name].detach().clone() for name in ("left", "right"))
    gradient = pull(some, 1)
    some.step()
    torch.testing.assert_close(some.stored["left"].detach(), left - 0.1 * gradient @ right.mT)
    torch.testing.assert_close(some.stored["right"].detach(), right - 0.1 * left.mT @ gradient)
    torch.testing.assert_close(some.images, some.stored["left"] @ some.stored["right"])


def test_tiles_gather_the_steps_of_their_enlarged_pixels() -> None:
    some = synthetic(form=MultiFormation(2))
    start = some.stored["images"].detach().clone()
    some.images.grad = torch.ones_like(some.images)
    some.step()
    moved = start - some.stored["images"].detach()  # a tile of 4 x 4 fills 8 x 8: each pixel weighs 4 in sum
    assert moved.flatten(2).sum(2).div(0.1 * 4 * 64).sub(1).abs().max() < 1e-9


def test_pixels_are_clamped_channel_by_channel() -> None:
    some = synthetic()
    low, high = torch.tensor([-0.1, -0.2, -0.3]).view(3, 1, 1), torch.tensor([0.3, 0.2, 0.1]).view(3, 1, 1)
    expected = some.images.detach().clone().clamp(low.double(), high.double())
    some.clamp(low.double(), high.double())
    assert torch.equal(some.images.detach(), expected)
    assert some.images.requires_grad
    gradient = pull(some, 1)
    some.step()  # and it goes on from there
    torch.testing.assert_close(some.images.detach(), expected - 0.1 * gradient)


@each_form
def test_a_number_that_is_not_finite_is_found(form: Parametrisation) -> None:
    some = synthetic(form=form)
    some.check_finite("ours", 4)
    with torch.no_grad():
        list(some.stored.values())[-1][-1, 0, 0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"^ours: the images are not finite after update 4; use a smaller lr$"):
        some.check_finite("ours", 4)


# --- kept and restored -----------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("before", [0, 1, 2])
def test_restored_images_keep_their_momentum(form: Parametrisation, before: int) -> None:
    some, other = synthetic(form=form), synthetic(form=form, start="noise")
    for seed in range(before):
        pull(some, seed)
        some.step()
    kept = {name: part.detach().clone() for name, part in some.state_dict().items()}
    assert len(kept) == len(some.stored) * (1 if before == 0 else 2)  # no momentum before the first step
    copy = {name: part.clone() for name, part in kept.items()}
    other.load_state_dict(kept)
    assert torch.equal(other.images, some.images)
    for either in (some, other):
        pull(either, 9)
        either.step()
    assert torch.equal(other.images, some.images)
    assert all(torch.equal(part, copy[name]) for name, part in kept.items())  # going on does not write into it


def test_draws_go_on_where_they_stood() -> None:
    draws = Draws.of(seeded(3), torch.device("cpu"))
    assert draws.weights is draws.rng  # on a CPU one generator draws everything
    kept = {name: state.clone() for name, state in draws.state_dict().items()}
    expected = torch.rand(5, generator=draws.rng)
    other = Draws.of(seeded(4), torch.device("cpu"))
    other.load_state_dict(kept)
    assert torch.equal(torch.rand(5, generator=other.rng), expected)


def test_two_generators_are_both_kept() -> None:
    draws = Draws(seeded(3), seeded(4))
    kept = {name: state.clone() for name, state in draws.state_dict().items()}
    expected = torch.rand(5, generator=draws.rng), torch.rand(5, generator=draws.weights)
    other = Draws(seeded(5), seeded(6))
    other.load_state_dict(kept)
    assert torch.equal(torch.rand(5, generator=other.rng), expected[0])
    assert torch.equal(torch.rand(5, generator=other.weights), expected[1])


@pytest.mark.parametrize("rounds", [1, 3, 4])
def test_a_network_that_lives_on_is_kept_beside_the_images(rounds: int) -> None:
    def build(rng: torch.Generator, progress: Progress) -> Memory:
        some = Synthetic(*a_set(), Budget(2), rng, form=Pixels(), start="real", lr=0.1, momentum=0.5)
        network = nn.Linear(1, 1, bias=False)

        def update(number: int) -> None:
            with torch.no_grad():
                network.weight += torch.rand(1, generator=rng)  # it remembers every update
            (some.images * network.weight.detach()).sum().backward()
            some.step()

        nn.init.zeros_(network.weight)
        return learn(some, Draws.of(rng, torch.device("cpu")), 4, update, add_network(progress, network), "ours")

    check_resumes(build, rounds)


def test_images_are_looked_at_now_and_then_and_at_the_end() -> None:
    def run(spoilt: int, total: int) -> list[int]:
        some, rng = synthetic(), seeded(0)
        met: list[int] = []

        def update(number: int) -> None:
            met.append(number)
            some.images.grad = torch.full_like(some.images, float("nan") if number == spoilt else 0.0)
            some.step()

        learn(some, Draws.of(rng, torch.device("cpu")), total, update, Progress(), "ours")
        return met

    assert run(spoilt=-1, total=3) == [0, 1, 2]
    with pytest.raises(FloatingPointError, match="after update 50"):
        run(spoilt=7, total=200)
    with pytest.raises(FloatingPointError, match="after update 2"):
        run(spoilt=1, total=3)


def test_what_is_not_finite_is_never_kept() -> None:
    # The last update is looked at before it is told, so that no finished memory is spoilt.
    some, killed = synthetic(), Killed(1)

    def update(_: int) -> None:
        some.images.grad = torch.full_like(some.images, float("nan"))
        some.step()

    with pytest.raises(FloatingPointError):
        learn(some, Draws.of(seeded(0), torch.device("cpu")), 1, update, killed, "ours")
    assert killed.done == []
    assert issubclass(KilledError, Exception)


# --- real batches ----------------------------------------------------------------------------------------------------


def test_real_batches_are_augmented_class_by_class() -> None:
    images, labels = a_set()
    rows = [of_class[:3] for of_class in rows_by_class(labels).values()]
    parameters = augment.draw_shared("crop", 3, seeded(0))
    batches = real_batches("crop", images, rows, parameters)
    for k, batch in enumerate(batches):
        expected = augment.apply("crop", images[rows[k]], parameters.of(torch.tensor([k] * 3)))
        assert torch.equal(batch, expected)
    plain = real_batches("none", images, rows, augment.draw_shared("none", 3, seeded(0)))
    assert torch.equal(torch.cat(plain), images[torch.cat(rows)])
