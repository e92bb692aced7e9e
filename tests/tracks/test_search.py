"""Track nas: its plan, what its units leave, rows; the truth from a table; what cannot be ranked."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from harness.commands import run as runs
from harness.commands.run import Finished, Options
from harness.config import CondenseRun, NASRun, assemble, change, resolve_form
from harness.core import data, memory_file, models
from harness.core.compute.tuning import COMPILE_FROM
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.memory import Memory
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.execution.engines import Event
from harness.execution.units import Unit
from harness.nas import proxy, space
from harness.nas.form import choose_form
from harness.tracks import search, static
from harness.tracks.base import Place, get_memory_name
from harness.tracks.search import SearchPlan, plan

CPU = torch.device("cpu")
SMALL = {"dataset": "digits", "proxy": "random", "archs": "width=32,depth=1,pooling=avg,norm=none|in", "subset": 0}
COUNT = 2 * 3  # architectures of SMALL: two norms, three activations


def run_of(preset: str = "smoke", /, **settings: Any) -> NASRun:
    run, _ = resolve_form(assemble(NASRun, preset, {**SMALL, **settings}), CPU)
    return run


def plan_of(dataset: DataSet, /, **settings: Any) -> SearchPlan:
    return plan(run_of(**settings), hold_out(dataset), Place())


def keys(units: list[Unit]) -> set[str]:
    return {unit.key for unit in units}


def candidates(of: SearchPlan, proxy: str) -> list[Unit]:
    return [candidate.unit for candidate in of.candidates if candidate.proxy == proxy]


def complete(run: NASRun, out: Path) -> tuple[Finished, Counter[str]]:
    options = Options(out=out, engine="serial")
    events: list[Event] = []
    finished = runs.carry_out(runs.prepare(run, options), options, events.append)
    assert not finished.outcome.failed
    assert not finished.outcome.left
    return finished, Counter(event.kind for event in events)


# --- planning -------------------------------------------------------------------------------------------------------


def test_a_plan_trains_on_the_proxy_and_on_all_images(toy_set: DataSet) -> None:
    of = plan_of(toy_set, nets=2)
    assert len(of.memory) == 1
    assert len(candidates(of, "random")) == len(candidates(of, "full")) == COUNT * 2
    assert len(of.units) == len(keys(of.units)) == 1 + COUNT * 2 * 2
    for unit in candidates(of, "random"):
        assert unit.needs == (of.memory[0].key,)
        assert unit.context["images"] == 10 * 2
    for unit in candidates(of, "full"):
        assert unit.needs == ()
        assert unit.context["images"] == 10 * 11  # nine tenths of twelve images, rounded up
        assert unit.spec["recipe"]["epochs"] == 1


def test_all_architectures_are_trained_alike(toy_set: DataSet) -> None:
    """Also by a recipe that treats BatchNorm apart: by the one that the run, and so its rows, tell."""
    run = run_of(recipe="dc", archs="width=32,depth=1", subset=20)
    of = plan(run, hold_out(toy_set), Place())
    assert {models.parse(unit.spec["model"]).norm for unit in candidates(of, "random")} > {"batchnorm", "instancenorm"}
    assert run.recipe_config is not None
    for unit in of.units[len(of.memory) :]:
        assert unit.spec["recipe"]["augment"] == run.recipe_config.augment


def test_a_subset_and_more_repeats_reuse_what_was_trained(toy_set: DataSet) -> None:
    whole, part = plan_of(toy_set, nets=2), plan_of(toy_set, subset=3)
    assert keys(part.units) < keys(whole.units)


def test_proxies_share_the_truth(toy_set: DataSet) -> None:
    truths = [
        keys(candidates(plan_of(toy_set, proxy=name), "full"))
        for name in ("random", "dm", "early-stopping", "params", "full")
    ]
    assert all(truth == truths[0] for truth in truths)
    assert len(truths[0]) == COUNT


def test_a_proxy_may_be_looked_at_without_the_truth(toy_set: DataSet) -> None:
    assert {candidate.proxy for candidate in plan_of(toy_set, truth="none").candidates} == {"random"}
    assert plan_of(toy_set, proxy="params", truth="none").units == []
    assert {candidate.proxy for candidate in plan_of(toy_set, proxy="full", truth="none").candidates} == {"full"}


def test_early_stopping_has_the_epochs_of_the_proxy_set(toy_set: DataSet) -> None:
    (unit, *_) = candidates(plan_of(toy_set, proxy="early-stopping"), "early-stopping")
    (other, *_) = candidates(plan_of(toy_set), "random")
    assert unit.spec["images_per_epoch"] == unit.context["images"] == other.context["images"]
    assert unit.spec["recipe"] == other.spec["recipe"]


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_the_schedule_decides_what_is_compiled(device: str, toy_set: DataSet) -> None:
    run = replace(run_of(), compute="compiled", recipe_config=None, memory_config=None)
    run, _ = resolve_form(run, CPU)
    epochs = -(-COMPILE_FROM[torch.device(device).type] // 20)  # of 20 images: so many that compiling pays
    for count, form in ((epochs - 1, "eager"), (epochs, "compiled")):
        longer = change(run, {"recipe_config.epochs": count})
        units = candidates(plan(longer, hold_out(toy_set), Place(device)), "random")
        assert {unit.spec["recipe"]["compute"] for unit in units} == {form}


def test_on_cuda_proxies_are_eager_and_truth_is_compiled() -> None:
    recipe = NASRun.of("paper").recipe_config
    assert recipe is not None
    recipe = replace(recipe, compute="compiled")
    for ipc in (1, 10, 50):
        assert choose_form(recipe, "convnet-w32", 10 * ipc, "cuda").compute == "eager"
    truth = replace(recipe, epochs=NASRun.of("paper").truth_epochs)
    assert choose_form(truth, "convnet-w32", 45_000, "cuda").compute == "compiled"


def test_what_does_not_compile_well_stays_eager_on_a_cpu() -> None:
    recipe = TrainConfig(epochs=max(COMPILE_FROM.values()), compute="compiled", dtype="bfloat16")
    names = ("convnet-w32", "convnet-w32-max", "convnet-w32-gn-max", "convnet-w32-ln", "convnet-w32-bn-nopooling",
             "resnet18")  # fmt: skip
    form = {(name, device): choose_form(recipe, name, 1, device) for name in names for device in ("cpu", "cuda:0")}
    eager = {of: recipe.dtype for of, recipe in form.items() if recipe.compute == "eager"}
    assert eager == {
        ("convnet-w32-gn-max", "cpu"): "float32",  # where bfloat16 is slower
        ("convnet-w32-ln", "cpu"): "bfloat16",
        ("convnet-w32-bn-nopooling", "cpu"): "bfloat16",
    }
    assert all(form[of] == recipe for of in form if of not in eager)
    asked = replace(recipe, compute="eager")
    assert choose_form(asked, "convnet-w32-gn-max", 1, "cpu") == asked


def test_validation_is_a_fixed_tenth_that_no_builder_sees(toy_set: DataSet) -> None:
    run = run_of()
    assert run.split == "validation"
    (unit,) = plan_of(toy_set).memory
    assert unit.context["split"] == "validation"
    assert unit.spec["dataset_digest"] == hold_out(toy_set).digest != toy_set.digest
    with pytest.raises(ValueError, match=r"^split: a search always selects on validation"):
        run_of(split="test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"archs": "width=31"}, "archs: no architecture of convnet720 fits"),
        ({"subset": 1000}, "subset: 1000 architectures are asked for"),
        ({"space": "convnet721"}, "space: 'convnet721' is unknown (did you mean 'convnet720'?"),
        ({"proxy": "dmm"}, "proxy: 'dmm' is unknown (did you mean 'dm'?"),
        ({"truth": "fast"}, "truth: 'fast' is unknown; choose from run, none, tabular"),
        ({"truth_epochs": 0}, "truth_epochs: at least 1 is needed, got 0"),
        ({"curve_every": -1}, "curve_every: at least 0 is needed, got -1"),
        ({"ipc": 500}, "ipc: expected at most 11 images per class, as many as class 0 has"),
        ({"archs": "width=32,depth=4,pooling=avg"}, "pools 8 x 8 images away; use a smaller depth"),
    ],
)
def test_what_cannot_be_ranked_is_refused(settings: dict[str, Any], message: str, toy_set: DataSet) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        plan_of(toy_set, **settings)
    assert message in str(error.value)


def saved(labels: list[int], dataset: DataSet, path: Path) -> str:
    """A memory of ours in a file, as the name of a proxy."""
    origin = {"builder": "theirs", "config": {}, "ipc": 1, "seed": [0], "augment": "none"}
    images = torch.randn(len(labels), *dataset.image_shape, generator=torch.Generator().manual_seed(0))
    memory_file.save(Memory(images, torch.tensor(labels)), path, dataset, origin)
    return f"file:{path}"


def test_a_proxy_set_that_lacks_classes_is_refused(tmp_path: Path) -> None:
    digits = data.load("digits")
    name = saved([0, 1], hold_out(digits), tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match=r"10 classes of [a-z]+, got 0 to 1 of a class"):
        runs.prepare(run_of(proxy=name), Options(out=tmp_path))


def test_a_file_that_has_seen_the_validation_images_is_said_to(tmp_path: Path) -> None:
    digits, settings = data.load("digits"), {"truth": "none", "subset": 1}
    clean = run_of(proxy=saved([*range(10)], hold_out(digits), tmp_path / "clean.safetensors"), **settings)
    rows = complete(clean, tmp_path)[0].rows
    assert set(rows["changes"]) == {""}
    assert set(rows["memory"]) == {"file:clean.safetensors"}
    assert (rows["metric"] == "test_accuracy").sum() == 1
    leaky = run_of(proxy=saved([*range(10)], digits, tmp_path / "leaky.safetensors"), **settings)
    with pytest.warns(UserWarning, match=r"leaky.safetensors: may have seen the validation images"):
        rows = complete(leaky, tmp_path)[0].rows
    assert set(rows["changes"]) == {"may have seen the validation images"}


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    run = run_of(nets=2, **{"recipe.epochs": 4, "curve_every": 2})
    return complete(run, tmp_path_factory.mktemp("runs"))[0]


def test_rows_have_both_accuracies_of_every_training(finished: Finished) -> None:
    rows = finished.rows
    assert set(rows["track"]) == {"nas"}
    assert set(rows["space"]) == {"convnet720"}
    assert set(rows["classes_seen"]) == {10}
    counts = rows.groupby(["memory", "metric"]).size().to_dict()
    assert counts == {
        ("random", "memory_images"): 1,
        ("random", "validation_accuracy"): COUNT * 2 * 2,  # after two epochs, and after four
        ("random", "test_accuracy"): COUNT * 2,
        ("full", "validation_accuracy"): COUNT * 2,
        ("full", "test_accuracy"): COUNT * 2,
    }
    assert set(rows.loc[rows["metric"] == "test_accuracy", "split"]) == {"test"}
    assert set(rows.loc[rows["metric"] == "validation_accuracy", "split"]) == {"validation"}
    ids = {str(arch.id) for arch in run_of().candidates}
    assert set(rows.loc[rows["arch"] != "", "arch"]) == ids
    curve = rows[(rows["memory"] == "random") & (rows["metric"] == "validation_accuracy")]
    assert sorted(set(curve["epoch"])) == [2, 4]


def test_a_value_is_the_share_of_the_images_it_was_measured_on(finished: Finished) -> None:
    digits = data.load("digits")
    run = run_of(nets=2, **{"recipe.epochs": 4, "curve_every": 2})
    arch = run.candidates.archs[0]
    held = hold_out(digits)
    (memory, *_) = (Path(finished.directory) / "memories").glob("*.safetensors")
    images = memory_file.load(memory, held)[0]
    recipe = run.recipe_config
    assert recipe is not None
    score = proxy.score(
        arch.model,
        (images.images, images.labels),
        (held.normalise(held.test_images), held.test_labels),
        (digits.normalise(digits.test_images), digits.test_labels),
        10,
        recipe,
        generator("weights", 0, 1),
        generator("batches", 0, 1),
    )
    assert score is not None
    rows = finished.rows
    own = rows[(rows["memory"] == "random") & (rows["arch"] == str(arch.id)) & (rows["repeat"] == 1)]
    test = own[own["metric"] == "test_accuracy"]["value"].item()
    validation = own[(own["metric"] == "validation_accuracy") & (own["epoch"] == 4)]["value"].item()
    assert test == pytest.approx(100 * score.test / len(digits.test_labels))
    assert validation == pytest.approx(100 * int(score.curve[-1, 1]) / len(held.test_labels))


def test_the_truth_says_nothing_of_the_proxy(finished: Finished) -> None:
    truth = finished.rows[finished.rows["memory"] == "full"]
    assert truth["ipc"].isna().all()
    assert set(truth["memory_model"]) == {""}
    assert set(truth["changes"]) == {"recipe.epochs=4"}
    assert set(truth["league"]) == {"full"}


def test_truths_of_different_lengths_are_told_apart(tmp_path: Path) -> None:
    usual, _ = complete(run_of(subset=2), tmp_path)
    longer, _ = complete(run_of(subset=2, truth_epochs=2), tmp_path)
    for rows, changes in ((usual.rows, ""), (longer.rows, "truth_epochs=2")):
        assert set(rows.loc[rows["memory"] == "full", "changes"]) == {changes}


def test_what_costs_nothing_is_scored_untrained(toy_set: DataSet) -> None:
    digest = hold_out(toy_set)
    for name, unit in (("params", "parameters"), ("macs", "MACs"), ("depth", "layers")):
        run = run_of(proxy=name, truth="none")
        rows = [*search.make_rows(run, plan(run, digest, Place()), None, digest, "")]  # type: ignore[arg-type]
        assert len(rows) == COUNT
        assert {row["unit"] for row in rows} == {unit}
        assert {row["metric"] for row in rows} == {"score"}
    first = run_of().candidates.archs[0]
    run = run_of(proxy="params", truth="none")
    row = next(search.make_rows(run, plan(run, digest, Place()), None, digest, ""))  # type: ignore[arg-type]
    assert row["value"] == space.count_parameters(first.model, (1, 8, 8), 10)


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    run = run_of(subset=2)
    first, events = complete(run, tmp_path)
    again, later = complete(run, tmp_path)
    assert events["done"] == 5
    assert later["done"] == 0
    assert later["found"] == 5
    pd.testing.assert_frame_equal(first.rows, again.rows)
    _, more = complete(replace(run, nets=2), tmp_path)
    assert more["found"] == 5
    assert more["done"] == 4


def test_a_network_that_diverges_is_counted_and_has_no_accuracy(tmp_path: Path) -> None:
    rows = complete(run_of(subset=2, truth="none", **{"recipe.lr": 1e30}), tmp_path)[0].rows
    assert (rows["metric"] == "diverged").sum() == 2
    accuracies = rows[rows["metric"].isin(["test_accuracy", "validation_accuracy"])]
    assert len(accuracies) == 4
    assert accuracies["value"].isna().all()


def test_quick_and_smoke_are_narrow_and_short() -> None:
    for preset, count in (("quick", 24), ("smoke", 4)):
        run = assemble(NASRun, preset, {"proxy": "random"})
        assert len(run.candidates) == count
        assert {arch["width"] for arch in run.candidates} == {32}
    paper = assemble(NASRun, "paper", {})
    assert (paper.memory, paper.ipc, paper.nets, len(paper.candidates)) == ("dsa", 50, 5, 720)
    assert paper.recipe_config is not None
    assert (paper.recipe_config.epochs, paper.recipe_config.batch_size, paper.recipe_config.lr) == (200, 250, 0.01)
    assert paper.recipe_config.drops == (100,)


def test_the_memory_is_that_of_track_condense_on_the_same_split(toy_set: DataSet) -> None:
    run, _ = resolve_form(
        assemble(CondenseRun, "smoke", {"dataset": "digits", "memory": "random", "split": "validation"}), CPU
    )
    theirs = static.plan(run, hold_out(toy_set), Place())
    assert keys(theirs.sets[0].units) == keys(plan_of(toy_set).memory)
    assert get_memory_name(run) == "random"
