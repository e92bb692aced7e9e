"""What a method is: a function that builds memories, its configuration, and what that says of the method.

A builder is a function

    build(images, labels, budget, rng, cfg) -> Memory

and may take more, by name, which `Method.takes` lists:

    progress          a `Progress`: it takes long, reports its rounds and survives a kill
    form, extra_loss  it learns images: how they are stored, and a loss to add to its own
    rows, of          the places of its images among all train images, and how many train images there are

Its configuration is a frozen dataclass of hyper-parameters that derives from `MethodConfig`.
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
Presets = Mapping[str, Settings]  # name of a preset -> the settings that it changes

# The first n real images of each class, in one list -> a loss to add: see `Method.takes`.
RealImages = Callable[[int], list[Tensor]]
ExtraLoss = Callable[[Network, RealImages, Tensor], Tensor]
"""(network, real, images) -> the loss, whose gradient is added to `images.grad`.

`real(n)` gives a list with the first n real images (n, C, H, W) of each class's batch; `images`, (K * ipc, C, H, W),
are the synthetic images, classes ascending, as the network sees them.
"""


class Passes(NamedTuple):
    """What building a memory costs, in images pushed through the method's network."""

    forward: int  # forward alone
    both: int  # forward and backward; a second derivative counts as three


class Form(NamedTuple):
    """How a method computes."""

    compute: str = "eager"  # eager or compiled
    dtype: str = "float32"  # of products where a gradient passes
    real_dtype: str | None = None  # of products where none passes; None where the method does not tell them apart


@configuration
class MethodConfig:
    """What a configuration says of its method, beside its hyper-parameters; a method overrides what differs.

    An override is a dataclass field, a class variable or a property of the same name.
    """

    # --- what a memory depends on ---------------------------------------------------------------------------------

    @property
    def per_class(self) -> bool:
        """Whether each class's memory depends on its own images alone, so that classes may be built apart."""
        return False

    @property
    def model(self) -> str | None:
        """The network that the method works with; None for a method that needs none."""
        return None

    @property
    def augment(self) -> str:
        """The augmentation of the images it learns; "" for none of its own."""
        return ""

    @property
    def train(self) -> TrainConfig | None:
        """How it trains networks on real images; None if it trains none."""
        return None

    @property
    def scores(self) -> str:
        """A file it reads, which results are known by the content of; "" for none."""
        return ""

    @property
    def beyond(self) -> Settings:
        """JSON-able values that results depend on and that are no field: part of the names of results."""
        return {}

    # --- what a run asks of it ------------------------------------------------------------------------------------

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Preset -> the settings it gives this method otherwise than the defaults."""
        return {}

    def preset(self, name: str, track: str) -> Settings:
        """What a preset sets of this method in a track: by default the same in all of them."""
        return self.presets.get(name, {})

    def adapt(self, model: str, augmentation: str, train: TrainConfig) -> Self:
        """The configuration for a run's network, its data's augmentation and training on its real images.

        Args:
            model: takes the place of the method's own network.
            augmentation: takes the place of DSA's six operations, where the method has those.
            train: takes the place of how it trains networks on real images, but for the number of epochs, where that
                is under DSA's operations.
        """
        values: dict[str, object] = {"model": model}
        if self.augment == augment.DSA:
            values["augment"] = augmentation
        if self.train is not None and self.train.augment == augment.DSA:
            values["train"] = replace(train, epochs=self.train.epochs)
        return replace_known(self, values)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """The configuration with the hyper-parameters that were published for a data set and a budget."""
        return self

    def check_data(self, labels: Tensor, rows: Tensor, of: int) -> None:
        """Raise ValueError where the method does not fit train images with these labels (N,).

        Args:
            rows: their places in the official train set, (N,) int64; of: how many images that has.
        """

    # --- what it builds -------------------------------------------------------------------------------------------

    @property
    def stored(self) -> bool:
        """Whether what networks are trained on is a memory, rather than the data set itself."""
        return True

    @property
    def stores_pixels(self) -> bool:
        """Whether what is stored are pixels, which can be rounded to 8 bits."""
        return True

    @property
    def recipe_epochs(self) -> int | None:
        """Epochs of training on its images in the place of the recipe's; None for the recipe's own."""
        return None

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Images of each class that networks are trained on, for a budget of ipc images (C, H, W)."""
        return ipc

    # --- what it costs --------------------------------------------------------------------------------------------

    @property
    def iterations(self) -> int | None:
        """Rounds after any of which the memory can be judged; None where there are none."""
        return None

    @property
    def total(self) -> int | None:
        """Updates of the synthetic images in all; None where nothing is learned."""
        return self.iterations

    def with_iterations(self, count: int) -> Self:
        """The configuration with another number of rounds."""
        return replace_known(self, {"iterations": count})

    def passes(self, classes: int, images: int, ipc: int) -> Passes | None:
        """Images pushed through its network for classes of `images` real and ipc decoded images; None if unknown."""
        return None

    def real_passes(self, classes: int, images: int) -> int:
        """Those of `passes`, forward and backward, whose products have the type of the real side."""
        return 0

    @property
    def form(self) -> Form:
        """The form of computing: by default that of the training on real images."""
        return Form() if self.train is None else Form(self.train.compute, self.train.dtype)


@configuration
class AroundConfig(MethodConfig):
    """The configuration of a method that goes around another, its host; what it does not say is the host's."""

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
    """A builder with its default configuration and what it takes beside the five arguments of every builder."""

    build: Builder
    config: Config
    takes: frozenset[str] = frozenset()
    about: str = ""  # what it does, in a sentence for users; "" for the first line of the builder's docstring

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
        """Build a memory, by the default configuration where none is given."""
        return self.build(images, labels, budget, rng, self.config if cfg is None else cfg, *others, **more)

    @property
    def summary(self) -> str:
        """What the method does, in one line."""
        return self.about or next(iter((inspect.getdoc(self.build) or "").splitlines()), "")


LEARNS = frozenset({"progress", "form", "extra_loss"})  # what a method takes that learns images in any form


def from_function(build: Builder) -> Method[MethodConfig]:
    """The method of a bare function, as other packages offer one: what it takes is read off its parameters.

    Its configuration is the default of the parameter `cfg`, a frozen dataclass. One that does not derive from
    `MethodConfig` is given a class that derives from both, so that what it does not say is `MethodConfig`'s.

    Raises:
        ValueError: it is no function, has no such parameter, or that is no frozen dataclass.
    """
    if not callable(build):
        raise ValueError(f"memory: a builder is a function, and {type(build).__name__} {build!r} is none")
    parameters = inspect.signature(build).parameters
    cfg = parameters["cfg"].default if "cfg" in parameters else None
    if isinstance(cfg, type) or not is_dataclass(cfg):
        raise ValueError(f"memory: {build.__module__}'s builder needs a parameter cfg that defaults to a dataclass")
    config: MethodConfig = cfg if isinstance(cfg, MethodConfig) else _with_defaults(cfg)
    return Method(build, config, frozenset(parameters) - {"images", "labels", "budget", "rng", "cfg"})


class _Given:
    """Lets an instance's own value show where a base class has a property of the name."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError


def _with_defaults(cfg: Any) -> MethodConfig:
    kind: Any = type(cfg)
    made: MethodConfig = _derive(kind)(**{part.name: getattr(cfg, part.name) for part in fields(kind) if part.init})
    return made


@cache
def _derive(kind: Any) -> Any:
    """A class that derives from another package's frozen dataclass and from `MethodConfig`."""
    if not kind.__dataclass_params__.frozen:
        raise ValueError(f"memory: {kind.__name__} is to be a frozen dataclass")
    given = {part.name: _Given() for part in fields(kind) if part.name not in kind.__dict__}
    return dataclass(frozen=True)(type(kind.__name__, (kind, MethodConfig), {"__module__": kind.__module__, **given}))
