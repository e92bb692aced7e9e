"""Seeds derived from names: each generator of a run has its own seed, so the order of draws does not matter."""

import hashlib

import torch
from torch import Generator


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed derived from the texts of `parts`, such as ("memory", 0, "dm", 3)."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> Generator:
    """Return a generator seeded by `derive_seed(*parts)`."""
    return Generator(device).manual_seed(derive_seed(*parts))


def spawn(rng: Generator, device: torch.device) -> Generator:
    """Return a generator on `device`, seeded by a draw from `rng`; on a CPU, `rng` itself."""
    if device.type == "cpu":
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    return Generator(device).manual_seed(seed)
