"""Search spaces: what architectures there are, their axes, and fixed subsets of them.

A filter such as "width<=64,pooling=avg,norm!=none" keeps what fits every part of it; "norm=bn|in" allows either, and
"id=3|17" names architectures. Another package offers a space through the entry-point group `harness.spaces`.
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
    """One candidate: `id` is its place in the space, `model` its name for `harness.core.models`."""

    id: int
    model: str
    axes: tuple[tuple[str, Value], ...]  # (axis, value), in the space's order

    def __getitem__(self, axis: str) -> Value:
        return self.id if axis == "id" else dict(self.axes)[axis]


@dataclass(frozen=True)
class Space:
    """Candidates in the order of their ids."""

    name: str
    about: str  # one line: what it is, where it comes from
    archs: tuple[Arch, ...]

    def __iter__(self) -> Iterator[Arch]:
        return iter(self.archs)

    def __len__(self) -> int:
        return len(self.archs)

    @property
    def axes(self) -> dict[str, list[Value]]:
        """Every axis with its values, in the order they first come."""
        values: dict[str, dict[Value, None]] = {}
        for arch in self.archs:
            for axis, value in arch.axes:
                values.setdefault(axis, {})[value] = None
        return {axis: list(found) for axis, found in values.items()}


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
        named = dict(zip(axes, values, strict=True))
        archs.append(Arch(id, str(ConvNetSpec(**named)), tuple(named.items())))  # type: ignore[arg-type]
    about = "the 720 ConvNets of DC, DSA and DM: width, depth, norm, activation, pooling"
    return Space("convnet720", about, tuple(archs))


# The value lists multiply to the published count; as a quotation they are unverified: the appendix of DC that lists
# them could not be fetched, they are those of the first public version of its code.
SPACES: Mapping[str, Space] = {"convnet720": _convnet720()}
GROUP = "harness.spaces"  # of entry points, where other packages offer spaces


def names() -> list[str]:
    """Every space that can be asked for, those of other packages included."""
    return registry.names(SPACES, GROUP)


def find(name: str) -> Space:
    """The space of that name.

    Raises:
        ValueError: there is none, and the message names the nearest; or another package's is none.
    """
    space = registry.find(name, SPACES, GROUP, "space")
    if not isinstance(space, Space):
        raise ValueError(f"space: {name!r} is a {type(space).__name__}, not a nas.space.Space")
    return space


# --- what a candidate costs -----------------------------------------------------------------------------------------


def parameters(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """How many numbers a network learns."""
    return sum(weight.numel() for weight in _without_weights(model, image_shape, num_classes).parameters())


def macs(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Multiply-adds of its convolutions and linear layers, for one image forward."""
    spec = models.parse(model)
    if isinstance(spec, ConvNetSpec):  # its norm and activation multiply nothing by a weight
        spec = replace(spec, norm="nonorm", activation="relu")
    return _macs(str(spec), image_shape, num_classes)


@lru_cache(maxsize=1024)
def _macs(model: str, image_shape: tuple[int, int, int], num_classes: int) -> int:
    return models.forward_flop(_without_weights(model, image_shape, num_classes), image_shape) // 2


def _without_weights(model: str, image_shape: tuple[int, int, int], num_classes: int) -> models.Network:
    with torch.device("meta"):
        return models.make(model, image_shape, num_classes)


# --- parts of a space -----------------------------------------------------------------------------------------------

_SIGNS: Mapping[str, Callable[[Value, Value], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SHORT = {  # of values whose axis says what they are
    ("norm", "none"): "nonorm", ("norm", "bn"): "batchnorm", ("norm", "ln"): "layernorm",
    ("norm", "in"): "instancenorm", ("norm", "gn"): "groupnorm",
    ("pooling", "none"): "nopooling", ("pooling", "max"): "maxpooling", ("pooling", "avg"): "avgpooling",
}  # fmt: skip


@lru_cache(maxsize=64)
def select(space: Space, wanted: str = "", size: int = 0) -> Space:
    """The part of a space that a filter keeps, and of that a subset of `size`; "" and 0 keep everything.

    Raises:
        ValueError: a filter that is none or keeps nothing, or a size beyond what it keeps.
    """
    tests = [_test(part.strip(), space) for part in wanted.split(",")] if wanted.strip() else []
    kept = [arch for arch in space if all(test(arch) for test in tests)]
    if not kept:
        raise ValueError(f"archs: no architecture of {space.name} fits {wanted!r}; use a wider filter")
    if size < 0 or size > len(kept):
        of = f"{wanted!r} keeps" if wanted else f"{space.name} has"
        raise ValueError(f"subset: {size} architectures are asked for, {of} {len(kept)}")
    if size:
        chosen = {arch.id for arch in _spread(kept)[:size]}
        kept = [arch for arch in kept if arch.id in chosen]
    return replace(space, archs=tuple(kept))


def _test(part: str, space: Space) -> Callable[[Arch], bool]:
    """What one part of a filter asks of an architecture."""
    match = re.fullmatch(r"(\w+)\s*(=|!=|<=|>=|<|>)\s*([\w|.-]+)", part)
    axes: dict[str, Sequence[Value]] = {"id": [arch.id for arch in space], **space.axes}
    if match is None or match[1] not in axes:
        raise ValueError(f"archs: {part!r} is no filter; write AXIS=VALUE|VALUE, AXIS<=VALUE ... of {', '.join(axes)}")
    axis, sign, texts = match[1], match[2], match[3].split("|")
    if sign not in ("=", "!=") and (len(texts) > 1 or isinstance(axes[axis][0], str)):
        raise ValueError(f"archs: {part!r}: {sign} compares one number")
    values = [_value(axis, text, axes[axis]) for text in texts]
    if sign == "!=":
        return lambda arch: arch[axis] not in values
    return lambda arch: any(_SIGNS[sign](arch[axis], value) for value in values)


def _value(axis: str, text: str, known: Sequence[Value]) -> Value:
    value: Value = _SHORT.get((axis, text), text)
    if isinstance(known[0], int):
        if not re.fullmatch(r"\d+", text):
            raise ValueError(f"archs: {axis} is a number, got {text!r}")
        return int(text)
    if value not in known:
        raise ValueError(f"archs: {axis} has no {text!r}; it has {', '.join(map(str, known))}")
    return value


def _spread(archs: Sequence[Arch]) -> list[Arch]:
    """The candidates in an order whose every beginning is balanced, so that a small subset lies within a larger one.

    The next one is always that whose values have been taken least, of single axes first, then of pairs of axes; among
    equals a digest of the id decides, which is the same everywhere.
    """
    taken: Counter[tuple[object, ...]] = Counter()
    order, left = [], sorted(archs, key=lambda arch: hashlib.sha256(str(arch.id).encode()).hexdigest())
    singles = {arch.id: [(axis,) for axis in arch.axes] for arch in archs}
    pairs = {arch.id: list(itertools.combinations(arch.axes, 2)) for arch in archs}
    while left:
        best = min(left, key=lambda arch: (_weight(singles[arch.id], taken), _weight(pairs[arch.id], taken)))
        left.remove(best)
        order.append(best)
        taken.update(singles[best.id])
        taken.update(pairs[best.id])
    return order


def _weight(parts: Sequence[tuple[object, ...]], taken: Counter[tuple[object, ...]]) -> int:
    """How often the parts have been taken: squared, so that the most uneven one counts most."""
    return sum(taken[part] ** 2 for part in parts)
