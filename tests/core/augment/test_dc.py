import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from harness.core import augment
from harness.core.augment import Parameters, apply, dc, draw_batch
from tests.core.draws import MOST, normal, seeded


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
