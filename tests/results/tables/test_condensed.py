import csv
import io
import json
import math
from pathlib import Path

import pytest

from harness.results import rows
from harness.results.tables.columns import Table
from harness.results.tables.condensed import MEMORIES, condense_table
from harness.results.tables.text import to_text
from tests.results.condensed import CONVNET3, TWO_BY_TWO, Row, frame, memories, networks
from tests.results.files import write_rows


def line_of(*parts: list[Row]) -> dict[str, object]:
    table = condense_table(frame(*parts))
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


def is_missing(value: object) -> bool:
    return math.isnan(float(str(value)))


def test_accuracy_and_what_varies() -> None:
    line = line_of(networks())
    assert line["test_accuracy"] == 48.0
    assert line["test_accuracy_low"] == pytest.approx(48 - 12.7062, abs=1e-3)
    assert line["test_accuracy_high"] == pytest.approx(48 + 12.7062, abs=1e-3)
    assert line["std_between_sets"] == pytest.approx(1.4142, abs=1e-4)
    assert line["std_within_sets"] == pytest.approx(2.2361, abs=1e-4)
    assert (line["n"], line["varies"]) == ("2 sets x 2 nets", "sets")
    assert line["test_accuracy_uint8"] == 47.0  # each a point below
    assert line["test_accuracy_uint8_low"] == pytest.approx(47 - 12.7062, abs=1e-3)


def test_one_set_tells_of_its_networks_only() -> None:
    line = line_of(networks({(0, 0): 46.0, (0, 1): 48.0, (0, 2): 50.0}))
    # std 2, t(df 2) = 4.3027, half width 4.3027 * 2 / sqrt(3) = 4.9683
    assert line["test_accuracy_high"] == pytest.approx(48 + 4.9683, abs=1e-3)
    assert (line["n"], line["varies"], line["std_within_sets"]) == ("1 set x 3 nets", "nets", 2.0)
    assert is_missing(line["std_between_sets"])


def test_one_value_has_no_interval() -> None:
    rows = networks({(0, 0): 46.0})
    line = line_of(rows)
    assert (line["test_accuracy"], line["n"], line["varies"]) == (46.0, "1 set x 1 net", "nothing")
    missing = ("test_accuracy_low", "test_accuracy_high", "std_between_sets", "std_within_sets")
    assert all(is_missing(line[name]) for name in missing)
    assert "[" not in to_text(Table(condense_table(frame(rows)), MEMORIES), "md")


def test_a_memory_without_8_bits_has_no_accuracy_there() -> None:
    table = condense_table(frame(networks(memory="lodc", uint8=None), networks()))
    assert table[["memory", "test_accuracy_uint8"]].to_numpy().tolist()[0] == ["dm", 47.0]
    assert is_missing(table["test_accuracy_uint8"][1])
    assert is_missing(line_of(networks(uint8=None))["test_accuracy_uint8"])
    assert "8 bits" not in to_text(Table(condense_table(frame(networks(uint8=None))), MEMORIES), "md")


def test_what_a_memory_holds_and_costs() -> None:
    line = line_of(networks(), memories({0: 10.0}), memories({1: 30.0}, mib=300))
    assert (line["images_per_class"], line["scalars_per_class"]) == (10.0, 30720.0)
    assert line["stored_kib_per_class"] == 120.0  # 10 images of 3072 values of 4 bytes
    assert (line["condensing_seconds"], line["condensing_flop"]) == (20.0, 3.2e15)
    assert line["peak_mib"] == 300.0  # the most, not the mean


def test_a_memory_made_in_parts_costs_their_sum() -> None:
    parts = [memories({0: 10.0}, images=50, flop=1e15, part=part) for part in "ab"]
    line = line_of(networks(), *parts, parts[0])  # a part that two runs share counts once
    assert (line["images_per_class"], line["condensing_seconds"], line["condensing_flop"]) == (10.0, 20.0, 2e15)
    assert line["peak_mib"] == 100.0
    untold = memories({0: math.nan}, images=50, flop=math.nan, part="b")
    line = line_of(networks(), parts[0], untold)
    assert line["images_per_class"] == 10.0
    assert is_missing(line["condensing_seconds"])
    assert is_missing(line["condensing_flop"])


def test_what_reading_a_file_took_is_not_what_condensing_did() -> None:
    line = line_of(networks(memory="file:res.pt"), memories({0: 10.0, 1: 30.0}, flop=None, memory="file:res.pt"))
    assert is_missing(line["condensing_seconds"])
    assert is_missing(line["peak_mib"])
    assert (line["images_per_class"], line["condensing_device"]) == (10.0, "")


def test_seconds_of_two_devices_are_not_averaged_and_name_both() -> None:
    on = [memories({0: 10.0}, device="A"), memories({1: 30.0}, device="B")]
    line = line_of(networks(), *on)
    assert (line["condensing_device"], is_missing(line["condensing_seconds"])) == ("A and B", True)
    dsa = networks(memory="dsa"), memories({0: 5.0}, memory="dsa", device="B")
    table = condense_table(frame(networks(), memories({0: 10.0, 1: 30.0}, device="A"), *dsa))
    told = table.set_index("memory")[["condensing_seconds", "condensing_device"]].to_dict("index")
    assert told == {"dm": {"condensing_seconds": 20, "condensing_device": "A"},
                    "dsa": {"condensing_seconds": 5, "condensing_device": "B"}}  # fmt: skip
    assert "| condensing (s) | condensed on |" in to_text(Table(table, MEMORIES), "md")
    alone = to_text(Table(table[table["memory"] == "dm"], MEMORIES), "md")
    assert "condensed on A" in alone.splitlines()[0]


def test_costs_that_no_row_tells_are_missing() -> None:
    line = line_of(networks(), memories({0: 10.0, 1: 10.0}, flop=None))
    assert is_missing(line["condensing_flop"])
    bare = line_of(networks())
    costs = ("images_per_class", "scalars_per_class", "condensing_seconds", "condensing_flop", "peak_mib")
    assert all(is_missing(bare[name]) for name in costs)


def test_each_line_has_the_costs_of_its_own_memory() -> None:
    table = condense_table(
        frame(
            *(networks(iterations=count) + memories({0: count / 10}, iterations=count) for count in (100, 20000)),
            networks(iterations=None, memory="random", memory_model=""),
            memories({0: 0.5}, iterations=None, memory="random", memory_model="", flop=None),
            networks(recipe="dc"),  # another recipe, the same memory
            networks(ipc=50),
        )
    )
    columns = ["memory", "recipe", "ipc", "condensing_seconds"]
    assert table[columns].fillna(-1).apply(tuple, axis="columns").tolist() == [
        ("random", "dm", 10, 0.5),
        ("dm", "dm", 10, 10.0),
        ("dm", "dc", 10, 2000.0),
        ("dm", "dm", 10, 2000.0),
        ("dm", "dm", 50, -1),
    ]


def test_published_values_and_their_difference() -> None:
    line = line_of(networks())
    assert (line["published"], line["published_std"]) == (48.9, 0.6)  # DM paper, Table 1
    assert line["difference"] == pytest.approx(48.0 - 48.9)
    assert is_missing(line_of(networks(recipe="dc"))["published"])
    changed = line_of(networks(changes="memory.lr=2"))
    assert (changed["published"], changed["note"]) == (48.9, "(memory.lr=2)")


def test_published_values_stand_beside_the_last_iteration() -> None:
    values = [{(0, 0): float(value)} for value in (30, 40, 45)]
    counts = (100, 1000, 20000)
    table = condense_table(
        frame(*(networks(value, iterations=count) for value, count in zip(values, counts, strict=True)))
    )
    assert table["iterations"].tolist() == [100, 1000, 20000]
    assert table["test_accuracy"].tolist() == [30, 40, 45]
    assert table["published"].tolist() == pytest.approx([math.nan, math.nan, 48.9], nan_ok=True)
    random = line_of(networks(memory="random", memory_model="", iterations=None, recipe="dc"))
    assert random["published"] == 26.0


def test_an_unfinished_run_has_no_published_value() -> None:
    for memory in ({"iterations": 20000}, {"host": {"iterations": 2000, "updates": 10}}):
        spec = json.dumps({"memory": memory})
        assert is_missing(line_of(networks(iterations=1000, spec=spec))["published"])
        assert line_of(networks(spec=spec))["published"] == 48.9
    spec, changes = json.dumps({"memory": {"iterations": 1000}}), "memory.iterations=1000"
    assert line_of(networks(iterations=1000, spec=spec, changes=changes))["published"] == 48.9  # as the note says


def test_the_order_of_blocks_and_lines() -> None:
    def one(value: float, **more: object) -> list[Row]:
        return networks({(0, 0): value}, **more)  # type: ignore[arg-type]

    table = condense_table(
        frame(
            one(60, ipc=50),
            one(48),
            one(52, memory="dsa"),
            one(31, memory="random", memory_model="", iterations=None),
            one(35, memory="herding", iterations=None),
            one(40, iterations=1000),
            one(70, memory="dsa", model="alexnet-batchnorm"),
            one(55, memory="lodc", league="storage"),
            one(20, dataset="cifar100"),
            one(30, preset="quick"),
        )
    )
    assert table[["dataset", "preset", "league", "ipc", "memory", "test_accuracy"]].apply(
        tuple, axis="columns"
    ).tolist() == [
        ("cifar10", "paper", "pixel", 10, "dsa", 70),  # alexnet
        ("cifar10", "paper", "pixel", 10, "herding", 35),  # selected images: no iterations
        ("cifar10", "paper", "pixel", 10, "random", 31),
        ("cifar10", "paper", "pixel", 10, "dm", 40),  # 1000 iterations
        ("cifar10", "paper", "pixel", 10, "dsa", 52),
        ("cifar10", "paper", "pixel", 10, "dm", 48),
        ("cifar10", "paper", "pixel", 50, "dm", 60),
        ("cifar10", "paper", "storage", 10, "lodc", 55),
        ("cifar10", "quick", "pixel", 10, "dm", 30),
        ("cifar100", "paper", "pixel", 10, "dm", 20),
    ]
    assert to_text(Table(table, MEMORIES), "latex").count(r"\midrule") == 4  # of each block


@pytest.mark.parametrize(
    "other",
    [{"preset": "quick"}, {"league": "storage"}, {"dataset": "cifar100"}, {"dataset_digest": "d2"}, {"ipc": 50},
     {"split": "validation"}, {"exactness": "jpeg"}, {"model": "lenet"}, {"memory_model": "lenet"}, {"recipe": "dc"},
     {"changes": "memory.lr=2"}, {"iterations": 100}, {"memory": "dsa"}],
)  # fmt: skip
def test_what_must_not_be_mixed_stands_on_lines_of_its_own(other: dict[str, object]) -> None:
    table = condense_table(frame(networks({(0, 0): 40.0}), networks({(0, 0): 60.0}, **other)))  # type: ignore[arg-type]
    assert sorted(table["test_accuracy"]) == [40, 60]
    assert set(table["n"]) == {"1 set x 1 net"}


def test_one_network_with_two_values_is_refused() -> None:
    with pytest.raises(ValueError, match="set 0, repeat 0 has several values"):
        condense_table(frame(networks(), networks()))
    with pytest.raises(ValueError, match="a mean over unit % and points"):
        condense_table(frame(networks(), networks({(2, 0): 1.0}, unit="points")))


def test_rows_without_a_tested_network_are_refused() -> None:
    with pytest.raises(ValueError, match="none of the 3 rows is a test_accuracy of track condense"):
        condense_table(frame(memories({0: 1.0})))


def test_text_of_a_small_table() -> None:
    random = {"memory": "random", "memory_model": "", "iterations": None, "stored_bytes": 10 * 30720}
    table = condense_table(
        frame(
            networks(),
            memories({0: 1234.6, 1: 1234.6}, mib=1907),
            networks({(0, 0): 30.0, (1, 0): 32.0}, uint8=None, **random),
            memories({0: 0.0123}, flop=None, mib=64, **random),  # type: ignore[arg-type]
        )
    )
    # random: half width 12.7062 * sqrt(2) / sqrt(2)
    assert to_text(Table(table, MEMORIES), "md").splitlines() == [
        "dataset cifar10, exactness official, split test, preset paper, league pixel, ipc 10, recipe dm, "
        f"built with {CONVNET3}, model {CONVNET3}, 95 % interval over sets",
        "",
        "| memory | iterations | accuracy (%) | std of sets | std of nets | n | at 8 bits (%) | images / class "
        "| scalars / class | KiB / class | condensing (s) | FLOP | peak MiB | published | gap |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| random |  | 31.0 [18.3, 43.7] | 1.4 |  | 2 sets x 1 net |  | 10 | 30720 | 30.0 | 0.012 |  | 64 |  |  |",
        "| dm | 20000 | 48.0 [35.3, 60.7] | 1.4 | 2.2 | 2 sets x 2 nets | 47.0 [34.3, 59.7] | 10 | 30720 | 120.0 "
        "| 1235 | 3.2e15 | 1907 | 48.9 (std 0.6) | -0.9 |",
    ]


def test_condensing_networks_that_differ_have_a_column() -> None:
    table = condense_table(frame(networks(), networks(memory_model="lenet")))
    assert "| built with |" in to_text(Table(table, MEMORIES), "md")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "0.012"), (3.0, "3"), (3.21, "3.2"), (99.94, "99.9"), (100.4, "100"), (7200.2, "7200")],
)
def test_seconds_have_the_digits_that_matter(seconds: float, text: str) -> None:
    table = condense_table(frame(networks(), memories({0: seconds}, flop=None, mib=64)))
    assert f"| 120.0 | {text} | 64 |" in to_text(Table(table, MEMORIES), "md")


def test_a_small_memory_is_not_rounded_away() -> None:
    assert "| 0.062 |" in to_text(
        Table(condense_table(frame(networks(stored_bytes=640))), MEMORIES), "md"
    )  # 64 bytes each


def test_reconstructions_and_smoke_are_marked_everywhere() -> None:
    table = condense_table(frame(networks(memory="mim-dm", preset="smoke"), memories({0: 1.0}, memory="mim-dm")))
    assert table["note"].tolist() == ["(reconstruction) (smoke: not a result)"]
    for text in (to_text(Table(table, MEMORIES), format) for format in ("md", "csv", "latex")):
        assert "(reconstruction)" in text
        assert "(smoke: not a result)" in text
    bare = table[["memory", "test_accuracy"]]  # a table without notes
    assert "| mim-dm (reconstruction) | 48.0 |" in to_text(Table(bare, MEMORIES), "md")


def test_the_table_survives_files(tmp_path: Path) -> None:
    some = [*networks(), *memories({0: 10.0, 1: 30.0}), *networks(iterations=None, memory="random", memory_model="")]
    write_rows((row | {"key": f"{i}"} for i, row in enumerate(some)), tmp_path / "rows.csv")
    table = condense_table(rows.read(tmp_path))
    text = to_text(Table(table, MEMORIES), "csv")
    assert text == to_text(Table(condense_table(rows.to_frame(some)), MEMORIES), "csv")
    random, dm = csv.DictReader(io.StringIO(text))
    assert (random["iterations"], random["condensing_seconds"], dm["condensing_seconds"]) == ("", "", "20.0")
    assert (dm["test_accuracy"], dm["test_accuracy_uint8"], dm["condensing_flop"]) == (
        "48.0",
        "47.0",
        "3200000000000000.0",
    )


def test_values_of_sets_weigh_alike() -> None:
    line = line_of(networks(TWO_BY_TWO | {(1, 2): 49.0, (1, 3): 49.0}))
    assert line["test_accuracy"] == 48.0  # sets 47 and 49
    assert line["n"] == "6 nets in 2 sets"
