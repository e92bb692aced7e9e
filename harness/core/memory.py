"""The memory, a small labelled set that replaces the full data, and its budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.core.parametrisation import Parametrisation, Pixels

LEAGUES = ("pixel", "storage", "soft", "full")  # full: no budget; never mixed in one ranking


Builder = Callable[..., "Memory"]  # build(images, labels, budget, rng, cfg) -> Memory; see memory/__init__.py


@dataclass(frozen=True)
class Budget:
    """The size a memory may have: as many numbers as ipc images of each class in the data set have."""

    ipc: int

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise ValueError(f"ipc: at least 1 image per class is needed, got {self.ipc}")


@dataclass(frozen=True)
class Memory:
    """A labelled set of images as networks see them, and the form in which it is stored.

    images: (N, C, H, W) float32, normalised; labels: (N,) int64, the data set's class numbers. Images are in order of
    class.
    """

    images: Tensor
    labels: Tensor
    real: bool = False  # selected real images: 8 bits a value hold them exactly
    league: str = "pixel"  # one of LEAGUES: what may be ranked against what
    soft: Tensor | None = None  # (N, K) class probabilities to train on instead of the labels
    form: Parametrisation = field(default_factory=Pixels)  # how the images are stored
    stored: Mapping[str, Tensor] = field(default_factory=dict)  # stored tensors, if not the images
    is_rounded: bool = False  # learned pixels that were rounded to 8 bits, which hold them exactly

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != (len(self.images),):
            raise ValueError(
                f"memory: expected images (N, C, H, W) and labels (N,), "
                f"got {tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )
        if self.league not in LEAGUES:
            raise ValueError(f"memory: league {self.league!r} is unknown; choose from {', '.join(LEAGUES)}")
        if self.league == "pixel" and self.form.league != "pixel":
            raise ValueError(f"memory: {self.form.name} images belong to the league {self.form.league}, not pixel")
        if self.soft is not None:
            if self.soft.ndim != 2 or len(self.soft) != len(self.labels):
                raise ValueError(f"memory: expected soft labels ({len(self.labels)}, K), got {tuple(self.soft.shape)}")
            if self.league not in ("soft", "full"):
                raise ValueError(f"memory: soft labels belong to the league soft, not {self.league}")
        if any(len(part) * self.form.views != len(self.images) for part in self.stored.values()):
            raise ValueError(f"memory: what is stored does not decode into {len(self.images)} images")

    @property
    def scalars(self) -> int:
        """The count of stored numbers: of the images, or of the tensors that decode into them, and of soft labels."""
        return self._image_scalars + (0 if self.soft is None else self.soft.numel())

    @property
    def nbytes(self) -> int:
        """Bytes as stored: one per value of real or rounded images, four per number of everything else."""
        return 4 * self.scalars - (3 * self._image_scalars if self.real or self.is_rounded else 0)

    @property
    def not_finite(self) -> str | None:
        """Which part has an infinity or a NaN: "an image" or "a soft label"; None if all values are finite."""
        if not all(bool(part.isfinite().all()) for part in (self.images, *self.stored.values())):
            return "an image"
        return "a soft label" if self.soft is not None and not self.soft.isfinite().all() else None

    @property
    def _image_scalars(self) -> int:
        return sum(part.numel() for part in self.stored.values()) if self.stored else self.images.numel()

    @property
    def targets(self) -> Tensor:
        """The targets of training: soft labels (N, K) if there are any, else labels (N,)."""
        return self.labels if self.soft is None else self.soft


def from_stored(form: Parametrisation, stored: Mapping[str, Tensor], labels: Tensor) -> Memory:
    """Return the memory that `stored` decodes into by `form`.

    Args:
        labels: (N,) int64, of the stored images; each holds for all the images that one stored image decodes into.
    """
    stored = {name: part.detach() for name, part in stored.items()}
    images = form.decode(stored)
    if isinstance(form, Pixels):
        return Memory(images, labels)
    return Memory(images, labels.repeat_interleave(form.views), league=form.league, form=form, stored=stored)


def join(parts: list[Memory]) -> Memory:
    """Join memories of different classes, in the given order.

    Raises:
        ValueError: their leagues, parametrisations or kinds of labels differ.
    """
    first = parts[0]
    if any(_kind(part) != _kind(first) for part in parts):
        raise ValueError("memory: parts of different leagues, parametrisations or kinds of labels cannot be joined")
    return Memory(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        all(part.real for part in parts),
        first.league,
        None if first.soft is None else torch.cat([part.soft for part in parts if part.soft is not None]),
        first.form,
        {name: torch.cat([part.stored[name] for part in parts]) for name in first.stored},
    )


def _kind(memory: Memory) -> tuple[object, ...]:
    return memory.league, memory.form, set(memory.stored), memory.soft is None


def select_classes(memory: Memory, classes: list[int]) -> Memory:
    """Return the part of a memory that belongs to `classes`, in that order."""
    views = memory.form.views
    labels = memory.labels[::views]  # of the stored images
    order = torch.cat([(labels == c).nonzero().squeeze(1) for c in classes])
    rows = (order.unsqueeze(1) * views + torch.arange(views, device=order.device)).flatten()
    return replace(
        memory,
        images=memory.images[rows],
        labels=memory.labels[rows],
        soft=None if memory.soft is None else memory.soft[rows],
        stored={name: part[order] for name, part in memory.stored.items()},
    )


def to_cpu(memory: Memory) -> Memory:
    """Return the memory with all its tensors on the CPU."""
    return replace(
        memory,
        images=memory.images.cpu(),
        labels=memory.labels.cpu(),
        soft=None if memory.soft is None else memory.soft.cpu(),
        stored={name: part.cpu() for name, part in memory.stored.items()},
    )
