"""Rows and directories of runs of the static track."""

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.commands.run import Finished
from harness.config import CLRun, assemble
from harness.core import memory_file, models
from harness.core.data import DataSet
from harness.core.progress import SILENT
from harness.core.rng import generator
from harness.core.train import count_correct_by_class, fit
from harness.execution.costs import count_flop_per_image
from harness.execution.engines import Event
from harness.execution.units import Store
from harness.results import rows as rowfiles
from harness.tracks import static
from harness.tracks.base import Place
from harness.tracks.static import plan
from tests.tracks.static_runs import FULL, SMALL, carry_out, complete, cost_of, plan_of, run_of, without_cost


def test_a_run_leaves_rows_for_every_measurement(oracle: tuple[Path, Finished], digits: DataSet) -> None:
    rows = oracle[1].rows
    assert list(rows.columns) == list(rowfiles.COLUMNS)
    assert Counter(rows["metric"]) == {
        "memory_images": 4,  # 2 sets, after 2 and after 4 updates
        "memory_scalars": 4,
        "condensing_flop": 4,
        "test_accuracy": 16,  # by 2 kinds of networks, 2 of each
        "test_accuracy_uint8": 16,
    }
    network = "convnet-d1-w8-instancenorm-relu-avgpooling"
    expected = {
        "track": "condense", "dataset": "digits", "dataset_digest": digits.digest, "exactness": "official",
        "preset": "smoke", "changes": "memory.iterations=4", "memory": "dm", "league": "pixel", "ipc": 2,
        "memory_model": network, "seed": 0, "split": "test",
        "torch": torch.__version__, "order": "", "arch": "",
    }  # fmt: skip
    for column, value in expected.items():
        assert set(rows[column]) == {value}, column
    assert rows[["steps", "experience", "tested_experience"]].isna().all(axis=None)
    assert set(rows["set"]) == {0, 1}
    assert set(rows["iterations"]) == {2, 4}
    assert (rows["wall_seconds"] > 0).all()
    assert (rows["peak_bytes"] > 50 * 2**20).all()
    assert (rows[["key", "version", "device", "spec"]] != "").all(axis=None)
    in_8_bits = rows["metric"] == "test_accuracy_uint8"
    assert set(rows.loc[in_8_bits, "stored_bytes"]) == {20 * 64}
    assert set(rows.loc[~in_8_bits, "stored_bytes"]) == {4 * 20 * 64}
    accuracies = rows["metric"].str.startswith("test_accuracy")
    tested, sets = rows[accuracies], rows[~accuracies]
    assert set(tested["model"]) == {network, "mlp"}
    assert (set(tested["recipe"]), set(tested["unit"]), set(tested["classes_seen"])) == ({"dm"}, {"%"}, {10})
    assert set(tested["repeat"]) == {0, 1}
    assert set(tested["compute"]) == {"eager, float32"}
    assert tested["value"].between(0, 100).all()
    assert set(sets["compute"]) == {"eager, float32, real float32"}
    assert (set(sets["model"]), set(sets["recipe"])) == ({""}, {""})
    assert sets["repeat"].isna().all()


def test_a_row_says_how_its_own_network_was_trained(tmp_path: Path, digits: DataSet) -> None:
    settings: dict[str, Any] = {"memory": "random", "recipe": "dc", "recipe.epochs": 1}
    settings["eval_models"] = "convnet-d1-w8-bn,mlp"
    rows = complete(run_of(**settings), tmp_path).rows
    augment = {
        model: json.loads(spec)["recipe"]["augment"]
        for model, spec in zip(rows["model"], rows["spec"], strict=True)
        if model
    }
    assert augment == {
        "convnet-d1-w8-batchnorm-relu-avgpooling": "dc:crop_noise",
        "mlp": "dc:crop_scale_rotate",
    }


def test_rows_of_a_set_are_sums_over_its_units(oracle: tuple[Path, Finished], digits: DataSet) -> None:
    out, finished = oracle
    rows, store = finished.rows, Store(out / "units")
    for made in plan_of(digits, **FULL).sets:
        here = rows[(rows["set"] == made.number) & (rows["iterations"] == made.updates) & (rows["model"] == "")]
        values, costs = here.set_index("metric")["value"], [cost_of(unit, store) for unit in made.units]
        assert len(costs) == 2
        # per update 16 real images a class forward, and 2 synthetic ones forward and, as twice that, backward
        passes = 10 * (16 + 3 * 2) * (made.updates or 0)
        flop = passes * count_flop_per_image("convnet-d1-w8", (1, 8, 8), 5)
        assert dict(values) == {"memory_images": 20, "memory_scalars": 20 * 64, "condensing_flop": flop}
        assert here["wall_seconds"].tolist() == pytest.approx([sum(cost["wall_seconds"] for cost in costs)] * 3)
        assert set(here["peak_bytes"]) == {max(cost["peak_bytes"] for cost in costs)}


@pytest.mark.parametrize("is_rounded", [False, True])
def test_row_accuracy_is_that_of_a_trained_network(
    is_rounded: bool, oracle: tuple[Path, Finished], digits: DataSet
) -> None:
    _, finished = oracle
    kept, card = memory_file.load(finished.directory / "memories" / "set-1.safetensors", digits)
    assert (card["builder"], card["ipc"], card["config"]["iterations"]) == ("dm", 2, 4)
    if is_rounded:
        pixels = (digits.denormalise(kept.images) * 255).round().clamp(0, 255).to(torch.uint8)
        assert not torch.equal(digits.normalise(pixels), kept.images)
        kept = replace(kept, images=digits.normalise(pixels))
    network = models.build("mlp", (1, 8, 8), 10, generator("weights", 0, 1, 1))
    recipe = run_of(**FULL).recipe_config
    assert recipe is not None
    fit(network, kept.images, kept.labels, recipe, generator("batches", 0, 1, 1))
    right = count_correct_by_class(network.eval(), digits.normalise(digits.test_images), digits.test_labels, 10)
    metric = "test_accuracy_uint8" if is_rounded else "test_accuracy"
    rows = finished.rows[finished.rows["metric"] == metric]
    row = rows.query("set == 1 and iterations == 4 and model == 'mlp' and repeat == 1")
    assert row["value"].tolist() == [pytest.approx(100 * int(right.sum()) / 355)]


def test_a_run_directory_holds_the_sets_at_their_end(oracle: tuple[Path, Finished]) -> None:
    out, finished = oracle
    assert finished.directory.parent == out
    assert finished.directory.name.startswith("condense-digits-dm-2ipc-smoke-")
    found = {str(path.relative_to(finished.directory)) for path in finished.directory.rglob("*") if path.is_file()}
    sets = {f"memories/set-{number}.safetensors" for number in (0, 1)}
    assert found == {"config.json", "environment.json", "rows.csv", "units.json", *sets}
    assert rowfiles.read(finished.directory).equals(finished.rows)


def test_unfinished_sets_have_no_rows(digits: DataSet, tmp_path: Path) -> None:
    run = run_of()
    of, store = plan(run, digits, Place()), Store(tmp_path)
    static.work(of.sets[0].units[0], store, SILENT)
    assert list(static.make_rows(run, of, store, digits, "")) == []
    static.work(of.sets[0].units[1], store, SILENT)
    static.work(of.evaluations[1].unit, store, SILENT)
    metrics = [row["metric"] for row in static.make_rows(run, of, store, digits, "")]
    assert metrics == ["memory_images", "memory_scalars", "condensing_flop", "test_accuracy_uint8"]


def test_stopped_again_and_again_it_ends_with_the_same_rows(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    def interrupt(events: list[Event]) -> None:
        if events[-1].kind == "started" and [event.kind for event in events].count("started") == 5:
            signal.raise_signal(signal.SIGTERM)

    calls, inside = 0, 0
    while True:
        finished, _ = carry_out(run_of(**FULL), tmp_path, interrupt)
        calls += 1
        inside += len([*(tmp_path / "units").glob("??/*.checkpoint.safetensors")])
        if not finished.outcome.left:
            break
    assert calls > 3
    assert inside > 0  # not only between units
    assert without_cost(finished.directory) == without_cost(oracle[1].directory)


def test_shards_make_the_whole(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    first, _ = carry_out(run_of(**FULL), tmp_path, shard=(1, 2))
    assert len(first.rows) < len(oracle[1].rows)
    second, _ = carry_out(run_of(**FULL), tmp_path, shard=(2, 2))
    assert without_cost(second.directory) == without_cost(oracle[1].directory)


@pytest.mark.parametrize(
    ("builder", "league", "images", "scalars", "metrics"),
    [
        ("random", "pixel", 20, 1280, {"test_accuracy"}),
        ("lo-dm", "storage", 40, 1280, {"test_accuracy"}),  # 4 images a class of 2 * (8 + 8) numbers each
        ("idc", "storage", 80, 1280, {"test_accuracy", "test_accuracy_uint8"}),
        ("full", "full", None, None, {"test_accuracy"}),
    ],
)
def test_what_a_memory_of_a_league_leaves(
    builder: str, league: str, images: int | None, scalars: int | None, metrics: set[str], tmp_path: Path
) -> None:
    rows = complete(run_of(memory=builder), tmp_path).rows
    values = rows[rows["metric"].str.startswith("memory")].set_index("metric")["value"]
    assert dict(values) == ({} if images is None else {"memory_images": images, "memory_scalars": scalars})
    assert set(rows["league"]) == {league}
    assert {metric for metric in rows["metric"] if metric.startswith("test")} == metrics
    assert rows["iterations"].isna().all() == (builder in ("random", "full"))
    if builder == "random":
        assert set(rows["stored_bytes"]) == {1280}  # 8 bits a value
    if builder == "full":
        assert rows["ipc"].isna().all()


def test_images_in_less_room_work_in_a_stream_too(digits: DataSet, tmp_path: Path) -> None:
    run = assemble(CLRun, "smoke", {**SMALL, "memory": "lo-dm", "steps": 2})
    finished = complete(run, tmp_path)
    seen = finished.rows[finished.rows["metric"] == "seen_accuracy"]
    assert set(seen["league"]) == {"storage"}
    assert seen["stored_bytes"].tolist() == [5 * 2 * 64 * 4, 10 * 2 * 64 * 4]
    kept, _ = memory_file.load(finished.directory / "memories" / "order-0.safetensors", digits)
    assert Counter(kept.labels.tolist()) == dict.fromkeys(range(10), 4)
