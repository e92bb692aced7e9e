import pytest
import torch
from torch import Generator, Tensor

from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels, Shape, parse, plain

FORMS: list[Parametrisation] = [Pixels(), LowRank(2), LowRank(4), MultiFormation(1), MultiFormation(2)]
each_form = pytest.mark.parametrize("form", FORMS, ids=str)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some_images(count: int, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=rng())


def tiles(*values: float) -> Tensor:
    """One 1 x 4 x 4 image of four constant 2 x 2 tiles: top left, top right, bottom left, bottom right."""
    return (
        torch.tensor(values, dtype=torch.float32)
        .view(2, 2)
        .repeat_interleave(2, 0)
        .repeat_interleave(2, 1)
        .view(1, 1, 4, 4)
    )


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "ipc", "size", "stored"),
    [
        (Pixels(), 10, 32, 10),
        (LowRank(2), 1, 32, 8),  # 1024 / (2 * 64)
        (LowRank(2), 10, 32, 80),
        (LowRank(4), 1, 32, 4),
        (LowRank(8), 1, 32, 2),
        (LowRank(2), 1, 28, 7),  # 784 / (2 * 56)
        (LowRank(8), 1, 28, 1),  # 784 / 448 = 1.75
        (LowRank(8), 4, 28, 7),  # the readme's formula; the scripts' 4 * floor(1.75) is 4
        (LowRank(4), 1, 64, 8),
        (MultiFormation(2), 10, 32, 10),
    ],
)
def test_images_in_a_budget(form: Parametrisation, ipc: int, size: int, stored: int) -> None:
    assert form.stored_in(ipc, (3, size, size)) == stored


@each_form
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 8, 16)])
@pytest.mark.parametrize("ipc", [1, 3])
@pytest.mark.parametrize("start", ["real", "noise"])
def test_no_budget_is_exceeded(form: Parametrisation, shape: Shape, ipc: int, start: str) -> None:
    count = form.stored_in(ipc, shape)
    kept = form.init(torch.rand(count * form.views, *shape), start, rng())
    assert all(len(part) == count for part in kept.values())
    numbers = sum(part.numel() for part in kept.values())
    assert numbers <= ipc * shape[0] * shape[1] * shape[2]
    assert form.decode(kept).shape == (count * form.views, *shape)


def test_several_images_in_one_are_in_the_league_of_storage() -> None:
    assert Pixels().league == "pixel"
    assert LowRank().league == MultiFormation().league == "storage"
    assert [form.views for form in (Pixels(), LowRank(), MultiFormation(1), MultiFormation(3))] == [1, 1, 1, 9]


# --- starts ---------------------------------------------------------------------------------------------------------


def test_pixels_are_what_they_are_and_no_view_of_the_real_ones() -> None:
    real = some_images(2)
    kept = Pixels().init(real, "real", rng())
    assert torch.equal(Pixels().decode(kept), real)
    kept["images"].zero_()
    assert real.abs().sum() > 0


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_low_rank_starts_from_the_best_approximation(rank: int) -> None:
    real = some_images(2)
    form = LowRank(rank)
    decoded = form.decode(form.init(real, "real", rng()))
    # Eckart and Young: the error of the best approximation is the norm of the singular values left out.
    left_out = torch.linalg.svdvals(real)[..., rank:]
    error = torch.linalg.matrix_norm(real - decoded)
    torch.testing.assert_close(error, left_out.square().sum(-1).sqrt(), rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(decoded, atol=1e-4).eq(rank).all()


def test_both_factors_of_an_approximation_weigh_the_same() -> None:
    kept = LowRank(1).init(torch.tensor([[[[3.0, 0.0], [0.0, 1.0]]]]), "real", rng())
    # The largest singular value is 3: sqrt(3) on either side.
    torch.testing.assert_close(kept["left"].abs(), torch.tensor([[[[3.0**0.5], [0.0]]]]))
    torch.testing.assert_close(kept["right"].abs(), torch.tensor([[[[3.0**0.5, 0.0]]]]))


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_noise_of_a_product_has_the_variance_of_its_rank(rank: int) -> None:
    form = LowRank(rank)
    kept = form.init(torch.zeros(300, 3, 8, 8), "noise", rng())
    assert kept["left"].shape == (300, 3, 8, rank)
    assert kept["right"].shape == (300, 3, rank, 8)
    assert kept["left"].var().item() == pytest.approx(1, rel=0.05)
    decoded = form.decode(kept)
    assert decoded.mean().item() == pytest.approx(0, abs=0.05)
    assert decoded.var().item() == pytest.approx(rank, rel=0.1)  # a sum of r products of two independent normals


@each_form
def test_noise_depends_on_the_generator_alone(form: Parametrisation) -> None:
    first, second = (form.init(torch.full((4, 3, 8, 8), value), "noise", rng(5)) for value in (0.0, 9.0))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = form.init(torch.zeros(4, 3, 8, 8), "noise", rng(6))
    assert not any(torch.equal(first[name], other[name]) for name in first)


@each_form
def test_a_start_from_real_images_draws_nothing(form: Parametrisation) -> None:
    generator = rng()
    before, real = generator.get_state(), some_images(4)
    kept = form.init(real, "real", generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(real, some_images(4))
    assert all(part.dtype == torch.float32 and part.is_contiguous() for part in kept.values())


# --- several in one -------------------------------------------------------------------------------------------------


def test_constant_images_become_the_tiles_of_one_and_come_back() -> None:
    form = MultiFormation(2)
    values = (1.0, 2.0, 3.0, 4.0)
    real = torch.tensor(values).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    kept = form.init(real, "real", rng())
    torch.testing.assert_close(kept["images"], tiles(*values))
    torch.testing.assert_close(form.decode(kept), real.contiguous())


def test_a_tile_is_enlarged_apart_from_its_neighbours() -> None:
    stored = tiles(0.0, 7.0, 7.0, 7.0)
    stored[0, 0, :2, :2] = torch.tensor([[0.0, 4.0], [0.0, 4.0]])
    decoded = MultiFormation(2).decode({"images": stored})
    # Half-pixel centres: columns of the enlarged tile lie at -0.25, 0.25, 0.75, 1.25 of the small one, cut at 0 and 1.
    torch.testing.assert_close(decoded[0, 0], torch.tensor([0.0, 1.0, 3.0, 4.0]).repeat(4, 1))
    torch.testing.assert_close(decoded[1:], torch.full((3, 1, 4, 4), 7.0))


def test_a_real_image_is_made_smaller_with_what_lies_around() -> None:
    real = torch.zeros(4, 1, 8, 8)
    real[0, 0, 2:4, 2:4] = 1
    small = MultiFormation(2).init(real, "real", rng())["images"][0, 0, :4, :4]
    # Antialiased by a triangle of half-width 2: the four pixels at distances 0.5, 0.5, 1.5, 1.5 weigh 3, 3, 1, 1 of 8.
    expected = torch.tensor([1.0, 6.0, 1.0, 0.0]) / 8
    expected[0] = 1 / 7  # at the edge one of the pixels of weight 1 is missing
    torch.testing.assert_close(small, torch.outer(expected, expected))


def test_tiles_of_one_image_follow_row_by_row() -> None:
    stored = torch.cat([tiles(1, 2, 3, 4), tiles(5, 6, 7, 8)])
    decoded = MultiFormation(2).decode({"images": stored})
    assert [round(value) for value in decoded.mean((1, 2, 3)).tolist()] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 16, 2), (6, 3, 3), (98, 49, 49)])
def test_images_need_not_be_square_nor_factors_be_two(height: int, width: int, factor: int) -> None:
    form = MultiFormation(factor)
    values = torch.arange(1.0, factor**2 + 1)
    real = values.view(-1, 1, 1, 1).expand(-1, 1, height, width)
    kept = form.init(real, "real", rng())
    assert kept["images"].shape == (1, 1, height, width)
    torch.testing.assert_close(form.decode(kept), real.contiguous())


def test_a_factor_of_one_is_the_image_itself() -> None:
    form, real = MultiFormation(1), some_images(2)
    assert torch.equal(form.decode(form.init(real, "real", rng())), real)


def test_channels_stay_apart() -> None:
    stored = torch.cat([tiles(1, 2, 3, 4), tiles(5, 6, 7, 8)], dim=1)
    decoded = MultiFormation(2).decode({"images": stored})
    assert decoded[:, 0].mean((1, 2)).tolist() == [1, 2, 3, 4]
    assert decoded[:, 1].mean((1, 2)).tolist() == [5, 6, 7, 8]


# --- gradients ------------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_view_reaches_its_tile_alone() -> None:
    stored = torch.zeros(2, 1, 4, 4, requires_grad=True)
    MultiFormation(2).decode({"images": stored})[6].sum().backward()  # of the second stored image, bottom left
    expected = torch.zeros(2, 1, 4, 4)
    expected[1, :, 2:, :2] = 4  # each of the 4 pixels has a quarter of the 16 enlarged ones
    assert stored.grad is not None
    assert torch.equal(stored.grad, expected)


def test_the_gradient_of_a_product_by_hand() -> None:
    left = torch.tensor([[[[1.0], [2.0]]]], requires_grad=True)
    right = torch.tensor([[[[3.0, 4.0]]]], requires_grad=True)
    decoded = LowRank(1).decode({"left": left, "right": right})
    assert decoded.tolist() == [[[[3, 4], [6, 8]]]]
    decoded[0, 0, 0, 1].backward()  # left[0] * right[1]
    assert left.grad is not None
    assert right.grad is not None
    assert left.grad.flatten().tolist() == [4, 0]
    assert right.grad.flatten().tolist() == [0, 1]


@each_form
def test_decoding_is_differentiable(form: Parametrisation) -> None:
    kept = form.init(some_images(4).double(), "noise", rng())
    names = sorted(kept)
    inputs = tuple(kept[name][:1, :1].clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(lambda *parts: form.decode(dict(zip(names, parts, strict=True))), inputs)


# --- errors and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [LowRank, MultiFormation])
def test_nothing_below_one(make: type[LowRank] | type[MultiFormation]) -> None:
    with pytest.raises(ValueError, match=r"^(low-rank: rank|multi-formation: factor) is at least 1, got 0$"):
        make(0)


def test_a_rank_beyond_the_budget_is_refused() -> None:
    # 28 x 28: 784 numbers, 56 r for one image
    with pytest.raises(ValueError, match=r"^low-rank: rank 15 is too large, one image of 28 x 28 .* at most 14$"):
        LowRank(15).stored_in(1, (1, 28, 28))
    assert LowRank(14).stored_in(1, (1, 28, 28)) == 1


@pytest.mark.parametrize("shape", [(1, 8, 12), (1, 12, 8)])
def test_a_rank_beyond_the_images_sides_is_refused(shape: Shape) -> None:
    with pytest.raises(ValueError, match=r"^low-rank: rank 9 is too large, images of .* have rank 8 at most$"):
        LowRank(9).stored_in(50, shape)
    assert LowRank(8).stored_in(50, shape) == 30  # 50 * 96 numbers in 8 * 20 each


def test_the_largest_rank_named_fits_the_sides_too() -> None:
    # 10 images of 8 x 8 hold 640 numbers, 16 r for one: 40 would fit, but 8 is all that 8 x 8 have.
    with pytest.raises(ValueError, match=r"^low-rank: rank 41 is too large, .*; use a rank of at most 8$"):
        LowRank(41).stored_in(10, (1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 28, 32), (1, 32, 28)])
def test_a_factor_must_divide_both_sides(shape: Shape) -> None:
    height, width = shape[1:]
    with pytest.raises(ValueError, match=rf"^multi-formation: {height} x {width} cannot be cut by a factor of 8$"):
        MultiFormation(8).stored_in(1, shape)


@each_form
def test_plain_values_give_the_form_back(form: Parametrisation) -> None:
    assert parse(plain(form)) == form


def test_plain_values_are_the_name_and_the_fields() -> None:
    assert plain(Pixels()) == {"name": "pixels"}
    assert plain(LowRank(4)) == {"name": "low-rank", "rank": 4}
    assert plain(MultiFormation()) == {"name": "multi-formation", "factor": 2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "wavelets"}, "^parametrisation 'wavelets' is unknown; known: pixels, low-rank, multi-formation$"),
        ({}, "^parametrisation None is unknown; "),
        ({"name": "low-rank", "factor": 2}, "^parametrisation 'low-rank' does not take {'factor': 2}$"),
        ({"name": "low-rank", "rank": 0}, "^low-rank: rank is at least 1, got 0$"),
    ],
)
def test_what_is_no_form_of_ours(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(values)
