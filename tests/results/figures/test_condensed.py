from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from harness.results import rows
from harness.results.figures import drawing, registry, saving
from harness.results.wording import memory_label
from tests.results.condensed import CONVNET3, Row, Values, frame, memories, networks
from tests.results.figures.drawn import draw_rows
from tests.results.files import write_rows

iterations = registry.FIGURES["condense_iterations"]
accuracy = registry.FIGURES["condense_accuracy"]
PUBLISHED = "published, after all updates"
each_figure = pytest.mark.parametrize("plot", [iterations, accuracy])


def two_sets(mean: float) -> Values:
    """Sets at mean -1 and +1: std sqrt(2), so half width 12.7062 * sqrt(2) / sqrt(2) = 12.7062."""
    return {(0, 0): mean - 1, (1, 0): mean + 1}


def course(memory: str = "dm", means: tuple[float, ...] = (30, 40, 45), **more: object) -> list[Row]:
    """The mean after 100, 1000, 10000 ... updates."""
    return [
        row
        for i, mean in enumerate(means)
        for row in networks(two_sets(mean), memory=memory, iterations=100 * 10**i, **more)  # type: ignore[arg-type]
    ]


def selected(memory: str = "random", mean: float = 25, **more: object) -> list[Row]:
    setting = {"memory": memory, "memory_model": "", "iterations": None} | more
    return networks(two_sets(mean), **setting)  # type: ignore[arg-type]


def drawn(axes: Axes, colour: str) -> list[Line2D]:
    """Lines and marks of a colour, without the caps of error bars."""
    return [line for line in axes.get_lines() if line.get_color() == colour and line.get_marker() != "|"]


def points(line: Line2D) -> list[tuple[float, float]]:
    return list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))


def marks(axes: Axes, memory: str, is_hollow: bool = False) -> list[tuple[float, float]]:
    colour = drawing.STYLES[memory].colour
    lines = [line for line in drawn(axes, colour) if line.get_linestyle() == "None"]
    return [points(line)[0] for line in lines if (line.get_markerfacecolor() == "none") == is_hollow]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_accuracy_against_iterations() -> None:
    figure = draw_rows(iterations, frame(course(), course("dsa", (35, 45, 50)), memories({0: 1.0})))
    (axes,) = figure.axes
    dm, published = drawn(axes, drawing.STYLES["dm"].colour)
    assert points(dm) == [(100, 30), (1000, 40), (10000, 45)]
    assert points(published) == [(0, 48.9), (1, 48.9)]  # DM paper, Table 1, across the axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10000", "1000", "100"]
    assert axes.get_ylabel() == "test accuracy (%)"
    assert legend(figure) == ["dm", "dsa", PUBLISHED]
    assert "cifar10, 10 images per class, preset paper" in figure.get_suptitle()
    assert "95 % interval over sets, n = 2 sets x 1 net" in figure.get_suptitle()


def test_bars_are_the_intervals() -> None:
    (axes,) = draw_rows(iterations, frame(course())).axes
    (bars,) = axes.containers
    (segments,) = [part.get_segments() for part in bars.get_children() if hasattr(part, "get_segments")]
    assert [(low, high) for (_, low), (_, high) in segments][-1] == pytest.approx(
        (45 - 12.7062, 45 + 12.7062), abs=1e-3
    )


def test_without_repeats_there_is_a_line_and_no_bar() -> None:
    figure = draw_rows(iterations, frame(networks({(0, 0): 40.0}), networks({(0, 0): 30.0}, iterations=100)))
    assert points(drawn(figure.axes[0], drawing.STYLES["dm"].colour)[0]) == [(100, 30), (20000, 40)]
    assert "one value each, no interval, n = 1 set x 1 net" in figure.get_suptitle()


def test_images_before_any_update_have_a_place_on_the_axis() -> None:
    start = networks(two_sets(20), iterations=0)
    (axes,) = draw_rows(iterations, frame(course(), start)).axes
    assert axes.get_xscale() == "symlog"
    assert points(drawn(axes, drawing.STYLES["dm"].colour)[0])[0] == (0, 20)
    assert "0" in [label.get_text() for label in axes.get_xticklabels()]
    assert len(draw_rows(iterations, frame(start)).axes) == 1


def test_many_iterations_get_fewer_marks() -> None:
    rows = [row for count in range(100, 2100, 100) for row in networks(two_sets(30), iterations=count)]
    (axes,) = draw_rows(iterations, frame(rows)).axes
    ticks = [int(label.get_text()) for label in axes.get_xticklabels()]
    # Factor 20 over eighths: marks are a factor 1.45 apart at least.
    assert ticks == [2000, 1300, 800, 500, 300, 200, 100]


def test_selected_images_are_level_lines() -> None:
    (axes,) = draw_rows(iterations, frame(course(), selected())).axes
    (level,) = drawn(axes, drawing.STYLES["random"].colour)
    assert points(level) == [(0, 25), (1, 25)]
    (band,) = axes.patches
    low, high = band.get_extents().transformed(axes.transData.inverted()).intervaly
    assert (low, high) == pytest.approx((25 - 12.7062, 25 + 12.7062), abs=1e-3)


def test_what_sets_a_memory_off_stands_in_the_legend() -> None:
    one = networks({(0, 0): 40.0}, memory="dsa", changes="memory.lr=2")
    figure = draw_rows(iterations, frame(course(), one, course("mim-dm")))
    assert legend(figure) == ["dm", "dsa\nn = 1 set x 1 net, memory.lr=2", "mim-dm (reconstruction)", PUBLISHED]
    assert "n = 2 sets x 1 net (unless told)" in figure.get_suptitle().replace("\n", " ")


@pytest.mark.parametrize(("name", "key"), [("dm", "memory.iterations"), ("mim-dm", "memory.host.iterations")])
def test_runs_of_fewer_iterations_begin_one_course(name: str, key: str) -> None:
    begun = [
        networks(two_sets(mean), memory=name, iterations=count, changes=f"memory.lr=2, {key}={count}")
        for count, mean in [(1000, 40), (2000, 42)]
    ]
    figure = draw_rows(iterations, frame(*begun, networks(two_sets(45), memory=name, changes="memory.lr=2")))
    (line, *_) = drawn(figure.axes[0], drawing.styles_of(Series([name]))[name].colour)
    assert points(line) == [(1000, 40), (2000, 42), (20000, 45)]
    assert legend(figure)[0] == f"{memory_label(name)}\nmemory.lr=2"


def test_a_panel_of_courses_per_data_set_and_budget() -> None:
    figure = draw_rows(
        iterations,
        frame(
            course(),
            course(ipc=50, means=(60, 65), changes="memory.lr=2", league="soft"),
            course("dsa", dataset="mnist", dataset_digest="d2", means=(80, 90)),
            selected("full", 85, league="full", ipc=None),
        ),
    )
    names = ["cifar10\n10 images per class", "cifar10\n50 images per class", "mnist\n10 images per class"]
    assert [axes.get_title() for axes in figure.axes] == names
    shown = [[points(line) for line in drawn(axes, drawing.STYLES["dm"].colour)] for axes in figure.axes]
    assert [lines[:1] for lines in shown] == [[[(100, 30), (1000, 40), (10000, 45)]], [[(100, 60), (1000, 65)]], []]
    bounds = [[points(line) for line in drawn(axes, drawing.STYLES["full"].colour)] for axes in figure.axes]
    assert [lines[:1] for lines in bounds] == [[[(0, 85), (1, 85)]], [[(0, 85), (1, 85)]], []]  # of CIFAR-10
    assert legend(figure)[1:] == ["dm\nunchanged or memory.lr=2", "dsa", PUBLISHED]
    assert figure.get_suptitle().split("\n")[0] == "preset paper"


def test_a_setting_without_a_course_has_no_panel() -> None:
    rows = frame(course(), selected(), selected(ipc=50), selected("full", 85, dataset="mnist", ipc=None))
    assert draw_rows(iterations, rows).get_suptitle().startswith("cifar10, 10 images per class")
    assert sorted(set(iterations.data(rows)["ipc"])) == [10]


def test_only_selected_images_have_no_course() -> None:
    with pytest.raises(ValueError, match="none of the 2 test accuracies has iterations"):
        draw_rows(iterations, frame(selected()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset_digest": "d2"}, "one dataset_digest of cifar10; the rows mix d1 and d2"),
        ({"preset": "quick"}, "one preset; the rows mix paper and quick"),
        ({"split": "validation"}, "one split; the rows mix test and validation"),
        ({"recipe": "dc"}, "one recipe; the rows mix dc and dm"),
        ({"model": "lenet"}, "one model; the rows mix convnet-.* and lenet"),
        ({"league": "soft"}, "one league of cifar10, 10 images per class; the rows mix pixel and soft"),
        ({"memory": "dm", "changes": "memory.lr=2"}, "dm in one configuration; the rows mix '' and 'memory.lr=2'"),
        ({"memory": "dm", "memory_model": "lenet"}, "dm in one configuration; the rows mix 'convnet-.*' and 'lenet'"),
    ],
)
def test_a_course_of_mixed_settings_is_refused(more: dict[str, object], message: str) -> None:
    mixed = frame(course(), course(**({"memory": "dsa"} | more)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        iterations.data(mixed)


def test_methods_are_ranked_by_accuracy_with_intervals() -> None:
    data = accuracy.data(frame(course(), course("dsa", (35, 50)), selected(), networks(two_sets(60), ipc=50)))
    assert data[["ipc", "memory", "iterations", "test_accuracy"]].fillna(-1).to_numpy().tolist() == [
        [10, "dsa", 1000, 50], [10, "dm", 10000, 45], [10, "random", -1, 25], [50, "dm", 20000, 60],
    ]  # fmt: skip
    assert data["test_accuracy_low"].to_numpy() == pytest.approx(data["test_accuracy"].to_numpy() - 12.7062, abs=1e-3)
    assert data["published"].tolist() == pytest.approx([52.1, 48.9, np.nan, 63.0], nan_ok=True)


def test_a_panel_per_data_set_and_budget() -> None:
    figure = draw_rows(
        accuracy,
        frame(
            course(),
            course("dsa", (35, 50)),
            selected(),
            networks(two_sets(60), ipc=50),
            networks(two_sets(90), dataset="mnist", ipc=1),
            networks(two_sets(91), dataset="mnist", ipc=10),
        ),
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["cifar10\n10 images per class", "cifar10\n50 images per class", "mnist\n1 image per class",
                      "mnist\n10 images per class"]  # fmt: skip
    first = figure.axes[0]
    assert labels(first) == ["dsa", "dm", "random"]
    heights = [y for memory in ("dsa", "dm", "random") for _, y in marks(first, memory)]
    assert heights == sorted(heights)
    assert first.get_ylim()[0] > first.get_ylim()[1] == 0  # from the top down
    assert [x for x, _ in marks(first, "dm")] == [45]
    assert [x for x, _ in marks(first, "dm", is_hollow=True)] == [48.9]
    assert marks(first, "random", is_hollow=True) == []  # published without augmentation only
    assert legend(figure) == ["published"]


def test_leagues_stand_apart() -> None:
    figure = draw_rows(
        accuracy,
        frame(
            course(),
            course("lodc", (99,), league="storage"),
            course("idc", (98,), league="storage"),
            selected("full", 80, league="full", ipc=None),
        ),
    )
    (axes,) = figure.axes
    assert labels(axes) == ["full\nn = 2 nets", "dm", "lodc", "idc"]
    assert [text.get_text() for text in axes.texts] == ["league full", "league pixel", "league storage"]
    assert [axes.get_title() for axes in draw_rows(accuracy, frame(selected("full", 80, ipc=None))).axes] == ["cifar10"]


def test_what_sets_a_line_off_stands_under_its_name() -> None:
    figure = draw_rows(
        accuracy,
        frame(
            course(),
            course("dc", (35,), recipe="dc", changes="memory.lr=2"),
            course("dm", (38,), memory_model="lenet"),
            networks({(0, 0): 20.0}, memory="mim-dm", iterations=100),
        ),
    )
    assert labels(figure.axes[0]) == [
        f"dm\nbuilt with\n{CONVNET3}",
        "dm\nbuilt with lenet",
        "dc\nrecipe dc, memory.lr=2",
        "mim-dm (reconstruction)\nn = 1 set x 1 net",
    ]
    assert "recipe dm (unless told)" in figure.get_suptitle()
    assert "n = 2 sets x 1 net (unless told)" in figure.get_suptitle().replace("\n", " ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"preset": "quick"}, "one preset; the rows mix paper and quick"),
        ({"split": "validation"}, "one split; the rows mix test and validation"),
        ({"model": "lenet"}, "one model; the rows mix convnet-.* and lenet"),
        ({"dataset_digest": "d2"}, "one dataset_digest of cifar10; the rows mix d1 and d2"),
    ],
)
def test_a_ranking_of_mixed_settings_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy.data(frame(course(), course("dsa", **more)))  # type: ignore[arg-type]


@each_figure
def test_rows_of_another_kind_are_refused(plot: registry.Plot) -> None:
    with pytest.raises(ValueError, match="none of the 3 rows is a test_accuracy of track condense"):
        draw_rows(plot, frame(memories({0: 1.0})))


@each_figure
def test_smoke_rows_and_other_data_are_marked(plot: registry.Plot) -> None:
    figure = draw_rows(plot, frame(course(preset="smoke", exactness="from jpeg")))
    text = figure.get_suptitle() + figure.axes[0].get_title()
    assert "preset smoke (smoke: not a result)" in text
    assert "cifar10 (from jpeg), 10 images per class" in text.replace("\n", ", ")


@each_figure
def test_the_axis_stays_within_percent(plot: registry.Plot) -> None:
    (axes,) = draw_rows(plot, frame(course(means=(2, 99), dataset="mnist"))).axes
    low, high = axes.get_ylim() if plot is iterations else axes.get_xlim()
    assert 0 <= low < high <= 102


@each_figure
def test_the_numbers_survive_a_file(plot: registry.Plot, tmp_path: Path) -> None:
    some = frame(course(), selected("own"))
    write_rows(some.assign(key=[f"{i}" for i in range(len(some))]).to_dict("records"), tmp_path / "rows.csv")
    assert plot.data(rows.read(tmp_path)).equals(plot.data(some))


def odd() -> DataFrame:
    return frame(course(), *(course(name, changes="$\\frac{$") for name in ("$\\frac{$", "_hidden", "{x}[/b]")))


@each_figure
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_drawing_gives_the_same_bytes(plot: registry.Plot, suffix: str) -> None:
    # A name read as mathematics would raise here.
    first, second = (saving.to_bytes(draw_rows(plot, odd()), f"a{suffix}") for _ in range(2))
    assert first == second


@each_figure
def test_drawing_writes_no_file(plot: registry.Plot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_rows(plot, odd())
    assert not list(tmp_path.iterdir())


def test_no_legend_is_wider_than_its_figure() -> None:
    figure: Figure = draw_rows(iterations, frame(*(course(f"a-method-of-long-name-{i}") for i in range(8)), course()))
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().width < figure.bbox.width
