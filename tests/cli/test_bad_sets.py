"""Bad input for sets gets one clear line, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.cli import main
from harness.core import atomic as files
from harness.core import data, memory_file
from harness.core import memory as memories

SMOKE = ["--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8"]
CONDENSE = ["run", "condense", *SMOKE]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with files that do not fit."""
    monkeypatch.chdir(tmp_path)
    labels = torch.arange(10).repeat(2)
    torch.save({"data": [[torch.randn(20, 1, 9, 9), labels]]}, "shape.pt")
    torch.save({"data": [[torch.randn(19, 1, 8, 8), labels[:-1]]]}, "uneven.pt")
    torch.save([torch.rand(20, 1, 8, 8), labels], "space.pt")
    torch.save({"accs": 3.0}, "layout.pt")
    Path("bytes.pt").write_bytes(b"these are no tensors")
    np.save("short.npy", np.zeros(100))
    np.savez("order.npz", scores=np.zeros(1442), labels=np.zeros(1442, dtype=np.int64))
    other = data.load("digits")
    images = torch.zeros(10, 1, 8, 8)
    memory_file.save(memories.Memory(images, torch.arange(10)), Path("ours.safetensors"), other, {"builder": "dm"})
    tensors, card = files.load(Path("ours.safetensors"))
    files.save(Path("named.safetensors"), tensors, card | {"dataset": "mnist"})
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--ipc", "141"], "ipc: expected at most 140 images per class, as many as class 8 has"),
        (
            ["--eval-models", "mlp,convnt3"],
            "model: 'convnt3' is unknown; models are named like convnet3 or convnet-d3-w",
        ),
        (
            ["--eval-models", "mlp,convnet-d9"],
            "model: convnet-d9-w128-instancenorm-relu-avgpooling pools 8 x 8 images a",
        ),
        (["--sets", "0"], "sets: at least 1 is needed, got 0"),
        (["--set", "uint8=maybe"], "uint8: true or false is needed, got 'maybe'"),
        (["--memory", "dmm"], "memory: 'dmm' is unknown (did you mean 'dm'?); choose from cscore, dc, "),
        (["--steps", "2"], "No such option: --steps"),
        # where to stop on the way
        (["--at", "4"], "at: 4 is beyond the 3 iterations of dm"),
        (["--at", "1,3", "--memory", "lo-dsa"], "at: 3 is beyond the 2 iterations of lo-dsa"),
        (["--at", "2,1"], "at: expected ascending numbers of iterations, got 2, 1"),
        (["--at", "0"], "at: expected ascending numbers of iterations, got 0"),
        (["--at", "soon"], "at: numbers such as 0 or 0,2 or 0-4 are needed, got 'soon'"),
        (["--at", "1", "--memory", "herding"], "at: herding has no iterations to be judged after; leave it out"),
        (["--at", "1", "--memory", "full"], "at: full has no iterations to be judged after; leave it out"),
        # builders around others
        (
            ["--memory", "lo-herding"],
            "lo: herding cannot store its images in another form; lo- can be used with dc, dcc, dm, dsa, dsac",
        ),
        (["--memory", "mim-random"], "mim: random "),
        (
            ["--memory", "lo-dm", "--set", "memory.rank=9"],
            "low-rank: rank 9 is too large, one image of 8 x 8 would exceed the budget of 2 per class; use a rank ",
        ),
        (["--memory", "lo-dm", "--set", "memory.rank=0"], "low-rank: rank is at least 1, got 0"),
        (["--memory", "idc", "--set", "memory.factor=3"], "multi-formation: 8 x 8 cannot be cut by a factor of 3"),
        # networks to match in
        (
            ["--networks", "random", "--memory", "dsa"],
            "networks: a setting of dm, lo-dm, mim-dm, not of dsa; leave it out",
        ),
        (
            ["--networks", "trained:90-10"],
            "networks: expected random, or trained:LO-HI with LO < HI in percent, got 'tr",
        ),
        (
            ["--networks", "trained"],
            "networks: expected random, or trained:LO-HI with LO < HI in percent, got 'trained'",
        ),
        # scores
        (
            ["--memory", "cscore"],
            "cscore: a file of scores is needed; give a file with one score per train image, in of",
        ),
        (["--memory", "cscore", "--set", "memory.scores=no.npy"], "no.npy: no such file"),
        (
            ["--memory", "cscore", "--set", "memory.scores=short.npy"],
            "cscore: short.npy has 100 scores, the data 1442 images",
        ),
        (
            ["--memory", "cscore", "--set", "memory.scores=order.npz"],
            "cscore: order.npz has other labels than the data;",
        ),
        (
            ["--memory", "cscore", "--set", "memory.scores=shape.pt"],
            "cscore: shape.pt cannot be read (its name ends in",
        ),
        (["--memory", "cscore", "--set", "memory.keep=best"], "keep: 'best' is unknown; choose from easy, hard"),
        # others' sets
        (["--memory", "file:missing.pt"], "missing.pt: no such file"),
        (
            ["--memory", "file:shape.pt"],
            "shape.pt: expected images (N, 1, 8, 8) of a float type or uint8 for digits, got (20, 1, 9, 9), ",
        ),
        (
            ["--memory", "file:uneven.pt"],
            "uneven.pt: expected equally many images of each of the 10 classes of digits, got 1 to 2 of a",
        ),
        (
            ["--memory", "file:space.pt"],
            "space.pt: the file does not state the space of its values; use --set memory.",
        ),
        (
            ["--memory", "file:layout.pt"],
            "layout.pt: expected {'data': [[images, labels], ...]} (res_*.pt of DC and DM), [images, ",
        ),
        (["--memory", "file:bytes.pt"], "bytes.pt: "),
        (["--memory", "file:named.safetensors"], "named.safetensors: made from mnist, not from digits"),
        (
            ["--memory", "file:ours.safetensors", "--set", "memory.space=unit"],
            "ours.safetensors: the file of a memory s",
        ),
        (
            ["--memory", "file:ours.safetensors", "--set", "split=validation"],
            "split: the set may have been made from the v",
        ),
        (
            ["--memory", "file:ours.safetensors", "--at", "1"],
            "at: file:ours.safetensors has no iterations to be judged ",
        ),
        (
            ["--memory", "file:ours.safetensors", "--set", "memory.iterations=3"],
            "--set: 'memory.iterations' is a setting of dc, dcc, dm, dsa, ",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_one_clear_line(arguments: list[str], line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    for command in ("run", "estimate"):
        assert main([command, *CONDENSE[1:], *arguments]) == 2
        printed, errors = capsys.readouterr()
        assert printed == ""
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith(f"harness: {line}")
    assert sorted(here.rglob("*")) == before


def test_scores_and_sets_are_checked_for_a_stream_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, line in (
        (["--memory", "cscore"], "cscore: a file of scores is needed; "),
        (["--memory", "file:shape.pt"], "shape.pt: expected images (N, 1, 8, 8) of a float type or uint8 for digits, "),
    ):
        assert main(["run", "cl", *SMOKE, "--steps", "2", *arguments]) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith(f"harness: {line}")


def test_export_of_what_holds_no_memory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "harness: nowhere: no such directory; pass a run's, such as `harness ls runs` lists\n"
    )


def test_a_figure_of_sets_needs_rows_of_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "cl", *SMOKE, "--steps", "1", "--memory", "random", "--engine", "serial", "--quiet"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    for figure in ("condense-accuracy", "condense-iterations"):
        assert main(["plot", str(tmp_path), "--figure", figure, "-o", str(tmp_path / "figure.png")]) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1, errors
    assert not (tmp_path / "figure.png").exists()
