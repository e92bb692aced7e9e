"""What `harness ls` and `harness plot` list."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness import memory
from harness.cli import main
from harness.commands import figures, listings
from harness.core import registry
from harness.results.published.reproductions import REPRODUCTIONS


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("memories", sorted(memory.BUILDERS)),
        ("recipes", ["dc", "dm", "idc", "nas"]),
        ("presets", ["paper", "quick", "smoke"]),
        ("spaces", ["convnet720"]),
        ("figures", figures.names()),
        ("reproductions", list(REPRODUCTIONS)),
        ("datasets", ["cifar100", "cifar10", "mnist", "fashionmnist", "svhn", "tinyimagenet", "imagenet64", "digits"]),
        ("runs", []),
    ],
)
def test_a_kind_is_listed_with_a_line_on_each(kind: str, names: list[str], tmp_path: Path) -> None:
    lines = listings.list_kind(kind, tmp_path)
    assert [name for name, _ in lines] == names
    assert all(about for _, about in lines)


def test_methods_are_listed_by_what_they_do() -> None:
    assert dict(listings.list_kind("memories"))["dm"].startswith("Synthetic images whose mean")


def test_ls_alone_lists_the_kinds_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    printed = capsys.readouterr().out
    listed = [line.split()[0] for line in printed.splitlines() if line and not line.startswith(" ")]
    assert listed == [*listings.KINDS, "Go"]
    assert f"presets                3  {listings.KINDS['presets'][:30]}" in printed


def test_plot_alone_lists_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot"]) == 0
    printed = capsys.readouterr().out
    assert "\ncl-accuracy " in printed
    assert "harness plot RUN... --figure NAME" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["x"], "--figure: name the figure to draw: budget, "), (["--figure", "budget"], "plot: name the runs to draw")],
)
def test_half_a_plot_command_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["memories", "figures", "reproductions", "recipes"])
def test_lists_fit_80_columns(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", kind]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("kind", "offered", "reason", "other"),
    [
        ("spaces", "no_such_module:SPACE", "cannot be loaded from no_such_module:SPACE", "convnet720"),
        ("memories", "no_python:build", "cannot be loaded from no_python:build (NameError: name 'this'", "dm"),
        ("memories", "sys:maxsize", "a builder must be a function", "dm"),
        ("recipes", "no_python:recipe", "cannot be loaded from no_python:recipe (NameError: name 'this'", "dm"),
    ],
)
def test_a_broken_package_hides_no_other(
    kind: str, offered: str, reason: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_python.py").write_text("this")
    monkeypatch.syspath_prepend(tmp_path)

    def entries(group: str, name: str = "gone") -> list[EntryPoint]:
        return [EntryPoint("gone", offered, group)] if name == "gone" else []

    monkeypatch.setattr(registry, "entry_points", entries)
    lines = dict(listings.list_kind(kind))
    assert reason in lines["gone"]
    assert lines[other]
