"""What a run is: frozen configurations that check themselves, presets, and how text becomes typed values."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import torch

from harness import memory
from harness.core import augment, compute, models
from harness.core import foreign as imported
from harness.core.checks import check_counts
from harness.core.models import ConvNetSpec
from harness.core.registry import known, unknown
from harness.core.train import TrainConfig, augmentation, dm_recipe, find_recipe
from harness.nas import space as spaces

Settings = Mapping[str, Any]  # dotted name of a field -> text or value, such as {"memory.iterations": "300"}
SPLITS = ("test", "validation")
AnyRun = TypeVar("AnyRun", bound="Run")


@dataclass(frozen=True)
class Run:
    """What every track asks."""

    dataset: str = "cifar10"
    memory: str = "dm"  # a builder's name, or file:PATH; its own fields are set as memory.FIELD
    ipc: int = 10  # images kept per class
    nets: int = 1  # networks trained on each memory
    recipe: str = "dm"  # how a network is trained on any memory; its fields are set as recipe.FIELD
    model: str = "convnet3"  # for condensing, and for training unless others are named
    compute: str = "auto"  # auto, eager or compiled
    real_dtype: str = "auto"  # what is multiplied in where no gradient passes: auto, float32, tf32 or bfloat16
    split: str = "test"  # validation: a fixed tenth of train is held out, and judged on instead of the test set
    classes_per_unit: int = 10  # classes condensed together, where the builder treats each on its own
    seed: int = 0  # of everything drawn but the class order
    preset: str = "paper"
    memory_config: Any = None  # the builder's frozen configuration; None: its defaults, fitted to this run
    recipe_config: TrainConfig | None = None  # None: the recipe's own, fitted to this run

    track: ClassVar[str]
    without_builder: ClassVar[tuple[str, ...]] = ()  # what may stand for a memory where none is built
    other_names: ClassVar[Mapping[str, str]] = {}  # of fields, as the track's users call them

    def __post_init__(self) -> None:
        check_counts(self, "ipc", "nets", "classes_per_unit")
        known(self.split, SPLITS, "split")
        find_recipe(self.recipe)
        known(self.preset, PRESETS, "preset")
        if not self.memory.startswith(imported.PREFIX) and self.memory not in self.without_builder:
            what = next((theirs for theirs, ours in self.other_names.items() if ours == "memory"), "memory")
            memory.find(self.memory, what, (*self.without_builder, f"{imported.PREFIX}PATH"))
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed: a 64-bit number is needed, got {self.seed}")
        models.parse(self.model)

    @classmethod
    def of(cls, preset: str, **settings: Any) -> Self:
        """A run as the command line makes it: a preset's values, then `settings` by field name.

        Nested fields are given by dotted names: `CLRun.of("quick", memory="dm", **{"memory.iterations": 300})`.
        """
        return assemble(cls, preset, settings)


@dataclass(frozen=True)
class CLRun(Run):
    """A class-incremental stream with a condensed memory. Defaults are the DM paper's (section 3.5)."""

    dataset: str = "cifar100"
    ipc: int = 20  # the memory grows with the classes
    nets: int = 3
    steps: int = 10  # experiences of the stream
    orders: tuple[int, ...] = (0, 1, 2, 3, 4)  # seeds of the class orders; each condenses anew
    class_order: tuple[int, ...] = ()  # an explicit order of all classes, instead of the seeds'

    track: ClassVar[str] = "cl"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps")
        if not self.orders and not self.class_order:
            raise ValueError("orders: at least one class order is needed, such as 0 or 0-4")
        if min(self.orders, default=0) < 0:
            raise ValueError(f"orders: seeds are 0 or more, got {min(self.orders)}")
        if len(set(self.orders)) < len(self.orders):
            raise ValueError(f"orders: each seed once, got {', '.join(map(str, self.orders))}")


@dataclass(frozen=True)
class CondenseRun(Run):
    """Condensed sets judged by fresh networks. Defaults are those of DC, DSA and DM: 5 sets, 20 networks each."""

    nets: int = 20
    sets: int = 5  # condensed independently of each other
    eval_models: tuple[str, ...] = ()  # networks to judge with, in place of `model`
    at: tuple[int, ...] = ()  # iterations after which sets are judged as well as at their end
    uint8: bool = True  # whether learned sets are judged rounded to 8 bits as well

    track: ClassVar[str] = "condense"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "sets")
        if list(self.at) != sorted(set(self.at)) or min(self.at, default=1) < 1:
            raise ValueError(f"at: expected ascending numbers of iterations, got {', '.join(map(str, self.at))}")
        for i, name in enumerate(self.eval_models):
            if same := [other for other in self.eval_models[:i] if models.parse(other) == models.parse(name)]:
                raise ValueError(f"eval_models: {same[0]} and {name} are one network; name it once")


FULL, EARLY_STOPPING = "full", "early-stopping"  # all images: trained on to the end, or as shortly as on a proxy set
ZERO_COST = ("params", "macs", "depth")  # what ranks architectures without training any


@dataclass(frozen=True)
class NoMemory:
    """In the place of a builder's configuration, of a proxy for which none is built."""

    stored: ClassVar[bool] = False


@dataclass(frozen=True)
class NASRun(Run):
    """A search space ranked on a proxy. Defaults are the DM paper's (section 3.6, A.3), but for what it leaves open.

    A fixed tenth of train is validation: no candidate and no builder ever sees it.
    """

    memory: str = "dsa"  # the proxy: a builder's name, file:PATH, early-stopping, full, params, macs or depth
    ipc: int = 50
    nets: int = 5  # trainings of each architecture
    recipe: str = "nas"
    split: str = "validation"
    space: str = "convnet720"
    archs: str = ""  # a filter such as width<=64,pooling=avg
    subset: int = 0  # architectures, balanced and nested; 0: all that the filter keeps
    truth: str = "run"  # what the ranking is compared with: run, none, tabular, or tabular:FILE
    truth_epochs: int = 100  # of training on all images
    curve_every: int = 10  # epochs between looks at the validation images; 0: at the end only

    track: ClassVar[str] = "nas"
    without_builder: ClassVar[tuple[str, ...]] = (FULL, EARLY_STOPPING, *ZERO_COST)
    other_names: ClassVar[Mapping[str, str]] = {"proxy": "memory"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split != "validation":
            raise ValueError("split: a search always selects on validation and is judged on test; leave it out")
        check_counts(self, "truth_epochs")
        check_counts(self, "curve_every", least=0)
        if self.truth not in ("run", "none", "tabular") and not self.truth.startswith(TABULAR):
            raise ValueError(f"truth: {self.truth!r} is unknown; choose from run, none, tabular, {TABULAR}FILE")
        spaces.select(spaces.find(self.space), self.archs, self.subset)

    @property
    def searched(self) -> spaces.Space:
        """The architectures to rank."""
        return spaces.select(spaces.find(self.space), self.archs, self.subset)


TABULAR = "tabular:"
LARGE = ("tinyimagenet", "imagenet64")  # 64 x 64 images: a ConvNet of depth 4 (DM, section 4.1)
RUNS: Mapping[str, type[Run]] = {run.track: run for run in (CLRun, CondenseRun, NASRun)}


@dataclass(frozen=True)
class Preset:
    """Values that take the place of defaults: of runs, by track, of recipes, of each builder that is named."""

    note: str
    run: Mapping[str, Settings] = field(default_factory=dict)
    recipe: Settings = field(default_factory=dict)
    memory: Mapping[str, Settings] = field(default_factory=dict)
    memory_by_track: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)  # over `memory`


_QUICK_MATCHING = {"lr": 2.0, "iterations": 20, "updates": 10, "epochs": 5, "real_batch": 64}
_QUICK_LOW_RANK = {**_QUICK_MATCHING, "iterations": 10}  # eight times as many images
_QUICK_IDC = {
    "iterations": 5,
    "updates": 20,
    "real_batch": 32,
    "synthetic_batch": 20,
    "trained": 500,
    "lr": 0.1,
    "distance": "mse",  # which that lr is for, whatever the data set
    "train.dtype": "auto",
}
_QUICK_SELECTION_OF_ALL = {  # ten times as many images at once as in a step of a stream
    **{name: {"train.epochs": 5} for name in ("herding", "kcenter", "forgetting")},
    **{name: {"train.epochs": 2, "runs": 3} for name in ("el2n", "grand")},
}
_QUICK_DM = {"iterations": 800, "lr": 5.0, "real_batch": 64, "synthetic_dtype": "auto"}

PRESETS = {
    "paper": Preset("the published protocol to the letter"),
    "quick": Preset(
        "a real answer on two CPU cores in about ten minutes",
        run={
            "cl": {"model": "convnet-d3-w32", "ipc": 10, "orders": (0,), "nets": 2},
            "condense": {"model": "convnet-d3-w32", "sets": 2, "nets": 3},
            "nas": {
                "model": "convnet-d3-w32",
                "ipc": 10,
                "nets": 1,
                "archs": "width=32,pooling!=none",  # those without pooling are three quarters of the work
                "subset": 24,
                "truth_epochs": 2,
                "curve_every": 100,
            },
        },
        recipe={"epochs": 200, "lr": 0.02, "batch_size": 128, "dtype": "auto"},
        memory={
            "dm": _QUICK_DM,
            "mmd-pixel": {"iterations": 800, "real_batch": 64},
            "dc": _QUICK_MATCHING,
            "dsa": _QUICK_MATCHING,
            "dcc": {**_QUICK_MATCHING, "from_iteration": 5},
            "dsac": {**_QUICK_MATCHING, "from_iteration": 5},
            "idc": _QUICK_IDC,
            "idc-i": _QUICK_IDC,
            "herding": {"train.epochs": 20},
            "kcenter": {"train.epochs": 20},
            "forgetting": {"train.epochs": 20},
            "el2n": {"train.epochs": 5, "runs": 3},
            "grand": {"train.epochs": 5, "runs": 3},
            "full": {"epochs": 4},
            **{f"lo-{name}": {f"host.{k}": v for k, v in _QUICK_LOW_RANK.items()} for name in ("dc", "dsa")},
        },
        memory_by_track=dict.fromkeys(("condense", "nas"), _QUICK_SELECTION_OF_ALL),
    ),
    "smoke": Preset(
        "every line in seconds; its numbers mean nothing",
        run={
            "cl": {"model": "convnet-d2-w8", "ipc": 2, "orders": (0,), "nets": 1},
            "condense": {"model": "convnet-d2-w8", "ipc": 2, "sets": 1, "nets": 1},
            "nas": {
                "model": "convnet-d2-w8",
                "ipc": 2,
                "nets": 1,
                "archs": "width=32,depth<=2,pooling!=none",
                "subset": 4,
                "truth_epochs": 1,
            },
        },
        recipe={"epochs": 3},
        memory={
            "dm": {"iterations": 3, "real_batch": 16},
            "mmd-pixel": {"iterations": 3, "real_batch": 16},
            **{
                name: {"iterations": 2, "updates": 2, "epochs": 1, "real_batch": 8}
                for name in ("dc", "dsa", "dcc", "dsac")
            },
            **{name: {"iterations": 2, "updates": 2, "real_batch": 8, "trained": 32} for name in ("idc", "idc-i")},
            "herding": {"train.epochs": 1},
            "kcenter": {"train.epochs": 1},
            "forgetting": {"train.epochs": 2},
            "el2n": {"train.epochs": 1, "runs": 1},
            "grand": {"train.epochs": 1, "runs": 1},
            "full": {"epochs": 1},
        },
    ),
}


def assemble(kind: type[AnyRun], preset: str, settings: Settings) -> AnyRun:
    """A run from a preset and what the user set, the latter winning.

    Raises:
        ValueError: an unknown field (with the nearest known one), a wrong type or value.
    """
    chosen = PRESETS[known(preset, PRESETS, "preset")]
    renamed = {"memory.name": "memory", "recipe.name": "recipe", **kind.other_names}
    settings = {renamed.get(key, key): value for key, value in settings.items()}
    for key in settings:
        if "." in key and (last := key.rpartition(".")[2]) in ("compute", "real_dtype"):
            raise ValueError(f"--set: {key} follows the run's own; set {last} instead")
    if {"orders", "class_order"} <= settings.keys():
        raise ValueError("orders: the order of the classes is given by class_order; leave one of them out")
    own = {key: value for key, value in settings.items() if "." not in key and key != "networks"}
    bare: AnyRun = changed(kind(preset=preset), {**chosen.run.get(kind.track, {}), **own})
    bare = bare if "model" in own else replace(bare, model=_usual_model(bare))
    run = fitted(bare, {key: value for key, value in settings.items() if key.startswith("memory.")})
    inner = {(_networks_key(run) if k == "networks" else k): v for k, v in settings.items() if k not in own}
    nested: AnyRun = changed(run, inner, _aliases)
    _check_used(nested, dotted(fitted(bare)), inner)
    if "ipc" in settings and nested.memory.startswith(imported.PREFIX):
        raise ValueError("ipc: a file says itself how many images of each class it holds; leave it out")
    for key, value in dotted(nested).items():
        if key.endswith((".dtype", ".synthetic_dtype")):
            known(value, compute.DTYPES, key)
    return nested


def _usual_model(run: Run) -> str:
    """The run's network as the papers have it for its data: a layer deeper for images of 64 x 64."""
    spec = models.parse(run.model)
    if run.dataset not in LARGE or not isinstance(spec, ConvNetSpec) or spec.depth != 3:
        return run.model
    return str(replace(spec, depth=4))


def _check_used(run: Run, usual: Mapping[str, Any], settings: Settings) -> None:
    """Raise ValueError where a setting of the builder, other than what it is anyway, changes nothing.

    A builder's configuration may have `unused`: its fields that nothing depends on as the others stand, and why; a name
    that ends in a dot stands for all that is nested in it.
    """
    now = dotted(run)
    for name, why in getattr(run.memory_config, "unused", {}).items():
        for key in settings:
            is_it = key.startswith(f"memory.{name}") if name.endswith(".") else key == f"memory.{name}"
            if is_it and now[key] != usual[key]:
                raise ValueError(f"--set: {key} changes nothing for {run.memory}: {why}; leave it out")


def _having(key: str) -> list[str]:
    """The builders whose configuration has the setting `key`."""
    keys = {name: dotted(memory.default_config(build), "memory.") for name, build in memory.BUILDERS.items()}
    return sorted(name for name, known_keys in keys.items() if key in known_keys)


def _networks_key(run: Run) -> str:
    """Where the run's builder, or the one it is built around, keeps which networks it matches in.

    Raises:
        ValueError: it has no such choice.
    """
    for key in ("memory.networks", "memory.host.networks"):
        if key in dotted(run):
            return key
    having = ", ".join(sorted({*_having("memory.networks"), *_having("memory.host.networks")}))
    raise ValueError(f"networks: {run.memory} has no choice of the networks it works in, {having} have; leave it out")


def _aliases(key: str) -> str:
    head, _, rest = key.partition(".")
    return f"{head}_config.{rest}" if head in ("memory", "recipe") and rest else key


def fitted(run: AnyRun, settings: Mapping[str, Any] = {}) -> AnyRun:
    """The run with its builder's and recipe's configurations worked out, where they were left open.

    A builder's configuration may have `for_setting(dataset, ipc)`, which gives it the published hyper-parameters of a
    data set and budget. A preset's values for a builder hold for those built around it (`lo-dm`) as well. The user's
    `settings` of the builder, `memory.FIELD`, are in place while that is worked out, which may depend on them, and win.
    """
    preset = PRESETS[run.preset]
    recipe = run.recipe_config or changed(_recipe(run, run.model), preset.recipe)
    config = run.memory_config
    if config is None and run.memory.startswith(imported.PREFIX):
        config = imported.FileConfig()
    elif config is None and run.memory in run.without_builder:
        config = NoMemory()
    elif config is None:
        config = _suited(memory.default_config(memory.find(run.memory)), run)
        config = changed(config, settings, _of_builder)
        if hasattr(config, "for_setting"):
            config = config.for_setting(run.dataset, run.ipc)
        config = changed(config, _preset_of(run, config))
        config = changed(config, settings, _of_builder)
    if run.recipe_config is None and hasattr(config, "epochs") and not getattr(config, "stored", True):
        recipe = replace(recipe, epochs=config.epochs)  # the whole data, which has its own number of epochs
    return replace(run, memory_config=config, recipe_config=recipe)


def _of_builder(key: str) -> str:
    return key.removeprefix("memory.")


def _suited(config: Any, run: Run) -> Any:
    """A builder's defaults for the run's network and its data's augmentation.

    Where it trains networks on real images it does so as DM is evaluated, under the preset's values, whatever recipe
    judges its memory: so that every recipe judges the same one.
    """
    values: dict[str, Any] = {"model": run.model}
    if getattr(config, "augment", "") == augment.DSA:
        values["augment"] = augmentation(run.dataset)
    if is_dataclass(host := getattr(config, "host", None)):
        values["host"] = _suited(host, run)
    if isinstance(train := getattr(config, "train", None), TrainConfig) and train.augment == augment.DSA:
        own = changed(dm_recipe(run.dataset, has_batchnorm=False), PRESETS[run.preset].recipe)
        values["train"] = replace(own, epochs=train.epochs)
    return _with(config, values)


def _preset_of(run: Run, config: Any) -> Settings:
    """What a preset sets of a builder: ours stand in PRESETS, others' configurations carry `presets` of their own."""
    preset = PRESETS[run.preset]
    values = {**preset.memory, **preset.memory_by_track.get(run.track, {})}
    if run.memory in values or not hasattr(config, "host"):
        return {**getattr(config, "presets", {}).get(run.preset, {}), **values.get(run.memory, {})}
    host = values.get(run.memory.partition("-")[2], {})
    return {f"host.{key}": value for key, value in host.items()}


def _recipe(run: Run, model: str) -> TrainConfig:
    """The named recipe for the run's data and a network."""
    return find_recipe(run.recipe)(run.dataset, models.parse(model).norm == "batchnorm")


def recipe_for(run: Run, model: str) -> TrainConfig:
    """The run's recipe for another network: where the recipe tells networks apart and the user did not set it."""
    recipe, usual, own = run.recipe_config, _recipe(run, run.model), _recipe(run, model)
    assert recipe is not None  # `fitted` works it out
    names = [name for name in ("augment", "epochs") if getattr(recipe, name) == getattr(usual, name)]
    return replace(recipe, **{name: getattr(own, name) for name in names})


def in_form(run: AnyRun, device: torch.device) -> tuple[AnyRun, str]:
    """The run with its form of computing decided for `device`, everywhere it was left open, and the form in words."""
    form, why = compute.resolve(run.compute, device, run.preset == "smoke")
    real_dtype = compute.resolve_dtype(run.real_dtype, form, device)
    run = fitted(run)

    def decided(config: Any) -> Any:
        """`config` and what is nested in it, with no form left open."""
        values = {f.name: getattr(config, f.name) for f in fields(config)}
        dtypes = [name for name in ("dtype", "synthetic_dtype") if name in values]
        settled: dict[str, Any] = {name: compute.resolve_dtype(values[name], form, device) for name in dtypes}
        nested = {name: decided(value) for name, value in values.items() if is_dataclass(value)}
        return _with(config, {**settled, **nested, "compute": form, "real_dtype": real_dtype})

    recipe: TrainConfig = decided(run.recipe_config)
    words = f"{form} ({why}), {real_dtype} where no gradient passes, training in {recipe.dtype}"
    return replace(run, memory_config=decided(run.memory_config), recipe_config=recipe), words


def _with(config: Any, values: Settings) -> Any:
    """`config` with those of `values` that it has a field for."""
    return replace(config, **{k: v for k, v in values.items() if k in {f.name for f in fields(config)}})


def changed(config: Any, settings: Settings, rename: Any = lambda key: key) -> Any:
    """`config`, a frozen dataclass, with `settings` in place, each typed and checked; dots lead into nested ones."""
    for key, value in settings.items():
        config = _set(config, rename(key).split("."), value, key)
    return config


def _set(config: Any, path: list[str], value: Any, key: str) -> Any:
    hints = typing.get_type_hints(type(config))
    names = {f.name for f in fields(config)}
    head, rest = path[0], path[1:]
    if head not in names or (rest and not is_dataclass(getattr(config, head))):
        raise _unknown(key, config, len(path))
    if rest:
        return replace(config, **{head: _set(getattr(config, head), rest, value, key)})
    return replace(config, **{head: typed(value, hints[head], key)})


def _unknown(key: str, config: Any, depth: int) -> ValueError:
    prefix = ".".join(key.split(".")[:-depth])
    choices = sorted(f"{prefix}.{name}" if prefix else name for name in dotted(config))
    if having := _having(key):
        others = f"a setting of {', '.join(having)}, not of this memory"
        instead = f", or choose from {', '.join(choices)}" if choices else ""
        return ValueError(f"--set: {key!r} is {others}; leave it out{instead}")
    return unknown(key, choices, "--set", 0.5)


def dotted(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every field of a configuration by its dotted name, as `--set` knows it."""
    flat: dict[str, Any] = {}
    for f in fields(config):
        value, name = getattr(config, f.name), prefix + f.name.removesuffix("_config")
        if is_dataclass(value) and not isinstance(value, type):
            flat |= dotted(value, f"{name}.")
        elif not f.name.endswith("_config"):
            flat[name] = value
    return flat


def typed(value: Any, hint: Any, key: str) -> Any:
    """`value`, which may be text, as a value of type `hint`.

    Raises:
        ValueError: it is not one.
    """
    try:
        return _typed(value, hint)
    except (ValueError, TypeError):
        raise ValueError(f"{key}: expected {_told(hint)}, got {value!r}") from None


def _told(hint: Any) -> str:
    """What fits a type, for people."""
    if hint == tuple[int, ...]:
        return "numbers such as 0 or 0,2 or 0-4"
    return str(hint) if typing.get_origin(hint) else getattr(hint, "__name__", str(hint))


def _typed(value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",")]
            value = [number for part in parts for number in _range(part)] if inner is int else parts
        return tuple(_typed(part, inner) for part in (value if isinstance(value, list | tuple) else [value]))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value in (None, "none"):
            return None
        return _typed(value, next(arg for arg in typing.get_args(hint) if arg is not type(None)))
    if hint is bool:
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if isinstance(value, bool) or (hint is int and isinstance(value, float) and value != int(value)):
        raise ValueError
    if hint is float and not math.isfinite(float(value)):
        raise ValueError
    if hint in (int, float, str):
        return hint(value)
    raise TypeError


def _range(part: str) -> list[Any]:
    first, dash, last = part.partition("-")
    return list(range(int(first), int(last) + 1)) if dash and first else [part]


def plain(config: Any) -> Any:
    """A configuration as JSON-able values."""
    return {
        f.name: plain(v) if is_dataclass(v := getattr(config, f.name)) else list(v) if isinstance(v, tuple) else v
        for f in dataclasses.fields(config)
    }
