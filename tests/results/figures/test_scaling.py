import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results import rows
from harness.results.figures import drawing, registry, saving
from tests.results.condensed import Row, Values, frame, memories, networks
from tests.results.figures.drawn import draw_rows
from tests.results.files import write_rows

budget, cost, large_ipc = (registry.FIGURES[name] for name in ("budget", "cost", "large_ipc"))
each_figure = pytest.mark.parametrize("plot", [budget, cost, large_ipc])
HALF = 12.7062  # of the interval of two sets at mean -1 and +1: t(df 1) * sqrt(2) / sqrt(2)


def judged(memory: str = "dm", mean: float = 40, ipc: int = 10, seconds: float = 100, **more: object) -> list[Row]:
    """Two sets at mean -1 and +1, and what they hold and cost: 12 KiB per class and image, as float32 takes."""
    values: Values = {(0, 0): mean - 1, (1, 0): mean + 1}
    setting = {"memory": memory, "ipc": ipc, "stored_bytes": ipc * 122880} | more
    device = {"device": "a CPU"} | more
    return [
        *networks(values, uint8=None, **setting),
        *memories({0: seconds - 10, 1: seconds + 10}, **(setting | device)),  # type: ignore[arg-type]
    ]


def whole(mean: float = 80) -> list[Row]:
    """The bound: all images, which nothing condensed."""
    values: Values = {(0, 0): mean - 1, (1, 0): mean + 1}
    setting = {"memory": "full", "league": "full", "ipc": None, "memory_model": "", "iterations": None}
    return networks(values, uint8=None, stored_bytes=50_000 * 3072, **setting)


def line(axes: Axes, memory: str, of: int = 0) -> list[tuple[float, float]]:
    """Places of the memory's line: neither caps of its bars nor published marks."""
    style = drawing.STYLES[memory]
    own = [
        each for each in axes.get_lines()
        if each.get_color() == style.colour and each.get_linestyle() != "None"
    ]  # fmt: skip
    return list(zip(np.asarray(own[of].get_xdata()).tolist(), np.asarray(own[of].get_ydata()).tolist(), strict=True))


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Ends of all intervals."""
    segments = [
        segment
        for container in axes.containers
        for part in container.get_children() if hasattr(part, "get_segments")
        for segment in part.get_segments()
    ]  # fmt: skip
    return [(low, high) for (_, low), (_, high) in segments]


def hollow(axes: Axes) -> list[float]:
    marks = [each for each in axes.get_lines() if each.get_markerfacecolor() == "none"]
    return [float(np.asarray(mark.get_ydata())[0]) for mark in marks]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


# --- cost -----------------------------------------------------------------------------------------------------------


def test_accuracy_stands_over_the_mean_seconds_of_the_sets() -> None:
    figure = draw_rows(cost, frame(judged(seconds=100)))
    (axes,) = figure.axes
    assert line(axes, "dm") == [(100, 40)]  # sets of 90 and 110 seconds
    assert bars(axes) == [pytest.approx((40 - HALF, 40 + HALF), abs=1e-3)]
    assert hollow(axes) == [48.9]  # DM paper, Table 1: 10 images per class of CIFAR-10
    assert axes.get_xscale() == "log"
    assert "n = 2 sets x 1 net" in figure.get_suptitle()
    assert "seconds on a CPU" in figure.get_suptitle()


def test_several_iterations_of_a_memory_are_a_line() -> None:
    some = frame(judged(mean=45, seconds=400, iterations=20000), judged(mean=30, seconds=40, iterations=1000))
    assert line(draw_rows(cost, some).axes[0], "dm") == [(40, 30), (400, 45)]


def test_budgets_and_leagues_have_panels_of_their_own() -> None:
    some = frame(judged(), judged("idc", league="storage"), judged(ipc=1), whole())
    figure = draw_rows(cost, some)
    assert titles(figure) == [
        "1 image per class, league pixel", "10 images per class, league pixel", "10 images per class, league storage",
    ]  # fmt: skip
    assert all(axes.patches for axes in figure.axes)  # the band of the bound stands in each
    assert legend(figure) == ["full", "dm", "idc", "published"]


def test_memories_without_seconds_are_named_not_drawn() -> None:
    figure = draw_rows(cost, frame(judged(), networks(memory="dsa")))
    assert "no seconds are known of dsa" in figure.get_suptitle()
    assert legend(figure) == ["dm", "published"]
    data = cost.data(frame(judged(), networks(memory="dsa"))).set_index("memory")["condensing_seconds"]
    assert data.to_dict() == pytest.approx({"dm": 100, "dsa": np.nan}, nan_ok=True)
    with pytest.raises(ValueError, match="none of the 8 rows tells the seconds"):
        draw_rows(cost, frame(networks()))


def test_seconds_of_two_devices_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one device of condensing seconds; the rows mix a CPU and a GPU: select one"):
        draw_rows(cost, frame(judged(), judged("dsa", device="a GPU")))


def test_devices_are_named_of_what_is_drawn_only() -> None:
    other = [row | {"track": "cl"} for row in memories({0: 1.0}, memory="dsa", device="another CPU")]
    text = " ".join(part.get_text() for part in draw_rows(cost, frame(judged(), other)).texts)
    assert "seconds on a CPU" in text
    assert "another CPU" not in text


# --- budget ---------------------------------------------------------------------------------------------------------


def test_accuracy_stands_over_the_bytes_of_a_class() -> None:
    figure = draw_rows(budget, frame(judged(mean=30, ipc=1), judged(mean=40, ipc=10)))
    (axes,) = figure.axes
    # 12 KiB an image: 3072 numbers of 4 bytes
    assert line(axes, "dm") == [(12, 30), (120, 40)]
    assert bars(axes) == [pytest.approx((mean - HALF, mean + HALF), abs=1e-3) for mean in (30, 40)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["120", "12"]
    assert hollow(axes) == [26.0, 48.9]  # DM paper, Table 1


def test_marks_tell_the_leagues() -> None:
    figure = draw_rows(budget, frame(judged(), judged("dsa", league="storage"), judged("dc", league="soft"), whole()))
    assert legend(figure) == ["full", "dm", "dc, league soft", "dsa, league storage", "published"]
    fills = {entry.get_marker(): entry.get_fillstyle() for entry in figure.legends[0].get_lines()}
    assert {fills[drawing.STYLES[memory].marker] for memory in ("full", "dm")} == {"full"}
    assert fills[drawing.STYLES["dsa"].marker] == "bottom"
    assert fills[drawing.STYLES["dc"].marker] == "left"


def test_marks_of_one_size_stand_side_by_side() -> None:
    (axes,) = draw_rows(budget, frame(judged(), judged("dsa"), judged("random", ipc=100))).axes
    (dm,), (dsa,) = line(axes, "dm"), line(axes, "dsa")
    # Three lines within a twentieth of the tenfold from 120 to 1200: 10^-0.025, 1 and 10^0.025 times their places.
    assert dm[0] == pytest.approx(120 * 10**-0.025)
    assert dsa[0] == 120


# --- large ipc ------------------------------------------------------------------------------------------------------


def test_relative_accuracies_are_over_the_mean_on_all_images() -> None:
    some = frame(judged(mean=20, ipc=10), judged(mean=40, ipc=100), whole(80))
    data = large_ipc.data(some).set_index("ipc")
    # 20 / 80 and 40 / 80; ends: (20 - 12.7062) / 80 = 9.1173 %
    assert data.loc[[10, 100], "relative"].tolist() == pytest.approx([25, 50])
    assert data.loc[10, "relative_low"] == pytest.approx(9.1173, abs=1e-3)
    figure = draw_rows(large_ipc, some)
    absolute, relative = figure.axes
    assert line(absolute, "dm") == [(10, 20), (100, 40)]
    assert line(relative, "dm") == [(10, 25), (100, 50)]
    assert (absolute.get_ylabel(), relative.get_ylabel()) == ("test accuracy (%)", "% of that on all images")
    assert np.asarray(line(relative, "full")).tolist() == [[0, 100], [1, 100]]


def test_without_all_images_nothing_is_relative_to_them() -> None:
    figure = draw_rows(large_ipc, frame(judged(), judged(ipc=100)))
    assert len(figure.axes) == 1
    assert "without rows of full there are no relative accuracies" in figure.get_suptitle()
    assert large_ipc.data(frame(judged()))[["relative", "relative_low"]].isna().all(axis=None)


def test_the_title_counts_the_few_and_the_many() -> None:
    one: Values = {(0, 0): 20.0}
    few = networks(one, uint8=None, memory="random", stored_bytes=122880)
    said = draw_rows(large_ipc, frame(judged(), judged("dsa"), few, whole())).get_suptitle().replace("\n", " ")
    assert "n = 2 sets x 1 net; full: 2 nets; random: 1 set x 1 net" in said
    assert "95 % interval over nets or sets; what has no bar is one value" in said


def test_leagues_have_panels_of_their_own() -> None:
    figure = draw_rows(large_ipc, frame(judged(), judged("idc", league="storage"), whole()))
    assert titles(figure) == ["league pixel"] * 2 + ["league storage"] * 2


def test_the_bound_alone_has_no_images_per_class() -> None:
    with pytest.raises(ValueError, match="all 1 accuracies are of the memory full"):
        draw_rows(large_ipc, frame(whole()))


# --- a crowd --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", [budget, large_ipc])
def test_many_memories_have_a_panel_each_best_first(plot: registry.Plot) -> None:
    crowd = [judged(f"m{mean}", mean, ipc) for mean in range(21, 28) for ipc in (10, 100)]
    figure = draw_rows(plot, frame(*crowd, judged("dm", 30), judged("dsa", 50, league="storage"), whole(80)))
    panels = [axes for axes in figure.axes if axes.get_subplotspec()]
    assert [axes.get_title() for axes in panels] == ["dm", *(f"m{n}" for n in range(27, 20, -1)), "dsa, league storage"]
    assert len(line(panels[0], "dm")) == 1
    assert bars(panels[0]) == [pytest.approx((30 - HALF, 30 + HALF), abs=1e-3)]  # the others' are not drawn
    greys = [sum(each.get_color() == drawing.BEHIND for each in axes.get_lines()) for axes in panels]
    assert greys == [7] * 8 + [0]  # the others of its league: dsa is alone in its own
    assert legend(figure) == ["full", "the other memories of its league", "published"]
    # 80 % is all there is to have: 40 % is half of that.
    right = [axis for axes in panels for axis in axes.child_axes]
    assert [axis.get_ylabel() for axis in right] == ["% of that on all images"] * 2  # beside the two whole rows
    figure.savefig(BytesIO())
    assert right[0].get_ylim() == pytest.approx(tuple(np.array(panels[0].get_ylim()) / 0.8))


# --- all of them ----------------------------------------------------------------------------------------------------


@each_figure
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": "cifar100"}, "one dataset; the rows mix cifar10 and cifar100"),
        ({"dataset_digest": "d2"}, "one dataset_digest; the rows mix d1 and d2"),
        ({"preset": "quick"}, "one preset; the rows mix paper and quick"),
        ({"split": "validation"}, "one split; the rows mix test and validation"),
        ({"recipe": "dc"}, "one recipe; the rows mix dc and dm"),
        ({"model": "lenet"}, "one model; the rows mix convnet-.* and lenet"),
        ({"memory": "dm", "changes": "memory.lr=2"}, "dm in one configuration; the rows mix '' and 'memory.lr=2'"),
    ],
)
def test_mixtures_are_refused(plot: registry.Plot, more: dict[str, object], message: str) -> None:
    mixed = frame(judged(), judged(**({"memory": "dsa"} | more)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        plot.data(mixed)


@each_figure
def test_a_single_value_has_no_bar_and_says_so(plot: registry.Plot) -> None:
    alone = frame(networks({(0, 0): 40.0}, uint8=None), memories({0: 5.0}, device="a CPU"))
    figure = draw_rows(plot, alone)
    assert bars(figure.axes[0]) == []
    assert "one value each, no interval, n = 1 set x 1 net" in figure.get_suptitle()


@each_figure
def test_changed_settings_are_named(plot: registry.Plot) -> None:
    changed = frame(judged(changes="memory.lr=2"), judged("dsa"))
    assert "changed from the preset: dm: memory.lr=2" in draw_rows(plot, changed).get_suptitle()
    assert set(plot.data(changed)["changes"]) == {"memory.lr=2", ""}


@each_figure
def test_smoke_rows_and_other_data_are_marked(plot: registry.Plot) -> None:
    said = draw_rows(plot, frame(judged(preset="smoke", exactness="from jpeg"))).get_suptitle().replace("\n", " ")
    assert "preset smoke (smoke: not a result)" in said
    assert "cifar10 (from jpeg)" in said


@each_figure
def test_the_axis_stays_within_percent(plot: registry.Plot) -> None:
    for axes in draw_rows(plot, frame(judged(mean=2), judged("dsa", mean=99, ipc=50))).axes:
        low, high = axes.get_ylim()
        assert 0 <= low < high <= 102


def odd() -> DataFrame:
    names = ("$\\frac{$", "_hidden", "<script>alert('1')</script> --", "a\x1b\x00b")
    return frame(judged(), whole(), *(judged(name, ipc=50) for name in names))


@each_figure
def test_the_same_rows_give_the_same_bytes(
    plot: registry.Plot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = saving.to_bytes(draw_rows(plot, odd()), "a.svg")  # a name read as mathematics would raise here
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert saving.to_bytes(draw_rows(plot, odd()), "a.svg") == first
    tags = [str(element.tag) for element in ElementTree.fromstring(first).iter()]
    assert not [tag for tag in tags if "script" in tag]


@each_figure
def test_the_numbers_survive_a_file(plot: registry.Plot, tmp_path: Path) -> None:
    some = frame(judged(), judged("own", ipc=50), whole())
    write_rows(some.assign(key=[f"{i}" for i in range(len(some))]).to_dict("records"), tmp_path / "rows.csv")
    assert plot.data(rows.read(tmp_path)).equals(plot.data(some))
