"""Assemble a run from a preset and the user's settings, with the configurations of its method and its recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from harness import memory
from harness.config.presets import PRESETS, Preset
from harness.config.runs import LARGE, AnyRun, FileMemory, NASRun, NoMemory, Run
from harness.config.settings import Settings, UnknownSettingError, change, to_dotted, to_plain
from harness.core import compute, foreign, models
from harness.core.fields import replace_known
from harness.core.models import ConvNetSpec
from harness.core.recipes import TrainConfig, choose_augmentation, dm_recipe, find_recipe
from harness.core.registry import known
from harness.memory.method import MethodConfig

MEMORY_PREFIX = "memory."  # prefix of the dotted names of a method's settings


def assemble(kind: type[AnyRun], preset: str, settings: Settings) -> AnyRun:
    """Assemble a run from a preset and `settings`, which take precedence over the preset.

    Raises:
        ValueError: a field is unknown (the message names the nearest one), or a value has a wrong type or does not fit.
    """
    preset_values = PRESETS[known(preset, PRESETS, "preset")]
    renamed = {"memory.name": "memory", "recipe.name": "recipe", **kind.other_names}
    settings = {renamed.get(key, key): value for key, value in settings.items()}
    for key in settings:
        if "." in key and (last := key.rpartition(".")[2]) in ("compute", "real_dtype"):
            raise ValueError(f"--set: {key} follows {last} of the run; set {last} instead")
    if {"orders", "class_order"} <= settings.keys():
        raise ValueError("orders: class_order already gives the order of the classes; leave one of them out")
    run_settings = {key: value for key, value in settings.items() if "." not in key and key != "networks"}
    for key in run_settings.keys() - {field.name for field in fields(kind)}:
        if sections := _find_settings_named(key, kind, preset):
            raise ValueError(f"--set: {key!r} is a setting of a part of the run: {' or '.join(sections)}")
    with _explain_unknown_settings():
        defaults = {**preset_values.run.get(kind.track, {}), **_get_space_settings(kind, preset_values, run_settings)}
        bare = change(kind(preset=preset), {**defaults, **run_settings})
        bare = bare if "model" in run_settings else replace(bare, model=_choose_model(bare))
        run = configure(bare, _select_method_settings(settings))
        if "networks" in settings:
            name = _find_networks_setting(run)
            settings = {name if key == "networks" else key: value for key, value in settings.items()}
            run = configure(bare, _select_method_settings(settings))
        run = change(run, {key: value for key, value in settings.items() if key not in run_settings})
    if "ipc" in settings and run.memory.startswith(foreign.PREFIX):
        raise ValueError("ipc: the file determines the number of images per class; leave it out")
    for key, value in to_dotted(run).items():
        if key.endswith((".dtype", ".synthetic_dtype")):
            known(str(value), compute.DTYPES, key)
    return run


def _select_method_settings(settings: Settings) -> Settings:
    """Return those of `settings` that belong to the method of the run."""
    return {key: value for key, value in settings.items() if key.startswith(MEMORY_PREFIX)}


def _get_space_settings(kind: type[Run], preset: Preset, settings: Settings) -> Settings:
    """Return the preset's values for a search in the space that `settings` name; {} for runs of other tracks."""
    if not issubclass(kind, NASRun):
        return {}
    return preset.space.get(str(settings.get("space", kind.space)), {})


def _find_settings_named(key: str, kind: type[Run], preset: str) -> list[str]:
    """Return the dotted names of settings that end in `key`, such as recipe.lr for lr, in the default run."""
    return [name for name in to_dotted(configure(kind(preset=preset))) if name.rpartition(".")[2] == key]


@contextmanager
def _explain_unknown_settings() -> Iterator[None]:
    """Extend the error about an unknown setting, inside the context, by the names of the methods that have it."""
    try:
        yield
    except UnknownSettingError as error:
        methods = _find_methods_with(error.key)
        if not methods:
            raise
        reason = f"a setting of {', '.join(methods)}, not of this memory"
        choices = f", or choose from {', '.join(error.choices)}" if error.choices else ""
        raise ValueError(f"--set: {error.key!r} is {reason}; leave it out{choices}") from None


def _choose_model(run: Run) -> str:
    """Return the run's network with the depth that the papers use for its data: 4 for images of 64 x 64."""
    spec = models.parse(run.model)
    if run.dataset not in LARGE or not isinstance(spec, ConvNetSpec) or spec.depth != 3:
        return run.model
    return str(replace(spec, depth=4))


def _find_methods_with(key: str) -> list[str]:
    """Return the methods whose configuration has the setting `key`."""
    return sorted(name for name, method in memory.BUILDERS.items() if key in to_dotted(method.config, MEMORY_PREFIX))


def _find_networks_setting(run: Run) -> str:
    """Return the dotted name of the setting `networks` of the run's method or of its host.

    Raises:
        ValueError: the method has no such setting.
    """
    keys = ("memory.networks", "memory.host.networks")
    for key in keys:
        if key in to_dotted(run):
            return key
    methods = ", ".join(sorted({name for key in keys for name in _find_methods_with(key)}))
    raise ValueError(f"networks: a setting of {methods}, not of {run.memory}; leave it out")


def configure(run: AnyRun, settings: Settings = MappingProxyType({})) -> AnyRun:
    """Fill in the configurations of the run's method and recipe, if they are None.

    A preset's values for a method also hold for methods that contain it, such as `lo-dm`. The user's `settings` of the
    method, `memory.FIELD`, are applied before the published hyper-parameters are looked up, which may depend on them,
    and again afterwards, so that they take precedence.
    """
    recipe = run.recipe_config or change(_make_recipe(run, run.model), PRESETS[run.preset].recipe)
    config = run.memory_config or _make_default_config(run, settings)
    if run.recipe_config is None and config.recipe_epochs is not None:
        recipe = replace(recipe, epochs=config.recipe_epochs)
    return replace(run, memory_config=config, recipe_config=recipe)


def _make_default_config(run: Run, settings: Settings) -> MethodConfig:
    """Return the configuration of the run's method.

    It is adapted to the run, then takes the published hyper-parameters, the preset's values and the user's settings, in
    this order. Networks that the method trains on real images use the recipe of DM with the preset's values, whatever
    the run's recipe is, so that all recipes evaluate the same memory.
    """
    if run.memory.startswith(foreign.PREFIX):
        return FileMemory()
    if run.memory in run.without_builder:
        return NoMemory()
    train = change(dm_recipe(run.dataset, models.parse(run.model)), PRESETS[run.preset].recipe)
    config: MethodConfig = memory.find(run.memory).config.adapt(run.model, choose_augmentation(run.dataset), train)
    config = change(config, settings, MEMORY_PREFIX).for_setting(run.dataset, run.ipc)
    return change(change(config, config.preset(run.preset, run.track)), settings, MEMORY_PREFIX)


def _make_recipe(run: Run, model: str) -> TrainConfig:
    """Return the configuration of the run's recipe for its data set and the network `model`."""
    return find_recipe(run.recipe)(run.dataset, models.parse(model))


def adapt_recipe(run: Run, model: str) -> TrainConfig:
    """Adapt the run's recipe to another network.

    The recipe may give networks different augmentations and numbers of epochs. Those of `model` are used unless the
    run's own values differ from the recipe's.
    """
    recipes = run.training, _make_recipe(run, run.model), _make_recipe(run, model)
    current, default, adapted = map(to_plain, recipes)
    changes = {name: adapted[name] for name in ("augment", "epochs") if current[name] == default[name]}
    return replace(run.training, **changes)


def resolve_form(run: AnyRun, device: torch.device) -> tuple[AnyRun, str]:
    """Resolve "auto" in the forms of computing of a run for `device`; return the run and a description of the form."""
    form, why = compute.resolve(run.compute, device, run.preset == "smoke")
    real_dtype = compute.resolve_dtype(run.real_dtype, form, device)
    run = configure(run)

    def resolve(config: Any) -> Any:
        """Resolve the forms in a configuration and in those nested in it."""
        values = {field.name: getattr(config, field.name) for field in fields(config)}
        dtypes = {
            name: compute.resolve_dtype(value, form, device)
            for name, value in values.items()
            if name in ("dtype", "synthetic_dtype")
        }
        nested = {name: resolve(value) for name, value in values.items() if is_dataclass(value)}
        return replace_known(config, {**dtypes, **nested, "compute": form, "real_dtype": real_dtype})

    recipe = resolve(run.training)
    description = f"{form} ({why}), {real_dtype} where no gradient passes, training in {recipe.dtype}"
    return replace(run, memory_config=resolve(run.method), recipe_config=recipe), description
