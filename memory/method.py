"""A method: a function that builds memories, and the configuration that describes it.

A builder is a function

    build(images, labels, budget, rng, cfg) -> Memory

It may take further arguments by name, which `Method.takes` lists:

    progress          a `Progress`, for builders that take long: it reports rounds and saves checkpoints
    form, extra_loss  for builders that learn images: how these are stored, and a loss to add to the method's own
    rows, of          positions of the images in the official train set, and the number of images of that set

The configuration is a frozen dataclass of hyper-parameters that derives from `MethodConfig`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Generic, NamedTuple, Self, TypeVar

from torch import Generator, Tensor

from harness.core import augment
from harness.core.fields import configuration, replace_known
from harness.core.memory import Budget, Builder, Memory
from harness.core.models import Network
from harness.core.parametrisation import Shape
from harness.core.recipes import TrainConfig

Settings = Mapping[str, Any]  # dotted name of a field -> value
Presets = Mapping[str, Settings]  # name of a preset -> the settings that differ from the defaults

RealImages = Callable[[int], list[Tensor]]
ExtraLoss = Callable[[Network, RealImages, Tensor], Tensor]
"""A loss to add to a method's own: a function (network, real, images) -> loss that adds its gradient to `images.grad`.

`real(n)` returns the first n real images of the batch of each class, a list of (n, C, H, W) tensors. `images` are the
augmented synthetic images, (K * ipc, C, H, W), in ascending order of classes.
"""


class Passes(NamedTuple):
    """The cost of building a memory, in images that pass through the method's network."""

    forward: int  # forward only
    both: int  # forward and backward; an image with a second derivative counts as three


class Form(NamedTuple):
    """The form of computing of a method."""

    compute: str = "eager"  # eager or compiled
    dtype: str = "float32"  # data type of products with gradients
    real_dtype: str | None = None  # data type of products without gradients; None if both have the same type


@configuration
class MethodConfig:
    """The base class of configurations, with the default description of a method.

    A method overrides an attribute by a dataclass field, a class variable or a property of the same name.
    """

    # --- dependencies of a memory ---------------------------------------------------------------------------------

    @property
    def per_class(self) -> bool:
        """Whether the memory of a class depends on its own images alone; such classes are built separately."""
        return False

    @property
    def model(self) -> str | None:
        """The network of the method; None if it has none."""
        return None

    @property
    def augment(self) -> str:
        """The augmentation of the images that the method learns; "" if it has none."""
        return ""

    @property
    def train(self) -> TrainConfig | None:
        """The training of networks on real images; None if the method trains none."""
        return None

    @property
    def scores(self) -> str:
        """A file that the method reads, whose content is part of the key of results; "" if there is none."""
        return ""

    @property
    def beyond(self) -> Settings:
        """JSON-able values that results depend on and that are not fields; they are part of the key of results."""
        return {}

    # --- settings of a run ----------------------------------------------------------------------------------------

    @property
    def presets(self) -> Mapping[str, Settings]:
        """For each preset, the settings that differ from the defaults."""
        return {}

    def preset(self, name: str, track: str) -> Settings:
        """Return the settings of a preset in a track; by default they are the same in every track."""
        return self.presets.get(name, {})

    def adapt(self, model: str, augmentation: str, train: TrainConfig) -> Self:
        """Return the configuration adapted to the network, the augmentation and the training recipe of a run.

        Args:
            model: replaces the network of the method.
            augmentation: replaces the augmentation of the method if that is DSA's six operations.
            train: replaces the training on real images, except for the number of epochs, if its augmentation is DSA's
                six operations.
        """
        values: dict[str, object] = {"model": model}
        if self.augment == augment.DSA:
            values["augment"] = augmentation
        if self.train is not None and self.train.augment == augment.DSA:
            values["train"] = replace(train, epochs=self.train.epochs)
        return replace_known(self, values)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration with the hyper-parameters that are published for a data set and a budget."""
        return self

    def check_data(self, labels: Tensor, rows: Tensor, of: int) -> None:
        """Raise ValueError if the method cannot be applied to some train images.

        Args:
            labels: (N,) int64, global ids.
            rows: positions of the images in the official train set, (N,) int64.
            of: number of images in the official train set.
        """

    # --- properties of a memory -----------------------------------------------------------------------------------

    @property
    def stored(self) -> bool:
        """Whether networks are trained on a stored memory, rather than on the data set itself."""
        return True

    @property
    def stores_pixels(self) -> bool:
        """Whether pixels are stored, which can be rounded to 8 bits."""
        return True

    @property
    def recipe_epochs(self) -> int | None:
        """Epochs of training on the memory; None for those of the recipe."""
        return None

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Return the number of images of each class that networks are trained on.

        Args:
            ipc: budget, in images per class.
            shape: of an image, (C, H, W).
        """
        return ipc

    # --- cost -----------------------------------------------------------------------------------------------------

    @property
    def iterations(self) -> int | None:
        """Number of rounds, after each of which the memory can be evaluated; None if there are none."""
        return None

    @property
    def total(self) -> int | None:
        """Total number of updates of the synthetic images; None if no images are learned."""
        return self.iterations

    def with_iterations(self, count: int) -> Self:
        """Return the configuration with another number of rounds."""
        return replace_known(self, {"iterations": count})

    def passes(self, classes: int, images: int, ipc: int) -> Passes | None:
        """Count the images that pass through the network; None if the number is unknown.

        Args:
            classes: number of classes.
            images: real images per class.
            ipc: decoded images per class.
        """
        return None

    def real_passes(self, classes: int, images: int) -> int:
        """Count the images of `passes(...).both` whose products have the type `form.real_dtype`."""
        return 0

    @property
    def form(self) -> Form:
        """The form of computing; by default that of the training on real images."""
        return Form() if self.train is None else Form(self.train.compute, self.train.dtype)


@configuration
class AroundConfig(MethodConfig):
    """The configuration of a plug-in around another method, the host, whose attributes it takes over."""

    host: MethodConfig
    "The configuration of the host."

    @property
    def per_class(self) -> bool:
        return self.host.per_class

    @property
    def model(self) -> str | None:
        return self.host.model

    @property
    def beyond(self) -> Settings:
        return self.host.beyond

    def preset(self, name: str, track: str) -> Settings:
        return {f"host.{key}": value for key, value in self.host.preset(name, track).items()}

    def adapt(self, model: str, augmentation: str, train: TrainConfig) -> Self:
        return replace(self, host=self.host.adapt(model, augmentation, train))

    def for_setting(self, dataset: str, ipc: int) -> Self:
        return replace(self, host=self.host.for_setting(dataset, ipc))

    @property
    def iterations(self) -> int | None:
        return self.host.iterations

    @property
    def total(self) -> int | None:
        return self.host.total

    def with_iterations(self, count: int) -> Self:
        return replace(self, host=self.host.with_iterations(count))

    def passes(self, classes: int, images: int, ipc: int) -> Passes | None:
        return self.host.passes(classes, images, ipc)

    def real_passes(self, classes: int, images: int) -> int:
        return self.host.real_passes(classes, images)

    @property
    def form(self) -> Form:
        return self.host.form


Config = TypeVar("Config", bound=MethodConfig, covariant=True)


@dataclass(frozen=True)
class Method(Generic[Config]):
    """A builder and its default configuration.

    Attributes:
        build: the builder.
        config: the default configuration.
        takes: names of the arguments that the builder takes in addition to the five of every builder.
        about: description in one sentence; by default the first line of the builder's docstring.
    """

    build: Builder
    config: Config
    takes: frozenset[str] = frozenset()
    about: str = ""

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        cfg: MethodConfig | None = None,
        *others: object,
        **more: object,
    ) -> Memory:
        """Build a memory; `cfg` defaults to the default configuration."""
        return self.build(images, labels, budget, rng, self.config if cfg is None else cfg, *others, **more)

    @property
    def summary(self) -> str:
        """The description of the method in one line."""
        return self.about or next(iter((inspect.getdoc(self.build) or "").splitlines()), "")


LEARNS = frozenset({"progress", "form", "extra_loss"})  # arguments of methods that learn images in any form


def from_function(build: Builder) -> Method[MethodConfig]:
    """Return the method of a builder function, such as other packages offer.

    The configuration is the default of the parameter `cfg`, a frozen dataclass. If its class does not derive from
    `MethodConfig`, a class that derives from both takes its place and has the defaults of `MethodConfig`.

    Args:
        build: the builder; the names of its further parameters become `Method.takes`.
    Raises:
        ValueError: `build` is not a function, it has no parameter `cfg`, or the default of `cfg` is not a frozen
            dataclass.
    """
    if not callable(build):
        raise ValueError(f"memory: a builder must be a function, got {type(build).__name__} {build!r}")
    parameters = inspect.signature(build).parameters
    cfg = parameters["cfg"].default if "cfg" in parameters else None
    if isinstance(cfg, type) or not is_dataclass(cfg):
        raise ValueError(f"memory: {build.__module__}'s builder needs a parameter cfg that defaults to a dataclass")
    config: MethodConfig = cfg if isinstance(cfg, MethodConfig) else _with_defaults(cfg)
    return Method(build, config, frozenset(parameters) - {"images", "labels", "budget", "rng", "cfg"})


class _InstanceValue:
    """A descriptor that hides a property of a base class, so that the value of the instance is found."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError


def _with_defaults(cfg: Any) -> MethodConfig:
    """Return the configuration as an instance of a class that also derives from `MethodConfig`."""
    kind: Any = type(cfg)
    values = {part.name: getattr(cfg, part.name) for part in fields(kind) if part.init}
    config: MethodConfig = _derive(kind)(**values)
    return config


@cache
def _derive(kind: Any) -> Any:
    """Return a class that derives from a frozen dataclass of another package and from `MethodConfig`."""
    if not kind.__dataclass_params__.frozen:
        raise ValueError(f"memory: {kind.__name__} must be a frozen dataclass")
    values = {part.name: _InstanceValue() for part in fields(kind) if part.name not in kind.__dict__}
    return dataclass(frozen=True)(type(kind.__name__, (kind, MethodConfig), {"__module__": kind.__module__, **values}))
