"""The operations of differentiable Siamese augmentation (Zhao & Bilen, ICML 2021, arXiv:2102.08259).

Images are (N, C, H, W), normalised; what is shifted, cut or rotated in is 0, the data set's mean colour. Gradients
flow through every operation.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def color(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Change brightness, then saturation, then contrast; u (N, 3) holds a uniform number for each."""
    brightness, saturation, contrast = u.view(-1, 3, 1, 1, 1).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def crop(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Shift down and right by whole pixels in -k .. k, k an eighth of the height."""
    height, width = images.shape[2:]
    most = int(height * 0.125 + 0.5)
    shift = (u * (2 * most + 1)).floor().long() - most  # (N, 3); the third is not used
    rows = torch.arange(height, device=images.device) - shift[:, 0:1]  # (N, H): where each row comes from
    columns = torch.arange(width, device=images.device) - shift[:, 1:2]
    inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
    source = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
    source = source.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images) * inside.unsqueeze(1)


def cutout(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Set a square of half the height to 0; its centre is anywhere in the image."""
    height, width = images.shape[2:]
    side = int(height * 0.5 + 0.5)
    places = torch.tensor([height, width, 1]).to(images.device, non_blocking=True) + (1 - side % 2)
    start = (u * places).floor().long() - side // 2  # (N, 3): first row, first column; the third is not used
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (rows >= start[:, 0:1]) & (rows < start[:, 0:1] + side)
    in_columns = (columns >= start[:, 1:2]) & (columns < start[:, 1:2] + side)
    return images * ~(in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


def flip(images: Tensor, u: Tensor, _: bool) -> Tensor:
    """Flip left and right with probability 0.5."""
    return torch.where(u[:, 0].view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


def scale(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
    """Scale height and width independently, each by a factor in 1/1.2 .. 1.2."""
    least, most = 1 / 1.2, 1.2
    factor = least + u[:, :2] * (most - least)
    return _sample(images, torch.diag_embed(factor), align_corners)


def rotate(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
    """Rotate by -15 .. 15 degrees."""
    angle = (u[:, 0] - 0.5) * 2 * (15 / 180 * torch.pi)
    cos, sin = angle.cos(), angle.sin()
    return _sample(images, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2), align_corners)


def _sample(images: Tensor, matrix: Tensor, align_corners: bool) -> Tensor:
    """Read images at `matrix` (N, 2, 2) times each pixel's position, by bilinear interpolation, with 0 outside."""
    grid = F.affine_grid(F.pad(matrix, (0, 1)), list(images.shape), align_corners=align_corners)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)


OPERATIONS: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
