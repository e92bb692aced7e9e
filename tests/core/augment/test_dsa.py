import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.core.augment import OPERATIONS
from tests.core.draws import MOST, normal

UNIT = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)  # the uniform number that scales by 1


def run(name: str, images: Tensor, *u: float, align_corners: bool = False) -> Tensor:
    """One operation, the same numbers for every image."""
    values = torch.tensor([*u, *[0.0] * (3 - len(u))], dtype=images.dtype).expand(len(images), 3)
    return OPERATIONS[name](images, values, align_corners)


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


def test_what_is_moved_in_is_the_mean_colour() -> None:
    ones = torch.ones(1, 1, 32, 32)
    assert math.isclose(run("crop", ones, MOST, 0.5).mean().item(), 28 / 32)  # 4 of 32 rows are 0
    assert run("rotate", ones, MOST)[0, 0, 0, 0] == 0
    assert math.isclose(run("cutout", ones, 0.5, 0.5).mean().item(), 0.75)
