"""Seeds from names: every generator of a run is made from what it is for, so nothing depends on who draws first."""

import hashlib

import torch
from torch import Generator


def seed_of(*parts: object) -> int:
    """A 63-bit seed from the texts of `parts`, such as ("memory", 0, "dm", 3)."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> Generator:
    """A generator seeded by `seed_of(*parts)`."""
    return Generator(device).manual_seed(seed_of(*parts))


def spawn(rng: Generator, device: torch.device) -> Generator:
    """A generator on `device` seeded from `rng`: `rng` itself on a CPU, where drawing there costs nothing."""
    if device.type == "cpu":
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    return Generator(device).manual_seed(seed)
