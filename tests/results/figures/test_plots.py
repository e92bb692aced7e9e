from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from harness.results import rows
from harness.results.figures import drawing, registry, saving
from harness.results.figures.images import draw_memory_images
from tests.results.figures.drawn import draw_rows

cl_accuracy = registry.FIGURES["cl_accuracy"]


def stream(
    memory: str = "dm", steps: int = 5, orders: int = 2, nets: int = 2, classes: int = 100, **more: object
) -> list[dict[str, object]]:
    """Accuracy 60 - 5 x experience, +-1 by order and +-.5 by network: the mean is exactly the line."""
    setting = {
        "track": "cl", "dataset": "cifar100", "preset": "paper", "memory": memory, "league": "pixel", "ipc": 20,
        "recipe": "dm", "model": "convnet3", "steps": steps, "split": "test", "unit": "%", "metric": "seen_accuracy",
    } | more  # fmt: skip
    return [
        setting
        | {"order": str(order), "repeat": net, "experience": e, "classes_seen": (e + 1) * classes // steps,
           "value": 60 - 5 * e + (2 * order - 1) * (orders > 1) + (net - 0.5) * (nets > 1)}
        for order in range(orders) for net in range(nets) for e in range(steps)
    ]  # fmt: skip


def frame(*streams: list[dict[str, object]]) -> DataFrame:
    return rows.to_frame(row for part in streams for row in part)


def lines(axes: Axes) -> list[Line2D]:
    """The accuracy lines: neither caps of error bars nor published marks."""
    return [line for line in axes.get_lines() if line.get_linestyle() != "None"]


def hollow(axes: Axes) -> list[tuple[float, float]]:
    marks = [
        line for line in axes.get_lines() if line.get_linestyle() == "None" and line.get_markerfacecolor() == "none"
    ]
    return [(float(np.asarray(m.get_xdata())[0]), float(np.asarray(m.get_ydata())[0])) for m in marks]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plotted_values_equal_the_means() -> None:
    figure = draw_rows(cl_accuracy, frame(stream(steps=10), stream(steps=5)))
    five, ten = figure.axes
    assert np.asarray(lines(five)[0].get_xdata()).tolist() == [20, 40, 60, 80, 100]
    assert np.asarray(lines(five)[0].get_ydata()).tolist() == [60, 55, 50, 45, 40]
    assert np.asarray(lines(ten)[0].get_ydata()).tolist() == [60 - 5 * e for e in range(10)]
    assert five.get_ylim() == ten.get_ylim()
    assert five.get_title() == "5 steps, n = 2 orders x 2 nets"


def test_the_last_point_of_all_the_data_is_over_networks() -> None:
    figure = draw_rows(cl_accuracy, frame(stream(), stream("full", ipc=None, league="full")))
    data = cl_accuracy.data(frame(stream("full", ipc=None, league="full")))
    assert data[["n", "n_orders", "varies"]].to_numpy().tolist() == [[4, 2, "orders"]] * 4 + [[4, 0, "nets"]]
    assert figure.axes[0].get_title() == "5 steps, n = 2 orders x 2 nets\nfull at the end: 4 nets"
    assert "95 % interval over nets or orders" in figure.get_suptitle().replace("\n", " ")


def test_the_numbers_behind_the_figure() -> None:
    data = cl_accuracy.data(frame(stream()))
    assert data["mean"].tolist() == [60, 55, 50, 45, 40]
    # Orders 59 and 61: std sqrt(2), t(df 1) = 12.7062, half width 12.7062 * sqrt(2) / sqrt(2).
    assert data["low"].to_numpy() == pytest.approx(data["mean"].to_numpy() - 12.7062, abs=1e-3)
    assert data[["memory", "steps", "n", "n_orders", "varies"]].iloc[0].tolist() == ["dm", 5, 4, 2, "orders"]


def test_bars_are_the_intervals() -> None:
    axes = draw_rows(cl_accuracy, frame(stream())).axes[0]
    (bars,) = axes.containers
    (segments,) = [
        collection.get_segments() for collection in bars.get_children() if hasattr(collection, "get_segments")
    ]
    assert [(round(low, 2), round(high, 2)) for (_, low), (_, high) in segments][-1] == (27.29, 52.71)  # 40 +- 12.71


def test_without_repeats_there_is_a_line_and_no_bar() -> None:
    figure = draw_rows(cl_accuracy, frame(stream(orders=1, nets=1)))
    assert len(lines(figure.axes[0])) == 1
    assert np.asarray(lines(figure.axes[0])[0].get_ydata()).tolist() == [60, 55, 50, 45, 40]
    assert "no interval" in figure.get_suptitle()


def test_the_axis_stays_within_percent() -> None:
    low, high = draw_rows(cl_accuracy, frame(stream(steps=20, ipc=10))).axes[0].get_ylim()  # means down to -35
    assert low == 0
    assert high <= 102


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": "cifar10"}, "one dataset; the rows mix cifar10 and cifar100"),
        ({"preset": "quick"}, "one preset; the rows mix paper and quick"),
        ({"split": "validation"}, "one split; the rows mix test and validation"),
        ({"ipc": 10}, "one ipc; the rows mix 10 and 20"),
        ({"league": "soft"}, "one league; the rows mix pixel and soft"),
    ],
)
def test_a_mixture_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cl_accuracy.data(frame(stream(), stream("random", **more)))  # type: ignore[arg-type]


def test_the_bound_needs_no_budget() -> None:
    figure = draw_rows(cl_accuracy, frame(stream(), stream("full", ipc=None, league="")))
    assert legend(figure)[:2] == ["full", "dm"]


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="none of the 20 rows is a seen_accuracy of track cl"):
        draw_rows(cl_accuracy, frame(stream(track="nas")))


def test_rows_that_lack_what_a_figure_needs_are_refused() -> None:
    rows = frame(stream("dm"), stream("random"))
    rows.loc[rows["memory"] == "dm", "steps"] = None
    with pytest.raises(ValueError, match=r"^20 of 40 rows of seen_accuracy, track cl, have no steps$"):
        draw_rows(cl_accuracy, rows)


def test_changed_settings_are_in_the_title_and_the_numbers() -> None:
    changed = frame(stream(changes="memory.iterations=100"), stream("random"))
    said = draw_rows(cl_accuracy, changed).get_suptitle().replace("\n", " ")
    assert "preset paper" in said
    assert "changed from the preset: dm: memory.iterations=100" in said
    data = cl_accuracy.data(changed).set_index("memory")["changes"]
    assert (set(data["dm"]), set(data["random"])) == ({"memory.iterations=100"}, {""})
    alike = frame(stream(changes="recipe.epochs=5"), stream("random", changes="recipe.epochs=5"))
    assert "changed from the preset: recipe.epochs=5" in draw_rows(cl_accuracy, alike).get_suptitle()
    assert "changed" not in draw_rows(cl_accuracy, frame(stream())).get_suptitle()


def test_published_end_points_are_hollow_marks_at_the_end() -> None:
    figure = draw_rows(cl_accuracy, frame(stream("dm"), stream("random", steps=10), stream("dc")))
    assert hollow(figure.axes[0]) == [(100, 34.4)]  # DM paper, section 3.5; dc is not in it
    assert hollow(figure.axes[1]) == [(100, 24.8)]
    assert legend(figure)[-1] == "published"


@pytest.mark.parametrize("more", [{"ipc": 10}, {"preset": "quick"}])
def test_the_legend_says_where_the_published_setting_is_another(more: dict[str, object]) -> None:
    figure = draw_rows(cl_accuracy, frame(stream(**more)))  # type: ignore[arg-type]
    assert legend(figure)[-1] == "published (20 per class)"


@pytest.mark.parametrize("more", [{"dataset": "cifar10"}, {"split": "validation"}, {"memory": "dc"}])
def test_no_published_mark_where_none_can_be_compared(more: dict[str, object]) -> None:
    figure = draw_rows(cl_accuracy, frame(stream(**more)))  # type: ignore[arg-type]
    assert hollow(figure.axes[0]) == []
    assert len(legend(figure)) == 1


def test_data_that_are_not_the_official_ones_are_named() -> None:
    assert "cifar100 (from jpeg), 20" in draw_rows(cl_accuracy, frame(stream(exactness="from jpeg"))).get_suptitle()
    assert "cifar100, 20" in draw_rows(cl_accuracy, frame(stream(exactness="official"))).get_suptitle()


def test_a_long_stream_gets_fewer_ticks() -> None:
    axes = draw_rows(cl_accuracy, frame(stream(steps=20))).axes[0]
    assert [round(tick) for tick in axes.get_xticks()] == list(range(100, 0, -10))


def test_smoke_rows_are_marked() -> None:
    assert "(smoke: not a result)" in draw_rows(cl_accuracy, frame(stream(preset="smoke"))).get_suptitle()


def test_each_memory_keeps_its_style() -> None:
    alone, among = drawing.styles_of(["dm"])["dm"], drawing.styles_of(["random", "aaa", "dm", "zzz"])["dm"]
    assert alone == among == drawing.STYLES["dm"]
    many = drawing.styles_of([*drawing.STYLES, *(f"own{i}" for i in range(35))])
    assert drawing.styles_of(reversed(list(many))) == many
    assert len({(style.colour, style.marker) for style in many.values()}) == len(many)
    known = drawing.STYLES.values()
    assert len({s.marker for s in known}) == len({str(s.dashes) for s in known}) + 1 == len({s.colour for s in known})
    figure = draw_rows(cl_accuracy, frame(stream("dm"), stream("random")))
    drawn = [(line.get_color(), line.get_marker()) for line in lines(figure.axes[0])]
    assert drawn == [drawing.STYLES["dm"][:2], drawing.STYLES["random"][:2]]


def test_odd_names_are_drawn_as_they_are() -> None:
    names = ["$\\frac{$", "_hidden", "{x}[/b]"]
    figure = draw_rows(cl_accuracy, frame(*(stream(name) for name in names), stream("dm")))
    saving.to_bytes(figure, "odd.png")  # a name read as mathematics would raise here
    assert legend(figure) == ["dm", *sorted(names), "published"]


def pictures() -> Figure:
    images = np.linspace(0, 1, 5 * 8 * 8).reshape(5, 8, 8)
    return draw_memory_images(images, [7, 2, 7, 2, 2], [f"class ${i}" for i in range(10)], "dm")


def test_memory_images_are_a_row_per_class() -> None:
    axes = pictures().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class $2", "class $7"]
    canvas = np.asarray(axes.images[0].get_array())
    images = np.linspace(0, 1, 5 * 8 * 8).reshape(5, 8, 8)
    assert canvas.shape == (8 + 1 + 8, 3 * 8 + 2, 3)  # a gap of one pixel between two rows, and three columns
    assert (canvas[:8, 9:17, 1] == images[3]).all()  # class 2, its second image
    assert (canvas[9:, :8, 0] == images[0]).all()  # class 7, its first
    assert (canvas[9:, 18:] == 1).all()  # class 7 has no third


def test_memory_images_show_ten_of_ten() -> None:
    figure = draw_memory_images(np.zeros((12 * 11, 4, 4, 3)), np.repeat(np.arange(12), 11), [""] * 12, "")
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (10 * 5 - 1, 10 * 5 - 1, 3)


@pytest.mark.parametrize(
    ("shape", "value", "labels", "message"),
    [
        ((2, 4, 4, 2), 0.5, [0, 1], "C 1 or 3"),
        ((0, 4, 4), 0.5, [], "N > 0"),
        ((2, 4, 4), 0.5, [0], r"labels: expected shape \(2,\)"),
        ((2, 4, 4), 1.5, [0, 1], r"\[0, 1\], got 1.5 to 1.5"),
        ((2, 4, 4), float("nan"), [0, 1], r"\[0, 1\], got nan"),
        ((2, 4, 4), 0.5, [0, 3], "labels: 0 to 3, but 3 class names"),
    ],
)
def test_images_that_cannot_be_shown_are_refused(
    shape: tuple[int, ...], value: float, labels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_memory_images(np.full(shape, value), labels, ["a", "b", "c"], "")


def curves() -> Figure:
    return draw_rows(cl_accuracy, frame(stream("dm"), stream("random", steps=10), stream("own")))


@pytest.mark.parametrize("draw", [curves, pictures])
def test_drawing_writes_no_file(draw: Callable[[], Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
@pytest.mark.parametrize("draw", [curves, pictures])
def test_the_same_drawing_gives_the_same_bytes(
    draw: Callable[[], Figure], suffix: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = saving.to_bytes(draw(), f"a{suffix}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # another day, to whatever would write a date
    second = saving.to_bytes(draw(), f"b{suffix}")
    assert first.startswith(start)
    assert first == second


@pytest.mark.parametrize("name", ["a.jpg", "a"])
def test_an_unknown_suffix_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"a figure is written as \.pdf, \.png, \.svg"):
        saving.to_bytes(Figure(), name)


def test_one_memory_in_two_configurations_is_refused() -> None:
    mixed = rows.to_frame([*stream(), *stream(changes="memory.iterations=1000")])
    with pytest.raises(
        ValueError, match=r"shows dm in one configuration; the rows mix '' and 'memory.iterations=1000'"
    ):
        draw_rows(cl_accuracy, mixed)
