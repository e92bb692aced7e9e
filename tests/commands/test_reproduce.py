"""Published tables as runs: declared, carried out and judged."""

import csv
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.cli import display, main
from harness.commands import reproduce
from harness.commands import run as runs
from harness.config import CLRun, CondenseRun, to_dotted
from harness.core import models
from harness.execution import costs
from harness.execution.engines import Event
from harness.execution.units import Unit
from harness.results import rows as rowfiles
from harness.results.published.reproductions import REPRODUCTIONS, Cell, Printed, Reproduction
from harness.tracks import TRACKS
from harness.tracks.memories import restore_recipe
from tests.results.condensed import CONVNET3

SMOKE = ["--preset", "smoke", "--engine", "serial"]


def digits(memory: str, **more: str) -> Cell:
    settings = {"dataset": "digits", "memory": memory, "ipc": "2", "recipe": "dm"} | more
    return Cell(f"digits/{memory}/2", "condense", settings, printed=Printed(30.0, 1.0, 0.05, "made up"))


@dataclass(frozen=True)
class Toy(Reproduction):
    """Cells that need no file."""

    listed: tuple[Cell, ...] = ()

    def cells(self) -> list[Cell]:
        return list(self.listed)


STREAM = Cell(
    "2-steps/random", "cl", {"dataset": "digits", "memory": "random", "steps": "2"}, "last_accuracy",
    printed=Printed(50.0, reading=0.05, source="made up"),
)  # fmt: skip
ELSEWHERE = Cell("mnist/random/2", "condense", {"dataset": "mnist", "memory": "random", "ipc": "2", "recipe": "dm"})
CROSS = {"model": "convnet-d2-w128-bn", "eval_models": "convnet-d2-w128-bn,mlp"}
TESTED_ON_MLP = Cell("digits/dm/2/mlp", "condense", digits("dm", **CROSS).settings, model="mlp")
TESTED_ON_BN = Cell("digits/dm/2/bn", "condense", digits("dm", **CROSS).settings, model="convnet-d2-w128-bn")
TOY = Toy(
    "a toy", "", lambda line: iter(()),
    (digits("random"), digits("mtt"), STREAM, ELSEWHERE, TESTED_ON_MLP, TESTED_ON_BN),
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the display of warnings that `main` installs."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    """The toy table is one of the published tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cast("MutableMapping[str, Reproduction]", REPRODUCTIONS), "toy", TOY)
        yield


@pytest.fixture(scope="module")
def done(toy: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, reproduce.TableResult]:
    """The toy table, carried out."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "SECONDS", 0.01)  # of measuring: how long it takes here is not asked
        return out, carried_out(out)


def carried_out(out: Path, only: str | None = None, **more: Any) -> reproduce.TableResult:
    options = runs.Options(out, device="cpu", engine="serial", **more)
    planned = reproduce.plan("toy", "smoke", "cpu", only)
    with warnings.catch_warnings():
        ready = reproduce.prepare(planned, options)
    return reproduce.carry_out(planned, ready, options, watch)


class watch:  # noqa: N801  # a watcher of nothing
    def __init__(self, prepared: runs.Prepared) -> None:
        self.prepared = prepared

    def __enter__(self) -> "watch":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, event: object) -> None: ...


def lines_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


# --- what is declared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "quick"])
@pytest.mark.parametrize("name", sorted(REPRODUCTIONS))
def test_every_cell_has_a_run_or_a_reason(name: str, preset: str) -> None:
    planned = reproduce.plan(name, preset, "cpu")
    with_run = [cell.name for part in planned.parts for cell in part.cells]
    assert sorted([*with_run, *planned.missing]) == sorted(cell.name for cell in REPRODUCTIONS[name].cells())
    assert all(part.run.preset == preset for part in planned.parts)
    assert len({part.name for part in planned.parts}) == len(planned.parts)  # a directory each


def test_missing_methods_and_networks_are_named() -> None:
    missing = reproduce.plan("table1", device="cpu").missing
    assert set(missing.values()) == {"no builder ld", "no builder dd"}
    dwa = reproduce.plan("dwa", device="cpu").missing
    assert dwa["cifar10/mtt/10/convnet"] == "no builder mtt"
    assert dwa["tinyimagenet/sre2l/50/resnet50"] == "network resnet50"
    assert dwa["imagenet1k/tesla/10/convnet"] == "data set ImageNet1K"
    assert "cifar10/dm/10/convnet" not in dwa
    assert reproduce.plan("network-distribution", device="cpu").missing == {
        f"cifar10/dm/{ipc}/all": "networks of all bands together" for ipc in (1, 10, 50)
    }


def test_paper_runs_have_the_published_settings(published: Path) -> None:
    lines = lines_of(published / "cl_final_accuracy.csv")
    parts = reproduce.plan("cl-figure", device="cpu").parts
    assert len(parts) == len(lines) == 8
    for part, line in zip(parts, lines, strict=True):
        assert isinstance(part.run, CLRun)
        assert (part.run.ipc, part.run.steps) == (int(line["ipc"]), int(line["steps"]))
        assert (len(part.run.orders), part.run.nets, part.run.recipe) == (5, 3, "dm")
        assert str(models.parse(part.run.model)) == CONVNET3
    for part in reproduce.plan("table1", device="cpu").parts:
        assert isinstance(part.run, CondenseRun)
        assert (part.run.sets, part.run.nets) == (5, 20)


def test_low_rank_runs_have_the_published_settings(published: Path) -> None:
    hosts = {"LoDM": "lo-dm", "LoDSA": "lo-dsa", "LoDC": "lo-dc"}
    lines = {
        (hosts[line["method"]], line["dataset"].lower(), int(line["ipc_budget"])): line
        for line in lines_of(published / "lodc_configs.csv")
        if line["method"] in hosts
    }
    parts = reproduce.plan("lodc", device="cpu").parts
    assert len(parts) == len(lines) == 22
    for part in parts:
        fields, line = to_dotted(part.run), lines[part.run.memory, part.run.dataset, part.run.ipc]
        assert fields["memory.rank"] == int(line["rank"])
        assert fields["memory.host.lr"] == float(line["lr_img"])
        assert fields["memory.init"] == line["init"]


def test_one_run_gives_several_cells() -> None:
    parts = reproduce.plan("cross-arch", device="cpu").parts
    assert [len(part.cells) for part in parts] == [4] * 5  # DSA with one network, DM with each of four
    assert {tuple(getattr(part.run, "eval_models", ())) for part in parts} == {
        ("convnet-d3-w128-batchnorm-relu-avgpooling", "alexnet-batchnorm", "vgg11-batchnorm", "resnet18-batchnorm")
    }


def test_quick_narrows_the_networks() -> None:
    (part,) = reproduce.plan("table2-norm", "quick", "cpu", only="cifar10/dm/50/batchnorm").parts[3:4]
    assert part.run.model == "convnet-d3-w32-batchnorm-relu-avgpooling"
    assert reproduce.adapt_width("convnet4", "condense", "quick") == CONVNET3.replace("d3-w128", "d4-w32")
    assert reproduce.adapt_width("alexnet-bn", "condense", "quick") == "alexnet-batchnorm"


@pytest.mark.parametrize(
    ("only", "column", "value", "more"),
    [
        ("cifar10/dm/", "dataset", "CIFAR10", {"method": "DM"}),
        ("cifar10/*/50", "dataset", "CIFAR10", {"ipc": "50"}),
        ("*/dm/10", "method", "DM", {"ipc": "10"}),
        ("mnist", "dataset", "MNIST", {}),
    ],
)
def test_some_cells_can_be_chosen(only: str, column: str, value: str, more: dict[str, str], published: Path) -> None:
    wanted = {column: value} | more
    by_hand = [line for line in lines_of(published / "table1_accuracy.csv") if wanted.items() <= line.items()]
    assert len(reproduce.plan("table1", device="cpu", only=only).chosen) == len(by_hand) > 0


# --- carried out ----------------------------------------------------------------------------------------------------


def test_values_are_the_means_of_the_runs(done: tuple[Path, reproduce.TableResult]) -> None:
    out, reproduced = done
    table = {line["cell"]: line for line in reproduced.table.to_dict("records")}
    rows = rowfiles.read(sorted(out.glob("*/rows.csv")))
    tested = rows[rows["metric"] == "test_accuracy"]
    by_hand = {
        "digits/random/2": tested[(tested["memory"] == "random")],
        "digits/dm/2/mlp": tested[(tested["memory"] == "dm") & (tested["model"] == "mlp")],
        "digits/dm/2/bn": tested[(tested["memory"] == "dm") & (tested["model"] != "mlp")],
        "2-steps/random": rows[rows["metric"] == "last_accuracy"],
    }
    for cell, own in by_hand.items():
        assert len(own) == 1
        assert (table[cell]["ours"], table[cell]["verdict"]) == (own["value"].iloc[0], "not judged")
    assert (table["digits/mtt/2"]["verdict"], table["digits/mtt/2"]["note"]) == ("not run", "no builder mtt")


def test_missing_data_stop_no_other_run(done: tuple[Path, reproduce.TableResult]) -> None:
    _, reproduced = done
    line = reproduced.table.set_index("cell").loc["mnist/random/2"]
    assert line["verdict"] == "not run"
    assert "mnist" in line["note"]
    assert (reproduced.left, reproduced.failed) == (1, {})


def test_the_verdicts_are_written(done: tuple[Path, reproduce.TableResult]) -> None:
    out, reproduced = done
    directory = out / "reproduce-toy-smoke"
    assert reproduced.files == [directory / "verdicts.csv", directory / "verdicts.md"]
    page = (directory / "verdicts.md").read_text()
    assert page.startswith("# toy, preset smoke\n\na toy\n\n**PRESET smoke: THESE ARE NOT THE PAPER'S NUMBERS.")
    assert "| digits/mtt/2 | test accuracy | 30.0 (std 1) |  |" in page
    assert "4 not judged (smoke preset), 2 not run" in page
    (line, *_) = lines_of(directory / "verdicts.csv")
    assert (line["cell"], line["published"], line["verdict"]) == ("digits/random/2", "30.0", "not judged")
    assert float(line["ours"]) == reproduced.table["ours"].iloc[0]


def test_a_second_call_does_nothing(done: tuple[Path, reproduce.TableResult]) -> None:
    out, reproduced = done
    units = {path: path.stat().st_mtime_ns for path in (out / "units").rglob("*.safetensors")}
    assert carried_out(out).table.equals(reproduced.table)
    assert {path: path.stat().st_mtime_ns for path in (out / "units").rglob("*.safetensors")} == units


def test_cells_that_are_not_chosen_stay_in_the_files(done: tuple[Path, reproduce.TableResult]) -> None:
    out, reproduced = done
    before = {line["cell"]: line for line in lines_of(reproduced.files[0])}
    some = carried_out(out, only="digits/random")
    assert some.table["cell"].tolist() == ["digits/random/2"]
    assert some.left == 0
    after = {line["cell"]: line for line in lines_of(some.files[0])}
    before["mnist/random/2"]["note"] = ""  # it was not tried this time
    assert after == before


def test_the_time_limit_leaves_the_rest(tmp_path: Path) -> None:
    reproduced = carried_out(tmp_path, time_limit=0.0)
    assert reproduced.stopped == "time limit"
    # Random: a memory and a network, and the same for the stream's two steps, whose ten classes are one unit;
    # DM: a memory and two networks, as it is and rounded to 8 bits; one cell has no data.
    assert reproduced.left == 2 + 3 + 5 + 1
    assert not (tmp_path / "units").exists()
    assert set(reproduced.table["verdict"]) == {"not run"}


def test_a_unit_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(TRACKS["condense"], "work", fail)
    reproduced = carried_out(tmp_path, only="digits/random")
    assert list(reproduced.failed.values()) == ["RuntimeError: no luck"]
    (named,) = reproduced.failed
    assert named.startswith("condense-digits-random-")
    assert named.endswith(": random memory, set 0, classes 0 .. 9")
    assert reproduced.left == 1  # the network, which needs what failed
    assert reproduced.table["verdict"].tolist() == ["not run"]


def test_units_of_other_shards_are_left(tmp_path: Path) -> None:
    one = carried_out(tmp_path, shard=(1, 2))
    assert one.failed == {}
    assert one.left > 1  # a cell has no data here
    carried_out(tmp_path, shard=(2, 2))
    assert carried_out(tmp_path, shard=(1, 2)).left == 1  # does what waited for units of the other


def test_the_shortest_run_is_first_and_shares_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_costs(units: list[Unit], *_: object) -> list[Unit]:
        return [replace(unit, cost=6.0 if unit.kind == "memory" else 1.0) for unit in units]

    monkeypatch.setattr(runs, "estimate_costs", with_costs)
    # The same condensed set judged by two networks, and by one of the two.
    more = digits("random", nets="2"), digits("random"), ELSEWHERE
    table = Toy("a toy", "", lambda line: iter(()), tuple(replace(cell, name=str(i)) for i, cell in enumerate(more)))
    options = runs.Options(tmp_path, device="cpu", engine="serial")
    monkeypatch.setitem(cast("MutableMapping[str, Reproduction]", REPRODUCTIONS), "toy", table)
    ready = reproduce.prepare(reproduce.plan("toy", "smoke", "cpu"), options)
    # 6 + 1 seconds, then the one network more.
    assert [(each.run.nets, seconds) for each, seconds in ready.runs] == [(1, 7.0), (2, 1.0)]
    assert set(ready.unavailable) == {"2"}


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_continues_a_table(
    done: tuple[Path, reproduce.TableResult], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "toy", *SMOKE, "--out", str(done[0]), "--device", "cpu"]
    assert main(command) == 3  # mnist is not here
    printed, errors = capsys.readouterr()
    assert "done already" in errors
    assert "  digits/mtt/2: cannot be run (no builder mtt)\n" in errors
    assert "harness: 1 unit or cells left; the same command continues\n" in errors
    assert "NOT THE PAPER'S" in printed
    assert main([*command, "--only", "digits"]) == 0


def test_a_dry_run_lists_the_runs_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "toy", *SMOKE, "--out", str(tmp_path), "--dry-run", "--device", "cpu"]) == 0
    errors = capsys.readouterr().err
    assert "toy: a toy; 6 of 6 cells, 3 runs\n" in errors
    assert "digits, 1 set by random (2 per class), 1 network each: convnet-d2-w8: 2 units left, about " in errors
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "command",
    [
        ["reproduce", "toy", "--only", "digits/random/2"],
        ["run", "condense", "--dataset", "digits", "--memory", "random"],
    ],
)
def test_progress_is_weighed_by_the_cost_of_units(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory of hours is not one unit of many alike."""
    watched: list[Unit] = []

    @contextmanager
    def watching(units: list[Unit], quiet: bool) -> Iterator[Callable[[Event], None]]:
        watched.extend(units)
        yield lambda event: None

    monkeypatch.setattr(display, "watching", watching)
    monkeypatch.setattr(costs, "measure_rate", lambda *_, **__: 10.0)
    main([*command, *SMOKE, "--out", str(tmp_path), "--device", "cpu"])
    assert {unit.kind for unit in watched} == {"memory", "network"}
    for unit in watched:
        rounds = restore_recipe(unit.spec["recipe"]).rounds if unit.kind == "network" else 0
        assert unit.cost == unit.context.get("images", 0) * rounds / 10
