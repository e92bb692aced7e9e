"""A labelled image set as tensors on the CPU, with its normalisation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DataSet:
    """A labelled image set with its official split, on the CPU.

    The tensors may be mapped from a file: writing to them changes neither the file nor what others load.
    """

    name: str
    train_images: Tensor  # (N, C, H, W) uint8
    train_labels: Tensor  # (N,) int64
    test_images: Tensor  # (M, C, H, W) uint8
    test_labels: Tensor  # (M,) int64
    classes: tuple[str, ...]  # names, by label
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    digest: str  # SHA-256, hex: see `combine`
    exactness: str  # "official", or "as listed: <what differs>"
    part: Tensor | None = None  # where only a part of the train images is here: their places among all, (N,) int64
    whole: int | None = None  # how many all are

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors, in the order of ARRAYS."""
        return self.train_images, self.train_labels, self.test_images, self.test_labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def normalise(self, images_uint8: Tensor) -> Tensor:
        """(x / 255 - mean) / std: (..., C, H, W) uint8 to float32, on the same device.

        Raises:
            ValueError: `images_uint8` is of another type.
        """
        if images_uint8.dtype != torch.uint8:
            raise ValueError(
                f"images: expected uint8, 0 to 255, got {images_uint8.dtype}; are they normalised already?"
            )
        images = images_uint8.float().div_(255)
        return images.sub_(per_channel(self.mean, images)).div_(per_channel(self.std, images))

    def denormalise(self, images: Tensor) -> Tensor:
        """x * std + mean, clipped: (..., C, H, W) normalised to float32 in [0, 1], on the same device."""
        scaled = images.float() * per_channel(self.std, images)
        return scaled.add_(per_channel(self.mean, images)).clamp_(0, 1)


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One value for each channel, (C, 1, 1) float32, on the device of `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, C, H, W) uint8 images scaled to [0, 1], over all pixels."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in images.numpy().transpose(1, 0, 2, 3):
        counts = np.zeros(256, dtype=np.int64)
        for image in channel:
            counts += np.bincount(image.ravel(), minlength=256)
        mean = float(np.average(values, weights=counts))
        means.append(mean)
        stds.append(float(np.average((values - mean) ** 2, weights=counts)) ** 0.5)
    return tuple(means), tuple(stds)
