"""The truth of a search: trainings on all images, from the run itself or from a published table."""

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
from harness.tracks.base import Row, get_memory_name


def load_tabular_truth(run: NASRun, dataset: DataSet, archs: Sequence[Arch]) -> list[Row]:
    """Load the rows of the truth from the table that a run names; return [] if it names none.

    Raises:
        ValueError: the table has other data, another preset or another recipe, or lacks some of the architectures.
    """
    if not run.truth.startswith("tabular"):
        return []
    preset = "" if run.preset == "paper" else f"-{run.preset}"
    name = run.truth.removeprefix(TABULAR) if run.truth != "tabular" else f"{run.space}-{run.dataset}{preset}"
    table = tabular.load(name).rows()
    truth = table[(table["memory"] == FULL) & (table["space"] == run.space)]
    if other := set(truth["dataset_digest"]) - {dataset.digest}:
        raise ValueError(f"truth: {name} has data {', '.join(sorted(other))[:12]}, not this {dataset.name}")
    if other := set(truth["preset"]) - {run.preset}:
        raise ValueError(f"truth: {name} has preset {', '.join(sorted(other))}, the run {run.preset}")
    if run.memory not in ZERO_COST:
        recipe = trainings.recipe_fields(run.recipe, json.dumps({"recipe": config.to_plain(run.training)}))
        trainings.refuse_another_recipe(get_memory_name(run), recipe, trainings.recipe_of_truth(truth))
    arch_ids = {str(arch.id) for arch in archs}
    if missing := sorted(arch_ids - set(truth["arch"]), key=int):
        first = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise ValueError(
            f"truth: {name} lacks {len(missing)} of {len(archs)} architectures ({first}); "
            "choose others by --archs, or train them: --truth run"
        )
    return [{str(k): v for k, v in row.items()} for row in truth[truth["arch"].isin(arch_ids)].to_dict("records")]


def make_truth_columns(run: NASRun, changes: str) -> Row:
    """Return the columns in which rows of the truth differ from those of the proxy.

    The truth has no memory. Its column `changes` has only the changed settings that affect training on all images.
    """
    truth_changes = [change for change in re.split(r", (?=[a-z_.]+=)", changes) if change.startswith("recipe.")]
    preset_epochs = NASRun.of(run.preset, memory=run.memory).truth_epochs
    truth_changes += [f"truth_epochs={run.truth_epochs}"] if run.truth_epochs != preset_epochs else []
    spec = {"recipe": config.to_plain(replace(run.training, epochs=run.truth_epochs))}
    return {
        "memory": FULL,
        "ipc": None,
        "memory_model": None,
        "changes": ", ".join(truth_changes),
        "spec": json.dumps(spec, sort_keys=True),
    }
