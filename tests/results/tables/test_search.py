import json
import math
from pathlib import Path

import pytest
from pandas import DataFrame

from harness.results import rows
from harness.results.published.values import searches_for
from harness.results.tables.columns import Table
from harness.results.tables.pairs import nas_pairs
from harness.results.tables.search import PICKED, SEARCHES, STATISTICS, nas_table
from harness.results.tables.search_records import rank_records
from harness.results.tables.text import to_text
from tests.results.files import write_rows
from tests.results.searched import MODELS, NEAR, TRUE, Row, alike, condensed, frame, trained, zero_cost

NAN = math.nan
# Of the five of TRUE it puts first what is truly second: regret 10; rank differences 0 0 0 1 -1.
OFF = alike((20, 25, 30, 45, 40))


def line_of(*parts: list[Row], memory: str = "dm") -> dict[str, object]:
    table = nas_table(frame(*parts), draws=20)
    lines = table[table["memory"] == memory]
    assert len(lines) == 1
    return {str(name): value for name, value in lines.iloc[0].items()}


def is_missing(value: object) -> bool:
    return math.isnan(float(str(value)))


def test_a_proxy_beside_the_truth_by_hand() -> None:
    line = line_of(trained("full", TRUE), trained("dm", NEAR))
    assert (line["architectures"], line["not_shared"]) == (5, 0)
    assert line["spearman_rho"] == pytest.approx(0.9)
    assert line["kendall_tau_b"] == pytest.approx(0.8)
    assert (line["regret_at_1"], line["regret_at_5_percent"], line["best_rank_at_5_percent"]) == (0, 0, 1)
    assert (line["performance"], line["selected"]) == (90, MODELS[4])
    # 5 % and 20 % of five are one: too few for a rho, but the one is the right one.
    assert (line["n_5_percent"], line["n_20_percent"], line["top_k_agreement_at_5_percent"]) == (1, 1, 1)
    assert is_missing(line["spearman_rho_best_5_percent"])
    assert float(str(line["spearman_rho_low"])) <= 0.9 <= float(str(line["spearman_rho_high"]))
    other = line_of(trained("full", TRUE), trained("dm", OFF))
    assert (other["performance"], other["regret_at_1"], other["best_rank_at_5_percent"]) == (80, 10, 2)
    assert other["top_k_agreement_at_5_percent"] == 0


def test_selection_is_by_validation_and_the_truth_by_test() -> None:
    # By validation the truth would pick 1 and the proxy 0; test accuracies say the opposite of both.
    truth = {0: [(10.0, 90.0)], 1: [(20.0, 80.0)], 2: [(5.0, 70.0)]}
    proxy = {0: [(60.0, 1.0)], 1: [(50.0, 2.0)], 2: [(40.0, 3.0)]}
    both = trained("full", truth), trained("dm", proxy)
    line = line_of(*both)
    assert (line["performance"], line["regret_at_1"], line["spearman_rho"]) == (90, 0, 1)
    itself = line_of(*both, memory="full")
    assert (itself["performance"], itself["regret_at_1"]) == (80, 10)
    assert is_missing(itself["spearman_rho"])
    assert is_missing(itself[PICKED])


def test_the_papers_rho_is_within_the_proxys_own_top() -> None:
    # Of 60 architectures the proxy's validation picks 57 58 59 (5 %), whose test accuracies are in the opposite order.
    truth = alike([float(arch) for arch in range(60)])
    proxy = {arch: [(float(arch), 100.0 - arch)] for arch in range(60)}
    line = line_of(trained("full", truth), trained("dm", proxy))
    assert (line["n_5_percent"], line[PICKED], line["spearman_rho"]) == (3, pytest.approx(-1), 1)


def test_a_mean_over_repeats_and_its_interval() -> None:
    truth = {0: [(1.0, 10.0), (1.0, 12.0)], 1: [(1.0, 46.0), (1.0, 48.0)], 2: [(1.0, 20.0), (1.0, 20.0)]}
    proxy = {0: [(5.0, 5.0)], 1: [(4.0, 4.0), (8.0, 8.0), (6.0, 6.0)], 2: [(1.0, 1.0)]}
    line = line_of(trained("full", truth), trained("dm", proxy))
    # Means 11 47 20 and 5 6 1. Of 46 and 48: std sqrt(2), t(df 1) = 12.7062, half width 12.7062 sqrt(2) / sqrt(2).
    assert (line["performance"], line["repeats"], line["true_repeats"]) == (47, 3, 2)
    assert line["performance_high"] == pytest.approx(47 + 12.7062, abs=1e-3)
    assert line["spearman_rho"] == pytest.approx(0.5)  # ranks 1 3 2 and 2 3 1: 1 - 6 x 2 / (3 x 8)
    # The two networks of the truth rank alike, 1 3 2 both.
    assert (line["noise_ceiling"], line["halves"]) == (pytest.approx(1), "1 against 1")
    assert is_missing(line_of(trained("full", TRUE), trained("dm", NEAR))["noise_ceiling"])


def test_only_shared_architectures_count() -> None:
    truth, proxy = alike((50, 60, 70), of=(0, 10, 9)), alike((1, 3, 2, 9), of=(0, 10, 9, 700))
    line = line_of(trained("full", truth), trained("dm", proxy, seconds=60))
    assert (line["architectures"], line["not_shared"], line["minutes"]) == (3, 1, 3)
    assert line["spearman_rho"] == pytest.approx(0.5)  # ids 0 9 10: truth 1 3 2, proxy 1 2 3
    none = line_of(trained("full", TRUE), trained("dm", alike((1,), of=(99,))))
    assert (none["architectures"], none["not_shared"], none["selected"]) == (0, 6, "")
    statistics = (*STATISTICS, "performance", "minutes", "weighted_tau", "noise_ceiling", "at_chance")
    assert all(is_missing(none[name]) for name in statistics)


def test_a_constant_proxy_has_no_rho() -> None:
    line = line_of(trained("full", TRUE), trained("dm", alike((10.0,) * 5)))
    correlations = ("spearman_rho", "kendall_tau_b", "weighted_tau")
    assert all(is_missing(line[name]) for name in correlations)
    assert all(is_missing(line[f"spearman_rho_{end}"]) for end in ("low", "high"))
    assert (line["tied"], line["true_tied"]) == (5, 0)
    # Any of 50 60 70 80 90 may be picked first.
    picks = [line[name] for name in ("regret_at_1", "best_rank_at_5_percent", "performance")]
    assert picks == pytest.approx([20, 3, 70])
    assert (line["selected"], line["top_k_agreement_at_20_percent"]) == ("5 tied", 0.2)
    assert is_missing(line["performance_low"])


def test_networks_that_diverged_are_last_and_counted() -> None:
    proxy = {**NEAR, 4: [(45.0, 45.0), (NAN, NAN)]}
    line = line_of(trained("full", TRUE), trained("dm", proxy))
    # Truth 1 2 3 4 5, proxy 20 30 25 40 -inf, ranks 2 4 3 5 1: 1 - 6 (1 + 4 + 0 + 1 + 16) / 120.
    assert (line["diverged"], line["true_diverged"], line["repeats"]) == (1, 0, 2)
    assert line["spearman_rho"] == pytest.approx(1 - 6 * 22 / 120)
    assert (line["performance"], line["regret_at_1"]) == (80, 10)
    failed = line_of(trained("full", {**TRUE, 4: [(NAN, NAN)]}), trained("dm", NEAR))
    assert (failed["true_diverged"], failed["regret_at_1"]) == (1, math.inf)
    assert is_missing(failed["performance"])


def test_at_chance_and_tied() -> None:
    # The bound for 10 classes and 10,000 images is 10.9 %.
    truth = alike((10.0, 10.0, 10.8, 11.0, 60.0))
    line = line_of(trained("full", truth), trained("dm", NEAR))
    assert (line["at_chance"], line["true_tied"], line["tied"]) == (3, 2, 0)
    own = {"dataset": "folder:mine"}
    assert is_missing(line_of(trained("full", truth, **own), trained("dm", NEAR, **own))["at_chance"])  # type: ignore[arg-type]


def test_numbers_that_need_no_training_are_proxies() -> None:
    table = nas_table(frame(trained("full", TRUE), zero_cost("params", {arch: 9.0 - arch for arch in range(5)})), 20)
    line = table.set_index("memory").loc["params"]
    assert (line["spearman_rho"], line["performance"], line["league"]) == (-1, 50, "")
    assert is_missing(line["minutes"])


def test_costs() -> None:
    truth, proxy = trained("full", TRUE, seconds=600), trained("dm", NEAR, seconds=12)
    parts = [condensed("dm", 250, 60, part) for part in "ab"]
    line = line_of(truth, proxy, *parts, parts[0])  # a part met twice counts once
    assert (line["minutes"], line["condensing_minutes"], line["images"]) == (1, 2, 500)
    assert is_missing(line_of(truth, proxy)["images"])
    assert line_of(truth, proxy, *parts, memory="full")["minutes"] == 50
    assert is_missing(line_of(truth, trained("dm", NEAR, seconds=NAN))["minutes"])


def test_published_values_stand_beside_the_papers_setting_only() -> None:
    setting: Row = {"dataset": "cifar10", "preset": "paper", "space": "convnet720", "architectures": 720, "ipc": 50}
    others: list[Row] = [
        {"ipc": 10},
        {"preset": "quick"},
        {"architectures": 719},
        {"dataset": "cifar100"},
        {"space": "x"},
    ]
    lines = [
        *(setting | {"memory": memory} for memory in ("random", "dsa", "dm", "herding")),
        *(setting | {"memory": memory, "ipc": None} for memory in ("early-stopping", "full", "params")),
        *(setting | {"memory": "dm"} | other for other in others),
    ]
    found = searches_for(DataFrame(lines).astype({"ipc": "Int64"}))
    assert list(found) == ["published_performance", "published_rho", "published_minutes"]
    missing = [-1, -1, -1]
    assert found.fillna(-1).to_numpy().tolist() == [  # DM paper, Table 5
        [84.0, -0.04, 142.6], [82.6, 0.68, 142.6], [82.8, 0.76, 142.6], missing,
        [84.3, 0.11, 142.6], [85.9, 1.0, 3580.2], *[missing] * 6,
    ]  # fmt: skip
    assert all(is_missing(line_of(trained("full", TRUE), trained("dm", NEAR))[str(name)]) for name in found)  # 5


@pytest.mark.parametrize(
    "other", [{"preset": "quick"}, {"dataset": "cifar100"}, {"dataset_digest": "d2"}, {"space": "mine"}]
)
def test_settings_that_never_mix_have_lines_of_their_own(other: dict[str, str]) -> None:
    rows = [trained("full", TRUE), trained("dm", NEAR), trained("full", TRUE, **other), trained("dm", OFF, **other)]  # type: ignore[arg-type]
    table = nas_table(frame(*rows), draws=20)
    assert sorted(table.loc[table["memory"] == "dm", "regret_at_1"]) == [0, 10]
    assert len(nas_pairs(frame(*rows), draws=20)) == 0  # one proxy each
    with pytest.raises(ValueError, match="no truth for dm on"):
        nas_table(frame(*rows[:2], rows[3]))


def test_variants_of_a_proxy_have_lines_of_their_own() -> None:
    variants = [trained("dm", NEAR), trained("dm", OFF, ipc=10), trained("dm", OFF, changes="memory.lr=2")]
    everything = frame(trained("full", TRUE), *variants)
    table = nas_table(everything, draws=20)
    assert table["regret_at_1"].tolist() == [10, 0, 10, 0]  # rho is 0.9 for all: by ipc, then changes
    assert table["note"].tolist() == ["", "", "(memory.lr=2)", ""]
    pairs = nas_pairs(everything, draws=20)
    assert set(pairs["first"]) | set(pairs["second"]) == {"dm, 50 per class", "dm, 10 per class",
                                                          "dm, 50 per class, memory.lr=2"}  # fmt: skip


def test_networks_of_the_truth_count_once() -> None:
    again = [row | {"changes": "memory.lr=2"} for row in trained("full", TRUE)]  # the same networks: the same keys
    line = line_of(trained("full", TRUE), again, trained("dm", NEAR))
    assert (line["true_repeats"], line["architectures"]) == (1, 5)


def test_minutes_of_two_devices_are_not_summed() -> None:
    proxy = [row | {"device": "B" if row["arch"] == "0" else "A"} for row in trained("dm", NEAR)]
    parts = condensed("dm", 250, 60, "a", device="A"), condensed("dm", 250, 60, "b", device="B")
    line = line_of(trained("full", TRUE, device="A"), proxy, *parts)
    assert is_missing(line["minutes"])
    assert is_missing(line["condensing_minutes"])
    assert (line["minutes_device"], line["condensing_device"]) == ("A and B", "A and B")
    assert line_of(trained("full", TRUE, device="A"), proxy, memory="full")["minutes_device"] == "A"


def test_no_truth_says_what_to_run() -> None:
    message = "no truth for dm on cifar10, preset quick: .* run `harness run nas --proxy full --dataset cifar10 --pre"
    with pytest.raises(ValueError, match=message):
        nas_table(frame(trained("dm", NEAR, preset="quick")))
    with pytest.raises(ValueError, match="none of the 1 rows is a result of track nas"):
        nas_table(frame(condensed("dm", 500, 1.0)))


def test_leagues_stand_apart_proxy_sets_first() -> None:
    table = nas_table(
        frame(
            zero_cost("params", {arch: float(arch) for arch in range(5)}),
            trained("early-stopping", NEAR),
            trained("full", TRUE),
            trained("random", OFF),
            trained("dm", alike((5.0, 4.0, 3.0, 2.0, 1.0))),
            trained("idc", NEAR, league="storage"),
        ),
        draws=20,
    )
    expected = [("pixel", "random"), ("pixel", "dm"), ("storage", "idc"), ("full", "early-stopping"), ("full", "full"),
                ("", "params")]  # fmt: skip
    assert list(table[["league", "memory"]].itertuples(index=False, name=None)) == expected


def test_text_of_a_table() -> None:
    truth = {arch: [(value, value), (value, value + 2)] for arch, value in enumerate((50.0, 60.0, 70.0, 80.0, 90.0))}
    table = nas_table(frame(trained("full", truth, preset="smoke"), trained("dm", NEAR, preset="smoke")), draws=20)
    low, high = table["spearman_rho_low"][0], table["spearman_rho_high"][0]
    markdown = to_text(Table(table, SEARCHES), "md")
    assert f"| 0.90 [{low:.2f}, {high:.2f}] |" in markdown
    assert "dm (smoke: not a result)" in markdown
    assert "space convnet720" in markdown.splitlines()[0]
    # 90 and 92: std sqrt(2), half width 12.7062.
    assert "| 91.0 [78.3, 103.7] |" in markdown
    assert "nan" not in markdown


def test_the_table_survives_a_file(tmp_path: Path) -> None:
    some = frame(trained("full", TRUE), trained("dm", NEAR), condensed("dm", 500, 6.0),
                 zero_cost("params", {arch: float(arch) for arch in range(5)}))  # fmt: skip
    write_rows(some.to_dict("records"), tmp_path / "rows.csv")
    again: DataFrame = rows.read(tmp_path)
    assert nas_table(again, draws=20).equals(nas_table(some, draws=20))


def test_early_stopping_is_marked_if_a_short_truth_favours_it() -> None:
    def specified(memory: str, epochs: int, ipc: int | None = None) -> list[Row]:
        spec = json.dumps({"recipe": {"epochs": epochs, "batch_size": 128}})
        accuracies = TRUE if memory == "full" else NEAR
        return trained(memory, accuracies, epochs=epochs, spec=spec, preset="quick", ipc=ipc)

    # 45,000 images in batches of 128 are 352 updates an epoch; 10 images of 10 classes are one batch.
    quick = frame(specified("full", 2), specified("early-stopping", 200, ipc=10), specified("dm", 200, ipc=10))
    notes = nas_table(quick, draws=10).set_index("memory")["note"]
    favour = "(favoured by this short truth: same images, same starts, 200 of its 704 updates)"
    assert notes.to_dict() == {"full": "", "early-stopping": favour, "dm": ""}
    long = frame(specified("full", 100), specified("early-stopping", 200, ipc=10))
    assert set(nas_table(long, draws=10)["note"]) == {""}


def test_the_ceiling_of_the_mean_stands_beside_that_of_half() -> None:
    # Ranks 1 2 3 4 5 and 2 1 3 5 4: squares 1 1 0 1 1, rho 1 - 6 x 4 / 120 = 0.8; sqrt(1.6 / 1.8) = 0.9428.
    halves = {arch: [(a, a), (b, b)] for arch, (a, b) in enumerate(((1.0, 2.0), (2, 1), (3, 3), (4, 5), (5, 4)))}
    table = nas_table(frame(trained("full", halves), trained("dm", NEAR)), draws=10)
    assert table["noise_ceiling"].tolist() == pytest.approx([0.8, 0.8])
    assert table["noise_ceiling_of_mean"].tolist() == pytest.approx([0.9428, 0.9428], abs=1e-4)
    headings = {column.name: column.title for column in SEARCHES.columns}
    assert "of half of the truth's trainings" in headings["noise_ceiling"]
    assert "of both halves' mean" in headings["noise_ceiling_of_mean"]


def test_rank_records_are_json_with_intervals_and_n() -> None:
    table = nas_table(
        frame(trained("full", TRUE), trained("dm", NEAR), zero_cost("params", {0: 1.0, 1: 2.0})), draws=20
    )
    records = json.loads(json.dumps(rank_records(table), allow_nan=False))
    of = {record["memory"]: record for record in records}
    line = table.set_index("memory").loc["dm"]
    assert of["dm"]["spearman_rho"] == {
        "value": 0.9, "low": line["spearman_rho_low"], "high": line["spearman_rho_high"], "n": 5,
    }  # fmt: skip
    assert of["dm"]["kendall_tau_b"]["value"] == pytest.approx(0.8)
    assert of["dm"]["regret_at_5_percent"]["n"] == 1
    assert of["dm"]["performance"] == {"value": 90, "low": None, "high": None, "n": 1}
    assert (of["dm"]["n"], of["dm"]["ipc"], of["dm"]["selected"]) == (5, 50, MODELS[4])
    assert (of["full"]["spearman_rho"]["value"], of["full"]["ipc"]) == (None, None)
    assert of["params"]["n"] == 2
