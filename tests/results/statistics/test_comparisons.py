import json
from pathlib import Path

import pandas as pd
import pytest

from harness.results.statistics.comparisons import compare, parse_axes
from tests.results.searched import MODELS, NEAR, TRUE, alike, frame, trained


def test_two_values_of_one_network_are_refused() -> None:
    other = trained("full", TRUE, changes="epochs=50")  # another key
    message = r"the truth: arch 0, repeat 0 has several values, of changes '' and 'epochs=50'; select one"
    with pytest.raises(ValueError, match=message):
        compare(frame(trained("full", TRUE), other, trained("dm", NEAR)))


def recipe_of(**fields: object) -> str:
    return json.dumps({"recipe": {"lr": 0.01, "epochs": 100, "dtype": "float32", "compute": "eager"} | fields})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"spec": recipe_of(epochs=50)}, "the truth was trained in several ways: epochs 100 and 50; select"),
        ({"spec": recipe_of(dtype="bfloat16")}, 'dtype "bfloat16" and "float32"'),
        ({"recipe": "nas"}, "recipe dm and nas"),
    ],
)
def test_a_truth_of_several_trainings_is_refused(more: dict[str, str], message: str) -> None:
    first, second = alike((50, 60, 70), of=(0, 1, 2)), alike((80, 90), of=(3, 4))  # no network twice
    usual = trained("full", first, spec=recipe_of())
    other = trained("full", second, **{"spec": recipe_of(), **more})  # type: ignore[arg-type]
    for rest in (trained("dm", NEAR), []):
        with pytest.raises(ValueError, match=message):
            compare(frame(usual, other, rest))


def test_an_architecture_in_two_precisions_is_refused() -> None:
    rows = [
        row | {"compute": f"eager, {'bfloat16' if row['repeat'] else 'float32'}"}
        for row in trained("full", {arch: [(value, value)] * 2 for arch, value in enumerate((50.0, 60.0, 70.0))})
    ]
    with pytest.raises(ValueError, match="dtype of an architecture bfloat16 and float32"):
        compare(frame(rows, trained("dm", NEAR)))
    # Architectures may differ: a run chooses what is faster for each.
    truth = trained("full", TRUE)
    rows = [row | {"compute": f"eager, {'bfloat16' if row['arch'] == '1' else 'float32'}"} for row in truth]
    assert len(compare(frame(rows, trained("dm", NEAR)))) == 2


@pytest.mark.parametrize(("more", "differs"), [({"recipe": "nas"}, "recipe nas and dm"),
                                               ({"spec": recipe_of(lr=0.1)}, "lr 0.1 and 0.01")])  # fmt: skip
def test_a_proxy_of_another_recipe_than_the_truth_is_refused(more: dict[str, str], differs: str) -> None:
    proxy = trained("dm", NEAR, **{"spec": recipe_of(), **more})  # type: ignore[arg-type]
    message = f"dm and the truth were trained by different recipes: {differs}; compare networks of one recipe"
    with pytest.raises(ValueError, match=message):
        compare(frame(trained("full", TRUE, spec=recipe_of()), proxy))


def test_a_proxy_may_have_its_own_epochs_and_precision() -> None:
    proxy = trained("dm", NEAR, spec=recipe_of(epochs=200, dtype="bfloat16", compute="compiled"))
    assert len(compare(frame(trained("full", TRUE, spec=recipe_of()), proxy))) == 2


def test_repeats_without_a_network_are_left_out() -> None:
    """A column of them alone would draw once more, and two proxies no longer the same truth."""
    more = {**TRUE, 4: [(90.0, 90.0), (91.0, 91.0)]}
    rows = frame(trained("full", more), trained("dm", NEAR))
    (proxy,) = (each for each in compare(rows) if not each.is_truth)
    assert proxy.truth.test.shape == (5, 2)
    some = proxy.select(["0", "1"])
    assert (some.truth.validation.tolist(), some.truth.test.tolist()) == ([[50], [60]], [[50], [60]])
    assert proxy.select(["0", "4"]).truth.test.shape == (2, 2)


def test_axes_of_names() -> None:
    axes = parse_axes([MODELS[0], MODELS[719]])
    assert axes.to_numpy().tolist() == [[32, 1, "nonorm", "sigmoid", "nopooling"],
                                        [256, 4, "groupnorm", "leakyrelu", "avgpooling"]]  # fmt: skip
    with pytest.raises(ValueError, match="resnet18: axes are told by names such as convnet-d3-w32"):
        parse_axes(["resnet18"])


def test_the_space_of_these_tests_is_the_published_one(published: Path) -> None:
    space = pd.read_csv(published / "nas_space_720.csv", keep_default_na=False)
    norms, poolings = space["norm"].replace("none", "nonorm"), space["pooling"].replace("none", "nopooling")
    parts = zip(space["depth"], space["width"], norms, space["act"], poolings, strict=True)
    assert ["convnet-d{}-w{}-{}-{}-{}".format(*of_one) for of_one in parts] == MODELS
