"""`harness merge`: what was done in several directories, in one.

Results are small files named by what they are results of, so they can be copied, committed and brought together: a
unit done anywhere is done. Checkpoints of unfinished units come along, traces of failures do not. A file is copied in
one step and only where it reads back whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.core import atomic as files
from harness.core.atomic import Card, write_bytes
from harness.execution.units import Store, Unit
from harness.results.report.page import read_json

CHECKPOINT, RESULT = ".checkpoint.safetensors", ".safetensors"


@dataclass
class Merged:
    """What a merge did; files are named by their paths in the sources."""

    copied: int = 0  # results and checkpoints
    present: int = 0  # results that were there already, made here or elsewhere
    damaged: list[str] = field(default_factory=list)  # skipped, runs as well: not whole, or under another's name
    differing: list[str] = field(default_factory=list)  # results with another content there; that one is kept
    runs: list[str] = field(default_factory=list)  # run directories brought along, or completed
    other_runs: list[str] = field(default_factory=list)  # left: another run's directory has that name there
    to_write: list[str] = field(default_factory=list)  # runs whose rows differ there: to be written from all units

    @property
    def is_clean(self) -> bool:
        """Whether everything could be brought along."""
        return not (self.damaged or self.differing or self.other_runs)


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Bring the units and the run directories of `sources`, as `harness run --out` leaves them, to `into`.

    Where both have a file, that in `into` is kept. Two results of one unit are the same where their tensors and cards
    are, but for what they cost: seconds, and the machine.

    Raises:
        FileNotFoundError: a source holds neither units nor a run.
        ValueError: a source is `into` itself.
    """
    for source in sources:
        if not any(_run_directories(source)) and not any(_units(source)):
            raise FileNotFoundError(f"{source}: holds no units and no run; give a directory that --out named")
        if source.resolve() == into.resolve():
            raise ValueError(f"{source}: is to be merged into itself; name another directory by --into")
    merged = Merged()
    store = Store(into / "units")
    for source in sources:
        for path in _units(source):
            _bring_unit(path, store, merged)
        for directory in _run_directories(source):
            _bring_run(directory, into / directory.name, merged)
    return merged


def _units(source: Path) -> Iterator[Path]:
    """The results and checkpoints of a directory, results first: a checkpoint of a finished unit is of no use."""
    found = sorted((source / "units").glob(f"??/*{RESULT}"))
    yield from (path for path in found if not path.name.endswith(CHECKPOINT))
    yield from (path for path in found if path.name.endswith(CHECKPOINT))


def _run_directories(source: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(source.glob("*/config.json")))


def _bring_unit(path: Path, store: Store, merged: Merged) -> None:
    is_checkpoint = path.name.endswith(CHECKPOINT)
    suffix = CHECKPOINT if is_checkpoint else RESULT
    key = path.name.removesuffix(suffix)
    target = store.path(key, suffix)
    if is_checkpoint and (target.exists() or store.has(key)):
        return
    try:
        content = files.load(path)
        data = path.read_bytes()
    except FileNotFoundError:
        if not is_checkpoint:  # that of a unit which somebody has finished in the meantime goes
            raise
        return
    except files.DamagedFileError as error:
        merged.damaged.append(str(error))
        return
    if not is_checkpoint and key != _key_of(content[1], key):
        merged.damaged.append(f"{path}: is the result of another unit than its name says")
        return
    there = None if is_checkpoint else store.load(key)  # one that is damaged there is set aside
    if there is None:
        write_bytes(target, data)
        if not is_checkpoint:
            store.forget_attempts(key)
        merged.copied += 1
    elif _is_same(content, there):
        merged.present += 1
    else:
        merged.differing.append(str(path))


def _key_of(card: Card, default: str) -> str:
    """The name that a result has by what its card says it is of."""
    return Unit(card["kind"], card["spec"], "").key if {"kind", "spec"} <= card.keys() else default


def _is_same(one: tuple[dict[str, torch.Tensor], Card], other: tuple[dict[str, torch.Tensor], Card]) -> bool:
    """Whether two results hold the same, whatever they cost."""
    (tensors, card), (theirs, their_card) = one, other
    costless = [{name: value for name, value in each.items() if name != "cost"} for each in (card, their_card)]
    same_tensors = tensors.keys() == theirs.keys() and all(
        part.dtype == theirs[name].dtype and torch.equal(part, theirs[name]) for name, part in tensors.items()
    )
    return same_tensors and costless[0] == costless[1]


def _bring_run(directory: Path, target: Path, merged: Merged) -> None:
    """Copy what a run directory has and the one there lacks; its configuration comes last, and makes it a run."""
    configuration = (directory / "config.json").read_bytes()
    try:
        read_json(directory / "config.json")
    except ValueError as error:
        merged.damaged.append(str(error))
        return
    there = target / "config.json"
    if there.exists() and there.read_bytes() != configuration:
        merged.other_runs.append(str(directory))
        return
    found = [path for path in sorted(directory.rglob("[!.]*")) if path.is_file() and path.name != "config.json"]
    absent = [path for path in found if not (target / path.relative_to(directory)).exists()]
    for path in absent:
        write_bytes(target / path.relative_to(directory), path.read_bytes())
    if (absent or not there.exists()) and directory.name not in merged.runs:
        merged.runs.append(directory.name)
    rows, their_rows = directory / "rows.csv", target / "rows.csv"
    if rows.exists() and rows.read_bytes() != their_rows.read_bytes():
        merged.to_write.append(directory.name)
    write_bytes(there, configuration)
