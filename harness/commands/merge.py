"""`harness merge`: copy the units and runs of several directories into one.

A result is a file that is named by the key of its unit, so that results of several machines can be combined: a unit
that is done in one directory is done after a merge. Checkpoints of unfinished units are copied as well; tracebacks of
failures are not. A file is copied in one step, and only if it is undamaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.core import atomic as files
from harness.core.atomic import Card, write_bytes
from harness.execution.units import CHECKPOINT, Store, Unit
from harness.results.report.runs import read_json

RESULT = ".safetensors"
Content = tuple[dict[str, torch.Tensor], Card]  # the tensors and the card of a result


@dataclass
class MergeReport:
    """The outcome of a merge.

    Attributes:
        copied: number of results and checkpoints that were copied.
        present: number of results that the target already had.
        damaged: files and runs that were skipped because they are damaged or have the name of another unit.
        differing: results that were skipped because the target has a different result of the same unit.
        runs: names of the run directories that were copied or completed.
        other_runs: run directories that were skipped because the target has another run of the same name.
        to_write: names of runs whose rows differ in the target; `harness run` writes them again from all units.
    """

    copied: int = 0
    present: int = 0
    damaged: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    other_runs: list[str] = field(default_factory=list)
    to_write: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was skipped except what the target already had."""
        return not (self.damaged or self.differing or self.other_runs)


def merge(sources: Sequence[Path], into: Path) -> MergeReport:
    """Copy the units and the run directories of several directories into one.

    Files that `into` already has are kept. Two results of one unit count as equal if their tensors and their cards are
    equal, except for the cost on the card: seconds and the machine.

    Args:
        sources: directories that were given to `harness run` as --out.
        into: the directory to copy to; it is created if needed.
    Raises:
        FileNotFoundError: a source contains neither units nor a run.
        ValueError: a source is `into` itself.
    """
    for source in sources:
        if not any(_find_runs(source)) and not any(_find_units(source)):
            raise FileNotFoundError(f"{source}: contains no units and no run; give a directory that --out named")
        if source.resolve() == into.resolve():
            raise ValueError(f"{source}: cannot be merged into itself; name another directory by --into")
    report = MergeReport()
    store = Store(into / "units")
    for source in sources:
        for path in _find_units(source):
            _copy_unit(path, store, report)
        for directory in _find_runs(source):
            _copy_run(directory, into / directory.name, report)
    return report


def _find_units(source: Path) -> Iterator[Path]:
    """Yield the results of a directory, then its checkpoints, which are useless for finished units."""
    paths = sorted((source / "units").glob(f"??/*{RESULT}"))
    yield from (path for path in paths if not path.name.endswith(CHECKPOINT))
    yield from (path for path in paths if path.name.endswith(CHECKPOINT))


def _find_runs(source: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(source.glob("*/config.json")))


def _copy_unit(path: Path, store: Store, report: MergeReport) -> None:
    is_checkpoint = path.name.endswith(CHECKPOINT)
    key, _, suffix = path.name.partition(".")
    target = store.path(key, f".{suffix}")
    if is_checkpoint and (target.exists() or store.has(key)):
        return
    try:
        content = files.load(path)
        data = path.read_bytes()
    except FileNotFoundError:
        if not is_checkpoint:
            raise
        return  # another process has finished the unit in the meantime and removed its checkpoint
    except files.DamagedFileError as error:
        report.damaged.append(str(error))
        return
    if not is_checkpoint and key != _get_key(content[1], key):
        report.damaged.append(f"{path}: its name does not match its unit")
        return
    present = None if is_checkpoint else store.load(key)  # renames a damaged result in the target
    if present is None:
        write_bytes(target, data)
        if not is_checkpoint:
            store.forget_attempts(key)
        report.copied += 1
    elif _is_same(content, present):
        report.present += 1
    else:
        report.differing.append(str(path))


def _get_key(card: Card, default: str) -> str:
    """Return the key of the unit that a card describes; `default` if the card describes none."""
    return Unit(card["kind"], card["spec"], "").key if {"kind", "spec"} <= card.keys() else default


def _is_same(first: Content, second: Content) -> bool:
    """Return whether two results have the same tensors and, except for the cost, the same cards."""
    (tensors, card), (other_tensors, other_card) = first, second
    without_cost = [{name: value for name, value in each.items() if name != "cost"} for each in (card, other_card)]
    same_tensors = tensors.keys() == other_tensors.keys() and all(
        tensor.dtype == other_tensors[name].dtype and torch.equal(tensor, other_tensors[name])
        for name, tensor in tensors.items()
    )
    return same_tensors and without_cost[0] == without_cost[1]


def _copy_run(directory: Path, target: Path, report: MergeReport) -> None:
    """Copy the files of a run directory that the target lacks.

    config.json, which marks a directory as a run, is written last, so that a partial copy does not count as a run.
    """
    configuration = (directory / "config.json").read_bytes()
    try:
        read_json(directory / "config.json")
    except ValueError as error:
        report.damaged.append(str(error))
        return
    target_configuration = target / "config.json"
    if target_configuration.exists() and target_configuration.read_bytes() != configuration:
        report.other_runs.append(str(directory))
        return
    paths = [path for path in sorted(directory.rglob("[!.]*")) if path.is_file() and path.name != "config.json"]
    absent = [path for path in paths if not (target / path.relative_to(directory)).exists()]
    for path in absent:
        write_bytes(target / path.relative_to(directory), path.read_bytes())
    if (absent or not target_configuration.exists()) and directory.name not in report.runs:
        report.runs.append(directory.name)
    rows, target_rows = directory / "rows.csv", target / "rows.csv"
    if rows.exists() and rows.read_bytes() != target_rows.read_bytes():
        report.to_write.append(directory.name)
    write_bytes(target_configuration, configuration)
