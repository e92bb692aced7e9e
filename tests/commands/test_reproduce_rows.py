"""Row files are judged against published tables, and bad input is refused."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.commands import reproduce
from tests.results.condensed import CONVNET3
from tests.results.files import write_rows

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the display of warnings that `main` installs."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


def test_reference_rows_are_judged_without_a_run(tmp_path: Path) -> None:
    planned = reproduce.plan("cl-figure", "quick", "cpu")
    reproduced = reproduce.judge_rows(planned, [REFERENCE / "cl-quick"], tmp_path)
    table = reproduced.table.set_index("cell")
    # The README's table of these rows, and the paper's end points.
    ours = table.loc[table["verdict"] == "not judged", "ours"]
    assert ours.round(1).to_dict() == {
        "5-steps/random": 13.7, "5-steps/herding": 17.2, "5-steps/dm": 22.8,
        "10-steps/random": 13.7, "10-steps/herding": 17.0, "10-steps/dm": 22.8,
    }  # fmt: skip
    assert table.loc[["5-steps/dsa", "10-steps/dsa"], "verdict"].tolist() == ["not run", "not run"]
    assert table.loc["10-steps/dm", "published"] == 34.6
    assert (tmp_path / "reproduce-cl-figure-quick-rows" / "verdicts.md").is_file()


def paper_stream(path: Path, *values: float) -> Path:
    """Rows of DM's stream of ten steps under preset paper: a last accuracy for each order."""
    write_rows(
        (
            {"track": "cl", "dataset": "cifar100", "preset": "paper", "memory": "dm", "league": "pixel", "ipc": 20,
             "recipe": "dm", "model": CONVNET3, "steps": 10, "split": "test", "metric": "last_accuracy", "unit": "%",
             "order": str(order), "repeat": 0, "classes_seen": 100, "stored_bytes": 1024, "value": value,
             "exactness": "official", "dataset_digest": "d", "key": f"k{order}"}
            for order, value in enumerate(values)
        ),
        path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    # Half widths of 3 orders 1 apart: 2.4841, see test_verdicts; the paper has 34.6.
    ("middle", "verdict", "code"),
    [(34.0, "within", 0), (31.0, "below", 4), (38.0, "above", 0)],
)
def test_the_exit_code_tells_a_cell_that_is_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], middle: float, verdict: str, code: int
) -> None:
    rows = paper_stream(tmp_path / "rows.csv", middle - 1, middle, middle + 1)
    command = ["reproduce", "cl-figure", "--rows", str(rows), "--only", "10-steps/dm", "--out", str(tmp_path)]
    assert main([*command, "--json", "--device", "cpu"]) == code
    printed = json.loads(capsys.readouterr().out)
    (cell,) = printed["cells"]
    assert (cell["verdict"], cell["ours"], cell["published"]) == (verdict, middle, 34.6)
    assert printed["complete"]


def test_rows_of_no_cell_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = paper_stream(tmp_path / "rows.csv", 34.0)
    command = ["reproduce", "cl-figure", "--rows", str(rows), "--only", "5-steps/dsa", "--out", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.startswith(
        "harness: none of 1 row belongs to any of 1 cell of cl-figure, preset paper, such as 5-steps/dsa"
    )
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce", "--help"])
    assert "4: all is complete and a cell is below" in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cl-figur"], "did you mean 'cl-figure'?"),
        (["cl-figure", "--preset", "papr"], "did you mean 'paper'?"),
        (["cl-figure", "--only", "mnist"], "no cell of cl-figure matches 'mnist'; cells are named like 5-steps/random"),
        (["cl-figure", "--time-limit", "soon"], "--time-limit: expected a time such as 90s, 30min, 1h30m"),
        (["cl-figure", "--rows", "nowhere"], "nowhere: no such file or directory"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_torch_is_not_seeded(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    reproduce.judge_rows(reproduce.plan("cl-figure", "quick", "cpu"), [REFERENCE / "cl-quick"], tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
