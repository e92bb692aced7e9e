"""How the networks of a search were trained: only networks of one recipe are compared."""

import json
from collections.abc import Mapping

from pandas import DataFrame

TRUTH = "full"  # the memory that is all the data
PROXY = ("league", "ipc", "memory", "changes", "recipe", "memory_model")  # the columns that tell proxies apart
TRAINED = ("recipe", "spec", "compute")  # the columns that say how a network was trained
OF_THE_MACHINE = ("compute", "dtype")  # fields of a recipe that depend on the machine of a run


def refuse_several_trainings(rows: DataFrame) -> None:
    """Raise a ValueError if networks that are compared were trained in different ways.

    The truth has one recipe, one number of epochs, and one precision for each architecture. So has a proxy, and its
    recipe is that of the truth, except that its epochs and the precision of its machine may differ.

    Args:
        rows: of track nas, of one data set, preset and space. Rows without a recipe are not checked.
    """
    trained = rows[rows["metric"].isin(("test_accuracy", "diverged")) & (rows["recipe"] != "")]
    is_truth = trained["memory"] == TRUTH
    of_truth = _refuse_several(trained[is_truth], "the truth")
    for own, part in trained[~is_truth].groupby(list(PROXY), dropna=False):
        memory = str(own[PROXY.index("memory")])
        refuse_another_recipe(memory, _refuse_several(part, memory), of_truth)


def refuse_another_recipe(proxy: str, own: Mapping[str, object], of_truth: Mapping[str, object]) -> None:
    """Raise a ValueError if a field of a proxy's recipe differs from the truth's, except those that may differ."""
    shared = (of_truth.keys() & own.keys()) - {"epochs", *OF_THE_MACHINE}
    if differ := sorted(field for field in shared if of_truth[field] != own[field]):
        difference = ", ".join(f"{field} {own[field]} and {of_truth[field]}" for field in differ)
        raise ValueError(
            f"{proxy} and the truth were trained by different recipes: {difference}; compare networks of one recipe"
        )


def recipe_of_truth(rows: DataFrame) -> dict[str, object]:
    """The fields of the recipe of the truth in some rows.

    Raises:
        ValueError: there are several.
    """
    return _refuse_several(rows[(rows["memory"] == TRUTH) & (rows["metric"] == "test_accuracy")], "the truth")


def recipe_fields(name: str, spec: str) -> dict[str, object]:
    """The fields of a recipe as rows tell them, by its name and the unit of work as JSON."""
    recipe = json.loads(spec).get("recipe", {}) if spec else {}
    return {"recipe": name, **{field: json.dumps(value) for field, value in recipe.items()}}


def _refuse_several(networks: DataFrame, of: str) -> dict[str, object]:
    """The fields of the recipe of some networks; a ValueError if they have several."""
    found: dict[str, set[object]] = {}
    for name, spec in networks[["recipe", "spec"]].drop_duplicates().itertuples(index=False):
        for field, value in recipe_fields(name, spec).items():
            found.setdefault(field, set()).add(value)
    precision = networks["compute"].map(lambda form: form.rpartition(", ")[2])
    for _, of_arch in precision[precision != ""].groupby(networks["arch"]):
        if of_arch.nunique() > 1:
            found["dtype of an architecture"] = set(of_arch)
    if differ := {field: values for field, values in found.items() if len(values) > 1}:
        fields = ", ".join(f"{field} {' and '.join(sorted(map(str, values)))}" for field, values in differ.items())
        raise ValueError(f"{of} was trained in several ways: {fields}; select the rows of one")
    return {field: next(iter(values)) for field, values in found.items()}
