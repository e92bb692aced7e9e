import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

import memory
from harness import config, track
from harness.config import PRESETS, CLRun, assemble, changed, dotted, in_form, plain, typed
from harness.core import augment
from harness.core.train import RECIPES, TrainConfig
from memory.dm import DMConfig
from memory.herding import HerdingConfig

CPU = torch.device("cpu")
each_builder = pytest.mark.parametrize("builder", memory.names())
each_preset = pytest.mark.parametrize("preset", sorted(PRESETS))


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int = 1
    flag: bool = False
    name: str = "a"
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        (3.0, int, 3),
        ("1e-3", float, 0.001),
        (2, float, 2.0),
        ("TRUE", bool, True),
        (False, bool, False),
        ("dm", str, "dm"),
        ("4", tuple[int, ...], (4,)),
        ("0-4", tuple[int, ...], (0, 1, 2, 3, 4)),
        ("0-2, 7", tuple[int, ...], (0, 1, 2, 7)),
        ([1, 2], tuple[int, ...], (1, 2)),
        (5, tuple[int, ...], (5,)),
        ("none", int | None, None),
        ("6", int | None, 6),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(text: Any, hint: Any, value: Any) -> None:
    found = typed(text, hint, "key")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "name"),
    [
        ("3.5", int, "int"),
        (3.5, int, "int"),
        (True, int, "int"),
        ("ten", float, "float"),
        (True, float, "float"),
        ("yes", bool, "bool"),
        ("0-x", tuple[int, ...], r"tuple\[int, \.\.\.\]"),
        ("a,b", tuple[int, ...], r"tuple\[int, \.\.\.\]"),
    ],
)
def test_a_value_of_another_type_is_refused(text: Any, hint: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^key: expected {name}, got {text!r}$"):
        typed(text, hint, "key")


def test_settings_reach_nested_fields() -> None:
    assert changed(Outer(), {"count": "2", "inner.rate": "0.25"}) == Outer(count=2, inner=Inner(0.25))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"--set: 'inner.rat' is unknown; did you mean 'inner.rate'\?"):
        changed(Outer(), {"inner.rat": 1})
    with pytest.raises(ValueError, match=r"--set: 'counts' is unknown; did you mean 'count'\?"):
        changed(Outer(), {"counts": 1})
    with pytest.raises(ValueError, match=r"--set: 'count.x' is unknown"):
        changed(Outer(), {"count.x": 1})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("memory.iteration", "memory.iterations"), ("recipe.epoch", "recipe.epochs"), ("step", "steps")],
)
def test_an_unknown_key_of_a_run_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"--set: '{key}' is unknown; did you mean '{nearest}'\?"):
        assemble(CLRun, "smoke", {key: "1"})


@pytest.mark.parametrize("key", ["memory.compute", "recipe.compute", "memory.real_dtype"])
def test_the_form_of_computing_is_set_for_the_whole_run(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} follows the run's own; set {key.partition('.')[2]} instead"):
        assemble(CLRun, "smoke", {key: "eager"})


# --- presets --------------------------------------------------------------------------------------------------------


@each_preset
@each_builder
def test_every_preset_fits_every_builder(preset: str, builder: str) -> None:
    asked = assemble(CLRun, preset, {"memory": builder, "dataset": "digits", "steps": 5})
    run, form = in_form(asked, CPU)
    default = memory.default_config(memory.find(builder))
    assert type(run.memory_config) is type(default)
    assert (run.preset, run.memory) == (preset, builder)
    assert form
    expected = PRESETS[preset].memory.get(builder, {})
    flat = dotted(asked)
    assert {key: flat[f"memory.{key}"] for key in expected} == dict(expected)
    assert "auto" not in {value for key, value in dotted(run).items() if "." in key}  # every form is decided


def test_the_paper_preset_is_the_published_protocol() -> None:
    run = assemble(CLRun, "paper", {})
    assert (run.dataset, run.steps, run.ipc, run.orders, run.nets) == ("cifar100", 10, 20, (0, 1, 2, 3, 4), 3)
    assert run.recipe_config == TrainConfig(1000, 0.01, 0.9, 5e-4, 256, augment.DSA)  # methods.md 5
    assert run.memory_config == DMConfig(20_000, 1.0, 0.5, 256, "convnet3", augment.DSA)


def test_what_the_user_sets_wins_over_the_preset() -> None:
    usual = assemble(CLRun, "smoke", {})
    run = assemble(CLRun, "smoke", {"ipc": "7", "memory.iterations": "5", "recipe.epochs": 9})
    assert (usual.ipc, usual.memory_config.iterations) == (2, 3)
    assert run.recipe_config is not None
    assert (run.ipc, run.memory_config.iterations, run.recipe_config.epochs) == (7, 5, 9)
    assert replace(run, ipc=2, memory_config=usual.memory_config, recipe_config=usual.recipe_config) == usual


def test_the_runs_model_is_the_builders_unless_set() -> None:
    assert assemble(CLRun, "quick", {"model": "convnet-d2-w16"}).memory_config.model == "convnet-d2-w16"
    apart = assemble(CLRun, "quick", {"model": "convnet-d2-w16", "memory.model": "convnet-d1-w4"})
    assert (apart.model, apart.memory_config.model) == ("convnet-d2-w16", "convnet-d1-w4")
    assert (
        assemble(CLRun, "quick", {"memory": "herding", "model": "convnet-d2-w16"}).memory_config.model
        == "convnet-d2-w16"
    )


@pytest.mark.parametrize("name", ["digits", "mnist", "svhn"])
def test_mirrored_digits_are_never_made(name: str) -> None:
    run = assemble(CLRun, "smoke", {"dataset": name})
    assert run.recipe_config is not None
    assert "flip" not in run.recipe_config.augment
    assert "flip" not in run.memory_config.augment
    herding = assemble(CLRun, "smoke", {"dataset": name, "memory": "herding"})
    assert "flip" not in herding.memory_config.train.augment
    assert "flip" in assemble(CLRun, "smoke", {"dataset": "cifar10"}).memory_config.augment


@each_preset
def test_the_full_data_have_their_own_number_of_epochs(preset: str) -> None:
    run = assemble(CLRun, preset, {"memory": "full"})
    assert run.recipe_config is not None
    assert run.recipe_config.epochs == run.memory_config.epochs
    usual = assemble(CLRun, preset, {"memory": "random"}).recipe_config
    assert usual is not None
    assert replace(usual, epochs=run.recipe_config.epochs) == run.recipe_config


def test_the_embedding_of_herding_follows_the_recipe_but_for_its_epochs() -> None:
    run = assemble(CLRun, "quick", {"memory": "herding"})
    assert run.recipe_config is not None
    assert isinstance(run.memory_config, HerdingConfig)
    epochs = PRESETS["quick"].memory["herding"]["train.epochs"]
    assert run.memory_config.train == replace(run.recipe_config, epochs=epochs)


def test_the_form_is_decided_everywhere() -> None:
    run, words = in_form(assemble(CLRun, "smoke", {"compute": "eager", "real_dtype": "bfloat16"}), CPU)
    assert run.recipe_config is not None
    assert (run.recipe_config.compute, run.memory_config.compute) == ("eager", "eager")
    assert run.memory_config.real_dtype == "bfloat16"
    assert words == "eager (as asked), bfloat16 where no gradient passes, training in float32"
    herding, _ = in_form(assemble(CLRun, "smoke", {"memory": "herding", "compute": "compiled"}), CPU)
    assert herding.recipe_config is not None
    assert herding.memory_config.train.compute == herding.recipe_config.compute == "compiled"


def test_smoke_is_eager_and_says_why() -> None:
    run, words = in_form(assemble(CLRun, "smoke", {}), CPU)
    assert run.memory_config.compute == "eager"
    assert words == "eager (preset smoke), float32 where no gradient passes, training in float32"


# --- there and back -------------------------------------------------------------------------------------------------


@each_preset
@each_builder
def test_a_configuration_survives_plain_json(preset: str, builder: str) -> None:
    run, _ = in_form(assemble(CLRun, preset, {"memory": builder}), CPU)
    text = json.dumps(plain(run.memory_config))
    assert track.config_from(memory.default_config(memory.find(builder)), json.loads(text)) == run.memory_config
    recipe = json.loads(json.dumps(plain(run.recipe_config)))
    assert track.config_from(TrainConfig(), recipe) == run.recipe_config


def test_plain_and_dotted_name_the_same_values() -> None:
    run = assemble(CLRun, "smoke", {"memory": "herding"})
    assert plain(run)["memory_config"]["train"]["epochs"] == dotted(run)["memory.train.epochs"] == 1
    assert plain(run)["orders"] == [0]
    assert not any(key.endswith("_config") for key in dotted(run))


# --- what a run refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: at least 1 is needed, got 0"),
        ({"ipc": 0}, "ipc: at least 1 is needed, got 0"),
        ({"nets": -1}, "nets: at least 1 is needed, got -1"),
        ({"classes_per_unit": 0}, "classes_per_unit: at least 1 is needed, got 0"),
        ({"orders": ()}, "orders: at least one class order is needed"),
        ({"orders": (0, -2)}, "orders: seeds are 0 or more, got -2"),
        ({"split": "train"}, "split: 'train' is unknown; choose from test, validation"),
        ({"recipe": "dn"}, "recipe: 'dn' is unknown"),
        ({"preset": "quik"}, "preset: 'quik' is unknown; did you mean 'quick'"),
        ({"memory": "dmm"}, "memory: 'dmm' is unknown; did you mean 'dm'"),
        ({"model": "resnet"}, "model: 'resnet' is unknown"),
    ],
)
def test_a_run_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        CLRun(**values)


def test_every_recipe_is_complete() -> None:
    assert "dm" in RECIPES
    assert config.known("dm", RECIPES, "recipe") == "dm"
