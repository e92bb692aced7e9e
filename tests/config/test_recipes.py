"""The recipe of a run, for each of its networks."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from harness.config import CLRun, CondenseRun, Run, adapt_recipe, assemble
from harness.core import registry
from harness.core.models import parse
from harness.core.recipes import GROUP, RECIPES, TrainConfig
from harness.memory.shared.embedding import EmbeddingConfig


def method_of(run: Run) -> Any:
    """The configuration of the run's method, of whatever type it is."""
    return run.memory_config


def recipes(recipe: str, *tested: str, **settings: Any) -> list[TrainConfig]:
    run = assemble(CondenseRun, "paper", {"recipe": recipe, **settings})
    return [adapt_recipe(run, model) for model in (run.model, *tested)]


def test_recipe_dc_tells_convnets_with_batchnorm_apart() -> None:
    usual, with_norm, *others = recipes("dc", "convnet3-bn", "mlp", "resnet18-bn", "vgg11-bn")
    assert (usual.epochs, usual.augment) == (300, "none")
    assert (with_norm.epochs, with_norm.augment) == (1000, "dc:crop_noise")
    assert others == [usual] * 3
    assert recipes("dc", "convnet3", "convnet3-bn", model="resnet18-bn") == [usual, usual, with_norm]


def test_recipe_settings_of_the_user_hold_for_every_network() -> None:
    settings = {"recipe.epochs": "7", "recipe.lr": "0.5"}
    usual, with_norm = recipes("dc", "convnet3-bn", **settings)
    assert (usual.epochs, with_norm.epochs, usual.lr, with_norm.lr) == (7, 7, 0.5, 0.5)
    assert (usual.augment, with_norm.augment) == ("none", "dc:crop_noise")  # left open


@pytest.mark.parametrize("recipe", ["dm", "idc"])
def test_other_recipes_train_all_networks_alike(recipe: str) -> None:
    first, *others = recipes(recipe, "convnet3-bn", "mlp", "resnet18-bn")
    assert others == [first] * 3


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
@pytest.mark.parametrize("model", ["convnet3", "resnet18-bn"])
def test_every_recipe_is_complete(name: str, dataset: str, model: str) -> None:
    assert isinstance(RECIPES[name](dataset, parse(model)), TrainConfig)


def test_another_package_offers_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offered(EntryPoint):
        def load(self) -> Any:
            return lambda dataset, has_batchnorm: TrainConfig(epochs=7 if has_batchnorm else 5)

    def entries(group: str, name: str = "theirs") -> list[EntryPoint]:
        return [Offered("theirs", "their:recipe", group)] if (group, name) == (GROUP, "theirs") else []

    monkeypatch.setattr(registry, "entry_points", entries)
    assert CLRun.of("paper", recipe="theirs", model="convnet3-bn").recipe_config == TrainConfig(epochs=7)
    with pytest.raises(ValueError, match=r"recipe: 'thers' is unknown \(did you mean 'theirs'"):
        CLRun(recipe="thers")


def test_the_whole_data_are_trained_on_for_the_epochs_asked() -> None:
    def epochs(**settings: Any) -> int:
        return CLRun.of("quick", memory="full", **settings).training.epochs

    assert epochs() == 4
    assert epochs(**{"memory.epochs": 7}) == 7
    assert epochs(**{"recipe.epochs": 9}) == epochs(**{"memory.epochs": 7, "recipe.epochs": 9}) == 9


def test_herding_embeds_by_recipe_dm_but_for_its_epochs() -> None:
    run = assemble(CLRun, "quick", {"memory": "herding"})
    assert isinstance(run.memory_config, EmbeddingConfig)
    assert method_of(run).train == replace(run.training, epochs=20)
