import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Generator, Tensor

from harness.core import augment
from harness.core.augment import (
    DSA,
    DSA_WITHOUT_FLIP,
    OPERATIONS,
    CutMix,
    Parameters,
    apply,
    cutmix,
    dc,
    draw_batch,
    draw_cutmix,
    draw_shared,
)

MOST = 1 - 2**-24  # the largest number torch.rand gives
UNIT = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)  # the uniform number that scales by 1


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def run(name: str, images: Tensor, *u: float, align_corners: bool = False) -> Tensor:
    """One operation, the same numbers for every image."""
    values = torch.tensor([*u, *[0.0] * (3 - len(u))], dtype=images.dtype).expand(len(images), 3)
    return OPERATIONS[name](images, values, align_corners)


def all_active(strategy: str, n: int, seed: int = 0) -> Parameters:
    count = len(augment.operations(strategy))
    return Parameters(torch.ones(n, count, dtype=torch.bool), torch.rand(n, count, 3, generator=seeded(seed)))


# --- each operation by hand ------------------------------------------------------------------------------------------


def test_color_by_hand() -> None:
    # Brightness .75 - .5 = +.25:          1.25 3.25 | 5.25 7.25
    # saturation 2 * .25 = .5 about 3.25 and 5.25 (means over channels): 2.25 4.25 | 4.25 6.25
    # contrast 0 + .5 = .5 about 4.25 (the image's mean):                3.25 4.25 | 4.25 5.25
    image = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
    expected = torch.tensor([[[[3.25, 4.25]], [[4.25, 5.25]]]])
    torch.testing.assert_close(run("color", image, 0.75, 0.25, 0.0), expected, rtol=0, atol=0)


def test_color_ranges() -> None:
    x = normal(2, 3, 4, 4)
    grey, mean = x.mean(1, keepdim=True), x.mean((1, 2, 3), keepdim=True)
    for u, expected in (
        ((0.0, 0.5, 0.5), x - 0.5),
        ((MOST, 0.5, 0.5), x + 0.5),
        ((0.5, 0.0, 0.5), grey.expand_as(x)),
        ((0.5, MOST, 0.5), 2 * x - grey),
        ((0.5, 0.5, 0.0), 0.5 * x + 0.5 * mean),
        ((0.5, 0.5, MOST), 1.5 * x - 0.5 * mean),
        ((0.5, 0.5, 0.5), x),
    ):
        torch.testing.assert_close(run("color", x, *u), expected, rtol=1e-5, atol=1e-5)


def test_crop_by_hand() -> None:
    # 8 x 8: shifts -1, 0, 1 (8 / 8 = 1), a third of the unit interval each; down and left by one, what comes in is 0
    image = torch.arange(1.0, 65).view(1, 1, 8, 8)
    expected = torch.zeros(1, 1, 8, 8)
    expected[..., 1:, :7] = image[..., :7, 1:]
    torch.testing.assert_close(run("crop", image, 0.7, 0.2), expected, rtol=0, atol=0)
    torch.testing.assert_close(run("crop", image, 0.5, 0.5), image, rtol=0, atol=0)


@pytest.mark.parametrize(("size", "most"), [(8, 1), (28, 4), (32, 4), (64, 8)])
def test_crop_shifts_by_every_whole_number_equally_often(size: int, most: int) -> None:
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2, size // 2] = 1
    n = 20 * (2 * most + 1)
    steps = ((torch.arange(n) + 0.5) / n).unsqueeze(1).expand(n, 3)
    u = torch.cat([steps, torch.tensor([[0.0, 0.0, 0.0], [MOST, MOST, MOST]])])
    moved = OPERATIONS["crop"](image.expand(n + 2, -1, -1, -1), u, False)[:, 0]
    assert (moved.sum((1, 2)) == 1).all()
    down, right = (moved.amax(axis).argmax(1) - size // 2 for axis in (2, 1))
    assert Counter(down[:-2].tolist()) == dict.fromkeys(range(-most, most + 1), 20)
    assert torch.equal(down, right)
    assert down[-2:].tolist() == [-most, most]


def test_cutout_by_hand() -> None:
    # 4 x 4: side 2, centres 0 .. 4; centre (1, 3) covers rows 0, 1 and columns 2, 3
    image = torch.ones(1, 2, 4, 4)
    expected = torch.ones(1, 2, 4, 4)
    expected[..., 0:2, 2:4] = 0
    torch.testing.assert_close(run("cutout", image, 0.3, 0.7), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "side", "centres"),
    [(32, 16, 33), (28, 14, 29), (64, 32, 65), (8, 4, 9), (10, 5, 10)],  # an odd side has no centre at the far edge
)
def test_cutout_clips_at_every_centre(size: int, side: int, centres: int) -> None:
    u = ((torch.arange(centres) + 0.5) / centres).unsqueeze(1).expand(centres, 3).clone()
    u[0], u[-1] = 0, MOST
    u[:, 1] = u[:, 1].flip(0)
    cut = OPERATIONS["cutout"](torch.ones(centres, 1, size, size), u, False)[:, 0]
    for centre in range(centres):
        expected = torch.ones(size, size)
        column = centres - 1 - centre
        rows = slice(max(0, centre - side // 2), min(size, centre - side // 2 + side))
        columns = slice(max(0, column - side // 2), min(size, column - side // 2 + side))
        expected[rows, columns] = 0
        torch.testing.assert_close(cut[centre], expected, rtol=0, atol=0)


def test_flip_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    mirrored = torch.tensor([[[[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]]])
    torch.testing.assert_close(run("flip", image, 0.4999), mirrored, rtol=0, atol=0)
    torch.testing.assert_close(run("flip", image, 0.5), image, rtol=0, atol=0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("name", "u", "matrix"),
    [
        ("scale", (0.0, MOST), [[1 / 1.2, 0.0], [0.0, 1.2]]),
        ("scale", (MOST, 0.0), [[1.2, 0.0], [0.0, 1 / 1.2]]),
        ("scale", (0.5, UNIT), [[(1.2 + 1 / 1.2) / 2, 0.0], [0.0, 1.0]]),
        ("rotate", (0.0,), [[0.9659258, 0.2588190], [-0.2588190, 0.9659258]]),  # -15 degrees: cos, sin
        ("rotate", (MOST,), [[0.9659258, -0.2588190], [0.2588190, 0.9659258]]),
        ("rotate", (2 / 3,), [[0.9961947, -0.0871557], [0.0871557, 0.9961947]]),  # 5 degrees
    ],
)
def test_scale_and_rotate_sample_by_the_papers_matrices(
    name: str, u: tuple[float, ...], matrix: list[list[float]], align_corners: bool
) -> None:
    images = normal(2, 3, 8, 8)
    theta = torch.tensor([[*row, 0.0] for row in matrix]).expand(2, 2, 3)
    grid = F.affine_grid(theta, [2, 3, 8, 8], align_corners=align_corners)
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)
    torch.testing.assert_close(run(name, images, *u, align_corners=align_corners), expected, rtol=1e-5, atol=1e-5)


def test_align_corners_makes_no_difference_to_square_images() -> None:
    # Pixel i of n lies at (2 i - n + 1) / (n - 1) or / n: the divisor cancels in a linear map of equal sides.
    square, oblong = normal(1, 1, 8, 8), normal(1, 1, 8, 4)
    for name in ("scale", "rotate"):
        torch.testing.assert_close(run(name, square, 0.9, 0.1), run(name, square, 0.9, 0.1, align_corners=True))
    assert not torch.allclose(run("rotate", oblong, 0.9), run("rotate", oblong, 0.9, align_corners=True))


@pytest.mark.parametrize("align_corners", [False, True])
def test_scale_by_1_and_rotate_by_0_change_nothing(align_corners: bool) -> None:
    images = normal(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(run("scale", images, UNIT, UNIT, align_corners=align_corners), images)
    torch.testing.assert_close(run("rotate", images, 0.5, align_corners=align_corners), images)


def test_a_factor_above_1_zooms_out() -> None:
    ones = torch.ones(1, 1, 32, 32)
    out, zoomed_in = run("scale", ones, MOST, MOST), run("scale", ones, 0.0, 0.0)
    assert out[0, 0, 0].abs().max() == 0  # 32 / 1.2 = 26.7 pixels remain: 2.7 at each edge are empty
    assert out[0, 0, 16, 16].item() == pytest.approx(1)
    torch.testing.assert_close(zoomed_in, ones)


def test_a_positive_angle_turns_against_the_clock() -> None:
    # Read at [[cos, -sin], [sin, cos]] (x, y): the right edge (1, 0) shows what was at (cos, sin), below it.
    image = torch.zeros(1, 1, 33, 33)
    image[..., 20, 31] = 1  # right, below the middle row 16: 15 degrees down
    turned = run("rotate", image, MOST)[0, 0]
    assert divmod(int(turned.argmax()), 33) == (16, 31) or divmod(int(turned.argmax()), 33) == (16, 32)


# --- parameters ------------------------------------------------------------------------------------------------------


def test_one_draw_gives_two_batches_the_same_transform() -> None:
    parameters = draw_shared(DSA, 5, seeded(0))
    image = normal(1, 3, 8, 8)
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])
    real = apply(DSA, image.expand(8, -1, -1, -1), parameters.of(owner))
    synthetic = apply(DSA, image.expand(5, -1, -1, -1), parameters)
    torch.testing.assert_close(real, synthetic[owner], rtol=0, atol=0)
    assert len({tuple(one.flatten().tolist()) for one in synthetic}) > 1


@pytest.mark.parametrize("strategy", [DSA, DSA_WITHOUT_FLIP, "flip", "crop_flip"])
def test_all_classes_in_one_call_equal_each_alone(strategy: str) -> None:
    images, owner = normal(30, 3, 8, 8), torch.arange(30) % 10  # ten groups: every operation is about
    parameters = draw_shared(strategy, 10, seeded(1))
    together = apply(strategy, images, parameters.of(owner))
    for group in range(10):
        alone = parameters.of(torch.full((3,), group))
        torch.testing.assert_close(together[owner == group], apply(strategy, images[owner == group], alone))


def test_each_group_draws_its_own_operation_uniformly() -> None:
    active = draw_shared(DSA, 6000, seeded(0)).active
    assert (active.sum(1) == 1).all()
    # binomial(6000, 1/6): mean 1000, standard deviation 29
    assert all(abs(count - 1000) < 120 for count in active.sum(0).tolist())


def test_a_batch_draws_one_operation_and_numbers_per_image() -> None:
    seen = set()
    for seed in range(60):  # one of 6 is missed with probability 6 (5/6)^60 = 1e-4
        parameters = draw_batch(DSA, 16, seeded(seed))
        assert (parameters.active == parameters.active[0]).all()
        assert parameters.active[0].sum() == 1
        assert len(parameters.values.unique()) > 250  # of 16 x 6 x 3 = 288
        seen.add(int(parameters.active[0].nonzero()))
    assert seen == set(range(6))


def test_numbers_fill_the_unit_interval() -> None:
    values = draw_shared(DSA, 2000, seeded(0)).values
    assert values.shape == (2000, 6, 3)
    assert values.min() >= 0
    assert values.max() < 1
    per_number = values.flatten(1)  # (2000, 18): smallest and largest of 2000 are within 0.01 of the ends
    assert per_number.min(0).values.max() < 0.01
    assert per_number.max(0).values.min() > 0.99


@pytest.mark.parametrize("draw", [draw_shared, draw_batch])
def test_draws_come_from_the_generator_alone(draw: Callable[[str, int, Generator], Parameters]) -> None:
    unused = torch.get_rng_state()
    first, second, other = (draw(DSA, 4, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), unused)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.active, second.active)
    assert not torch.equal(first.values, other.values)


@pytest.mark.parametrize("strategy", ["none", ""])
def test_no_augmentation_draws_and_changes_nothing(strategy: str) -> None:
    rng = seeded(0)
    before, images = rng.get_state(), normal(4, 3, 8, 8)
    for parameters in (draw_shared(strategy, 4, rng), draw_batch(strategy, 4, rng)):
        assert torch.equal(apply(strategy, images, parameters), images)
        assert torch.equal(apply(strategy, images, parameters.of(torch.tensor([0, 0, 1, 3]))), images)
    assert torch.equal(rng.get_state(), before)


def test_operations_in_the_strategys_order() -> None:
    assert augment.operations(DSA) == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert augment.operations(DSA_WITHOUT_FLIP) == ("color", "crop", "cutout", "scale", "rotate")
    assert augment.operations("rotate_flip") == ("rotate", "flip")


@pytest.mark.parametrize(
    ("draw", "chosen", "first", "following"),
    [  # torch 2.15, before there were families; published results rest on these draws
        (draw_shared, [3, 4, 1, 2], [0.2327616, 0.7571945, 0.7405240, 0.7447319], 0.5920863),
        (draw_batch, [3, 3, 3, 3], [0.1988032, 0.1077865, 0.2214465, 0.5136616], 0.2259144),
    ],
)
@pytest.mark.parametrize("strategy", [DSA, f"dsa:{DSA}"])
def test_draws_of_dsa_stay(
    strategy: str, draw: Callable[..., Parameters], chosen: list[int], first: list[float], following: float
) -> None:
    rng = seeded(7)
    parameters = draw(strategy, 4, rng)
    assert parameters.active.sum(1).tolist() == [1] * 4
    assert parameters.active.int().argmax(1).tolist() == chosen
    assert parameters.values[:, 0, 0].tolist() == pytest.approx(first, abs=1e-7)
    assert torch.rand(1, generator=rng).item() == pytest.approx(following, abs=1e-7)


def test_operations_of_families() -> None:
    assert augment.operations(augment.DC_DIGITS) == ("crop", "scale", "rotate")
    assert augment.operations(augment.DC_NOISE) == ("crop", "noise")
    assert augment.operations(augment.IDC) == ("color", "crop", "cutout")
    assert augment.operations(augment.IDC_NETWORK) == ("color", "crop")
    assert augment.operations(augment.IDC_EVALUATION) == ("color", "crop", "flip", "scale", "rotate")
    assert augment.operations(augment.IDC_EVALUATION_WITHOUT_FLIP) == ("color", "crop", "scale", "rotate")
    assert augment.operations("dc:none") == ()


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("dm:crop", "^augment: family 'dm' is unknown; families are dsa, dc, idc$"),
        (":crop", "^augment: family '' is unknown; families are dsa, dc, idc$"),
        ("dc:crop_flip", "^augment: 'dc:flip' is unknown; operations are crop, scale, rotate, noise, or none$"),
        ("idc:noise", "^augment: 'idc:noise' is unknown; operations are color, crop, .*rotate, or none$"),
    ],
)
def test_an_unknown_family_gets_one_clear_line(strategy: str, message: str) -> None:
    for call in (draw_batch, draw_shared):
        with pytest.raises(ValueError, match=message):
            call(strategy, 1, seeded(0))
    with pytest.raises(ValueError, match=message):
        augment.operations(strategy)


@pytest.mark.parametrize("draw", [draw_shared, draw_batch])
def test_dc_draws_an_operation_for_each_image(draw: Callable[..., Parameters]) -> None:
    parameters = draw(augment.DC_DIGITS, 6000, seeded(0))
    assert (parameters.active.sum(1) == 1).all()
    # binomial(6000, 1/3): mean 2000, standard deviation 37
    assert all(abs(count - 2000) < 150 for count in parameters.active.sum(0).tolist())
    assert parameters.values.shape == (6000, 3, 3)


def test_idc_always_runs_colour_flip_and_cutout_and_one_of_the_rest() -> None:
    names = ("rotate", "flip", "color", "crop", "cutout", "scale")
    strategy = "idc:" + "_".join(names)
    active = draw_shared(strategy, 6000, seeded(0)).active
    count = dict(zip(names, active.sum(0).tolist(), strict=True))
    assert (active.sum(1) == 4).all()
    assert count["color"] == count["flip"] == count["cutout"] == 6000
    assert all(abs(count[name] - 2000) < 150 for name in ("rotate", "crop", "scale"))  # standard deviation 37
    for seed in range(5):
        parameters = draw_batch(strategy, 16, seeded(seed))
        assert (parameters.active == parameters.active[0]).all()
        assert parameters.active[0].sum() == 4
        assert len(parameters.values.unique()) > 250  # of 16 x 6 x 3 = 288


def test_idc_needs_no_rest() -> None:
    assert draw_batch("idc:color_flip", 3, seeded(0)).active.all()
    assert draw_batch(augment.IDC, 3, seeded(0)).active.all()  # crop is the only one to choose


def test_idc_is_made_of_dsas_operations() -> None:
    images, parameters = normal(4, 3, 8, 8), draw_batch(augment.IDC_EVALUATION, 4, seeded(0))
    expected = apply("color_crop_flip_scale_rotate", images, parameters, align_corners=True)
    changed = apply(augment.IDC_EVALUATION, images, parameters, align_corners=True)
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)


def test_an_unknown_operation_gets_one_clear_line() -> None:
    with pytest.raises(
        ValueError, match=r"^augment: 'blur' is unknown; operations are color, crop, .*rotate, or none$"
    ):
        draw_shared("flip_blur", 1, seeded(0))


# --- apply -----------------------------------------------------------------------------------------------------------


def test_active_operations_run_one_after_another() -> None:
    images, parameters = normal(4, 3, 8, 8), all_active("color_rotate", 4)
    step = OPERATIONS["color"](images, parameters.values[:, 0], False)
    expected = OPERATIONS["rotate"](step, parameters.values[:, 1], False)
    torch.testing.assert_close(apply("color_rotate", images, parameters), expected, rtol=0, atol=0)


def test_each_image_gets_its_own_numbers() -> None:
    image = normal(1, 3, 16, 16).expand(4, -1, -1, -1)
    for name in OPERATIONS:
        parameters = all_active(name, 4)
        parameters.values[:, 0, 0] = torch.tensor([0.05, 0.3, 0.6, 0.95])
        changed = apply(name, image, parameters)
        alone = [apply(name, image[:1], parameters.of(torch.tensor([i]))) for i in range(4)]
        torch.testing.assert_close(changed, torch.cat(alone), rtol=0, atol=0)
        assert len({tuple(one.flatten().tolist()) for one in changed}) == (2 if name == "flip" else 4)


def test_only_active_operations_run_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def counted(name: str, operation: Callable[[Tensor, Tensor, bool], Tensor]) -> Callable[..., Tensor]:
        def call(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
            calls.append((name, len(images)))
            return operation(images, u, align_corners)

        return call

    for name, operation in list(OPERATIONS.items()):
        monkeypatch.setitem(OPERATIONS, name, counted(name, operation))
    images, owner = normal(40, 3, 8, 8), torch.arange(40) % 20
    parameters = draw_shared(DSA, 20, seeded(0)).of(owner)
    apply(DSA, images, parameters)
    expected = {name: int(parameters.active[:, i].sum()) for i, name in enumerate(augment.operations(DSA))}
    assert dict(calls) == {name: count for name, count in expected.items() if count}
    assert len(calls) == len(dict(calls)) > 1  # one call for all the images of an operation: no loop over images
    calls.clear()
    chosen = draw_batch(DSA, 40, seeded(0))
    apply(DSA, images, chosen)
    assert calls == [(augment.operations(DSA)[int(chosen.active[0].nonzero())], 40)]


def test_the_input_is_left_as_it_is() -> None:
    images = normal(6, 3, 8, 8)
    before = images.clone()
    for parameters in (all_active(DSA, 6), draw_shared(DSA, 6, seeded(0)), draw_batch(DSA, 6, seeded(0))):
        changed = apply(DSA, images, parameters)
        assert torch.equal(images, before)
        assert not torch.equal(changed, before)
        assert changed.dtype == images.dtype


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_gradients(name: str, align_corners: bool) -> None:
    images = normal(2, 2, 5, 5, dtype=torch.float64).requires_grad_()
    parameters = all_active(name, 2)
    parameters.values[:, 0, 0] = torch.tensor([0.13, 0.81])  # flips the first image only
    assert torch.autograd.gradcheck(lambda x: apply(name, x, parameters, align_corners), (images,))


def test_gradients_through_a_mixed_batch() -> None:
    images = normal(6, 1, 4, 4, dtype=torch.float64).requires_grad_()
    parameters = Parameters(torch.eye(6, dtype=torch.bool), torch.rand(6, 6, 3, generator=seeded(0)))
    assert torch.autograd.gradcheck(lambda x: apply(DSA, x, parameters), (images,))


def test_what_is_moved_in_is_the_mean_colour() -> None:
    ones = torch.ones(1, 1, 32, 32)
    assert math.isclose(run("crop", ones, MOST, 0.5).mean().item(), 28 / 32)  # 4 of 32 rows are 0
    assert run("rotate", ones, MOST)[0, 0, 0, 0] == 0
    assert math.isclose(run("cutout", ones, 0.5, 0.5).mean().item(), 0.75)


# --- the operations of DC --------------------------------------------------------------------------------------------


def run_dc(name: str, images: Tensor, *u: float, mean: float = 0.0) -> Tensor:
    """One operation, the same numbers for every image."""
    values = torch.tensor([*u, *[0.0] * (3 - len(u))], dtype=images.dtype).expand(len(images), 3)
    return dc.OPERATIONS[name](images, values, images.new_full((1, images.shape[1], 1, 1), mean))


def test_dc_crop_by_hand() -> None:
    # Of the padded image, rows and columns from 0 .. 7, an eighth of the unit interval each: from 4, all as it was;
    # from row 5, up by one; from column 7, left by three
    image = torch.arange(1.0, 17).view(1, 1, 4, 4)
    expected = torch.tensor([[8.0, 9, 9, 9], [12, 9, 9, 9], [16, 9, 9, 9], [9, 9, 9, 9]]).view(1, 1, 4, 4)
    torch.testing.assert_close(run_dc("crop", image, 5 / 8, 7 / 8, mean=9), expected, rtol=0, atol=0)
    torch.testing.assert_close(run_dc("crop", image, 4 / 8, 4 / 8, mean=9), image, rtol=0, atol=0)
    assert (run_dc("crop", image, 0.0, MOST, mean=9) == 9).all()  # down by four


def test_dc_crop_cuts_from_the_padded_image() -> None:
    image = normal(1, 2, 6, 9)
    mean = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    padded = mean.expand(1, 2, 14, 17).clone()
    padded[..., 4:10, 4:13] = image
    u = torch.rand(400, 3, generator=seeded(0))
    cropped = dc.OPERATIONS["crop"](image.expand(400, -1, -1, -1), u, mean)
    seen = set()
    for one, (row, column) in zip(cropped, (u[:, :2] * 8).long().tolist(), strict=True):
        torch.testing.assert_close(one, padded[0, :, row : row + 6, column : column + 9], rtol=0, atol=0)
        seen.add((row, column))
    assert seen == {(row, column) for row in range(8) for column in range(8)}


def test_dc_scale_by_hand() -> None:
    # 5 x 5, height 0.8 * 5 = 4: rows 0, 1.25, 2.5, 3.75 of 5, rounded down, and a row of 0; width 1.1 * 5 = 5.5: 5
    image = torch.arange(1.0, 26).view(1, 1, 5, 5)
    expected = torch.cat([image[..., :4, :], torch.zeros(1, 1, 1, 5)], 2)
    torch.testing.assert_close(run_dc("scale", image, 0.0, 0.75, mean=9), expected, rtol=0, atol=0)
    # 10 x 10 to 11 x 8 in a square of 11, cut at (11 - 10) // 2 = 0: rows 0, 10/11, 20/11, ..., 90/11 rounded down;
    # columns 0, 1.25, 2.5, 3.75, 5, 6.25, 7.5, 8.75 rounded down, after (11 - 8) // 2 = 1 column of 0, before one more
    image = normal(1, 1, 10, 10)
    expected = torch.zeros(1, 1, 10, 10)
    expected[..., 1:9] = image[..., [0, 0, 1, 2, 3, 4, 5, 6, 7, 8], :][..., [0, 1, 2, 3, 5, 6, 7, 8]]
    torch.testing.assert_close(run_dc("scale", image, 0.9, 0.0), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (32, 28), (16, 20)])
def test_dc_scale_pads_and_cuts_the_resized_image(height: int, width: int) -> None:
    image, u = normal(1, 2, height, width), torch.rand(300, 3, generator=seeded(0))
    scaled = dc.OPERATIONS["scale"](image.expand(300, -1, -1, -1), u, torch.ones(1, 2, 1, 1))
    for one, (tall, wide) in zip(scaled, ((0.8 + 0.4 * u[:, :2]) * height).long().tolist(), strict=True):
        side = max(tall, wide, height, width)
        square = torch.zeros(2, side, side)
        row, column = (side - tall) // 2, (side - wide) // 2
        square[:, row : row + tall, column : column + wide] = F.interpolate(image, [tall, wide])[0]
        row, column = (side - height) // 2, (side - width) // 2
        expected = square[:, row : row + height, column : column + width]
        torch.testing.assert_close(one, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("shape", "channels"), [((28, 28), 1), ((9, 12), 3), ((2, 3), 1), ((1, 1), 2)])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_dc_rotate_is_scipys(shape: tuple[int, int], channels: int, dtype: torch.dtype, within: float) -> None:
    images, mean = normal(90, channels, *shape, dtype=dtype), torch.tensor([0.3, -0.7, 1.5], dtype=dtype)[:channels]
    u = torch.zeros(90, 3, dtype=dtype)
    u[:, 0] = ((torch.arange(90) + 0.5) / 90).to(dtype)
    turned = dc.OPERATIONS["rotate"](images, u, mean.view(1, -1, 1, 1))
    assert turned.dtype == dtype
    for image, result, angle in zip(images.double().numpy(), turned.double(), range(-45, 45), strict=True):
        scipys = [
            ndimage.rotate(channel, angle, (0, 1), reshape=False, order=3, mode="constant", cval=fill)
            for channel, fill in zip(image, mean.tolist(), strict=True)
        ]
        torch.testing.assert_close(result, torch.from_numpy(np.stack(scipys)), rtol=0, atol=within)


def test_dc_rotates_by_every_whole_degree() -> None:
    image = normal(1, 1, 8, 8, dtype=torch.float64)
    for u, angle in ((0.0, -45), (0.5, 0), (0.5 - 2**-24, -1), (MOST, 44)):
        expected = ndimage.rotate(image[0, 0].numpy(), angle, reshape=False)
        torch.testing.assert_close(run_dc("rotate", image, u)[0, 0], torch.from_numpy(expected))


def test_dc_noise_is_normal() -> None:
    n, size = 200, 3 * 32 * 32
    u = draw_batch("dc:noise", n, seeded(0)).values[:, 0]
    images = torch.zeros(n, 3, 32, 32, dtype=torch.float64)
    z = dc.OPERATIONS["noise"](images, u.double(), torch.zeros(1, 3, 1, 1)).view(n, size) / 0.001
    # Bounds at 4 to 5 standard deviations of each estimate.
    assert z.mean().abs() < 5 / math.sqrt(n * size)
    assert (z.var() - 1).abs() < 5 * math.sqrt(2 / (n * size))
    assert (z.pow(4).mean() - 3).abs() < 5 * math.sqrt(96 / (n * size))
    assert z.mean(1).abs().max() < 5 / math.sqrt(size)
    assert z.mean(0).abs().max() < 5 / math.sqrt(n)
    for distance in (1, 2, 3, 32, 1024):
        assert (z[:, distance:] * z[:, :-distance]).mean().abs() < 5 / math.sqrt(n * size)
    between = z @ z.T / size - torch.eye(n)
    assert between.triu(1).abs().max() < 5.5 / math.sqrt(size)  # the largest of 19900


def test_dc_noise_hangs_on_the_images_numbers_alone() -> None:
    # Numbers next to each other are as good a seed as any; each of the three counts.
    u = torch.full((5, 3), 0.5)
    u[1, 0], u[2, 1], u[3, 2] = (0.5 + 2**-24,) * 3
    images = torch.zeros(5, 1, 16, 16)
    unused = torch.get_rng_state()
    z = dc.OPERATIONS["noise"](images, u, images[:1, :, :1, :1]).flatten(1)
    assert torch.equal(torch.get_rng_state(), unused)
    assert torch.equal(z[4], z[0])
    assert torch.corrcoef(z[:4]).sub(torch.eye(4)).abs().max() < 5 / 16
    assert len(z[:4].sort(1).values.unique(dim=0)) == 4
    precise = dc.OPERATIONS["noise"](images.double(), u.double(), images[:1, :, :1, :1].double()).flatten(1)
    torch.testing.assert_close(z, precise.float(), rtol=1e-6, atol=0)


def test_dc_fills_with_the_mean_of_the_whole_batch() -> None:
    # Colours (0, 0), (1, 2), (2, 4), (9, 18): mean (3, 6), whichever images an operation gets.
    images = torch.tensor([0.0, 1.0, 2.0, 9.0]).view(4, 1, 1, 1) * torch.tensor([1.0, 2.0]).view(2, 1, 1)
    images = images.expand(4, 2, 8, 8)
    active = torch.tensor([[True, False], [False, True], [True, False], [False, False]])
    changed = apply("dc:crop_rotate", images, Parameters(active, torch.zeros(4, 2, 3)))  # down, right; by -45 degrees
    torch.testing.assert_close(changed[:3, :, 0, 0], torch.tensor([[3.0, 6.0]] * 3))
    torch.testing.assert_close(changed[:, :, 4, 4], images[:, :, 4, 4])
    torch.testing.assert_close(changed[3], images[3], rtol=0, atol=0)


def test_dc_runs_each_operation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def counted(name: str, operation: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        def call(images: Tensor, u: Tensor, mean: Tensor) -> Tensor:
            calls.append((name, len(images)))
            return operation(images, u, mean)

        return call

    for name, operation in list(dc.OPERATIONS.items()):
        monkeypatch.setitem(dc.OPERATIONS, name, counted(name, operation))
    strategy = "dc:noise_rotate_crop_scale"
    parameters = draw_batch(strategy, 40, seeded(0))
    apply(strategy, normal(40, 3, 8, 8), parameters)  # no loop over images
    assert calls == list(zip(augment.operations(strategy), parameters.active.sum(0).tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dc_leaves_the_input_and_keeps_the_kind(dtype: torch.dtype) -> None:
    images = normal(30, 3, 8, 8, dtype=dtype)
    before, strategy = images.clone(), "dc:noise_rotate_crop_scale"
    parameters = draw_batch(strategy, 30, seeded(0))
    changed = apply(strategy, images, parameters)
    assert torch.equal(images, before)
    assert (changed != before).flatten(1).any(1).sum() >= 27  # a crop by 0, a turn by 0 or a scale by 1 is rare
    assert changed.dtype == dtype
    torch.testing.assert_close(apply(strategy, images, parameters), changed, rtol=0, atol=0)
    elsewhere = apply(strategy, images.to("meta"), parameters)  # fails where an operation mixes devices
    assert elsewhere.device.type == "meta"
    assert elsewhere.shape == images.shape


# --- CutMix ----------------------------------------------------------------------------------------------------------


def test_cutmix_by_hand() -> None:
    # A quarter of 4 x 4: a box of 2 x 2. About row 2, column 2 it covers 1 and 2, and 4/16 of the target changes;
    # about row 0, column 3 only row 0 and columns 2, 3 are left of it, and the share is worked out again: 2/16.
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    for centre, rows, columns, share in (
        ((0.5, 0.5), slice(1, 3), slice(1, 3), 4 / 16),
        ((0.1, 0.99), slice(0, 1), slice(2, 4), 2 / 16),
    ):
        box = torch.zeros(4, 4)
        box[rows, columns] = 1
        mixed, mixed_targets = cutmix(images, targets, CutMix(torch.tensor([1, 0]), 0.75, centre))
        torch.testing.assert_close(mixed, torch.stack([box, 1 - box]).unsqueeze(1), rtol=0, atol=0)
        expected = torch.tensor([[1 - share, share / 2, share / 2], [share, (1 - share) / 2, (1 - share) / 2]])
        torch.testing.assert_close(mixed_targets, expected, rtol=0, atol=0)
    assert images.sum() == 16  # as they were
    assert targets.sum() == 2


def test_cutmix_of_one_image_changes_nothing() -> None:
    image, target = torch.arange(16.0).view(1, 1, 4, 4), torch.tensor([[0.25, 0.75]])
    mixed, mixed_target = cutmix(image, target, CutMix(torch.tensor([0]), 0.25, (0.5, 0.5)))
    torch.testing.assert_close(mixed, image, rtol=0, atol=0)
    torch.testing.assert_close(mixed_target, target, rtol=0, atol=0)


def test_cutmix_keeps_the_share_of_pixels_in_the_targets() -> None:
    rng, targets = seeded(0), torch.eye(8)
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 6, 10)
    shares = []
    for _ in range(100):
        draw = draw_cutmix(8, 1.0, 1.0, rng)
        mixed, mixed_targets = cutmix(images, targets, draw)
        torch.testing.assert_close(mixed_targets.sum(1), torch.ones(8))
        # Image i shows i and its partner's number: the mean over pixels of one-hot rows is the target.
        shown = F.one_hot(mixed.long(), 8).float().mean((1, 2, 3))
        torch.testing.assert_close(mixed_targets, shown)
        assert draw.partner.sort().values.tolist() == list(range(8))
        shares.append(mixed_targets.diagonal().min().item())
    assert min(shares) < 0.5 < max(shares)


def test_cutmix_without_probability_returns_its_inputs() -> None:
    rng, images, targets = seeded(0), normal(4, 3, 8, 8), torch.eye(4)
    before = rng.get_state()
    mixed, mixed_targets = cutmix(images, targets, draw_cutmix(4, 0.0, 1.0, rng))
    assert mixed is images
    assert mixed_targets is targets
    assert torch.equal(rng.get_state(), before)


def test_cutmix_draws() -> None:
    rng, unused = seeded(0), torch.get_rng_state()
    half = [draw_cutmix(4, 0.5, 1.0, rng).kept for _ in range(2000)]
    mixing = [kept for kept in half if kept < 1]
    assert abs(len(mixing) - 1000) < 110  # binomial(2000, 1/2): standard deviation 22
    assert abs(sum(mixing) / len(mixing) - 0.5) < 0.045  # uniform: 0.29 / sqrt(1000) = 0.009
    draws = [draw_cutmix(4, 1.0, 0.2, rng) for _ in range(2000)]
    kept = torch.tensor([draw.kept for draw in draws])
    assert abs(kept.mean() - 0.5) < 0.05
    assert abs(kept.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.02  # Beta(a, a): 1 / (4 (2 a + 1)) = 0.179
    centres = torch.tensor([draw.centre for draw in draws])
    assert (centres.mean(0) - 0.5).abs().max() < 0.04
    assert centres.min() >= 0
    assert centres.max() < 1
    assert len({tuple(draw.partner.tolist()) for draw in draws}) == 24
    assert torch.equal(torch.get_rng_state(), unused)
    first, second = draw_cutmix(4, 0.5, 1.0, seeded(3)), draw_cutmix(4, 0.5, 1.0, seeded(3))
    assert (first.kept, first.centre) == (second.kept, second.centre)
    assert torch.equal(first.partner, second.partner)


@pytest.mark.parametrize(("probability", "alpha"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, math.nan)])
def test_cutmix_says_what_fits(probability: float, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^cutmix: probability lies in 0 \.\. 1 and alpha above 0, got "):
        draw_cutmix(4, probability, alpha, seeded(0))


def test_cutmix_wants_probabilities() -> None:
    with pytest.raises(ValueError, match=r"^cutmix: targets are class probabilities \(N, K\), got shape \(2,\)$"):
        cutmix(normal(2, 1, 4, 4), torch.tensor([0, 1]), draw_cutmix(2, 1.0, 1.0, seeded(0)))
