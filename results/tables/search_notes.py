"""Notes beside the lines of a search: what a reader must know of the comparison with the truth."""

import json
import math

from pandas import DataFrame

from harness.results.statistics.comparisons import TOGETHER, Comparison
from harness.results.statistics.trainings import TRUTH
from harness.results.wording import memory_note

EARLY_STOPPING = "early-stopping"
FAVOURED_FROM = 0.1  # the part of the truth's updates that early stopping may take before a note says so
# Images on which a search trains: nine tenths of the training images of the named data sets.
TRAINING_IMAGES = {"mnist": 54_000, "fashionmnist": 54_000, "cifar10": 45_000, "cifar100": 45_000,
                   "tinyimagenet": 90_000}  # fmt: skip


def search_note(rows: DataFrame, each: Comparison) -> str:
    """The note beside the line of a proxy: that of its memory, and whether a short truth favours early stopping.

    Args:
        rows: as `rows.read` gives them.
        each: the proxy and its truth.
    """
    setting = each.setting
    note = memory_note(setting["memory"], setting["changes"], setting["preset"])
    if setting["memory"] != EARLY_STOPPING:
        return note
    own, of_truth = (count_updates(rows, each, memory) for memory in (EARLY_STOPPING, TRUTH))
    if math.isnan(own) or math.isnan(of_truth):
        is_favoured, takes = setting["preset"] == "quick", "many of its updates"
    else:
        is_favoured, takes = own >= FAVOURED_FROM * of_truth, f"{own:.0f} of its {of_truth:.0f} updates"
    favour = f"(favoured by this short truth: same images, same starts, {takes})" if is_favoured else ""
    return " ".join(filter(None, [note, favour]))


def count_updates(rows: DataFrame, each: Comparison, memory: str) -> float:
    """The updates that train an architecture on a memory, by its recipe; missing if the rows do not tell them.

    Early stopping sees as many images in an epoch as its budget has, and the truth sees all training images.
    """
    own = rows[(rows["track"] == "nas") & (rows["metric"] == "test_accuracy") & (rows["memory"] == memory)]
    for name in TOGETHER:
        own = own[own[name] == each.setting[name]]
    if memory != TRUTH:
        own = own[(own["ipc"] == each.ipc).fillna(False)]
    images = TRAINING_IMAGES.get(each.setting["dataset"]) if memory == TRUTH else (each.ipc or 0) * each.classes
    recipe = json.loads(own["spec"].iloc[0] or "{}").get("recipe", {}) if len(own) else {}
    if not images or not {"epochs", "batch_size"} <= recipe.keys():
        return math.nan
    return float(recipe["epochs"] * math.ceil(images / recipe["batch_size"]))
