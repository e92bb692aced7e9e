"""A run from a preset and what the user sets, its nested configurations and its form of computing."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.config import CLRun, CondenseRun, NASRun, Run, assemble, resolve_form, to_dotted, to_plain
from harness.core import augment
from harness.memory.dsa import DSAConfig
from harness.nas import space

CPU = torch.device("cpu")


def method_of(run: Run) -> Any:
    """The configuration of the run's method, of whatever type it is."""
    return run.memory_config


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("memory.iteration", "memory.iterations"), ("recipe.epoch", "recipe.epochs"), ("step", "steps")],
)
def test_an_unknown_key_of_a_run_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"--set: '{key}' is unknown \(did you mean '{nearest}'\?"):
        assemble(CLRun, "smoke", {key: "1"})


@pytest.mark.parametrize("key", ["memory.compute", "recipe.compute", "memory.real_dtype"])
def test_the_form_of_computing_is_set_for_the_whole_run(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} follows (.*) of the run; set \1 instead"):
        assemble(CLRun, "smoke", {key: "eager"})


def test_a_host_has_the_runs_model_and_augmentation() -> None:
    run = assemble(CondenseRun, "paper", {"memory": "mim-dsa", "dataset": "svhn", "model": "convnet-d2-w16"})
    host = method_of(run).host
    assert isinstance(host, DSAConfig)
    assert (host.model, host.augment) == ("convnet-d2-w16", augment.DSA_WITHOUT_FLIP)
    settled, _ = resolve_form(replace(run, compute="eager", real_dtype="bfloat16"), CPU)
    assert (method_of(settled).host.compute, method_of(settled).host.real_dtype) == ("eager", "bfloat16")


@pytest.mark.parametrize(("builder", "key"), [("dm", "memory.networks"), ("lo-dm", "memory.host.networks")])
def test_networks_reaches_the_method_that_matches_in_them(builder: str, key: str) -> None:
    settings = {"memory": builder, "networks": "trained:20-40"}
    assert to_dotted(assemble(CondenseRun, "smoke", settings))[key] == "trained:20-40"
    later = assemble(CondenseRun, "smoke", {**settings, key: "random"})
    assert to_dotted(later)[key] == "random"  # as --set does after the option
    with pytest.raises(ValueError, match=r"^networks: a setting of dm, lo-dm, mim-dm, not of dsa; leave it out$"):
        assemble(CondenseRun, "smoke", {"memory": "dsa", "networks": "random"})


def test_settings_of_the_user_win_over_the_preset() -> None:
    usual = assemble(CLRun, "smoke", {})
    run = assemble(CLRun, "smoke", {"ipc": "7", "memory.iterations": "5", "recipe.epochs": 9})
    assert (usual.ipc, method_of(usual).iterations) == (2, 3)
    assert (run.ipc, method_of(run).iterations, run.training.epochs) == (7, 5, 9)
    assert replace(run, ipc=2, memory_config=usual.memory_config, recipe_config=usual.recipe_config) == usual


def test_a_method_uses_the_runs_model_unless_set() -> None:
    assert method_of(assemble(CLRun, "quick", {"model": "convnet-d2-w16"})).model == "convnet-d2-w16"
    apart = assemble(CLRun, "quick", {"model": "convnet-d2-w16", "memory.model": "convnet-d1-w4"})
    assert (apart.model, method_of(apart).model) == ("convnet-d2-w16", "convnet-d1-w4")
    assert (
        method_of(assemble(CLRun, "quick", {"memory": "herding", "model": "convnet-d2-w16"})).model == "convnet-d2-w16"
    )


@pytest.mark.parametrize("name", ["digits", "mnist", "svhn"])
def test_mirrored_digits_are_never_made(name: str) -> None:
    run = assemble(CLRun, "smoke", {"dataset": name})
    assert "flip" not in run.training.augment
    assert "flip" not in method_of(run).augment
    herding = assemble(CLRun, "smoke", {"dataset": name, "memory": "herding"})
    assert "flip" not in method_of(herding).train.augment
    assert "flip" in method_of(assemble(CLRun, "smoke", {"dataset": "cifar10"})).augment


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory.keep": "hard"}, "--set: 'memory.keep' is a setting of cscore, el2n, forgetting, grand, not of th"),
        ({"memory": "herding", "memory.augment": "none"}, "--set: 'memory.augment' is a setting of dc, dcc, dm, dsa, "),
        (
            {"memory": "kcenter", "networks": "trained:10-20"},
            "networks: a setting of dm, lo-dm, mim-dm, not of kcenter",
        ),
    ],
)
def test_a_setting_of_other_methods_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        assemble(CondenseRun, "paper", settings)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dataset", ["tinyimagenet", "imagenet64"])
def test_large_images_have_a_convnet_of_depth_4(dataset: str) -> None:
    run = CondenseRun.of("paper", dataset=dataset)
    assert run.model == method_of(run).model == "convnet-d4-w128-instancenorm-relu-avgpooling"
    assert CondenseRun.of("quick", dataset=dataset).model == "convnet-d4-w32-instancenorm-relu-avgpooling"
    assert CondenseRun.of("paper", dataset=dataset, model="convnet3").model == "convnet3"
    assert CondenseRun.of("paper", dataset=dataset, model="mlp").model == "mlp"
    assert CondenseRun.of("paper").model == "convnet3"


def test_the_form_is_decided_everywhere() -> None:
    run, words = resolve_form(assemble(CLRun, "smoke", {"compute": "eager", "real_dtype": "bfloat16"}), CPU)
    assert (run.training.compute, method_of(run).compute) == ("eager", "eager")
    assert method_of(run).real_dtype == "bfloat16"
    assert words == "eager (as asked), bfloat16 where no gradient passes, training in float32"
    herding, _ = resolve_form(assemble(CLRun, "smoke", {"memory": "herding", "compute": "compiled"}), CPU)
    assert method_of(herding).train.compute == herding.training.compute == "compiled"


def test_smoke_is_eager_and_says_why() -> None:
    run, words = resolve_form(assemble(CLRun, "smoke", {}), CPU)
    assert method_of(run).compute == "eager"
    assert words == "eager (preset smoke), float32 where no gradient passes, training in float32"


def test_plain_and_dotted_have_the_same_values() -> None:
    run = assemble(CLRun, "smoke", {"memory": "herding"})
    assert to_plain(run)["memory_config"]["train"]["epochs"] == to_dotted(run)["memory.train.epochs"] == 1
    assert to_plain(run)["orders"] == [0]
    assert not any(key.endswith("_config") for key in to_dotted(run))


@pytest.mark.parametrize("preset", ["quick", "smoke"])
def test_presets_filter_only_the_space_they_are_made_for(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [f"convnet-d{depth}-w16" for depth in (1, 2, 3)]
    archs = tuple(space.Arch(id, model, (("layers", id + 1),)) for id, model in enumerate(models))
    spaces = {**space.SPACES, "own": space.Space("own", "Three networks.", archs)}
    monkeypatch.setattr(space, "SPACES", spaces)
    run = assemble(NASRun, preset, {"archs": "layers<=2", "space": "own"})
    assert [arch.model for arch in run.candidates] == models[:2]
    assert len(assemble(NASRun, preset, {"space": "own"}).candidates) == 3
    with pytest.raises(ValueError, match=r"archs: 'width=32' is not a filter; write .* of id, layers"):
        assemble(NASRun, preset, {"space": "own", "archs": "width=32"})
