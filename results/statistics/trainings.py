"""How the networks of a search were trained: only networks of one recipe are compared."""

import json
from collections.abc import Mapping

from pandas import DataFrame

TRUTH = "full"  # the memory that is all the data
PROXY = ("league", "ipc", "memory", "changes", "recipe", "memory_model")  # the columns that tell proxies apart
TRAINED = ("recipe", "spec", "compute")  # the columns that say how a network was trained
OF_THE_MACHINE = ("compute", "dtype")  # fields of a recipe that depend on the machine of a run


def refuse_several_trainings(rows: DataFrame) -> None:
    """A ValueError where networks that are compared were not trained alike.

    The truth is one training: one recipe, one number of epochs, one precision of an architecture. So is a proxy, under
    the same recipe; its epochs are its own, and its precision may be that of another machine.

    Args:
        rows: of track nas, of one data set, preset and space. Rows that tell no recipe are taken as they are.
    """
    trained = rows[rows["metric"].isin(("test_accuracy", "diverged")) & (rows["recipe"] != "")]
    is_truth = trained["memory"] == TRUTH
    of_truth = _refuse_several(trained[is_truth], "the truth")
    for own, part in trained[~is_truth].groupby(list(PROXY), dropna=False):
        memory = str(own[PROXY.index("memory")])
        refuse_another_recipe(memory, _refuse_several(part, memory), of_truth)


def refuse_another_recipe(proxy: str, own: Mapping[str, object], of_truth: Mapping[str, object]) -> None:
    """A ValueError where the fields of a proxy's recipe are not the truth's, those that may differ aside."""
    shared = (of_truth.keys() & own.keys()) - {"epochs", *OF_THE_MACHINE}
    if differ := sorted(field for field in shared if of_truth[field] != own[field]):
        told = ", ".join(f"{field} {own[field]} and {of_truth[field]}" for field in differ)
        raise ValueError(
            f"{proxy} and the truth were trained by different recipes: {told}; compare networks of one recipe"
        )


def recipe_of_truth(rows: DataFrame) -> dict[str, object]:
    """The fields of the recipe that the truth in some rows was trained by.

    Raises:
        ValueError: there are several.
    """
    return _refuse_several(rows[(rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")], "the truth")


def recipe_fields(name: str, spec: str) -> dict[str, object]:
    """The fields of a recipe as rows tell them, by its name and the unit of work as JSON."""
    recipe = json.loads(spec).get("recipe", {}) if spec else {}
    return {"recipe": name, **{field: json.dumps(value) for field, value in recipe.items()}}


def _refuse_several(networks: DataFrame, of: str) -> dict[str, object]:
    """The fields of the recipe that networks were trained by; a ValueError where they are of several."""
    found: dict[str, set[object]] = {}
    for name, spec in networks[["recipe", "spec"]].drop_duplicates().itertuples(index=False):
        for field, value in recipe_fields(name, spec).items():
            found.setdefault(field, set()).add(value)
    precision = networks["compute"].map(lambda form: form.rpartition(", ")[2])
    for _, of_arch in precision[precision != ""].groupby(networks["arch"]):
        if of_arch.nunique() > 1:
            found["dtype of an architecture"] = set(of_arch)
    if differ := {field: values for field, values in found.items() if len(values) > 1}:
        told = ", ".join(f"{field} {' and '.join(sorted(map(str, values)))}" for field, values in differ.items())
        raise ValueError(f"{of} was trained in several ways: {told}; select the rows of one")
    return {field: next(iter(values)) for field, values in found.items()}
