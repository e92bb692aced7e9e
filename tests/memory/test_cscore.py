import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from harness.core.memory import Budget, Memory
from harness.memory import cscore
from harness.memory.cscore import CScoreConfig

SCORES = [0.5, 0.1, 0.0, 0.7, 0.2, 0.3]  # class 4: rows 0, 2, 4; class 3: rows 1, 3, 5


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def numbered(count: int = 6) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their row, of classes 4 and 3 by turns."""
    images = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images, torch.tensor([4, 3]).repeat(count)[:count]


def rows_of(memory: Memory) -> list[int]:
    rows: list[int] = memory.images[:, 0, 0, 0].int().tolist()
    return rows


def written(path: Path, values: list[float]) -> str:
    """`values` in a file of the form its name asks for."""
    if path.suffix == ".npy":
        np.save(path, np.array(values))
    elif path.suffix == ".npz":
        np.savez(path, scores=np.array(values))
    else:
        path.write_text("\n".join(map(str, values)) + "\n")
    return str(path)


# --- who is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scores.npy", "scores.npz", "scores.csv", "scores.txt"])
def test_the_most_consistent_are_kept(name: str, tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / name, SCORES))
    memory = cscore.build(*numbered(), Budget(2), seeded(0), cfg)
    assert rows_of(memory) == [3, 5, 0, 4]
    assert memory.labels.tolist() == [3, 3, 4, 4]
    assert memory.real


def test_the_least_consistent_are_kept_where_asked_for(tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / "scores.npy", SCORES), keep="hard")
    assert rows_of(cscore.build(*numbered(), Budget(2), seeded(0), cfg)) == [1, 5, 2, 4]


def test_ties_are_broken_at_random_by_the_seed(tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / "scores.npy", [1.0] * 12))
    kept = [rows_of(cscore.build(*numbered(12), Budget(2), seeded(seed), cfg)) for seed in (*range(30), 0)]
    assert kept[0] == kept[-1]
    assert {row for rows in kept for row in rows} == set(range(12))


def test_some_images_are_found_among_all_by_their_rows(tmp_path: Path) -> None:
    # Of ten images rows 1, 3, 4, 6, 8 and 9 are given; their scores are SCORES, those of the others are larger.
    values, rows = [9.0] * 10, torch.tensor([1, 3, 4, 6, 8, 9])
    for row, value in zip(rows.tolist(), SCORES, strict=True):
        values[row] = value
    cfg = CScoreConfig(written(tmp_path / "scores.npy", values))
    assert rows_of(cscore.build(*numbered(), Budget(2), seeded(0), cfg, rows=rows, of=10)) == [3, 5, 0, 4]


def test_labels_beside_the_scores_are_compared(tmp_path: Path) -> None:
    images, labels = numbered()
    path = tmp_path / "published.npz"
    cfg = CScoreConfig(str(path))
    np.savez(path, scores=np.array(SCORES), labels=labels.numpy())
    assert rows_of(cscore.build(images, labels, Budget(2), seeded(0), cfg)) == [3, 5, 0, 4]
    rows = torch.tensor([1, 2, 3, 4])
    some = cscore.build(images[rows], labels[rows], Budget(1), seeded(0), cfg, rows=rows, of=6)
    assert rows_of(some) == [3, 4]
    np.savez(path, scores=np.array(SCORES), labels=labels.flip(0).numpy())
    with pytest.raises(ValueError, match=r"^cscore: published.npz has other labels than the data; its images come in"):
        cscore.build(images, labels, Budget(2), seeded(0), cfg)


# --- files that do not fit -------------------------------------------------------------------------------------------


def test_without_a_file_the_way_to_give_one_is_told() -> None:
    message = (
        "cscore: a file of scores is needed; give a file with one score per train image, in official order, "
        "by --set memory.scores=FILE"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cscore.build(*numbered(), Budget(2), seeded(0))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    with pytest.raises(FileNotFoundError, match=rf"^{re.escape(str(path))}: no such file; give a file with one score"):
        cscore.build(*numbered(), Budget(2), seeded(0), CScoreConfig(str(path)))


@pytest.mark.parametrize("count", [5, 7])
def test_a_file_of_another_length_is_an_error(count: int, tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / "scores.npy", [0.0] * count))
    with pytest.raises(ValueError, match=rf"^cscore: scores.npy has {count} scores, the data 6 images$"):
        cscore.build(*numbered(), Budget(2), seeded(0), cfg)


def test_with_rows_the_length_is_that_of_all_images(tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / "scores.npy", SCORES))
    with pytest.raises(ValueError, match=r"^cscore: scores.npy has 6 scores, the data 50000 images$"):
        cscore.build(*numbered(), Budget(2), seeded(0), cfg, rows=torch.arange(6), of=50_000)
    with pytest.raises(ValueError, match=r"^cscore: rows and of are given together, or neither$"):
        cscore.build(*numbered(), Budget(2), seeded(0), cfg, rows=torch.arange(6))


def test_nan_is_no_score(tmp_path: Path) -> None:
    cfg = CScoreConfig(written(tmp_path / "scores.csv", [*SCORES[:5], float("nan")]))
    with pytest.raises(ValueError, match=r"^cscore: scores.csv: 1 of 6 scores are NaN$"):
        cscore.build(*numbered(), Budget(2), seeded(0), cfg)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.npy", b"these are no numbers"),
        ("scores.npy", b""),
        ("scores.npz", b"PK\x03\x04 cut short"),
        ("scores.csv", b"score\n0.5\n"),
        ("scores.pkl", b"0.5\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^cscore: {name} cannot be read \(.*\); give a file with one score"):
        cscore.build(*numbered(), Budget(2), seeded(0), CScoreConfig(str(tmp_path / name)))


def test_an_archive_without_scores_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", labels=np.arange(6))
    with pytest.raises(ValueError, match=r"^cscore: other.npz cannot be read \('scores'\)"):
        cscore.build(*numbered(), Budget(2), seeded(0), CScoreConfig(str(tmp_path / "other.npz")))


def test_a_table_is_not_a_list_of_scores(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("0,0.5\n1,0.7\n")
    with pytest.raises(ValueError, match=r"^cscore: table.csv: expected one score per image, \(N,\), got \(2, 2\)$"):
        cscore.build(*numbered(), Budget(2), seeded(0), CScoreConfig(str(tmp_path / "table.csv")))


# --- configured ------------------------------------------------------------------------------------------------------


def test_the_defaults() -> None:
    cfg = CScoreConfig()
    assert (cfg.scores, cfg.keep, cfg.per_class) == ("", "easy", True)
    assert cfg.model is None
    assert cfg.passes(1, 1, 1) is None  # it costs nothing


def test_a_configuration_checks_itself() -> None:
    with pytest.raises(ValueError, match=r"^keep: 'high' is unknown; choose from easy, hard$"):
        CScoreConfig(keep="high")
