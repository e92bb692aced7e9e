"""A run from a preset and what the user set, with the configurations of its builder and recipe worked out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from harness import memory
from harness.config.presets import PRESETS, Preset
from harness.config.runs import LARGE, AnyRun, FileMemory, NASRun, NoMemory, Run
from harness.config.settings import Settings, UnknownSettingError, change, dotted, plain
from harness.core import compute, foreign, models
from harness.core.fields import replace_known
from harness.core.models import ConvNetSpec
from harness.core.recipes import TrainConfig, choose_augmentation, dm_recipe, find_recipe
from harness.core.registry import known
from harness.memory.method import MethodConfig

OF_MEMORY = "memory."  # how the dotted names of a method's settings begin


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
    for key in own.keys() - {field.name for field in fields(kind)}:
        if sections := _settings_named(key, kind, preset):
            raise ValueError(f"--set: {key!r} is a setting of a part of the run: {' or '.join(sections)}")
    with _naming_methods():
        bare = change(kind(preset=preset), {**chosen.run.get(kind.track, {}), **_of_space(kind, chosen, own), **own})
        bare = bare if "model" in own else replace(bare, model=_usual_model(bare))
        run = configure(bare, _of_method(settings))
        if "networks" in settings:
            name = _networks_key(run)
            settings = {name if key == "networks" else key: value for key, value in settings.items()}
            run = configure(bare, _of_method(settings))
        run = change(run, {key: value for key, value in settings.items() if key not in own})
    if "ipc" in settings and run.memory.startswith(foreign.PREFIX):
        raise ValueError("ipc: a file says itself how many images of each class it holds; leave it out")
    for key, value in dotted(run).items():
        if key.endswith((".dtype", ".synthetic_dtype")):
            known(str(value), compute.DTYPES, key)
    return run


def _of_method(settings: Settings) -> Settings:
    """Return the settings of the run's method."""
    return {key: value for key, value in settings.items() if key.startswith(OF_MEMORY)}


def _of_space(kind: type[Run], preset: Preset, settings: Settings) -> Settings:
    """Return what a preset sets of a search in the space that `settings` name; nothing for runs of another kind."""
    if not issubclass(kind, NASRun):
        return {}
    return preset.space.get(str(settings.get("space", kind.space)), {})


def _settings_named(key: str, kind: type[Run], preset: str) -> list[str]:
    """Return the settings of a run's parts, by default, whose own name is `key`, such as recipe.lr."""
    return [name for name in dotted(configure(kind(preset=preset))) if name.rpartition(".")[2] == key]


@contextmanager
def _naming_methods() -> Iterator[None]:
    """Inside, the error about a setting that a memory does not have names the methods that do."""
    try:
        yield
    except UnknownSettingError as error:
        having = _methods_with(error.key)
        if not having:
            raise
        others = f"a setting of {', '.join(having)}, not of this memory"
        instead = f", or choose from {', '.join(error.choices)}" if error.choices else ""
        raise ValueError(f"--set: {error.key!r} is {others}; leave it out{instead}") from None


def _usual_model(run: Run) -> str:
    """The run's network as the papers have it for its data: a layer deeper for images of 64 x 64."""
    spec = models.parse(run.model)
    if run.dataset not in LARGE or not isinstance(spec, ConvNetSpec) or spec.depth != 3:
        return run.model
    return str(replace(spec, depth=4))


def _methods_with(key: str) -> list[str]:
    """The methods whose configuration has the setting `key`."""
    return sorted(name for name, method in memory.BUILDERS.items() if key in dotted(method.config, OF_MEMORY))


def _networks_key(run: Run) -> str:
    """The setting of which networks the run's method, or its host, matches in.

    Raises:
        ValueError: it has no such choice.
    """
    keys = ("memory.networks", "memory.host.networks")
    for key in keys:
        if key in dotted(run):
            return key
    having = ", ".join(sorted({name for key in keys for name in _methods_with(key)}))
    raise ValueError(f"networks: {run.memory} has no choice of the networks it works in, {having} have; leave it out")


def configure(run: AnyRun, settings: Settings = MappingProxyType({})) -> AnyRun:
    """The run with the configurations of its method and its recipe worked out, where they were left open.

    A preset's values for a method hold for those built around it (`lo-dm`) as well. The user's `settings` of the
    method, `memory.FIELD`, are in place while the published hyper-parameters are looked up, which may depend on them,
    and win.
    """
    recipe = run.recipe_config or change(_named_recipe(run, run.model), PRESETS[run.preset].recipe)
    config = run.memory_config or _default_config(run, settings)
    if run.recipe_config is None and config.recipe_epochs is not None:
        recipe = replace(recipe, epochs=config.recipe_epochs)
    return replace(run, memory_config=config, recipe_config=recipe)


def _default_config(run: Run, settings: Settings) -> MethodConfig:
    """The configuration of the run's method: adapted to the run, as published, under the preset, as the user set it.

    Networks are trained on real images as DM is evaluated, under the preset's values, whatever recipe judges the
    memory: so that every recipe judges the same one.
    """
    if run.memory.startswith(foreign.PREFIX):
        return FileMemory()
    if run.memory in run.without_builder:
        return NoMemory()
    train = change(dm_recipe(run.dataset, models.parse(run.model)), PRESETS[run.preset].recipe)
    config: MethodConfig = memory.find(run.memory).config.adapt(run.model, choose_augmentation(run.dataset), train)
    config = change(config, settings, OF_MEMORY).for_setting(run.dataset, run.ipc)
    return change(change(config, config.preset(run.preset, run.track)), settings, OF_MEMORY)


def _named_recipe(run: Run, model: str) -> TrainConfig:
    """The run's recipe, by its name, for the run's data and a network."""
    return find_recipe(run.recipe)(run.dataset, models.parse(model))


def recipe_for(run: Run, model: str) -> TrainConfig:
    """The run's recipe for another network: where the recipe tells networks apart and the user did not set it."""
    recipes = run.training, _named_recipe(run, run.model), _named_recipe(run, model)
    recipe, usual, own = map(plain, recipes)
    return replace(run.training, **{name: own[name] for name in ("augment", "epochs") if recipe[name] == usual[name]})


def resolve_form(run: AnyRun, device: torch.device) -> tuple[AnyRun, str]:
    """The run with its form of computing decided for `device`, everywhere it was left open, and the form in words."""
    form, why = compute.resolve(run.compute, device, run.preset == "smoke")
    real_dtype = compute.resolve_dtype(run.real_dtype, form, device)
    run = configure(run)

    def resolve(config: Any) -> Any:
        """The configuration, and those nested in it, with no form left open."""
        values = {field.name: getattr(config, field.name) for field in fields(config)}
        dtypes = {
            name: compute.resolve_dtype(value, form, device)
            for name, value in values.items()
            if name in ("dtype", "synthetic_dtype")
        }
        nested = {name: resolve(value) for name, value in values.items() if is_dataclass(value)}
        return replace_known(config, {**dtypes, **nested, "compute": form, "real_dtype": real_dtype})

    recipe = resolve(run.training)
    words = f"{form} ({why}), {real_dtype} where no gradient passes, training in {recipe.dtype}"
    return replace(run, memory_config=resolve(run.method), recipe_config=recipe), words
