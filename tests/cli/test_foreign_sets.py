"""Sets that others condensed, given to a run."""

from pathlib import Path

import pytest
import torch

from harness.cli import main

RUN = ["run", "condense", "--dataset", "digits", "--preset", "smoke", "--model", "convnet-d1-w8", "--dry-run"]
LABELS = torch.arange(10).repeat_interleave(2)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def say(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*RUN, *arguments]) == 0
    printed, errors = capsys.readouterr()
    return printed + errors


def test_the_output_says_which_entries_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [draw(0) + 0.1 * step * draw(1) for step in range(4)]
    torch.save({"data": [[images, LABELS] for images in steps]}, "snapshots.pt")
    said = say(["--memory", "file:snapshots.pt"], capsys)
    assert "snapshots.pt: entry 3 of 0 .. 3 is judged alone; they look like snapshots of one set" in said
    assert "memory.set = -1" in said
    said = say(["--memory", "file:snapshots.pt", "--set", "memory.set=1"], capsys)
    assert "snapshots.pt: entry 1 of 0 .. 3 is judged alone" in said
    torch.save({"data": [[draw(seed), LABELS] for seed in range(3)]}, "sets.pt")
    assert "sets.pt: its 3 entries are judged as independent sets" in say(["--memory", "file:sets.pt"], capsys)


def test_images_with_labels_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(draw(0), "images_best.pt")
    torch.save(LABELS, "labels_best.pt")
    memory = ["--memory", "file:images_best.pt"]
    assert "memory.space = normalised" in say([*memory, "--set", "memory.space=normalised"], capsys)
    assert main([*RUN, *memory]) == 2
    assert "the file does not state the space of its values" in capsys.readouterr().err
