"""Track nas on the command line: what it says, the table it prints, the one line that bad input gets."""

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.results import rows as rowfiles
from harness.results import tabular
from tests.results.files import write_rows

SMOKE = ["--dataset", "digits", "--preset", "smoke", "--engine", "serial"]
FEW = ["--archs", "width=32,depth=1,pooling=avg", "--subset", "4"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a smoke search by random images lies, with its truth."""
    out = tmp_path_factory.mktemp("runs")
    assert main(["run", "nas", "--proxy", "random", *SMOKE, *FEW, "--out", str(out), "--quiet"]) == 0
    return out


def test_a_search_prints_its_ranking_beside_the_truth(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "nas", "--proxy", "params", *SMOKE, *FEW, "--out", str(out), "--json"]
    assert main(command) == 0
    printed, said = capsys.readouterr()
    result = json.loads(printed.splitlines()[-1])
    assert result["complete"] is True
    assert {(line["metric"], line["memory"]) for line in result["results"]} == {("test_accuracy", "full")}
    assert len({line["arch"] for line in result["results"]}) == 4
    assert "4 of 720 architectures of convnet720 ranked by params, against 1 epoch on all images" in said
    assert "4 units, 4 of them done already" in said
    assert "rho" in said
    ranking = {record["memory"]: record for record in result["ranking"]}
    assert set(ranking) == {"params", "full"}
    assert set(ranking["params"]["spearman_rho"]) == {"value", "low", "high", "n"}
    assert ranking["params"]["spearman_rho"]["n"] == 4
    assert -1 <= ranking["params"]["kendall_tau_b"]["value"] <= 1
    assert ranking["full"]["spearman_rho"]["value"] is None


def test_quiet_json_has_the_ranking_too(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "nas", "--proxy", "params", *SMOKE, *FEW, "--out", str(out), "--json", "--quiet"]
    assert main(command) == 0
    printed, said = capsys.readouterr()
    assert "rho" not in said
    assert {record["memory"] for record in json.loads(printed)["ranking"]} == {"params", "full"}


def test_the_truth_may_come_from_a_table(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "truth.parquet"
    assert main(["tabular", str(out), "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 4 architectures trained on all images\n"
    command = ["run", "nas", *SMOKE, *FEW, "--out", str(tmp_path), "--truth", f"tabular:{path}"]
    assert main([*command, "--proxy", "params"]) == 0
    printed, said = capsys.readouterr()
    assert "0 units" in said
    assert "params" in printed
    assert "rho" in printed
    trained = rowfiles.read([out]).query("memory == 'full' and metric == 'test_accuracy'")["value"]
    (directory,) = tmp_path.glob("nas-digits-params-*")
    taken = rowfiles.read([directory]).query("memory == 'full' and metric == 'test_accuracy'")["value"]
    assert sorted(taken) == sorted(trained)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--archs", "width=33"], "archs: no architecture of convnet720 fits 'width=33'; use a wider filter"),
        (["--subset", "721"], "subset: 721 architectures are asked for"),
        (["--space", "nasbench"], "space: 'nasbench' is unknown"),
        (["--proxy", "dss"], "proxy: 'dss' is unknown (did you mean"),
        (["--truth", "guess"], "truth: 'guess' is unknown"),
        (["--truth", "tabular"], "convnet720-digits-smoke"),
        (["--set", "subset=many"], "subset: a whole number is needed, got 'many'"),
        (["--set", "split=test"], "split: a search always selects on validation"),
    ],
)
def test_bad_input_gets_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "nas", "--proxy", "random", *SMOKE, "--out", str(tmp_path), *more]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.startswith("harness: ")
    assert said.count("\n") == 1
    assert message in said


def test_a_table_without_the_architectures_is_refused(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truth.parquet"
    path.write_bytes(tabular.to_parquet(rowfiles.read([out])))
    command = ["run", "nas", "--proxy", "params", *SMOKE, "--archs", "width=32,depth=1,pooling=avg"]
    assert main([*command, "--subset", "6", "--out", str(tmp_path), "--truth", f"tabular:{path}"]) == 2
    assert "lacks 2 of 6 architectures" in capsys.readouterr().err


def test_a_truth_of_another_recipe_is_refused_early(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truth.parquet"
    path.write_bytes(tabular.to_parquet(rowfiles.read([out])))
    command = ["run", "nas", "--proxy", "random", *SMOKE, *FEW, "--out", str(tmp_path), "--truth", f"tabular:{path}"]
    assert main([*command, "--set", "recipe.lr=0.5"]) == 2
    assert "random and the truth were trained by different recipes: lr 0.5 and " in capsys.readouterr().err
    assert not (tmp_path / "units").exists()


def test_a_truth_of_another_preset_is_refused_early(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truth.parquet"
    path.write_bytes(tabular.to_parquet(rowfiles.read([out]).assign(preset="quick")))
    command = ["run", "nas", "--proxy", "random", *SMOKE, *FEW, "--out", str(tmp_path), "--truth", f"tabular:{path}"]
    assert main(command) == 2
    assert "has preset quick, the run smoke" in capsys.readouterr().err
    assert not (tmp_path / "units").exists()


def test_a_truth_of_two_trainings_makes_no_table(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = rowfiles.read([out]).to_dict("records")
    spec = json.dumps({"recipe": {"lr": 0.5}})
    other = [row | {"spec": spec, "key": f"other {row['key']}", "repeat": 1} for row in both if row["memory"] == "full"]
    write_rows([*both, *other], tmp_path / "rows.csv")
    assert main(["table", str(tmp_path)]) == 2
    assert "the truth was trained in several ways: lr 0.0" in capsys.readouterr().err


def test_a_truth_alone_makes_no_table(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "nas", "--proxy", "random", *SMOKE, *FEW, "--truth", "none", "--out", str(out)]
    assert main(command) == 0
    assert "no table: " in capsys.readouterr().err


def test_an_estimate_says_how_long_each_training_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "nas", "--proxy", "full", "--dataset", "digits", "--preset", "smoke", *FEW]
    assert main([*command, "--out", str(tmp_path)]) == 0
    printed, _ = capsys.readouterr()
    lines = printed.splitlines()
    assert len(lines) == 4
    assert all("convnet-d1-w32-" in line and line.endswith(" 0 on full") for line in lines)
