"""Columns that rows of all tracks share."""

import json

import pytest
import torch

from harness.config import CLRun, CondenseRun, assemble, resolve_form
from harness.core.data import DataSet
from harness.tracks import static, stream
from harness.tracks.rows import add_costs, describe_form, describe_training_form, make_shared_columns
from tests.tracks.small_runs import run_of


def test_parts_of_a_memory_add_up_but_for_what_they_hold() -> None:
    costs = [
        {"wall_seconds": 1.5, "device": "CPU", "flop": 10.0, "peak_bytes": 7},
        {"wall_seconds": 2.0, "device": "CPU", "flop": 5.0, "peak_bytes": 9},
    ]
    assert add_costs(costs) == {"wall_seconds": 3.5, "device": "CPU", "flop": 15.0, "peak_bytes": 9}
    unknown = [costs[0], {"wall_seconds": 1.0, "device": "CPU"}]
    assert add_costs(unknown) == {"wall_seconds": 2.5, "device": "CPU", "peak_bytes": 7}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dm", "eager, float32, real bfloat16"),
        ("lo-dm", "eager, float32, real bfloat16"),
        ("mim-dsa", "eager, float32, real bfloat16"),
        ("idc", "eager, float32, real bfloat16"),  # its own, not that of the networks it trains
        ("herding", "eager, float32"),
        ("random", "eager, float32"),
    ],
)
def test_forms_of_computing_in_words(name: str, words: str) -> None:
    assert describe_form(run_of(memory=name, real_dtype="bfloat16").method.form) == words


def test_rows_say_where_tf32_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    asked = {"memory": "dm", "compute": "eager", "recipe.dtype": "tf32", "memory.synthetic_dtype": "tf32"}
    run, _ = resolve_form(assemble(CondenseRun, "smoke", asked), torch.device("cuda"))
    assert describe_form(run.method.form) == "eager, tf32, real float32"
    assert run.recipe_config is not None
    assert describe_training_form(run.training) == "eager, tf32"


def test_what_all_rows_of_a_run_say(toy_set: DataSet) -> None:
    run = run_of(memory="lo-dm", seed=3)
    row = make_shared_columns(run, toy_set, "x=1")
    said = ("track", "dataset", "preset", "changes", "memory", "ipc", "split", "seed", "exactness", "dataset_digest")
    assert [row[name] for name in said] == [
        "condense", "toy", "smoke", "x=1", "lo-dm", 2, "test", 3, "as listed: made up", "0" * 64
    ]  # fmt: skip
    assert row["memory_model"] == "convnet-d1-w8-instancenorm-relu-avgpooling"
    spec = json.loads(str(row["spec"]))
    assert (spec["memory"]["rank"], spec["memory"]["host"]["iterations"], spec["recipe"]["epochs"]) == (2, 3, 3)
    assert make_shared_columns(run_of(memory="random"), toy_set, "")["memory_model"] is None
    assert make_shared_columns(run_of(memory="full"), toy_set, "")["ipc"] is None


def test_a_title_gives_a_budget_to_what_has_one() -> None:
    dm, full = (CLRun.of("smoke", dataset="digits", memory=name, steps=2) for name in ("dm", "full"))
    assert stream.make_title(dm) == "digits, 2 steps, memory dm (2 per class), order 0, 1 network"
    assert stream.make_title(full) == "digits, 2 steps, memory full, order 0, 1 network"
    assert static.make_title(CondenseRun.of("smoke", dataset="digits", memory="full")).startswith(
        "digits, 1 set by full, "
    )
