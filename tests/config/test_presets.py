"""The presets, and the settings that the papers publish for a data set and a budget."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from harness import memory
from harness.config import PRESETS, CLRun, CondenseRun, Run, assemble, resolve_form, restore, to_dotted, to_plain
from harness.core import augment
from harness.core.recipes import RECIPES, TrainConfig
from harness.memory.dm import DMConfig
from harness.memory.method import from_function

CPU = torch.device("cpu")


def method_of(run: Run) -> Any:
    """The configuration of the run's method, of whatever type it is."""
    return run.memory_config


each_builder = pytest.mark.parametrize("builder", memory.names())
each_preset = pytest.mark.parametrize("preset", sorted(PRESETS))
each_track = pytest.mark.parametrize("kind", [CLRun, CondenseRun])


@each_track
@each_preset
@each_builder
def test_every_preset_fits_every_method(kind: type[Run], preset: str, builder: str) -> None:
    asked = assemble(kind, preset, {"memory": builder, "dataset": "digits"})
    run, form = resolve_form(asked, CPU)
    default = memory.find(builder).config
    assert type(run.memory_config) is type(default)
    assert (run.preset, run.memory) == (preset, builder)
    assert form
    expected = dict(run.method.preset(preset, kind.track))
    assert bool(expected) == (preset != "paper" and builder not in ("random", "cscore"))
    flat = to_dotted(asked)
    assert {key: flat[f"memory.{key}"] for key in expected} == expected
    assert "auto" not in {value for key, value in to_dotted(run).items() if "." in key}  # every form is decided


@each_preset
@each_builder
def test_a_configuration_survives_plain_json(preset: str, builder: str) -> None:
    run, _ = resolve_form(assemble(CondenseRun, preset, {"memory": builder}), CPU)
    text = json.dumps(to_plain(run.memory_config))
    assert restore(memory.find(builder).config, json.loads(text)) == run.memory_config
    recipe = json.loads(json.dumps(to_plain(run.recipe_config)))
    assert restore(TrainConfig(), recipe) == run.recipe_config


@each_preset
@each_builder
def test_a_method_does_not_depend_on_the_recipe(preset: str, builder: str) -> None:
    built = {
        recipe: resolve_form(
            assemble(CondenseRun, preset, {"memory": builder, "recipe": recipe, "recipe.lr": "0.5"}), CPU
        )[0]
        for recipe in RECIPES
    }
    assert all(run.memory_config == built["dm"].memory_config for run in built.values())
    assert len({run.recipe_config for run in built.values()}) == len(RECIPES)


def test_preset_paper_of_cl_is_the_published_protocol() -> None:
    run = assemble(CLRun, "paper", {})
    assert (run.dataset, run.steps, run.ipc, run.orders, run.nets) == ("cifar100", 10, 20, (0, 1, 2, 3, 4), 3)
    assert run.recipe_config == TrainConfig(1000, 0.01, 0.9, 5e-4, 256, augment.DSA)  # methods.md 5
    assert run.memory_config == DMConfig(20_000, 1.0, 0.5, 256, "real", "convnet3", "random", augment.DSA)


def test_preset_paper_of_condense_is_the_published_protocol() -> None:
    run = assemble(CondenseRun, "paper", {})
    assert (run.dataset, run.ipc, run.sets, run.nets, run.model) == ("cifar10", 10, 5, 20, "convnet3")  # methods.md 5
    assert (run.eval_models, run.at, run.uint8) == ((), (), True)
    assert run.recipe_config == TrainConfig(1000, 0.01, 0.9, 5e-4, 256, augment.DSA)
    assert run.memory_config == DMConfig(20_000, 1.0, 0.5, 256, "real", "convnet3", "random", augment.DSA)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # the loops of the papers by ipc, methods.md 4.2, and learning rates, 4.3
        ({"memory": "dsa", "ipc": 1}, {"memory.updates": 1, "memory.epochs": 1}),
        ({"memory": "dsa", "ipc": 10}, {"memory.updates": 10, "memory.epochs": 50}),
        ({"memory": "dsa", "ipc": 50}, {"memory.updates": 50, "memory.epochs": 10}),
        ({"memory": "dsa", "ipc": 50, "dataset": "cifar100"}, {"memory.updates": 10, "memory.epochs": 10}),
        ({"memory": "dcc", "ipc": 1}, {"memory.updates": 10, "memory.epochs": 5}),
        ({"memory": "dc", "ipc": 50, "memory.updates": "7"}, {"memory.updates": 7, "memory.epochs": 10}),
        ({"memory": "dm", "ipc": 500}, {"memory.lr": 10.0}),
        ({"memory": "dm", "dataset": "tinyimagenet"}, {"memory.iterations": 10_000}),
        ({"memory": "mim-dm", "dataset": "imagenet64"}, {"memory.host.iterations": 10_000}),
        ({"memory": "dm", "dataset": "imagenet64", "memory.iterations": "7"}, {"memory.iterations": 7}),
        # the images' rate under an MLP, wherever that is named, methods.md 4.2
        ({"memory": "dc", "model": "MLP"}, {"memory.lr": 0.01, "memory.network_lr": 0.01}),
        ({"memory": "dsa", "memory.model": "mlp"}, {"memory.lr": 0.01}),
        ({"memory": "lo-dc", "memory.host.model": "mlp"}, {"memory.host.lr": 0.01}),
        ({"memory": "dsa", "model": "mlp", "memory.lr": "0.3"}, {"memory.lr": 0.3}),
        ({"memory": "dsa", "model": "lenet"}, {"memory.lr": 0.1}),
        # the authors' misc/reproduce.py, and of images smaller than 32 pixels what argument.py makes of the rate
        ({"memory": "idc", "ipc": 50}, {"memory.distance": "mse", "memory.lr": 0.005, "memory.trained": 2000}),
        ({"memory": "idc", "dataset": "svhn"}, {"memory.distance": "mse", "memory.lr": 0.005, "memory.trained": 500}),
        (
            {"memory": "idc", "dataset": "fashionmnist"},
            {"memory.distance": "l1", "memory.lr": 7.65625e-5, "memory.trained": 500, "memory.train.cutmix": 0.5},
        ),
        (
            {"memory": "idc", "dataset": "mnist"},
            {"memory.distance": "l1", "memory.augment": "idc:color_crop", "memory.train.cutmix": 0.0},
        ),
        (
            {"memory": "idc-i", "dataset": "mnist"},
            {"memory.distance": "l1", "memory.augment": "idc:color_crop_cutout", "memory.train.cutmix": 0.5},
        ),
        ({"memory": "idc-i", "memory.factor": "2", "dataset": "mnist"}, {"memory.train.cutmix": 0.0}),
        ({"memory": "lo-dm", "ipc": 50}, {"memory.rank": 4, "memory.host.lr": 1000.0}),
        ({"memory": "lo-dm", "dataset": "mnist"}, {"memory.rank": 8, "memory.host.augment": "none"}),
    ],
    ids=lambda part: " ".join(map(str, part.values())),
)
def test_published_settings_of_a_data_set_and_budget(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    found = to_dotted(assemble(CondenseRun, "paper", settings))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("dataset", ["mnist", "fashionmnist", "svhn", "cifar10", "digits"])
@pytest.mark.parametrize("builder", ["idc", "idc-i"])
def test_quick_keeps_the_distance_its_rate_is_for(builder: str, dataset: str) -> None:
    cfg = method_of(assemble(CondenseRun, "quick", {"memory": builder, "dataset": dataset}))
    assert (cfg.distance, cfg.lr) == ("mse", 0.1)


@dataclass(frozen=True)
class TheirConfig:
    """As another package's builder may have it."""

    rounds: int = 500

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"rounds": 2}}
    per_class: ClassVar[bool] = True


def test_a_configuration_may_carry_presets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    build: Any = lambda images, labels, budget, rng, cfg=TheirConfig(): None  # noqa: E731
    monkeypatch.setitem(memory.BUILDERS, "theirs", from_function(build))
    found = {preset: method_of(assemble(CondenseRun, preset, {"memory": "theirs"})) for preset in PRESETS}
    assert {preset: cfg.rounds for preset, cfg in found.items()} == {"paper": 500, "quick": 500, "smoke": 2}
    assert method_of(assemble(CondenseRun, "smoke", {"memory": "theirs", "memory.rounds": "3"})).rounds == 3


@each_preset
def test_the_full_data_have_their_own_number_of_epochs(preset: str) -> None:
    run = assemble(CLRun, preset, {"memory": "full"})
    assert run.training.epochs == method_of(run).epochs
    usual = assemble(CLRun, preset, {"memory": "random"}).training
    assert replace(usual, epochs=run.training.epochs) == run.training
