"""Sets and scores from files, and the validation split, in the static track."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.commands.export import export
from harness.commands.run import Finished
from harness.config import CLRun, CondenseRun, Run, assemble
from harness.core import data, memory_file
from harness.core.data import DataSet
from harness.core.data.holdout import hold_out
from harness.core.progress import SILENT
from harness.execution.units import Store
from harness.tracks import static
from harness.tracks.base import Place
from harness.tracks.static import plan
from tests.tracks.static_runs import SMALL, carry_out, complete, keys, memory_units, plan_of, run_of


def accuracies(finished: Finished, **where: int) -> list[tuple[str, str, float]]:
    rows = finished.rows[finished.rows["metric"].str.startswith("test")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return sorted(zip(rows["metric"], rows["model"], rows["value"], strict=True))


def test_an_exported_set_is_judged_as_it_was(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    written = export(oracle[1].directory, tmp_path / "handed on")
    (path,) = (path for path in written if path.name == "set-0.safetensors")
    run = run_of(memory=f"file:{path}", nets=2, eval_models="convnet-d1-w8,mlp", sets=3)
    finished = complete(run, tmp_path)
    rows = finished.rows
    assert (set(rows["memory"]), set(rows["ipc"]), set(rows["set"])) == ({"file:set-0.safetensors"}, {2}, {0})
    assert set(rows["stored_bytes"]) == {5120, 1280}  # and in 8 bits
    assert (set(rows["league"]), set(rows["memory_model"])) == ({"pixel"}, {""})
    assert rows["iterations"].isna().all()
    assert Counter(rows["metric"]) == {
        "memory_images": 1, "memory_scalars": 1, "test_accuracy": 4, "test_accuracy_uint8": 4
    }  # fmt: skip
    assert accuracies(finished) == accuracies(oracle[1], set=0, iterations=4)


def test_an_exported_set_of_factors_is_judged_as_it_was(tmp_path: Path) -> None:
    ours = complete(run_of(memory="lo-dm"), tmp_path)
    path, *_ = export(ours.directory)
    theirs = complete(run_of(memory=f"file:{path}"), tmp_path)
    assert accuracies(theirs) == accuracies(ours)
    assert set(theirs.rows["league"]) == {"storage"}
    assert set(theirs.rows["stored_bytes"]) == set(ours.rows["stored_bytes"])


def test_a_file_of_several_sets(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    pairs = [[torch.randn(30, 1, 8, 8, generator=rng), torch.arange(10).repeat(3)] for _ in range(3)]
    torch.save({"data": pairs, "accs_all_exps": {}}, tmp_path / "res_DM.pt")
    finished = complete(run_of(memory=f"file:{tmp_path / 'res_DM.pt'}", sets=2), tmp_path)
    rows = finished.rows
    assert (set(rows["set"]), set(rows["ipc"])) == ({0, 1}, {3})
    assert set(rows["memory"]) == {"file:res_DM.pt"}
    assert rows[rows["metric"] == "memory_images"]["value"].tolist() == [30, 30]
    kept, _ = memory_file.load(finished.directory / "memories" / "set-1.safetensors", data.load("digits"))
    assert torch.equal(kept.images, pairs[1][0][pairs[1][1].argsort(stable=True)])


def test_a_file_serves_as_the_memory_of_a_stream(oracle: tuple[Path, Finished], tmp_path: Path) -> None:
    path = oracle[1].directory / "memories" / "set-0.safetensors"
    settings = {**SMALL, "memory": f"file:{path}", "steps": 5, "orders": "0-1"}
    finished, events = carry_out(assemble(CLRun, "smoke", settings), tmp_path)
    assert events["done"] == 1 + 2 * 5  # one file for both orders, a network for each of their steps
    rows = finished.rows
    seen = rows[rows["metric"] == "seen_accuracy"]
    assert (set(seen["memory"]), set(seen["ipc"])) == ({"file:set-0.safetensors"}, {2})
    assert seen.query("order == '1'")["stored_bytes"].tolist() == [classes * 2 * 64 * 4 for classes in (2, 4, 6, 8, 10)]
    assert Counter(rows["metric"])["last_accuracy"] == 2


@pytest.fixture(scope="module")
def scores(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score for every image of digits, all different, with the labels to check the order by."""
    path = tmp_path_factory.mktemp("scores") / "scores.npz"
    drawn = np.random.default_rng(0).permutation(len(digits.train_labels)) / 10_000
    np.savez(path, scores=drawn, labels=digits.train_labels.numpy())
    return path


def best(digits: DataSet, scores: Path, among: torch.Tensor) -> dict[int, torch.Tensor]:
    """By class, the images of the two highest scores of those at the rows `among`, the best first."""
    numbers = torch.from_numpy(np.load(scores)["scores"])
    found = {}
    for c in range(10):
        rows = among[digits.train_labels[among] == c]
        found[c] = digits.normalise(digits.train_images[rows[numbers[rows].argsort(descending=True)[:2]]])
    return found


@pytest.mark.parametrize("kind", [CondenseRun, CLRun])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_best_scores_are_kept(kind: type[Run], split: str, scores: Path, digits: DataSet, tmp_path: Path) -> None:
    settings = {**SMALL, "memory": "cscore", "memory.scores": str(scores), "split": split}
    finished = complete(assemble(kind, "smoke", settings | ({"steps": 2} if kind is CLRun else {})), tmp_path)
    among, dataset = torch.arange(1442), digits
    if split == "validation":
        dataset = hold_out(digits)
        assert dataset.part is not None
        among = dataset.part
    assert set(finished.rows["split"]) == {split}
    (path,) = (finished.directory / "memories").iterdir()
    kept, _ = memory_file.load(path, dataset)
    for c, images in best(digits, scores, among).items():
        torch.testing.assert_close(kept.images[kept.labels == c], images, rtol=0, atol=1e-6)


def test_scores_that_change_under_a_run_are_refused(scores: Path, digits: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(scores.read_bytes())
    (unit, *_) = memory_units(plan_of(digits, memory="cscore", **{"memory.scores": str(path)}))
    np.savez(path, scores=np.zeros(len(digits.train_labels)), labels=digits.train_labels.numpy())
    with pytest.raises(ValueError, match=r"scores\.npz: the file has changed since the run was planned"):
        static.work(unit, Store(tmp_path), SILENT)
    assert not Store(tmp_path).has(unit.key)


def test_scores_in_another_folder_give_the_same_units(scores: Path, digits: DataSet, tmp_path: Path) -> None:
    moved = tmp_path / "scores.npz"
    moved.write_bytes(scores.read_bytes())
    of = [plan_of(digits, memory="cscore", **{"memory.scores": str(path)}) for path in (scores, moved)]
    assert keys(of[0].units) == keys(of[1].units)


def test_choices_are_made_on_held_out_images(digits: DataSet, tmp_path: Path) -> None:
    finished = complete(run_of(memory="random", split="validation"), tmp_path)
    held = hold_out(digits)
    assert set(finished.rows["split"]) == {"validation"}
    assert set(finished.rows["dataset_digest"]) == {held.digest}
    (value,) = finished.rows.query("metric == 'test_accuracy'")["value"]
    images = len(held.test_labels)
    assert images == 143  # a tenth of 1442, class by class
    assert value * images / 100 == pytest.approx(round(value * images / 100))
    assert not keys(plan_of(digits, memory="random").units) & keys(
        plan(run_of(memory="random", split="validation"), held, Place()).units
    )
