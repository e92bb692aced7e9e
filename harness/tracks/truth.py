"""The truth that a search is compared with: trainings on all images, of this run or of a published table."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from harness import config
from harness.config import FULL, TABULAR, ZERO_COST, NASRun
from harness.core.data import DataSet
from harness.nas.space import Arch
from harness.results import tabular
from harness.results.statistics import trainings
from harness.tracks.base import Row, memory_name


def tabular_truth(run: NASRun, dataset: DataSet, archs: Sequence[Arch]) -> list[Row]:
    """Return the rows of the truth from the table that a run names; [] if it names none.

    Raises:
        ValueError: the table has other data, another preset or recipe, or lacks some of the architectures.
    """
    if not run.truth.startswith("tabular"):
        return []
    preset = "" if run.preset == "paper" else f"-{run.preset}"
    name = run.truth.removeprefix(TABULAR) if run.truth != "tabular" else f"{run.space}-{run.dataset}{preset}"
    table = tabular.load(name).rows()
    truth = table[(table["memory"] == FULL) & (table["space"] == run.space)]
    if other := set(truth["dataset_digest"]) - {dataset.digest}:
        raise ValueError(f"truth: {name} is of data {', '.join(sorted(other))[:12]}, not of this {dataset.name}")
    if other := set(truth["preset"]) - {run.preset}:
        raise ValueError(f"truth: {name} is of preset {', '.join(sorted(other))}, and the run of {run.preset}")
    if run.memory not in ZERO_COST:
        own = trainings.recipe_fields(run.recipe, json.dumps({"recipe": config.plain(run.training)}))
        trainings.refuse_another_recipe(memory_name(run), own, trainings.recipe_of_truth(truth))
    wanted = {str(arch.id) for arch in archs}
    if missing := sorted(wanted - set(truth["arch"]), key=int):
        first = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise ValueError(
            f"truth: {name} lacks {len(missing)} of {len(archs)} architectures ({first}); "
            "choose others by --archs, or train them: --truth run"
        )
    return [{str(k): v for k, v in row.items()} for row in truth[truth["arch"].isin(wanted)].to_dict("records")]


def truth_columns(run: NASRun, changes: str) -> Row:
    """Return the columns in which rows of the truth differ from those of the proxy.

    The truth has no memory, and of the changed settings only those of its own training count.
    """
    own = [change for change in re.split(r", (?=[a-z_.]+=)", changes) if change.startswith("recipe.")]
    usual = NASRun.of(run.preset, memory=run.memory).truth_epochs
    own += [f"truth_epochs={run.truth_epochs}"] if run.truth_epochs != usual else []
    spec = {"recipe": config.plain(replace(run.training, epochs=run.truth_epochs))}
    return {
        "memory": FULL,
        "ipc": None,
        "memory_model": None,
        "changes": ", ".join(own),
        "spec": json.dumps(spec, sort_keys=True),
    }
