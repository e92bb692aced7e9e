import math

import pandas as pd
import pytest

from harness.results.statistics.comparisons import AXES
from harness.results.tables.pairs import holm, nas_pairs, nas_partial
from tests.results.searched import NEAR, TRUE, alike, frame, trained

# Of the five of TRUE it puts first what is truly second: regret 10; rank differences 0 0 0 1 -1.
OFF = alike((20, 25, 30, 45, 40))


def test_pairs_by_hand() -> None:
    everything = frame(trained("full", TRUE), trained("dm", NEAR), trained("dsa", OFF), trained("random", TRUE))
    pairs = nas_pairs(everything, draws=20).set_index(["statistic", "first", "second"])
    assert len(pairs) == 9
    assert pairs["advantage"]["spearman_rho", "random", "dm"] == pytest.approx(0.1)
    assert pairs["advantage"]["regret_at_1", "dm", "dsa"] == 10  # the smaller regret first
    assert pairs["advantage"]["regret_at_1", "random", "dsa"] == 10
    assert set(pairs["architectures"]) == {5, 1}
    assert pairs["p"].dropna().between(0, 1).all()
    same = frame(trained("full", TRUE), trained("dm", NEAR), trained("dsa", NEAR))
    line = nas_pairs(same, draws=20).iloc[0]
    assert (line["advantage"], line["advantage_low"], line["advantage_high"], line["p"]) == (0, 0, 0, 1)


def test_the_p_of_several_comparisons_by_hand() -> None:
    # Ascending: 0.01 x 3, 0.02 x 2, 0.5 x 1; then 0.02 x 3, 0.025 x 2 (less than the one before it), 0.9 x 1.
    for p, adjusted in (((0.5, 0.01, 0.02), (0.5, 0.03, 0.04)), ((0.02, 0.025, 0.9), (0.06, 0.06, 0.9))):
        assert holm(pd.Series(p)).tolist() == pytest.approx(adjusted)
    assert holm(pd.Series([0.6, math.nan, 0.4])).tolist() == pytest.approx([0.8, math.nan, 0.8], nan_ok=True)
    assert holm(pd.Series([0.6, 0.7], index=[4, 2])).to_dict() == {4: 1.0, 2: 1.0}
    everything = frame(trained("full", TRUE), trained("dm", NEAR), trained("dsa", OFF), trained("random", TRUE))
    pairs = nas_pairs(everything, draws=20)
    for _, part in pairs.groupby("statistic"):
        assert part["p_holm"].tolist() == pytest.approx(holm(part["p"]).tolist(), nan_ok=True)


def test_pairs_are_on_what_both_have() -> None:
    few = alike((30, 25, 40), of=(1, 2, 3))
    pairs = nas_pairs(frame(trained("full", TRUE), trained("dm", few), trained("dsa", OFF)), draws=20)
    rho = pairs[pairs["statistic"] == "spearman_rho"].iloc[0]
    # Of 1 2 3 the truth is 1 2 3, dm 2 1 3 (rho 0.5), dsa 1 2 3.
    assert (rho["first"], rho["architectures"], rho["advantage"]) == ("dsa", 3, pytest.approx(0.5))


def test_partial_correlations_by_hand() -> None:
    # Ids 0 1 are sigmoid, 3 4 relu, otherwise alike but for the pooling: relu is better, and the proxy knows that only.
    truth, proxy = alike((1.0, 2.0, 3.0, 4.0), of=(0, 1, 3, 4)), alike((2.0, 1.0, 4.0, 3.0), of=(0, 1, 3, 4))
    table = nas_partial(frame(trained("full", truth), trained("dm", proxy)), draws=20).set_index("given")
    assert list(table.index) == ["nothing", *AXES, "all axes"]
    assert table["partial_rho"]["nothing"] == pytest.approx(0.6)
    assert table["partial_rho"]["width"] == pytest.approx(0.6)  # all are alike in it
    assert table["partial_rho"]["activation"] == pytest.approx(-1)
    # Given the pooling: ranks less their means, truth -1 -1 1 1, proxy -1 -1 1 1.
    assert table["partial_rho"]["pooling"] == pytest.approx(1)
    assert math.isnan(table["partial_rho"]["all axes"])  # activation and pooling tell the truth in full
    assert set(table["architectures"]) == {4}
