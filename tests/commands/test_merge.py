"""Directories of units and runs are merged, as after work on several machines."""

import itertools
import json
import warnings
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.commands.merge import MergeReport, merge
from harness.core import atomic as files
from harness.execution.units import Store, Unit

UNITS = {name: Unit("toy", {"name": name}, name) for name in "abc"}


@pytest.fixture(autouse=True)
def quiet_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` shows warnings its own way, for good."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


def put(out: Path, name: str, value: float = 1.0, seconds: float = 1.0) -> Path:
    """The result of a toy unit in the store below `out`; its file."""
    unit, store = UNITS[name], Store(out / "units")
    card = {"kind": unit.kind, "spec": dict(unit.spec), "cost": {"wall_seconds": seconds, "device": out.name}}
    store.save(unit.key, {"value": torch.tensor([value])}, card)
    return store.path(unit.key)


def value(out: Path, name: str) -> float:
    found = Store(out / "units").load(UNITS[name].key)
    assert found is not None
    return float(found[0]["value"])


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Two units of three."""
    put(tmp_path / "here", "a"), put(tmp_path / "here", "b")
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """One of those again, which took longer, and the third."""
    put(tmp_path / "there", "b", seconds=9.0), put(tmp_path / "there", "c", 3.0)
    return tmp_path / "there"


def test_units_of_all_sources_are_copied(here: Path, there: Path, tmp_path: Path) -> None:
    into = tmp_path / "all"
    before = snapshot(here), snapshot(there)
    assert merge([here, there], into) == MergeReport(copied=3, present=1)
    assert [value(into, name) for name in "abc"] == [1.0, 1.0, 3.0]
    assert (snapshot(here), snapshot(there)) == before
    # The result that was copied first is kept, byte for byte.
    key = UNITS["b"].key
    assert Store(into / "units").path(key).read_bytes() == Store(here / "units").path(key).read_bytes()


def test_a_second_merge_changes_nothing(here: Path, there: Path, tmp_path: Path) -> None:
    merge([here, there], tmp_path / "all")
    before = snapshot(tmp_path / "all")
    assert merge([here, there], tmp_path / "all") == MergeReport(present=4)
    assert snapshot(tmp_path / "all") == before


def test_a_damaged_file_is_named_and_skipped(here: Path, tmp_path: Path) -> None:
    path = Store(here / "units").path(UNITS["a"].key)
    path.write_bytes(path.read_bytes()[:-1])
    merged = merge([here], tmp_path / "all")
    assert (merged.copied, len(merged.damaged), merged.is_clean) == (1, 1, False)
    assert merged.damaged[0].startswith(str(path))
    assert not Store(tmp_path / "all" / "units").path(UNITS["a"].key).exists()


def test_a_result_under_another_name_is_skipped(here: Path, tmp_path: Path) -> None:
    store = Store(here / "units")
    store.path(UNITS["b"].key).unlink()
    wrong = store.path(UNITS["c"].key)
    wrong.parent.mkdir(exist_ok=True)
    store.path(UNITS["a"].key).rename(wrong)
    assert merge([here], tmp_path / "all").damaged == [f"{wrong}: its name does not match its unit"]
    assert snapshot(tmp_path / "all") == {}


def test_other_content_under_the_same_key_is_named(here: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other", "a", value=2.0)
    put(tmp_path / "other", "c")
    merged = merge([tmp_path / "other"], here)
    assert (merged.copied, merged.differing) == (1, [str(other)])
    assert value(here, "a") == 1.0


def test_a_whole_file_replaces_a_damaged_one(here: Path, there: Path) -> None:
    path = Store(there / "units").path(UNITS["b"].key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="set aside"):
        assert merge([here], there).copied == 2
    assert value(there, "b") == 1.0


def test_checkpoints_of_unfinished_units_are_copied(here: Path, tmp_path: Path) -> None:
    state = {"done": torch.tensor(5)}
    suffixes = ".checkpoint.safetensors", ".network-3.checkpoint.safetensors"  # of the unit, and of a part of it
    for name, suffix in itertools.product("bc", suffixes):  # b is finished, so its checkpoints are useless
        files.save(Store(here / "units").path(UNITS[name].key, suffix), state, {"done": 5})
    assert merge([here], tmp_path / "all").copied == 4
    target = Store(tmp_path / "all" / "units")
    for suffix in suffixes:
        assert files.load(target.path(UNITS["c"].key, suffix))[0] == state
        assert not target.path(UNITS["b"].key, suffix).exists()


def test_a_result_removes_traces_of_earlier_attempts(here: Path, there: Path) -> None:
    target, key = Store(there / "units"), UNITS["a"].key
    for suffix in (".error.txt", ".checkpoint.safetensors", ".network-3.checkpoint.safetensors"):
        target.path(key, suffix).parent.mkdir(parents=True, exist_ok=True)
        target.path(key, suffix).write_text("out of memory")
    merge([here], there)
    assert [path.name for path in target.path(key).parent.iterdir()] == [f"{key}.safetensors"]


def test_a_checkpoint_that_vanishes_is_skipped(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Store(here / "units").path(UNITS["c"].key, ".checkpoint.safetensors")
    files.save(checkpoint, {"done": torch.tensor(5)}, {"done": 5})
    whole = files.load

    def load(path: Path) -> tuple[dict[str, torch.Tensor], files.Card]:
        if path == checkpoint:
            path.unlink()  # another process has finished the unit
        return whole(path)

    monkeypatch.setattr(files, "load", load)
    merged = merge([here], tmp_path / "all")
    assert (merged.copied, merged.is_clean) == (2, True)


def run_directory(out: Path, name: str = "run", rows: str = "r", **configuration: int) -> Path:
    directory = out / name
    (directory / "memories").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(configuration))
    (directory / "rows.csv").write_text(rows)
    return directory


def test_run_directories_are_copied_and_completed(tmp_path: Path) -> None:
    one, two = run_directory(tmp_path / "one", ipc=1), run_directory(tmp_path / "two", ipc=1)
    (two / "memories" / "order-0.safetensors").write_bytes(b"m")
    into = tmp_path / "all"
    merged = merge([tmp_path / "one", tmp_path / "two"], into)
    assert (merged.runs, merged.to_write, merged.is_clean) == (["run"], [], True)
    assert snapshot(into / "run") == {**snapshot(one), **snapshot(two)}


def test_rows_that_differ_are_kept_and_named(tmp_path: Path) -> None:
    run_directory(tmp_path / "one", ipc=1), run_directory(tmp_path / "two", rows="other", ipc=1)
    merged = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert merged.to_write == ["run"]
    assert (tmp_path / "all" / "run" / "rows.csv").read_text() == "r"


def test_another_run_of_the_same_name_is_skipped(tmp_path: Path) -> None:
    run_directory(tmp_path / "one", ipc=1)
    other = run_directory(tmp_path / "two", rows="other", ipc=2)
    merged = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert (merged.other_runs, merged.is_clean) == ([str(other)], False)
    assert json.loads((tmp_path / "all" / "run" / "config.json").read_text()) == {"ipc": 1}


def test_a_run_with_a_damaged_configuration_is_skipped(tmp_path: Path) -> None:
    path = run_directory(tmp_path / "here", steps=5) / "config.json"
    path.write_bytes(path.read_bytes()[:-1])
    merged = merge([tmp_path / "here"], tmp_path / "all")
    assert [each.partition(":")[0] for each in merged.damaged] == [str(path)]
    assert not merged.is_clean
    assert not (tmp_path / "all" / "run").exists()  # a later merge can still copy a whole one


def test_a_run_continues_from_two_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", "--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8", "--steps", "2"]
    command += ["--memory", "random", "--engine", "serial", "--json"]
    for shard in ("1/2", "2/2"):
        main([*command, "--shard", shard, "--out", str(tmp_path / shard[0]), "--quiet"])
    into = tmp_path / "all"
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "--into", str(into)]) == 0
    # A memory of all ten classes and two networks; both shards built the memory.
    assert "units: 3 copied, 1 there already; runs: 1 brought along" in capsys.readouterr().err
    assert main([*command, "--out", str(into)]) == 0
    printed, errors = capsys.readouterr()
    assert "3 units, 3 of them done already" in errors
    assert json.loads(printed)["results"]


def test_the_command_names_what_it_did_not_copy(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = Store(here / "units").path(UNITS["a"].key)
    damaged.write_bytes(b"")
    other = put(tmp_path / "other", "b", value=2.0)
    assert main(["merge", str(here), str(tmp_path / "other"), "--into", str(tmp_path / "all")]) == 2
    errors = capsys.readouterr().err
    assert f"harness: skipped: {damaged}: damaged, or not a file of this harness" in errors
    assert f"harness: kept the one in {tmp_path / 'all'}: {other} has the same key and other content" in errors


def test_bad_directories_are_refused(here: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "absent"):
        assert main(["merge", str(here), str(tmp_path / source), "--into", str(tmp_path / "all")]) == 2
    assert main(["merge", str(here), "--into", str(here)]) == 2
    assert not (tmp_path / "all").exists()
