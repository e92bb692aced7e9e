"""`harness merge`: bring the units and runs of several directories together in one.

A result is a small file whose name says which unit it is the result of, so results can be copied, committed and brought
together: a unit that is done anywhere is done. Checkpoints of unfinished units are copied as well, traces of failures
are not. A file is copied in one step, and only if it reads back whole.
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
Content = tuple[dict[str, torch.Tensor], Card]  # of a result: its tensors and its card


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        copied: number of results and checkpoints that were copied.
        present: number of results that the target had already.
        damaged: files and runs that were skipped: not whole, or under the name of another unit.
        differing: results that differ from the target's result of the same unit, which is kept.
        runs: names of the run directories that were copied or completed.
        other_runs: run directories that were skipped, because the target has another run of the same name.
        to_write: names of runs whose rows differ in the target; `harness run` writes them anew from all units.
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
        """Whether every file could be copied or was present."""
        return not (self.damaged or self.differing or self.other_runs)


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Copy the units and the run directories of several directories into one.

    A file that `into` has already is kept. Two results of one unit are equal if their tensors and their cards are,
    apart from the cost on the card: seconds and the machine.

    Args:
        sources: directories as `harness run --out` leaves them.
        into: the directory to copy to; it is made if needed.
    Raises:
        FileNotFoundError: a source holds neither units nor a run.
        ValueError: a source is `into` itself.
    """
    for source in sources:
        if not any(_run_directories(source)) and not any(_units(source)):
            raise FileNotFoundError(f"{source}: holds no units and no run; give a directory that --out named")
        if source.resolve() == into.resolve():
            raise ValueError(f"{source}: cannot be merged into itself; name another directory by --into")
    merged = Merged()
    store = Store(into / "units")
    for source in sources:
        for path in _units(source):
            _copy_unit(path, store, merged)
        for directory in _run_directories(source):
            _copy_run(directory, into / directory.name, merged)
    return merged


def _units(source: Path) -> Iterator[Path]:
    """The results and checkpoints of a directory, results first: a checkpoint of a finished unit is useless."""
    paths = sorted((source / "units").glob(f"??/*{RESULT}"))
    yield from (path for path in paths if not path.name.endswith(CHECKPOINT))
    yield from (path for path in paths if path.name.endswith(CHECKPOINT))


def _run_directories(source: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(source.glob("*/config.json")))


def _copy_unit(path: Path, store: Store, merged: Merged) -> None:
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
        return  # another process has finished the unit in the meantime, and has removed its checkpoint
    except files.DamagedFileError as error:
        merged.damaged.append(str(error))
        return
    if not is_checkpoint and key != _key_of(content[1], key):
        merged.damaged.append(f"{path}: holds the result of another unit than its name says")
        return
    present = None if is_checkpoint else store.load(key)  # a damaged result in the target is set aside
    if present is None:
        write_bytes(target, data)
        if not is_checkpoint:
            store.forget_attempts(key)
        merged.copied += 1
    elif _is_same(content, present):
        merged.present += 1
    else:
        merged.differing.append(str(path))


def _key_of(card: Card, default: str) -> str:
    """The key of the unit that a card names; `default` for a card that names none."""
    return Unit(card["kind"], card["spec"], "").key if {"kind", "spec"} <= card.keys() else default


def _is_same(first: Content, second: Content) -> bool:
    """Whether two results have the same tensors and the same cards, apart from their cost."""
    (tensors, card), (others, other_card) = first, second
    without_cost = [{name: value for name, value in each.items() if name != "cost"} for each in (card, other_card)]
    same_tensors = tensors.keys() == others.keys() and all(
        part.dtype == others[name].dtype and torch.equal(part, others[name]) for name, part in tensors.items()
    )
    return same_tensors and without_cost[0] == without_cost[1]


def _copy_run(directory: Path, target: Path, merged: Merged) -> None:
    """Copy the files of a run directory that the target lacks.

    The configuration is written last: it makes a directory a run, so a run that was copied in part is none.
    """
    configuration = (directory / "config.json").read_bytes()
    try:
        read_json(directory / "config.json")
    except ValueError as error:
        merged.damaged.append(str(error))
        return
    target_configuration = target / "config.json"
    if target_configuration.exists() and target_configuration.read_bytes() != configuration:
        merged.other_runs.append(str(directory))
        return
    paths = [path for path in sorted(directory.rglob("[!.]*")) if path.is_file() and path.name != "config.json"]
    absent = [path for path in paths if not (target / path.relative_to(directory)).exists()]
    for path in absent:
        write_bytes(target / path.relative_to(directory), path.read_bytes())
    if (absent or not target_configuration.exists()) and directory.name not in merged.runs:
        merged.runs.append(directory.name)
    rows, target_rows = directory / "rows.csv", target / "rows.csv"
    if rows.exists() and rows.read_bytes() != target_rows.read_bytes():
        merged.to_write.append(directory.name)
    write_bytes(target_configuration, configuration)
