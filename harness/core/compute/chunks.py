"""How many images are pushed through a network at a time."""

import torch
from torch import Tensor, nn

from harness.core import models
from harness.core.compute import tuning
from harness.core.compute.forms import Batch, fast


def chunk_size(device: torch.device, bytes_per_image: int) -> int:
    """Images to push through a network at a time: what fits a CPU's cache, or an eighth of a GPU's memory.

    Of all its memory, not of what is free: the same GPU always computes in the same chunks.
    """
    if device.type == "cpu":
        return tuning.CPU_CHUNK
    whole = torch.cuda.get_device_properties(device).total_memory
    return max(tuning.CPU_CHUNK, min(65_536, whole // tuning.CUDA_SHARE // bytes_per_image))


def gradient_chunk(network: nn.Module) -> int:
    """Images to push forward and backward at a time on a CPU; see `tuning.CPU_GRADIENT_MAPS`."""
    filters = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    return max(8, min(tuning.CPU_CHUNK, tuning.CPU_GRADIENT_MAPS // max(filters, default=1)))


def evaluation_form(network: models.Network, method: str, compute: str, images: Tensor) -> Batch:
    """`network.<method>` of any number of images like `images` (N, C, H, W), in float32, without gradient."""
    device, shape = images.device, (images.shape[1], images.shape[2], images.shape[3])
    if device.type == "cpu":
        chunk = tuning.CPU_CHUNK
    else:
        chunk = min(tuning.EVALUATED, chunk_size(device, models.bytes_per_image(network, shape)))
    return chunked(fast(network, method, compute, "float32", device), chunk)


def chunked(function: Batch, chunk: int) -> Batch:
    """`function` applied to `chunk` images at a time; exact wherever an image's output depends on itself alone.

    A last, short chunk is filled up with zeros, which are cut off again: to a quarter, half, three quarters or all of a
    chunk, and to all of it after eight whole ones. So the calls have few shapes, and little is computed for nothing. A
    batch of one chunk or less is left as it is: small memories come in one size.
    """

    def in_chunks(images: Tensor) -> Tensor:
        if len(images) <= chunk:
            return function(images)
        parts = []
        step = chunk if len(images) > 8 * chunk else max(1, chunk // 4)
        for part in images.split(chunk):
            missing = min(-len(part) % step, chunk - len(part))
            padded = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            parts.append(function(padded)[: len(part)])
        return torch.cat(parts)

    return in_chunks
