"""Random numbers of a seed."""

import torch
from torch import Generator, Tensor

MOST = 1 - 2**-24  # the largest number torch.rand gives


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)
