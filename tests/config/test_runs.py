import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest
import torch

from harness import memory
from harness.config import (
    PRESETS,
    CLRun,
    CondenseRun,
    Run,
    assemble,
    change,
    dotted,
    plain,
    recipe_for,
    resolve_form,
    restore,
)
from harness.config.settings import parse
from harness.core import augment, registry
from harness.core.train import GROUP, RECIPES, TrainConfig
from harness.memory.dm import DMConfig
from harness.memory.dsa import DSAConfig
from harness.memory.method import from_function
from harness.memory.shared.embedding import EmbeddingConfig

CPU = torch.device("cpu")


def method_of(run: Run) -> Any:
    return run.memory_config


each_builder = pytest.mark.parametrize("builder", memory.names())
each_preset = pytest.mark.parametrize("preset", sorted(PRESETS))
each_track = pytest.mark.parametrize("kind", [CLRun, CondenseRun])


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
    found = parse(text, hint, "key")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "fits"),
    [
        ("3.5", int, "a whole number is needed"),
        (3.5, int, "a whole number is needed"),
        (True, int, "a whole number is needed"),
        ("ten", float, "a number is needed"),
        (True, float, "a number is needed"),
        ("perhaps", bool, "true or false is needed"),
        ("0-x", tuple[int, ...], "numbers such as 0 or 0,2 or 0-4 are needed"),
        ("a,b", tuple[int, ...], "numbers such as 0 or 0,2 or 0-4 are needed"),
    ],
)
def test_a_value_of_another_type_is_refused(text: Any, hint: Any, fits: str) -> None:
    with pytest.raises(ValueError, match=rf"^key: {fits}, got "):
        parse(text, hint, "key")


def test_settings_reach_nested_fields() -> None:
    assert change(Outer(), {"count": "2", "inner.rate": "0.25"}) == Outer(count=2, inner=Inner(0.25))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"--set: 'inner.rat' is unknown \(did you mean 'inner.rate'\?"):
        change(Outer(), {"inner.rat": 1})
    with pytest.raises(ValueError, match=r"--set: 'counts' is unknown \(did you mean 'count'\?"):
        change(Outer(), {"counts": 1})
    with pytest.raises(ValueError, match=r"--set: 'count.x' is unknown"):
        change(Outer(), {"count.x": 1})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("memory.iteration", "memory.iterations"), ("recipe.epoch", "recipe.epochs"), ("step", "steps")],
)
def test_an_unknown_key_of_a_run_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"--set: '{key}' is unknown \(did you mean '{nearest}'\?"):
        assemble(CLRun, "smoke", {key: "1"})


@pytest.mark.parametrize("key", ["memory.compute", "recipe.compute", "memory.real_dtype"])
def test_the_form_of_computing_is_set_for_the_whole_run(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} follows the run's own; set {key.partition('.')[2]} instead"):
        assemble(CLRun, "smoke", {key: "eager"})


# --- presets --------------------------------------------------------------------------------------------------------


@each_track
@each_preset
@each_builder
def test_every_preset_fits_every_builder(kind: type[Run], preset: str, builder: str) -> None:
    asked = assemble(kind, preset, {"memory": builder, "dataset": "digits"})
    run, form = resolve_form(asked, CPU)
    default = memory.find(builder).config
    assert type(run.memory_config) is type(default)
    assert (run.preset, run.memory) == (preset, builder)
    assert form
    expected = dict(run.method.preset(preset, kind.track))
    assert bool(expected) == (preset != "paper" and builder not in ("random", "cscore"))
    flat = dotted(asked)
    assert {key: flat[f"memory.{key}"] for key in expected} == expected
    assert "auto" not in {value for key, value in dotted(run).items() if "." in key}  # every form is decided


def test_the_paper_preset_is_the_published_protocol() -> None:
    run = assemble(CLRun, "paper", {})
    assert (run.dataset, run.steps, run.ipc, run.orders, run.nets) == ("cifar100", 10, 20, (0, 1, 2, 3, 4), 3)
    assert run.recipe_config == TrainConfig(1000, 0.01, 0.9, 5e-4, 256, augment.DSA)  # methods.md 5
    assert run.memory_config == DMConfig(20_000, 1.0, 0.5, 256, "real", "convnet3", "random", augment.DSA)


def test_the_paper_preset_of_condense_is_the_published_protocol() -> None:
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
    found = dotted(assemble(CondenseRun, "paper", settings))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("dataset", ["mnist", "fashionmnist", "svhn", "cifar10", "digits"])
@pytest.mark.parametrize("builder", ["idc", "idc-i"])
def test_quick_keeps_the_distance_its_rate_is_for(builder: str, dataset: str) -> None:
    cfg = method_of(assemble(CondenseRun, "quick", {"memory": builder, "dataset": dataset}))
    assert (cfg.distance, cfg.lr) == ("mse", 0.1)


def test_a_builder_around_another_has_its_model_and_augmentation() -> None:
    run = assemble(CondenseRun, "paper", {"memory": "mim-dsa", "dataset": "svhn", "model": "convnet-d2-w16"})
    host = method_of(run).host
    assert isinstance(host, DSAConfig)
    assert (host.model, host.augment) == ("convnet-d2-w16", augment.DSA_WITHOUT_FLIP)
    settled, _ = resolve_form(replace(run, compute="eager", real_dtype="bfloat16"), CPU)
    assert (method_of(settled).host.compute, method_of(settled).host.real_dtype) == ("eager", "bfloat16")


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


# --- recipes --------------------------------------------------------------------------------------------------------


def recipes(recipe: str, *tested: str, **settings: Any) -> list[TrainConfig]:
    run = assemble(CondenseRun, "paper", {"recipe": recipe, **settings})
    return [recipe_for(run, model) for model in (run.model, *tested)]


def test_recipe_dc_tells_networks_with_batchnorm_apart() -> None:
    usual, with_norm, mlp = recipes("dc", "convnet3-bn", "mlp")
    assert (usual.epochs, usual.augment) == (mlp.epochs, mlp.augment) == (300, "none")
    assert (with_norm.epochs, with_norm.augment) == (1000, "dc:crop_noise")
    of_norm, without = recipes("dc", "convnet3", model="resnet18-bn")
    assert (of_norm, without) == (with_norm, usual)


def test_what_the_user_sets_holds_for_every_network() -> None:
    settings = {"recipe.epochs": "7", "recipe.lr": "0.5"}
    usual, with_norm = recipes("dc", "convnet3-bn", **settings)
    assert (usual.epochs, with_norm.epochs, usual.lr, with_norm.lr) == (7, 7, 0.5, 0.5)
    assert (usual.augment, with_norm.augment) == ("none", "dc:crop_noise")  # left open


@pytest.mark.parametrize("recipe", ["dm", "idc"])
def test_other_recipes_train_all_networks_alike(recipe: str) -> None:
    first, *others = recipes(recipe, "convnet3-bn", "mlp", "resnet18-bn")
    assert others == [first] * 3


# --- what wins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("builder", "key"), [("dm", "memory.networks"), ("lo-dm", "memory.host.networks")])
def test_networks_reaches_the_builder_that_matches_in_them(builder: str, key: str) -> None:
    settings = {"memory": builder, "networks": "trained:20-40"}
    assert dotted(assemble(CondenseRun, "smoke", settings))[key] == "trained:20-40"
    later = assemble(CondenseRun, "smoke", {**settings, key: "random"})
    assert dotted(later)[key] == "random"  # as --set does after the option
    with pytest.raises(ValueError, match=r"^networks: dsa has no choice of the networks .*, dm, lo-dm, mim-dm have"):
        assemble(CondenseRun, "smoke", {"memory": "dsa", "networks": "random"})


def test_what_the_user_sets_wins_over_the_preset() -> None:
    usual = assemble(CLRun, "smoke", {})
    run = assemble(CLRun, "smoke", {"ipc": "7", "memory.iterations": "5", "recipe.epochs": 9})
    assert (usual.ipc, method_of(usual).iterations) == (2, 3)
    assert run.recipe_config is not None
    assert (run.ipc, method_of(run).iterations, run.recipe_config.epochs) == (7, 5, 9)
    assert replace(run, ipc=2, memory_config=usual.memory_config, recipe_config=usual.recipe_config) == usual


def test_the_runs_model_is_the_builders_unless_set() -> None:
    assert method_of(assemble(CLRun, "quick", {"model": "convnet-d2-w16"})).model == "convnet-d2-w16"
    apart = assemble(CLRun, "quick", {"model": "convnet-d2-w16", "memory.model": "convnet-d1-w4"})
    assert (apart.model, method_of(apart).model) == ("convnet-d2-w16", "convnet-d1-w4")
    assert (
        method_of(assemble(CLRun, "quick", {"memory": "herding", "model": "convnet-d2-w16"})).model == "convnet-d2-w16"
    )


@pytest.mark.parametrize("name", ["digits", "mnist", "svhn"])
def test_mirrored_digits_are_never_made(name: str) -> None:
    run = assemble(CLRun, "smoke", {"dataset": name})
    assert run.recipe_config is not None
    assert "flip" not in run.recipe_config.augment
    assert "flip" not in method_of(run).augment
    herding = assemble(CLRun, "smoke", {"dataset": name, "memory": "herding"})
    assert "flip" not in method_of(herding).train.augment
    assert "flip" in method_of(assemble(CLRun, "smoke", {"dataset": "cifar10"})).augment


@each_preset
def test_the_full_data_have_their_own_number_of_epochs(preset: str) -> None:
    run = assemble(CLRun, preset, {"memory": "full"})
    assert run.recipe_config is not None
    assert run.recipe_config.epochs == method_of(run).epochs
    usual = assemble(CLRun, preset, {"memory": "random"}).recipe_config
    assert usual is not None
    assert replace(usual, epochs=run.recipe_config.epochs) == run.recipe_config


def test_a_number_of_epochs_set_for_the_full_data_is_the_recipes() -> None:
    run = assemble(CLRun, "smoke", {"memory": "full", "memory.epochs": "7"})
    assert run.recipe_config is not None
    assert (method_of(run).epochs, run.recipe_config.epochs) == (7, 7)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory.keep": "hard"}, "--set: 'memory.keep' is a setting of cscore, el2n, forgetting, grand, not of th"),
        ({"memory": "herding", "memory.augment": "none"}, "--set: 'memory.augment' is a setting of dc, dcc, dm, dsa, "),
        ({"memory": "kcenter", "networks": "trained:10-20"}, "networks: kcenter has no choice of the networks"),
    ],
)
def test_a_setting_that_the_memory_has_not_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        assemble(CondenseRun, "paper", settings)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@each_track
@each_preset
@each_builder
def test_a_builder_does_not_depend_on_the_recipe_that_judges_it(kind: type[Run], preset: str, builder: str) -> None:
    built = {
        recipe: resolve_form(assemble(kind, preset, {"memory": builder, "recipe": recipe, "recipe.lr": "0.5"}), CPU)[0]
        for recipe in RECIPES
    }
    assert all(run.memory_config == built["dm"].memory_config for run in built.values())
    assert len({run.recipe_config for run in built.values()}) == len(RECIPES)


def test_the_embedding_of_herding_follows_the_recipe_dm_but_for_its_epochs() -> None:
    run = assemble(CLRun, "quick", {"memory": "herding"})
    assert run.recipe_config is not None
    assert isinstance(run.memory_config, EmbeddingConfig)
    assert method_of(run).train == replace(run.recipe_config, epochs=20)


def test_the_form_is_decided_everywhere() -> None:
    run, words = resolve_form(assemble(CLRun, "smoke", {"compute": "eager", "real_dtype": "bfloat16"}), CPU)
    assert run.recipe_config is not None
    assert (run.recipe_config.compute, method_of(run).compute) == ("eager", "eager")
    assert method_of(run).real_dtype == "bfloat16"
    assert words == "eager (as asked), bfloat16 where no gradient passes, training in float32"
    herding, _ = resolve_form(assemble(CLRun, "smoke", {"memory": "herding", "compute": "compiled"}), CPU)
    assert herding.recipe_config is not None
    assert method_of(herding).train.compute == herding.recipe_config.compute == "compiled"


def test_smoke_is_eager_and_says_why() -> None:
    run, words = resolve_form(assemble(CLRun, "smoke", {}), CPU)
    assert method_of(run).compute == "eager"
    assert words == "eager (preset smoke), float32 where no gradient passes, training in float32"


# --- there and back -------------------------------------------------------------------------------------------------


@each_track
@each_preset
@each_builder
def test_a_configuration_survives_plain_json(kind: type[Run], preset: str, builder: str) -> None:
    run, _ = resolve_form(assemble(kind, preset, {"memory": builder}), CPU)
    text = json.dumps(plain(run.memory_config))
    assert restore(memory.find(builder).config, json.loads(text)) == run.memory_config
    recipe = json.loads(json.dumps(plain(run.recipe_config)))
    assert restore(TrainConfig(), recipe) == run.recipe_config


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
        ({"preset": "quik"}, r"preset: 'quik' is unknown \(did you mean 'quick'"),
        ({"memory": "dmm"}, r"memory: 'dmm' is unknown \(did you mean 'dm'"),
        ({"model": "resnet"}, "model: 'resnet' is unknown"),
    ],
)
def test_a_run_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        CLRun(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sets": 0}, "sets: at least 1 is needed, got 0"),
        ({"nets": 0}, "nets: at least 1 is needed, got 0"),
        ({"eval_models": ("convnet3", "resnt18")}, "model: 'resnt18' is unknown"),
        ({"eval_models": ("convnet3", "mlp", "convnet-d3")}, "eval_models: convnet3 and convnet-d3 are one network"),
        ({"at": (4, 2)}, "at: expected ascending numbers of iterations, got 4, 2$"),
        ({"at": (2, 2)}, "at: expected ascending numbers of iterations, got 2, 2$"),
        ({"at": (0, 2)}, "at: expected ascending numbers of iterations, got 0, 2$"),
    ],
)
def test_a_run_of_condense_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        CondenseRun(**values)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
@pytest.mark.parametrize("has_batchnorm", [False, True])
def test_every_recipe_is_complete(name: str, dataset: str, has_batchnorm: bool) -> None:
    assert isinstance(RECIPES[name](dataset, has_batchnorm), TrainConfig)


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


@pytest.mark.parametrize("dataset", ["tinyimagenet", "imagenet64"])
def test_large_images_have_a_convnet_of_depth_4(dataset: str) -> None:
    run = CondenseRun.of("paper", dataset=dataset)
    assert run.model == method_of(run).model == "convnet-d4-w128-instancenorm-relu-avgpooling"
    assert CondenseRun.of("quick", dataset=dataset).model == "convnet-d4-w32-instancenorm-relu-avgpooling"
    assert CondenseRun.of("paper", dataset=dataset, model="convnet3").model == "convnet3"
    assert CondenseRun.of("paper", dataset=dataset, model="mlp").model == "mlp"
    assert CondenseRun.of("paper").model == "convnet3"


def test_the_whole_data_are_trained_on_for_the_epochs_asked() -> None:
    def epochs(**settings: Any) -> int:
        recipe = CLRun.of("quick", memory="full", **settings).recipe_config
        assert recipe is not None
        return recipe.epochs

    assert epochs() == 4
    assert epochs(**{"memory.epochs": 7}) == 7
    assert epochs(**{"recipe.epochs": 9}) == epochs(**{"memory.epochs": 7, "recipe.epochs": 9}) == 9
