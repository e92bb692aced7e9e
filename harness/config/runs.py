"""What a run is: a configuration for each track, which checks itself."""

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
    """The settings that every track has."""

    dataset: str = "cifar10"
    "A name of `harness data list`, or folder:PATH."
    memory: str = "dm"
    "A builder of `harness ls memories`, or file:PATH; its own fields are set as memory.FIELD."
    ipc: Count = 10
    "Images kept per class."
    nets: Count = 1
    "Networks trained on each memory."
    recipe: str = "dm"
    "How a network is trained on any memory; its fields are set as recipe.FIELD."
    model: str = "convnet3"
    "The network for condensing, and for training unless others are named."
    compute: str = "auto"
    "The form of computing: auto, eager or compiled."
    real_dtype: str = "auto"
    "The type of products where no gradient passes: auto, float32, tf32 or bfloat16."
    split: Annotated[str, one_of(SPLITS, "split")] = "test"
    "The images that networks are evaluated on: test, or validation, a fixed tenth of train that is held out."
    classes_per_unit: Count = 10
    "Classes condensed together, where the builder treats each class on its own."
    seed: int = 0
    "Seed of everything that is drawn but the class orders."
    preset: Annotated[str, one_of(PRESETS, "preset")] = "paper"
    "The preset that this run's defaults come from."
    memory_config: MethodConfig | None = None
    "The builder's frozen configuration; None for its defaults, adapted to this run."
    recipe_config: TrainConfig | None = None
    "The recipe's configuration; None for the recipe's own, adapted to this run."

    track: ClassVar[str]
    without_builder: ClassVar[tuple[str, ...]] = ()  # names that may stand for a memory where none is built
    other_names: ClassVar[Mapping[str, str]] = {}  # the track's users' name of a field -> the field

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
        """The builder's configuration, once it is worked out."""
        assert self.memory_config is not None
        return self.memory_config

    @property
    def training(self) -> TrainConfig:
        """The recipe's configuration, once it is worked out."""
        assert self.recipe_config is not None
        return self.recipe_config

    @classmethod
    def of(cls, preset: str, **settings: object) -> Self:
        """A run as the command line makes it: a preset's values, then `settings` by field name.

        Nested fields are given by dotted names: `CLRun.of("quick", memory="dm", **{"memory.iterations": 300})`.
        """
        from harness.config.assembly import assemble  # which needs the classes of this file

        return assemble(cls, preset, settings)


@configuration
class CLRun(Run):
    """A class-incremental stream with a condensed memory. Defaults are the DM paper's (section 3.5)."""

    dataset: str = "cifar100"
    ipc: Count = 20
    "Images kept per class; the memory grows with the classes."
    nets: Count = 3
    steps: Count = 10
    "Experiences of the stream."
    orders: tuple[int, ...] = (0, 1, 2, 3, 4)
    "Seeds of the class orders; each condenses anew."
    class_order: tuple[int, ...] = ()
    "An explicit order of all classes, in the place of the seeds' orders."

    track: ClassVar[str] = "cl"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.orders and not self.class_order:
            raise ValueError("orders: at least one class order is needed, such as 0 or 0-4")
        if min(self.orders, default=0) < 0:
            raise ValueError(f"orders: seeds are 0 or more, got {min(self.orders)}")
        if len(set(self.orders)) < len(self.orders):
            raise ValueError(f"orders: each seed once, got {', '.join(map(str, self.orders))}")


@configuration
class CondenseRun(Run):
    """Condensed sets, evaluated by training fresh networks on them.

    Defaults are those of DC, DSA and DM: 5 sets, 20 networks each.
    """

    nets: Count = 20
    sets: Count = 5
    "Sets condensed independently of each other."
    eval_models: tuple[str, ...] = ()
    "Networks to evaluate with, in the place of `model`."
    at: tuple[int, ...] = ()
    "Numbers of iterations after which sets are evaluated, besides their end."
    uint8: bool = True
    "Whether learned sets are evaluated rounded to 8 bits as well."

    track: ClassVar[str] = "condense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.at) != sorted(set(self.at)) or min(self.at, default=1) < 1:
            raise ValueError(f"at: expected ascending numbers of iterations, got {', '.join(map(str, self.at))}")
        for i, name in enumerate(self.eval_models):
            if same := [other for other in self.eval_models[:i] if models.parse(other) == models.parse(name)]:
                raise ValueError(f"eval_models: {same[0]} and {name} are one network; name it once")


@configuration
class FileMemory(foreign.FileConfig, MethodConfig):
    """The configuration of a set that others condensed, in the place of a builder's."""


FULL, EARLY_STOPPING = "full", "early-stopping"  # all images: trained on to the end, or as shortly as on a proxy set
ZERO_COST = ("params", "macs", "depth")  # rank architectures without training any
TABULAR = "tabular:"
LARGE = ("tinyimagenet", "imagenet64")  # 64 x 64 images: a ConvNet of depth 4 (DM, section 4.1)


@configuration
class NoMemory(MethodConfig):
    """The configuration of a proxy for which no memory is built."""

    stored: ClassVar[bool] = False


@configuration
class NASRun(Run):
    """A search space ranked on a proxy. Defaults are the DM paper's (section 3.6, A.3), but for what it leaves open.

    A fixed tenth of train is validation: no candidate and no builder ever sees it.
    """

    memory: str = "dsa"
    "The proxy: a builder's name, file:PATH, early-stopping, full, params, macs or depth."
    ipc: Count = 50
    nets: Count = 5
    "Trainings of each architecture."
    recipe: str = "nas"
    split: Annotated[str, one_of(SPLITS, "split")] = "validation"
    space: str = "convnet720"
    "A search space of `harness ls spaces`."
    archs: str = ""
    "A filter of the architectures, such as width<=64,pooling=avg."
    subset: WholeNumber = 0
    "Architectures, balanced and nested; 0 for all that the filter leaves."
    truth: str = "run"
    "What the ranking is compared with: run, none, tabular, or tabular:FILE."
    truth_epochs: Count = 100
    "Epochs of training on all images."
    curve_every: WholeNumber = 10
    "Epochs between evaluations on the validation images; 0 for one at the end only."

    track: ClassVar[str] = "nas"
    without_builder: ClassVar[tuple[str, ...]] = (FULL, EARLY_STOPPING, *ZERO_COST)
    other_names: ClassVar[Mapping[str, str]] = {"proxy": "memory"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split != "validation":
            raise ValueError("split: a search always selects on validation and is judged on test; leave it out")
        if self.truth not in ("run", "none", "tabular") and not self.truth.startswith(TABULAR):
            raise ValueError(f"truth: {self.truth!r} is unknown; choose from run, none, tabular, {TABULAR}FILE")
        spaces.select(spaces.find(self.space), self.archs, self.subset)

    @property
    def candidates(self) -> spaces.Space:
        """The architectures to rank."""
        return spaces.select(spaces.find(self.space), self.archs, self.subset)


RUNS: Mapping[str, type[Run]] = {run.track: run for run in (CLRun, CondenseRun, NASRun)}
