"""Search spaces: their architectures and axes, filters, and balanced subsets.

A filter such as "width<=64,pooling=avg,norm!=none" selects the architectures that meet every condition; "norm=bn|in"
allows either value, and "id=3|17" selects architectures by number. Another package offers a search space through the
entry-point group `harness.spaces`.
"""

import hashlib
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from harness.core import models, registry
from harness.core.models import ConvNetSpec

Value = int | str


@dataclass(frozen=True)
class Arch:
    """One architecture of a search space.

    Attributes:
        id: its position in the space, from 0.
        model: its name for `harness.core.models`.
        axes: (axis, value) pairs in the order of the space's axes.
    """

    id: int
    model: str
    axes: tuple[tuple[str, Value], ...]

    def __getitem__(self, axis: str) -> Value:
        return self.id if axis == "id" else dict(self.axes)[axis]


@dataclass(frozen=True)
class Space:
    """A search space: its architectures in ascending order of their ids.

    Attributes:
        name: the name that `--space` takes.
        about: one line on what the space holds and where it comes from.
        archs: the architectures.
    """

    name: str
    about: str
    archs: tuple[Arch, ...]

    def __iter__(self) -> Iterator[Arch]:
        return iter(self.archs)

    def __len__(self) -> int:
        return len(self.archs)

    @property
    def axes(self) -> dict[str, list[Value]]:
        """The values of each axis, in the order of their first appearance."""
        values: dict[str, dict[Value, None]] = {}
        for arch in self.archs:
            for axis, value in arch.axes:
                values.setdefault(axis, {})[value] = None
        return {axis: list(axis_values) for axis, axis_values in values.items()}


def _convnet720() -> Space:
    axes: dict[str, tuple[Value, ...]] = {
        "width": (32, 64, 128, 256),
        "depth": (1, 2, 3, 4),
        "norm": ("nonorm", "batchnorm", "layernorm", "instancenorm", "groupnorm"),
        "activation": ("sigmoid", "relu", "leakyrelu"),
        "pooling": ("nopooling", "maxpooling", "avgpooling"),
    }
    archs = []
    for id, values in enumerate(itertools.product(*axes.values())):
        by_axis = dict(zip(axes, values, strict=True))
        archs.append(Arch(id, str(ConvNetSpec(**by_axis)), tuple(by_axis.items())))  # type: ignore[arg-type]
    about = "the 720 ConvNets of DC, DSA and DM: width, depth, norm, activation, pooling"
    return Space("convnet720", about, tuple(archs))


# The product of the numbers of values is the published count, 720. The values themselves are those of the first public
# version of DC's code; they are not verified against the appendix of DC, which could not be fetched.
SPACES: Mapping[str, Space] = {"convnet720": _convnet720()}
GROUP = "harness.spaces"  # the entry points through which other packages offer search spaces


def names() -> list[str]:
    """The names of all search spaces, including those of other packages."""
    return registry.names(SPACES, GROUP)


def find(name: str) -> Space:
    """Return the search space of that name.

    Raises:
        ValueError: no space has the name (the message suggests the nearest one), or another package's entry point
            does not hold a `Space`.
    """
    space = registry.find(name, SPACES, GROUP, "space")
    if not isinstance(space, Space):
        raise ValueError(f"space: {name!r} is a {type(space).__name__}, not a harness.nas.space.Space")
    return space


# --- the cost of an architecture --------------------------------------------------------------------------------------


def count_parameters(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Count the learned parameters of a network."""
    return sum(weight.numel() for weight in _without_weights(model, image_shape, num_classes).parameters())


def count_macs(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Count the multiply-adds of the convolutions and linear layers in the forward pass of one image."""
    spec = models.parse(model)
    if isinstance(spec, ConvNetSpec):  # normalisation and activation count no multiply-adds; fewer networks are built
        spec = replace(spec, norm="nonorm", activation="relu")
    return _count_macs(str(spec), image_shape, num_classes)


@lru_cache(maxsize=1024)
def _count_macs(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    return models.forward_flop(_without_weights(model, image_shape, num_classes), image_shape) // 2


def _without_weights(model: str, image_shape: tuple[int, int, int], num_classes: int) -> models.Network:
    with torch.device("meta"):
        return models.make(model, image_shape, num_classes)


# --- filters and subsets ----------------------------------------------------------------------------------------------

_SIGNS: Mapping[str, Callable[[Value, Value], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SHORT_NAMES = {  # (axis, short name) -> value
    ("norm", "none"): "nonorm", ("norm", "bn"): "batchnorm", ("norm", "ln"): "layernorm",
    ("norm", "in"): "instancenorm", ("norm", "gn"): "groupnorm",
    ("pooling", "none"): "nopooling", ("pooling", "max"): "maxpooling", ("pooling", "avg"): "avgpooling",
}  # fmt: skip


@lru_cache(maxsize=64)
def select(space: Space, archs: str = "", size: int = 0) -> Space:
    """Select the architectures of a space that a filter fits, or a balanced subset of them.

    Args:
        space: the search space.
        archs: a filter as this module's documentation describes it; "" selects every architecture.
        size: size of the subset; 0 takes every architecture that the filter selects. A smaller subset lies within a
            larger one.
    Raises:
        ValueError: the filter cannot be read or selects nothing, or it selects fewer than `size` architectures.
    """
    conditions = [_parse_condition(part.strip(), space) for part in archs.split(",")] if archs.strip() else []
    selected = [arch for arch in space if all(holds(arch) for holds in conditions)]
    if not selected:
        raise ValueError(f"archs: no architecture of {space.name} fits {archs!r}; use a wider filter")
    if size < 0 or size > len(selected):
        has = f"{archs!r} selects" if archs else f"{space.name} has"
        raise ValueError(f"subset: {size} architectures are asked for, {has} {len(selected)}")
    if size:
        subset = {arch.id for arch in _draw_balanced(selected, size)}
        selected = [arch for arch in selected if arch.id in subset]
    return replace(space, archs=tuple(selected))


def _parse_condition(text: str, space: Space) -> Callable[[Arch], bool]:
    """Turn one condition of a filter, such as "width<=64", into a function of an architecture."""
    match = re.fullmatch(r"(\w+)\s*(=|!=|<=|>=|<|>)\s*([\w|.-]+)", text)
    axes: dict[str, Sequence[Value]] = {"id": [arch.id for arch in space], **space.axes}
    if match is None or match[1] not in axes:
        raise ValueError(
            f"archs: {text!r} is not a filter; write AXIS=VALUE|VALUE, AXIS<=VALUE ... of {', '.join(axes)}"
        )
    axis, sign, texts = match[1], match[2], match[3].split("|")
    if sign not in ("=", "!=") and (len(texts) > 1 or isinstance(axes[axis][0], str)):
        raise ValueError(f"archs: {text!r}: {sign} compares with one number")
    values = [_parse_value(axis, each, axes[axis]) for each in texts]
    if sign == "!=":
        return lambda arch: arch[axis] not in values
    return lambda arch: any(_SIGNS[sign](arch[axis], value) for value in values)


def _parse_value(axis: str, text: str, values: Sequence[Value]) -> Value:
    """Turn the text of a value into the value of an axis; `values` are all values of the axis."""
    value: Value = _SHORT_NAMES.get((axis, text), text)
    if isinstance(values[0], int):
        if not re.fullmatch(r"\d+", text):
            raise ValueError(f"archs: {axis} is a number, got {text!r}")
        return int(text)
    if value not in values:
        raise ValueError(f"archs: {axis} has no {text!r}; it has {', '.join(map(str, values))}")
    return value


def _draw_balanced(archs: Sequence[Arch], size: int) -> list[Arch]:
    """Take `size` architectures one by one so that after each of them the values of the axes are balanced.

    The next architecture is always the one whose values occur least among the earlier ones: first the values of single
    axes, then those of pairs of axes. A digest of the id breaks ties, so that the order is the same on every machine.
    """
    counts: Counter[tuple[object, ...]] = Counter()
    drawn: list[Arch] = []
    left = sorted(archs, key=lambda arch: hashlib.sha256(str(arch.id).encode()).hexdigest())
    singles = {arch.id: [(axis,) for axis in arch.axes] for arch in archs}
    pairs = {arch.id: list(itertools.combinations(arch.axes, 2)) for arch in archs}
    while len(drawn) < size:
        rarest = min(left, key=lambda arch: (_imbalance(singles[arch.id], counts), _imbalance(pairs[arch.id], counts)))
        left.remove(rarest)
        drawn.append(rarest)
        counts.update(singles[rarest.id])
        counts.update(pairs[rarest.id])
    return drawn


def _imbalance(values: Sequence[tuple[object, ...]], counts: Counter[tuple[object, ...]]) -> int:
    """The sum of squared counts of some values; the square makes the most frequent value weigh most."""
    return sum(counts[value] ** 2 for value in values)
