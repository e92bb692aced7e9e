"""The ConvNet-D-W family of the condensation papers, named by what differs from the default."""

import re
from dataclasses import dataclass, fields

from harness.core.models.network import ACTIVATIONS, NORMS, POOLINGS, SHORT, Block, Network, stack


@dataclass(frozen=True)
class ConvNetSpec:
    """The specification of a ConvNet; `str` returns its full name."""

    depth: int = 3  # blocks of convolution, norm, activation, pooling
    width: int = 128  # filters of each convolution
    norm: str = "instancenorm"
    activation: str = "relu"
    pooling: str = "avgpooling"

    def __post_init__(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise ValueError(f"model: depth and width are at least 1, got depth {self.depth}, width {self.width}")
        if self.norm == "groupnorm" and self.width % 4:
            raise ValueError(f"model: groupnorm has 4 groups, so the width is a multiple of 4, got {self.width}")

    @property
    def has_batchnorm(self) -> bool:
        """Whether the network has BatchNorm; `has_batch_statistics` checks a network that is built."""
        return self.norm == "batchnorm"

    def __str__(self) -> str:
        return f"convnet-d{self.depth}-w{self.width}-{self.norm}-{self.activation}-{self.pooling}"


def parse(name: str) -> ConvNetSpec | None:
    """Parse the name of a ConvNet, such as convnet-d4-bn; return None if it does not begin with convnet.

    Raises:
        ValueError: a later part of the name is unknown or contradicts another one; the message says which.
    """
    head, *parts = name.lower().split("-")
    match = re.fullmatch(r"convnet(\d*)", head)
    if match is None:
        return None
    axes: dict[str, str] = {"depth": match[1]} if match[1] else {}
    for part in parts:
        axis, value = _parse_part(part, name)
        if axis in axes:
            raise ValueError(f"model: {name!r} gives its {axis} twice")
        axes[axis] = value
    types = {field.name: field.type for field in fields(ConvNetSpec)}
    return ConvNetSpec(**{axis: int(value) if types[axis] is int else value for axis, value in axes.items()})  # type: ignore[arg-type]


def _parse_part(part: str, name: str) -> tuple[str, str]:
    """Return the field and the value that one part of a name sets."""
    if number := re.fullmatch(r"([dw])(\d+)", part):
        return {"d": "depth", "w": "width"}[number[1]], number[2]
    value = SHORT.get(part, part)
    for axis, values in (("norm", NORMS), ("activation", ACTIVATIONS), ("pooling", POOLINGS)):
        if value in values:
            return axis, value
    known = ["dDEPTH", "wWIDTH", *NORMS, *ACTIVATIONS, *POOLINGS]
    raise ValueError(f"model: {part!r} in {name!r} is unknown; parts are {', '.join(known)}")


class ConvNet(Network):
    """A sequence of equal blocks: the network of Gidaris & Komodakis as used by Zhao et al. (DC, arXiv:2006.05929)."""

    def __init__(self, spec: ConvNetSpec, image_shape: tuple[int, int, int], num_classes: int) -> None:
        blocks = [Block(spec.width, kernel=3, padding=1, pooled=spec.pooling != "nopooling")] * spec.depth
        layers, size = stack(
            blocks, spec, image_shape, spec.norm, spec.activation, spec.pooling, remedy="use a smaller depth"
        )
        super().__init__(layers, spec.width * size * size, num_classes)
