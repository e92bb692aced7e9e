"""The number of images that pass through a network at a time."""

import torch
from torch import Tensor, nn

from harness.core import models
from harness.core.compute import tuning
from harness.core.compute.forms import Batch, prepare


def chunk_size(device: torch.device, bytes_per_image: int) -> int:
    """Return how many images to run forward at a time, to fit a CPU's cache or an eighth of a GPU's memory.

    The share is of the GPU's total memory rather than its free memory, so that a GPU always uses the same chunks.
    """
    if device.type == "cpu":
        return tuning.CPU_CHUNK
    total = torch.cuda.get_device_properties(device).total_memory
    return max(tuning.CPU_CHUNK, min(65_536, total // tuning.CUDA_SHARE // bytes_per_image))


def gradient_chunk(network: nn.Module) -> int:
    """Return the number of images to run forward and backward at a time on a CPU; see `tuning.CPU_GRADIENT_MAPS`."""
    filters = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    return max(8, min(tuning.CPU_CHUNK, tuning.CPU_GRADIENT_MAPS // max(filters, default=1)))


def evaluation_form(network: models.Network, method: str, compute: str, images: Tensor) -> Batch:
    """Return `network.<method>` in float32 as a function of any number of images.

    Args:
        images: (N, C, H, W); the function takes images of this shape, on this device. It is for use without gradients.
    """
    device, shape = images.device, (images.shape[1], images.shape[2], images.shape[3])
    if device.type == "cpu":
        chunk = tuning.CPU_CHUNK
    else:
        chunk = min(tuning.EVALUATED, chunk_size(device, models.bytes_per_image(network, shape)))
    return apply_in_chunks(prepare(network, method, compute, "float32", device), chunk)


def apply_in_chunks(function: Batch, chunk: int) -> Batch:
    """Return a function that applies `function` to `chunk` images at a time and concatenates the outputs.

    The result is exact if the output for an image depends on that image alone. To limit the shapes that `function`
    sees, the last chunk is padded with zeros to a multiple of a quarter of `chunk`, or to a whole chunk if the batch
    has more than eight chunks; outputs of padding are dropped. A batch of at most `chunk` images is not padded.
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
