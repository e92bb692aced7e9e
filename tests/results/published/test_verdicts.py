import math
from dataclasses import replace

import pytest
from pandas import DataFrame

from harness.commands.show import show
from harness.results import rows as rowfiles
from harness.results.published import verdicts
from harness.results.published.reproductions import PICKED, REPRODUCTIONS, Cell, Printed
from harness.results.published.verdicts import COLUMNS, Wanted, allowance, decide, judge, to_table
from tests.results import searched
from tests.results.condensed import CONVNET3, TWO_BY_TWO, frame, networks

# What rows say of the run behind a cell: those of `condensed.networks`.
DM = {"dataset": "cifar10", "split": "test", "preset": "paper", "changes": "", "memory": "dm", "ipc": 10,
      "recipe": "dm", "model": CONVNET3, "memory_model": CONVNET3}  # fmt: skip


def wanted(printed: Printed, preset: str = "paper", missing: str = "", **columns: object) -> Wanted:
    cell = Cell("cifar10/dm/10", "condense", {"dataset": "cifar10"}, printed=printed)
    return Wanted(cell, preset, {**DM, "preset": preset, **columns}, missing)


def judged(printed: Printed, rows: DataFrame, **more: str) -> dict[str, object]:
    (line,) = judge([wanted(printed, **more)], rows).to_dict("records")
    return {str(name): value for name, value in line.items()}


# --- the rule -------------------------------------------------------------------------------------------------------


def test_the_allowance_by_hand() -> None:
    # Ours 3; theirs 1.96 x 2 / sqrt(5) = 1.7530: the root of 9 + 3.0731 is 3.4746; half a digit more.
    assert allowance(3.0, Printed(std=2.0, reading=0.05)) == pytest.approx(3.4746 + 0.05, abs=1e-4)


def test_without_a_printed_deviation_rounding_alone_counts() -> None:
    assert allowance(3.0, Printed(reading=0.05)) == pytest.approx(3.05)


def test_a_printed_deviation_stands_in_for_an_interval() -> None:
    # 1.96 x 2 = 3.9199 for one of ours, 1.7530 for the mean of their five: the root of 15.3658 + 3.0731 is 4.2941.
    assert allowance(math.nan, Printed(std=2.0, reading=0.0)) == pytest.approx(4.2941, abs=1e-4)
    assert math.isnan(allowance(math.nan, Printed(reading=0.05)))


@pytest.mark.parametrize(
    ("difference", "allowed", "expected"),
    [
        (0.0, 0.5, "within"),
        (0.5, 0.5, "within"),
        (-0.5, 0.5, "within"),
        (0.51, 0.5, "above"),
        (-0.51, 0.5, "below"),
        (-0.3 + 0.2, 0.1, "within"),  # -0.1 but for the last bit
        (3.0, math.nan, "undecided"),
        (math.nan, 0.5, "unpublished"),
    ],
)
def test_the_verdict_by_hand(difference: float, allowed: float, expected: str) -> None:
    assert decide(difference, allowed) == expected


def test_a_wider_interval_is_never_stricter() -> None:
    verdicts_by_half = [decide(-2.0, allowance(half, Printed(std=0.5, reading=0.05))) for half in (0.5, 1.5, 2.5)]
    assert verdicts_by_half == ["below", "below", "within"]


# --- cells ----------------------------------------------------------------------------------------------------------


def test_a_cell_by_hand() -> None:
    # TWO_BY_TWO: mean 48, half width 12.7062 over two sets. Theirs 1.96 x 0.6 / sqrt(5) = 0.5259; the root of
    # 161.4475 + 0.2766 is 12.7171; half a digit more.
    line = judged(Printed(48.9, 0.6, 0.05, "DM paper"), frame(networks()))
    assert list(line) == list(COLUMNS)
    assert [line[name] for name in ("ours", "ours_low", "ours_high")] == pytest.approx([48, 35.2938, 60.7062], abs=1e-3)
    assert (line["difference"], line["allowance"]) == pytest.approx((-0.9, 12.7671), abs=1e-3)
    # 12.7062 is more than one set is allowed, 1.96 x 0.6 = 1.1760.
    assert (line["verdict"], line["n"], line["varies"]) == ("undecided", "2 sets x 2 nets", "sets")
    assert (line["source"], line["exactness"], line["note"]) == ("DM paper", "official", verdicts.TOO_WIDE)


@pytest.mark.parametrize(("published", "expected"), [(48.9, "undecided"), (70.0, "below"), (20.0, "above")])
def test_above_and_below_are_ours_against_theirs(published: float, expected: str) -> None:
    assert judged(Printed(published, 0.6, 0.05), frame(networks()))["verdict"] == expected


def test_few_sets_are_not_rewarded() -> None:
    # Against 26.0 (0.8): one set is allowed 1.77, so 21.6 is below; the interval of two sets about it, 4.6, holds 26.
    printed = Printed(26.0, 0.8, 0.05)
    one = {(0, 0): 21.5, (0, 1): 21.7}
    two = {(0, 0): 21.6 - 4.5 / 12.7062, (1, 0): 21.6 + 4.5 / 12.7062}  # half width 4.5
    assert judged(printed, frame(networks(one)))["verdict"] == "below"
    line = judged(printed, frame(networks(two)))
    assert line["allowance"] == pytest.approx(4.6, abs=0.05)
    assert (line["verdict"], line["note"]) == ("undecided", verdicts.TOO_WIDE)
    five = {(number, 0): 25.3 + shift for number, shift in enumerate((-0.8, -0.4, 0.0, 0.4, 0.8))}
    assert judged(printed, frame(networks(five)))["verdict"] == "within"  # half width 2.7764 x 0.6325 / sqrt(5) = 0.79


def test_one_set_is_no_interval() -> None:
    one = frame(networks({key: value for key, value in TWO_BY_TWO.items() if key[0] == 0}))
    # 47 against 47.5: the printed deviation decides, where there is one.
    assert judged(Printed(47.5, 0.6, 0.05), one)["verdict"] == "within"
    assert judged(Printed(47.5, reading=0.05), one)["verdict"] == "undecided"
    assert judged(Printed(47.5, reading=0.05), one)["varies"] == "nets"


def test_one_value_is_undecided_whatever_is_printed() -> None:
    line = judged(Printed(47.5, 0.6, 0.05), frame(networks({(0, 0): 47.0})))
    assert (line["verdict"], line["note"], line["n"]) == ("undecided", "one value, no interval", "1 set x 1 net")
    assert math.isnan(float(str(line["allowance"])))


def test_networks_on_all_the_data_have_an_interval() -> None:
    full: dict[str, object] = {"memory": "full", "league": "full", "ipc": None, "memory_model": "", "iterations": None}
    rows = frame([row | full for row in networks(uint8=None)])
    cell = replace(wanted(Printed(48.9, reading=0.05)), columns=DM | full)
    (line,) = judge([cell], rows).to_dict("records")
    # 46 48 47 51: mean 48, std sqrt(14 / 3) = 2.1602, t(df 3) = 3.1824, half width 3.4374; half a digit more.
    assert (line["ours"], line["n"], line["varies"], line["verdict"]) == (48, "4 nets", "nets", "within")
    assert line["allowance"] == pytest.approx(3.4374 + 0.05, abs=1e-3)


def test_each_metric_of_a_search_has_its_own_n() -> None:
    truth = {arch: [(50.0 + arch, 50.0 + arch), (50.0 + arch, 51.0 + arch)] for arch in range(60)}
    rows = searched.frame(searched.trained("full", truth), searched.trained("dm", searched.alike(list(range(60)))))
    columns = {"dataset": "cifar10", "preset": "paper", "memory": "dm", "ipc": 50, "split": "test"}
    cells = [Cell(metric, "nas", {"dataset": "cifar10"}, metric, printed=Printed(1.0, reading=0.05))
             for metric in ("performance", PICKED)]  # fmt: skip
    table = judge([Wanted(cell, "paper", columns) for cell in cells], rows)
    assert table["n"].tolist() == ["2 repeats of the selected", "3 architectures"]
    assert table["varies"].tolist() == ["repeats", "architectures"]


@pytest.mark.parametrize(("published", "expected"), [(110.0, "within"), (100.0, "above"), (120.0, "below")])
def test_a_selected_accuracy_is_judged_by_its_repeats(published: float, expected: str) -> None:
    # The proxy selects arch 59, of 109 and 110: mean 109.5, half width 12.7062 x 0.7071 / sqrt(2) = 6.3531.
    truth = {arch: [(50.0 + arch, 50.0 + arch), (50.0 + arch, 51.0 + arch)] for arch in range(60)}
    rows = searched.frame(searched.trained("full", truth), searched.trained("dm", searched.alike(list(range(60)))))
    columns = {"dataset": "cifar10", "preset": "paper", "memory": "dm", "ipc": 50, "split": "test"}
    cell = Cell("dm/accuracy", "nas", {"dataset": "cifar10"}, "performance", printed=Printed(published, reading=0.05))
    line = judge([Wanted(cell, "paper", columns)], rows).iloc[0]
    assert line["allowance"] == pytest.approx(6.3531 + 0.05, abs=1e-3)
    assert line["verdict"] == expected


def test_without_rows_it_is_not_run_and_no_number_is_made_up() -> None:
    line = judged(Printed(48.9, 0.6, 0.05), rowfiles.to_frame([]))
    assert (line["verdict"], line["n"]) == ("not run", "")
    assert all(math.isnan(float(str(line[name]))) for name in ("ours", "ours_low", "ours_high", "difference"))


@pytest.mark.parametrize(
    ("column", "value"),
    [("dataset", "cifar100"), ("memory", "dsa"), ("ipc", 50), ("recipe", "dc"), ("model", "mlp"), ("memory_model", "x"),
     ("split", "validation"), ("preset", "quick"), ("changes", "memory.lr=2")],
)  # fmt: skip
def test_rows_of_another_run_are_not_taken(column: str, value: object) -> None:
    rows = frame([row | {column: value} for row in networks()])
    assert judged(Printed(48.9, 0.6, 0.05), rows)["verdict"] == "not run"


def test_short_names_are_the_same_network() -> None:
    rows = frame(networks(model="convnet3", memory_model="convnet3"))
    assert judged(Printed(48.9, reading=0.05), rows)["verdict"] == "within"


def test_a_run_judged_on_the_way_counts_at_its_end() -> None:
    early = networks({(0, 0): 10.0, (1, 0): 12.0}, iterations=1000)
    assert judged(Printed(48.9, 0.6, 0.05), frame(networks(), early))["ours"] == 48


def test_what_is_missing_is_said() -> None:
    line = judged(Printed(65.4, 0.7, 0.05), frame(networks()), missing="no builder mtt")
    assert (line["verdict"], line["note"]) == ("not run", "no builder mtt")


def test_data_that_are_not_the_official_ones_are_noted() -> None:
    line = judged(Printed(48.9, reading=0.05), frame(networks(exactness="as listed: 96 images lossy")))
    assert (line["verdict"], line["note"]) == ("within", "data as listed: 96 images lossy")


def test_another_preset_gets_no_verdict() -> None:
    line = judged(Printed(48.9, 0.6, 0.05), frame(networks(preset="quick")), preset="quick")
    assert (line["verdict"], line["ours"]) == ("not judged", 48)
    table = judge([wanted(Printed(48.9, 0.6, 0.05), "quick")] * 8, frame(networks(preset="quick")))
    assert verdicts.count_verdicts(table) == "8 not judged (quick preset)"
    assert "NOT THE PAPER'S" in verdicts.caption("quick")
    assert verdicts.caption("paper") == ""


def test_two_runs_that_fit_one_cell_are_refused() -> None:
    rows = frame(networks(), networks(dataset_digest="d2"))
    with pytest.raises(ValueError, match=r"cifar10/dm/10: rows of 2 runs fit it; .*dataset_digest d1 or d2"):
        judge([wanted(Printed(48.9, 0.6, 0.05))], rows)


def test_a_stream_by_hand() -> None:
    cell = Cell("10-steps/dm", "cl", {"dataset": "cifar100"}, "last_accuracy", printed=Printed(34.6, reading=0.05))
    setting = {"dataset": "cifar100", "split": "test", "preset": "paper", "changes": "", "memory": "dm", "ipc": 20,
               "recipe": "dm", "model": CONVNET3, "steps": 10}  # fmt: skip
    rows = rowfiles.to_frame(
        setting | {"track": "cl", "league": "pixel", "metric": "last_accuracy", "unit": "%", "order": str(order),
                   "repeat": 0, "classes_seen": 100, "stored_bytes": 1024, "value": value}
        for order, value in enumerate((33.0, 34.0, 35.0))
    )  # fmt: skip
    line = judge([Wanted(cell, "paper", setting)], rows).iloc[0]
    # Orders 33, 34, 35: std 1, t(df 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.4841; half a digit more.
    assert (line["ours"], line["allowance"], line["verdict"]) == (34, pytest.approx(2.5341, abs=1e-3), "within")


def test_what_people_see() -> None:
    cells = [wanted(Printed(48.9, 0.6, 0.05)), wanted(Printed(0.52, reading=0.005), ipc=1)]
    page = to_table(judge(cells, frame(networks()))).frame.to_dict("records")
    assert page == [
        {"cell": "cifar10/dm/10", "paper": "48.9 (std 0.6)", "ours": "48.0", "95 % interval": "35.3 to 60.7",
         "n": "2 sets x 2 nets", "verdict": "undecided", "note": verdicts.TOO_WIDE},
        {"cell": "cifar10/dm/10", "paper": "0.52", "ours": "", "95 % interval": "", "n": "", "verdict": "not run",
         "note": ""},
    ]  # fmt: skip


# --- the published tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REPRODUCTIONS))
def test_every_cell_of_a_table_has_a_name_of_its_own(name: str) -> None:
    cells = REPRODUCTIONS[name].cells()
    assert cells
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(cell.printed.source for cell in cells)


@pytest.mark.parametrize(
    ("table", "name", "value", "std", "reading"),
    [
        ("table1", "cifar10/dm/10", 48.9, 0.6, 0.05),
        ("table1", "imagenet64/random/1", 0.52, math.nan, 0.005),
        ("dcc", "cifar100/dsa/50", 38.6, 0.3, 0.05),  # where the DM paper has 42.8
        ("table2-norm", "cifar100/dm/50/batchnorm", 48.0, 0.4, 0.05),
        ("cross-arch", "cifar10/dm/50/vgg11-to-resnet18", 49.1, 1.0, 0.05),
        ("network-distribution", "cifar10/dm/10/40-50", 51.1, math.nan, 0.05),
        ("larger-sets", "cifar10/random/500", 72.5, math.nan, 0.3),  # read off a figure
        ("cl-figure", "10-steps/dm", 34.6, math.nan, 0.05),
        ("nas-table", "dm/rho", 0.76, math.nan, 0.005),
        ("nas-table", "dsa/accuracy", 82.6, math.nan, 0.05),
        ("lodc", "cifar10/lo-dm/50", math.nan, math.nan, math.nan),  # no accuracy could be had
        ("dwa", "cifar100/dwa/10/resnet18", 39.6, 0.6, 0.05),
        ("generative", "cifar10/mmd-pixel/50", 50.9, 0.3, 0.05),
    ],
)
def test_values_are_those_of_the_files(table: str, name: str, value: float, std: float, reading: float) -> None:
    (cell,) = [cell for cell in REPRODUCTIONS[table].cells() if cell.name == name]
    printed = cell.printed
    assert (printed.value, printed.std, printed.reading) == pytest.approx((value, std, reading), nan_ok=True)


def test_low_rank_images_have_settings_and_no_published_values() -> None:
    assert all(math.isnan(cell.printed.value) for cell in REPRODUCTIONS["lodc"].cells())


def test_a_doubted_published_value_is_marked_wherever_it_stands() -> None:
    doubted = [cell.name for cell in REPRODUCTIONS["dcc"].cells() if cell.printed.doubt]
    assert doubted == ["svhn/dsac/1", "svhn/dsac/10", "svhn/dsac/50"]
    printed = Printed(48.9, reading=0.05, doubt="by position only")
    for rows in (frame(networks()), frame(networks(ipc=50))):  # with a number of ours, and without
        assert judged(printed, rows)["note"] == "published value unverified: by position only"
    page = " ".join(show("dcc").split())
    assert page.count(" unverified: seed header garbled (Omega); identified as DSAC by column position only") == 3
