"""The configurations of runs, one class for each track; creating an instance checks its values."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from harness import memory
from harness.config.presets import PRESETS
from harness.core import foreign, models
from harness.core.fields import Count, WholeNumber, configuration, one_of
from harness.core.recipes import TrainConfig, find_recipe
from harness.memory.method import MethodConfig
from harness.nas import space as spaces

SPLITS = ("test", "validation")
AnyRun = TypeVar("AnyRun", bound="Run")


@configuration
class Run:
    """The settings that all tracks have."""

    dataset: str = "cifar10"
    "A name of `harness data list`, or folder:PATH."
    memory: str = "dm"
    "A method of `harness ls memories`, or file:PATH; the fields of its configuration are set as memory.FIELD."
    ipc: Count = 10
    "Images stored per class."
    nets: Count = 1
    "Networks trained on each memory."
    recipe: str = "dm"
    "The recipe for training networks on the memory; the fields of its configuration are set as recipe.FIELD."
    model: str = "convnet3"
    "The network for condensing, and for training on the memory unless other networks are named."
    compute: str = "auto"
    "The form of computing: auto, eager or compiled."
    real_dtype: str = "auto"
    "The type of products where no gradient passes: auto, float32, tf32 or bfloat16."
    split: Annotated[str, one_of(SPLITS, "split")] = "test"
    "The images that networks are evaluated on: test, or validation, a fixed tenth of train that is held out."
    classes_per_unit: Count = 10
    "Number of classes that one unit condenses, if the method treats classes separately."
    seed: int = 0
    "Seed of all random numbers except the class orders."
    preset: Annotated[str, one_of(PRESETS, "preset")] = "paper"
    "The preset that the defaults of this run come from."
    memory_config: MethodConfig | None = None
    "The configuration of the method; None for the method's defaults, adapted to this run."
    recipe_config: TrainConfig | None = None
    "The configuration of the recipe; None for the recipe's defaults, adapted to this run."

    track: ClassVar[str]
    without_builder: ClassVar[tuple[str, ...]] = ()  # values of `memory` for which no memory is built
    other_names: ClassVar[Mapping[str, str]] = {}  # name of a field in the command line of the track -> the field

    def __post_init__(self) -> None:
        find_recipe(self.recipe)
        if not self.memory.startswith(foreign.PREFIX) and self.memory not in self.without_builder:
            what = next((name for name, field in self.other_names.items() if field == "memory"), "memory")
            memory.find(self.memory, what, (*self.without_builder, f"{foreign.PREFIX}PATH"))
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed: a 64-bit number is needed, got {self.seed}")
        models.parse(self.model)

    @property
    def method(self) -> MethodConfig:
        """The configuration of the method, after `config.configure` has filled it in."""
        assert self.memory_config is not None
        return self.memory_config

    @property
    def training(self) -> TrainConfig:
        """The configuration of the recipe, after `config.configure` has filled it in."""
        assert self.recipe_config is not None
        return self.recipe_config

    @classmethod
    def of(cls, preset: str, **settings: object) -> Self:
        """Create a run from a preset and `settings` by the names of fields, as the command line does.

        Nested fields have dotted names: `CLRun.of("quick", memory="dm", **{"memory.iterations": 300})`.
        """
        from harness.config.assembly import assemble  # assembly imports this module

        return assemble(cls, preset, settings)


@configuration
class CLRun(Run):
    """A class-incremental stream with a condensed memory. Defaults are the DM paper's (section 3.5)."""

    dataset: str = "cifar100"
    ipc: Count = 20
    "Images stored per class; the memory grows with the number of classes."
    nets: Count = 3
    steps: Count = 10
    "Number of experiences of the stream."
    orders: tuple[int, ...] = (0, 1, 2, 3, 4)
    "Seeds of the class orders; the memory is condensed again for each order."
    class_order: tuple[int, ...] = ()
    "An explicit order of all classes, in place of the orders by seed."

    track: ClassVar[str] = "cl"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.orders and not self.class_order:
            raise ValueError("orders: at least one class order is needed, such as 0 or 0-4")
        if min(self.orders, default=0) < 0:
            raise ValueError(f"orders: expected seeds of 0 or more, got {min(self.orders)}")
        if len(set(self.orders)) < len(self.orders):
            raise ValueError(f"orders: expected each seed once, got {', '.join(map(str, self.orders))}")


@configuration
class CondenseRun(Run):
    """Condensed sets, evaluated by training new networks on them.

    Defaults are those of DC, DSA and DM: 5 sets, 20 networks each.
    """

    nets: Count = 20
    sets: Count = 5
    "Number of sets, which are condensed independently of each other."
    eval_models: tuple[str, ...] = ()
    "Networks that are trained on the sets, in place of `model`."
    at: tuple[int, ...] = ()
    "Numbers of iterations after which sets are evaluated, in addition to the final one."
    uint8: bool = True
    "Whether learned sets are also evaluated after rounding to 8 bits."

    track: ClassVar[str] = "condense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.at) != sorted(set(self.at)) or min(self.at, default=1) < 1:
            raise ValueError(f"at: expected ascending numbers of iterations, got {', '.join(map(str, self.at))}")
        for i, name in enumerate(self.eval_models):
            if same := [other for other in self.eval_models[:i] if models.parse(other) == models.parse(name)]:
                raise ValueError(f"eval_models: {same[0]} and {name} are the same network; name it once")


@configuration
class FileMemory(foreign.FileConfig, MethodConfig):
    """The configuration of a memory that comes from a file, in place of a method's configuration."""


FULL, EARLY_STOPPING = "full", "early-stopping"  # training on all images, in full or with the updates of a proxy set
ZERO_COST = ("params", "macs", "depth")  # proxies that rank architectures without training
TABULAR = "tabular:"
LARGE = ("tinyimagenet", "imagenet64")  # 64 x 64 images: a ConvNet of depth 4 (DM, section 4.1)


@configuration
class NoMemory(MethodConfig):
    """The configuration of a proxy for which no memory is built."""

    stored: ClassVar[bool] = False


@configuration
class NASRun(Run):
    """A search space whose architectures are ranked by a proxy.

    Defaults are the DM paper's (section 3.6, A.3), except for values that the paper does not state. A fixed tenth of
    train is held out as validation images; no candidate is trained on them, and no memory is made from them.
    """

    memory: str = "dsa"
    "The proxy: the name of a method, file:PATH, early-stopping, full, params, macs or depth."
    ipc: Count = 50
    nets: Count = 5
    "Number of trainings of each architecture."
    recipe: str = "nas"
    split: Annotated[str, one_of(SPLITS, "split")] = "validation"
    space: str = "convnet720"
    "A search space of `harness ls spaces`."
    archs: str = ""
    "A filter for the architectures, such as width<=64,pooling=avg."
    subset: WholeNumber = 0
    "Number of architectures in a balanced and nested subset; 0 for all that pass the filter."
    truth: str = "run"
    "The truth that the ranking is compared with: run, none, tabular, or tabular:FILE."
    truth_epochs: Count = 100
    "Epochs of training on all images."
    curve_every: WholeNumber = 10
    "Epochs between evaluations on the validation images; 0 to evaluate only at the end."

    track: ClassVar[str] = "nas"
    without_builder: ClassVar[tuple[str, ...]] = (FULL, EARLY_STOPPING, *ZERO_COST)
    other_names: ClassVar[Mapping[str, str]] = {"proxy": "memory"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split != "validation":
            raise ValueError("split: a search always selects on validation and evaluates on test; leave it out")
        if self.truth not in ("run", "none", "tabular") and not self.truth.startswith(TABULAR):
            raise ValueError(f"truth: {self.truth!r} is unknown; choose from run, none, tabular, {TABULAR}FILE")
        spaces.select(spaces.find(self.space), self.archs, self.subset)

    @property
    def candidates(self) -> spaces.Space:
        """The architectures to rank."""
        return spaces.select(spaces.find(self.space), self.archs, self.subset)


RUNS: Mapping[str, type[Run]] = {run.track: run for run in (CLRun, CondenseRun, NASRun)}
