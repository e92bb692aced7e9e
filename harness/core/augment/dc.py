"""The augmentation that evaluates DC (Zhao et al., ICLR 2021, arXiv:2006.05929): `augment` in the authors' utils.py.

It trains on a memory and takes no part in condensing. Images are (N, C, H, W), normalised. Each operation takes uniform
numbers u (N, 3) and the mean colour (1, C, 1, 1) of the batch, which crop and rotate fill with.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def crop(images: Tensor, u: Tensor, mean: Tensor) -> Tensor:
    """Shift by whole pixels, and fill with the mean colour.

    The authors pad by 4 and draw the start of the crop from 0 .. 7 rather than 0 .. 8, so the image moves down and
    right by at most 4, up and left by at most 3. The published numbers depend on that.
    """
    height, width = images.shape[2:]
    start = (u * 8).floor().long() - 4  # (N, 3): first row, first column; the third is not used
    rows = torch.arange(height, device=images.device) + start[:, 0:1]
    columns = torch.arange(width, device=images.device) + start[:, 1:2]
    return _read(images, rows, columns, mean)


def scale(images: Tensor, u: Tensor, _: Tensor) -> Tensor:
    """Resize each side to 0.8 .. 1.2 of the height, by the nearest pixel, and centre the result on zeros.

    As published, both sides are scaled from the height. The result is centred in a square that is large enough for it
    and the image, and the centre of the square is cut out.
    """
    height, width = images.shape[2:]
    size = ((0.8 + 0.4 * u[:, :2]) * height).floor().long()  # (N, 2)
    old = torch.tensor([height, width]).to(images.device, non_blocking=True)
    square = size.amax(1, keepdim=True).clamp(min=max(height, width))
    start = (square - old) // 2 - (square - size) // 2  # (N, 2): the resized pixel that the first one shows
    rows = (torch.arange(height, device=images.device) + start[:, 0:1]) * height // size[:, 0:1]
    columns = (torch.arange(width, device=images.device) + start[:, 1:2]) * width // size[:, 1:2]
    return _read(images, rows, columns, images.new_zeros(()))


def rotate(images: Tensor, u: Tensor, mean: Tensor) -> Tensor:
    """Rotate by -45 .. 44 whole degrees, by cubic splines, and fill with the mean colour.

    The result is that of `scipy.ndimage.rotate(image, angle, (2, 3), reshape=False, cval=mean)`, channel by channel.
    The authors rotate with reshape=True and cut out the middle, which is half a pixel off if the difference in size is
    odd. They fill all channels with the mean over channels, but rotate only MNIST, which has one channel.
    """
    height, width = images.shape[2:]
    angle = ((u[:, 0].double() * 90).floor() - 45).deg2rad().view(-1, 1, 1)
    # In float64, so that rounding moves no position on the border outside.
    down = torch.arange(height, device=images.device, dtype=torch.float64).unsqueeze(1) - (height - 1) / 2  # (H, 1)
    right = torch.arange(width, device=images.device, dtype=torch.float64) - (width - 1) / 2  # (W,)
    rows = angle.cos() * down + angle.sin() * right + (height - 1) / 2  # (N, H, W): where each pixel comes from
    columns = angle.cos() * right - angle.sin() * down + (width - 1) / 2
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    row, row_weight = _spline(rows, height)  # (N, H, W, 4)
    column, column_weight = _spline(columns, width)
    source = ((row * width).unsqueeze(-1) + column.unsqueeze(-2)).flatten(1)  # (N, H W 16)
    weight = (row_weight.to(images).unsqueeze(-1) * column_weight.to(images).unsqueeze(-2)).flatten(3)  # (N, H, W, 16)
    down_filter, right_filter = (_prefilter(size).to(images, non_blocking=True) for size in (height, width))
    coefficients = down_filter @ images @ right_filter.mT
    taps = coefficients.flatten(2).gather(2, source.unsqueeze(1).expand(-1, images.shape[1], -1))
    turned = (taps.view(*images.shape, 16) * weight.unsqueeze(1)).sum(-1)
    return torch.where(inside.unsqueeze(1), turned, mean)


def noise(images: Tensor, u: Tensor, _: Tensor) -> Tensor:
    """Add normal noise of standard deviation 0.001, seeded by the three numbers of each image."""
    return images + 0.001 * _normal(u, images[0].numel()).view_as(images).to(images)


def _read(images: Tensor, rows: Tensor, columns: Tensor, fill: Tensor) -> Tensor:
    """Read images at `rows` (N, H) and `columns` (N, W), int64, and use `fill` for positions outside."""
    height, width = images.shape[2:]
    inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
    source = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
    source = source.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    return torch.where(inside.unsqueeze(1), images.flatten(2).gather(2, source).view_as(images), fill)


def _spline(places: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The 4 coefficients, of `size`, that a cubic spline at `places` (...) is made of, and their weights: (..., 4)."""
    places = places.clamp(0, size - 1)
    before = places.floor()
    t = places - before
    weights = torch.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3], -1) / 6
    index = before.long().unsqueeze(-1) + torch.arange(-1, 3, device=places.device)
    mirrored = size - 1 - (size - 1 - index.abs()).abs()  # 2 1 0 1 2 about the edges, as scipy's mode "constant" has it
    return mirrored.clamp(min=0), weights  # below 0 only with 1 or 2 pixels: a weight of 0, or no other pixel


def _prefilter(size: int) -> Tensor:
    """The matrix (size, size) from pixels to the coefficients of the cubic spline through them, in float64."""
    index, weights = _spline(torch.arange(size, dtype=torch.float64), size)
    return torch.inverse(torch.zeros(size, size, dtype=torch.float64).scatter_add(1, index, weights))


def _normal(u: Tensor, count: int) -> Tensor:
    """`count` standard normal numbers, float64, for each row of u (N, 3): a function of that row alone.

    Each place 0 .. count - 1 is hashed together with the row's three numbers, of 24 bits as torch.rand gives them.
    """
    bits = _hash(torch.arange(count, device=u.device))  # without this hash, close keys would only permute the positions
    for key in (u * 2**24).long().unsqueeze(2).unbind(1):  # 3 of (N, 1)
        bits = _hash(bits ^ key)
    numbers: Tensor = torch.special.ndtri((bits.double() + 0.5) / 2**32)
    return numbers


def _hash(x: Tensor) -> Tensor:
    """32 bits, held in int64, to 32 that look unrelated: the integer hash of Thomas Mueller (H2 database)."""
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF  # below 2**32 * 2**27: int64 does not overflow
    return (x >> 16) ^ x


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "crop": crop,
    "scale": scale,
    "rotate": rotate,
    "noise": noise,
}
