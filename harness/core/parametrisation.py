"""The forms in which synthetic images are stored: pixels, low-rank factors, several images in one.

Each is a frozen dataclass with `init` (the start of learning), `decode` (the images that networks see; differentiable)
and `stored_in` (how many stored images fit a budget). A memory's file has it as `plain` writes and `parse` reads it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.fields import one_of

Shape = tuple[int, int, int]  # (C, H, W)
Stored = dict[str, Tensor]  # what is kept, by name; the first dimension of each counts stored images
STARTS = ("real", "noise")
Start = Annotated[str, one_of(STARTS, "init")]  # what learning starts from, as a field of a configuration


class Parametrisation(Protocol):
    """The interface of a form of storage."""

    name: ClassVar[str]
    league: ClassVar[str]  # pixel, or storage where the same numbers hold more images
    stores_pixels: ClassVar[bool]  # whether rounding what is stored to 8 bits makes sense

    @property
    def views(self) -> int:
        """The number of images that one stored image decodes into."""

    def stored_in(self, ipc: int, shape: Shape) -> int:
        """The number of stored images that need no more numbers than ipc images (C, H, W)."""

    def init(self, real: Tensor, start: str, rng: Generator) -> Stored:
        """Return the start of learning: from real images (N * views, C, H, W), or noise if `start` is "noise"."""

    def decode(self, stored: Stored) -> Tensor:
        """Decode into images (N * views, C, H, W); those of one stored image follow each other."""


@dataclass(frozen=True)
class Pixels:
    """An image is its own pixels."""

    name: ClassVar[str] = "pixels"
    league: ClassVar[str] = "pixel"
    stores_pixels: ClassVar[bool] = True
    views: ClassVar[int] = 1

    def stored_in(self, ipc: int, shape: Shape) -> int:
        return ipc

    def init(self, real: Tensor, start: str, rng: Generator) -> Stored:
        return {"images": _noise(real.shape, rng, real) if start == "noise" else real.clone()}

    def decode(self, stored: Stored) -> Tensor:
        return stored["images"]


@dataclass(frozen=True)
class LowRank:
    """Each channel is a product A B of (H, r) and (r, W) factors: LoDC, Yang et al., NeurIPS 2023.

    Noise makes both factors standard normal, as published, so that pixels start with variance r; real images start
    from their best approximation of rank r, A = U sqrt(S), B = sqrt(S) V^T, which is not published.
    """

    rank: int = 2

    name: ClassVar[str] = "low-rank"
    league: ClassVar[str] = "storage"
    stores_pixels: ClassVar[bool] = False
    views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"low-rank: rank is at least 1, got {self.rank}")

    def stored_in(self, ipc: int, shape: Shape) -> int:
        """The published readme's floor(ipc H W / (r (H + W))): never above the budget, which its scripts exceed."""
        _, height, width = shape
        fits = ipc * height * width // (height + width)
        if self.rank > fits:
            raise ValueError(
                f"low-rank: rank {self.rank} is too large, one image of {height} x {width} would exceed the budget of "
                f"{ipc} per class; use a rank of at most {min(fits, height, width)}"
            )
        if self.rank > min(height, width):
            raise ValueError(
                f"low-rank: rank {self.rank} is too large, images of {height} x {width} have rank "
                f"{min(height, width)} at most"
            )
        return ipc * height * width // (self.rank * (height + width))

    def init(self, real: Tensor, start: str, rng: Generator) -> Stored:
        count, channels, height, width = real.shape
        if start == "noise":
            left, right = (count, channels, height, self.rank), (count, channels, self.rank, width)
            return {"left": _noise(left, rng, real), "right": _noise(right, rng, real)}
        u, s, v = torch.linalg.svd(real, full_matrices=False)
        root = s[..., : self.rank].sqrt()
        left, right = u[..., : self.rank] * root.unsqueeze(-2), root.unsqueeze(-1) * v[..., : self.rank, :]
        return {"left": left.contiguous(), "right": right.contiguous()}  # as they are once read back from a file

    def decode(self, stored: Stored) -> Tensor:
        return stored["left"] @ stored["right"]


@dataclass(frozen=True)
class MultiFormation:
    """An image holds factor x factor smaller ones, each enlarged bilinearly: IDC, Kim et al., ICML 2022."""

    factor: int = 2

    name: ClassVar[str] = "multi-formation"
    league: ClassVar[str] = "storage"
    stores_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 1:
            raise ValueError(f"multi-formation: factor is at least 1, got {self.factor}")

    @property
    def views(self) -> int:
        return self.factor**2

    def stored_in(self, ipc: int, shape: Shape) -> int:
        if shape[1] % self.factor or shape[2] % self.factor:
            raise ValueError(f"multi-formation: {shape[1]} x {shape[2]} cannot be cut by a factor of {self.factor}")
        return ipc

    def init(self, real: Tensor, start: str, rng: Generator) -> Stored:
        """Return real images, reduced in size and tiled, or noise."""
        f = self.factor
        if start == "noise":
            return {"images": _noise((len(real) // self.views, *real.shape[1:]), rng, real)}
        size = (real.shape[2] // f, real.shape[3] // f)
        small = F.interpolate(real, size=size, mode="bilinear", antialias=True) if f > 1 else real
        tiles = small.unflatten(0, (-1, f, f)).permute(0, 3, 1, 4, 2, 5)  # (N, C, f, h, f, w)
        return {"images": tiles.flatten(4, 5).flatten(2, 3).clone()}

    def decode(self, stored: Stored) -> Tensor:
        images, f = stored["images"], self.factor
        if f == 1:
            return images
        height, width = images.shape[2:]
        tiles = images.unflatten(3, (f, width // f)).unflatten(2, (f, height // f))  # (N, C, f, h, f, w)
        small = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


PARAMETRISATIONS: dict[str, type[Parametrisation]] = {form.name: form for form in (Pixels, LowRank, MultiFormation)}


def plain(form: Parametrisation) -> dict[str, Any]:
    """Return a parametrisation as JSON-able values."""
    return {"name": form.name, **asdict(form)}  # type: ignore[call-overload]


def parse(values: Mapping[str, object]) -> Parametrisation:
    """Return the parametrisation that `plain` wrote as `values`.

    Raises:
        ValueError: the name or a value is unknown.
    """
    fields = dict(values)
    name = fields.pop("name", None)
    if name not in PARAMETRISATIONS:
        raise ValueError(f"parametrisation {name!r} is unknown; known: {', '.join(PARAMETRISATIONS)}")
    try:
        form: Parametrisation = PARAMETRISATIONS[name](**fields)
    except TypeError as error:
        raise ValueError(f"parametrisation {name!r} does not take {fields}") from error
    return form


def _noise(shape: tuple[int, ...], rng: Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device).to(like)
