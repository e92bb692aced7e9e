import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.commands import report as reports
from harness.core import memory, memory_file
from harness.core.data import DataSet
from harness.results import rows as rowfiles
from harness.results.report import runs
from harness.results.report.page import render
from harness.results.report.runs import Store, find_missing
from tests.results.condensed import CONVNET3, frame, networks
from tests.results.files import write_rows
from tests.results.report.html import Read

# --- what is missing ------------------------------------------------------------------------------------------------

STREAMS = {"orders": [0, 1], "class_order": [], "nets": 2}
SETS = {"sets": 2, "nets": 2, "eval_models": []}


def test_networks_of_a_stream_without_a_result() -> None:
    rows = rowfiles.to_frame(
        {"track": "cl", "metric": metric, "order": order, "repeat": repeat, "value": 1.0}
        for metric, order, repeat in (("last_accuracy", 0, 0), ("last_accuracy", 1, 1), ("seen_accuracy", 0, 1))
    )
    assert find_missing(STREAMS, rows) == ["order 0, network 1", "order 1, network 0"]
    assert find_missing(STREAMS | {"class_order": [1, 0]}, rows) == [
        "order listed, network 0",
        "order listed, network 1",
    ]


def test_networks_of_sets_without_a_result() -> None:
    rows = frame(networks({(0, 0): 46.0, (1, 1): 51.0}))
    assert find_missing(SETS, rows) == ["set 0, network 1", "set 1, network 0"]
    assert find_missing(SETS, frame(networks())) == []
    on_the_way = frame(networks(iterations=1000), networks({(0, 0): 46.0}, iterations=20000))
    lacking = ["set 0, network 1", "set 1, network 0", "set 1, network 1"]
    for config in ({"iterations": 20000}, {"host": {"iterations": 2000, "updates": 10}}):
        assert find_missing(SETS | {"at": [1000], "memory_config": config}, on_the_way) == lacking
    two = SETS | {"sets": 1, "nets": 1, "eval_models": [CONVNET3, "mlp"]}
    assert find_missing(two, frame(networks({(0, 0): 46.0}))) == ["set 0, network 0 of 1 of 2 architectures"]


def test_networks_of_a_search_without_a_result() -> None:
    rows = rowfiles.to_frame(
        {"track": "nas", "metric": metric, "memory": "dm", "arch": "7", "repeat": repeat, "value": value}
        for metric, repeat, value in (("test_accuracy", 0, 40.0), ("test_accuracy", 1, None), ("diverged", 1, 1.0))
    )
    lacking = find_missing({"nets": 2, "space": "convnet720"}, rows, [("dm", "7"), ("full", "7")])
    assert lacking == ["architecture 7 on full, network 0", "architecture 7 on full, network 1"]


def test_a_search_trains_on_the_proxy_and_on_all_images(tmp_path: Path) -> None:
    search = {"preset": "paper", "space": "convnet720", "archs": "", "subset": 2, "truth": "run"}
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "file:there/mine.safetensors"}))
    trained, wrong = reports.find_searched(tmp_path)
    assert wrong == []
    assert [proxy for proxy, _ in trained] == ["file:mine.safetensors"] * 2 + ["full"] * 2
    assert trained[0][1] != trained[1][1]
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "macs", "truth": "tabular"}))
    assert reports.find_searched(tmp_path) == ([], [])
    (tmp_path / "config.json").write_text(json.dumps(search | {"memory": "dm", "space": "theirs"}))
    trained, (complaint,) = reports.find_searched(tmp_path)
    assert trained == []
    assert "the networks that it lacks are not known (space: 'theirs' is unknown" in complaint


def test_failures_are_those_of_the_store_beside(tmp_path: Path) -> None:
    units = tmp_path / "units"
    (units / "ab").mkdir(parents=True)
    (units / "ab" / "abcd.error.txt").write_text("Traceback\n  file\nRuntimeError: out of memory\n")
    (units / "ab" / "abce.error.txt").write_text("")
    (units / "ab" / "abcf.checkpoint.safetensors").touch()
    for suffix in (".error.txt", ".safetensors"):  # failed here, done elsewhere
        (units / "ab" / f"abcg{suffix}").touch()
    failed = [("units/ab/abcd.error.txt", "RuntimeError: out of memory"), ("units/ab/abce.error.txt", "")]
    assert runs.read_store([units, units]) == Store(failed, 1)
    assert "RuntimeError: out of memory" in Read(render(frame(networks()), store=Store(failed))).text


# --- run directories and the command --------------------------------------------------------------------------------


def run_directory(path: Path, rows: list[dict[str, object]] | None, **configuration: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(SETS | {"memory_config": {"lr": 0.5, "train": {}}} | configuration))
    if rows is not None:
        write_rows(rows, path / "rows.csv")
    return path


def test_a_run_tells_its_configuration_and_what_it_lacks(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", networks({(0, 0): 46.0}))
    (run / "environment.json").write_text('{"torch": "2.x"}')
    facts = runs.read_facts(run)
    assert facts is not None
    assert facts.configuration == {"sets": 2, "nets": 2, "eval_models": "", "memory.lr": 0.5}
    assert (facts.environment, len(facts.missing)) == ({"torch": "2.x"}, 3)
    assert runs.read_facts(tmp_path) is None


def test_the_command_writes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "runs" / "run", networks())
    output = tmp_path / "here" / "report.html"
    assert main(["report", str(run), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    assert "Nothing: every network" in Read(output.read_text()).text
    assert main(["report", str(run), "-o", str(output)]) == 0  # an earlier report may be replaced


def test_another_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "runs" / "run", networks())
    output = tmp_path / "mine.html"
    output.write_text("mine")
    assert main(["report", str(run), "-o", str(output)]) == 2
    assert output.read_text() == "mine"
    assert "exists and is no report that harness wrote; choose another file with --output" in capsys.readouterr().err


def test_a_run_without_a_result_yet_has_a_report(tmp_path: Path) -> None:
    for name, rows in (("begun", []), ("claimed", None)):
        run = run_directory(tmp_path / name / "run", rows)
        read = Read(reports.write([run], tmp_path / "report.html").read_text())
        assert "Nothing is finished: no row is a result." in read.text
        assert "networks without a result yet: 4" in read.text


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    good = run_directory(tmp_path / "good", networks())
    bad = run_directory(tmp_path / "bad", networks())
    (bad / "rows.csv").write_text("cut shor")
    with pytest.warns(UserWarning, match=r"bad/rows\.csv: damaged, its rows are left out"):
        page = reports.write([good, bad], tmp_path / "report.html")
    assert f"{bad / 'rows.csv'}: damaged, its rows are left out" in Read(page.read_text()).text


def test_no_rows_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "r.html")]) == 2
    assert "nowhere: no such file or directory" in capsys.readouterr().err


# --- memories -------------------------------------------------------------------------------------------------------


def kept(run: Path, dataset: DataSet, *, real: bool) -> None:
    """Two images of each of two classes, all of one value: a quarter and three quarters of white, in 8 bits."""
    values = (torch.tensor([64, 64, 191, 191]) / 255).view(-1, 1, 1, 1).expand(4, 1, 8, 8)
    images = (values - dataset.mean[0]) / dataset.std[0]
    made = memory.Memory(images.contiguous(), torch.tensor([0, 0, 1, 1]), real=real)
    memory_file.save(made, run / "memories" / "set-0.safetensors", dataset, {"builder": "dm", "ipc": 2})


@pytest.mark.parametrize("real", [True, False])
def test_memories_are_shown_as_networks_see_them(tmp_path: Path, toy_set: DataSet, real: bool) -> None:
    kept(tmp_path, toy_set, real=real)
    ((picture,), wrong) = reports.draw_pictures(tmp_path)
    assert (picture.caption, wrong) == ("dm, toy, 2 images per class", [])
    shown = np.asarray(Image.open(BytesIO(picture.png)).convert("L")).astype(int)
    # Each of the two values fills two squares of some 45 pixels.
    assert [int((abs(shown - grey) <= 1).sum()) > 2 * 40**2 for grey in (64, 191, 128)] == [True, True, False]
    assert max(shown.shape) < 400


def test_a_memory_that_cannot_be_shown_is_named(tmp_path: Path, toy_set: DataSet) -> None:
    kept(tmp_path, toy_set, real=False)
    path = tmp_path / "memories" / "set-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    pictures, (wrong,) = reports.draw_pictures(tmp_path)
    assert pictures == []
    assert wrong.startswith(f"set-0.safetensors of {tmp_path.name}: cannot be shown (")
