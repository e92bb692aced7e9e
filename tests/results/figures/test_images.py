from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures import saving
from harness.results.figures.images import ImageSet, draw_features, draw_memories_side_by_side

NAMES = [f"class ${i}" for i in range(12)]


def constant(value: float, *labels: int, size: int = 8) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.full((len(labels), size, size), value)


def side_by_side() -> Figure:
    """Two of class 2 and one of class 7; one of class 2 and none of class 7, but of class 5."""
    first = ImageSet("dm", constant(0.25, 2, 7, 2), [2, 7, 2])
    return draw_memories_side_by_side([first, ImageSet("dsa", constant(0.75, 5, 2), [5, 2])], NAMES, "digits")


def canvas(figure: Figure, panel: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(figure.axes[panel].images[0].get_array())


def test_memories_side_by_side_have_the_same_classes() -> None:
    figure = side_by_side()
    assert [axes.get_title() for axes in figure.axes] == ["dm", "dsa"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["class $2", "class $5", "class $7"]
    dm, dsa = canvas(figure, 0), canvas(figure, 1)
    assert dm.shape == (3 * 8 + 2, 2 * 8 + 1, 3)  # gaps of one pixel between 3 rows and 2 columns
    assert dsa.shape == (3 * 8 + 2, 8, 3)
    assert [dm[row * 9, 0, 0] for row in range(3)] == [0.25, 1, 0.25]  # white: it has no class 5
    assert [dsa[row * 9, 0, 0] for row in range(3)] == [0.75, 0.75, 1]
    assert (dm[:8, 9:] == 0.25).all()  # its second image of class 2
    assert (dm[18:, 9:] == 1).all()  # class 7 has no second
    assert [text.get_text() for text in figure.texts] == ["digits"]


def test_images_of_all_memories_are_drawn_alike_large() -> None:
    labels = np.repeat(np.arange(3), 10)
    many = ImageSet("many", constant(0.5, *labels), labels)
    figure = draw_memories_side_by_side([many, ImageSet("few", constant(0.5, 0, 1, 2), [0, 1, 2])], NAMES, "")
    figure.draw_without_rendering()
    scales = [axes.get_window_extent().width / canvas(figure, i).shape[1] for i, axes in enumerate(figure.axes)]
    assert scales[0] == pytest.approx(scales[1], rel=0.05)


def test_many_memories_go_on_in_the_next_row() -> None:
    labels = np.repeat(np.arange(2), 10)
    shown = [ImageSet(f"memory {i}", constant(0.5, *labels), labels) for i in range(5)]
    figure = draw_memories_side_by_side(shown, NAMES, "title")
    figure.draw_without_rendering()
    rows = [round(axes.get_position().y0, 2) for axes in figure.axes]
    assert len(figure.axes) == 5
    assert len(set(rows)) == 3  # 20 images in a row of two
    assert figure.axes[0].get_position().x1 < figure.axes[1].get_position().x0


def test_memories_of_other_shapes_are_refused() -> None:
    shown = [ImageSet("a", constant(0.5, 0), [0]), ImageSet("b", constant(0.5, 0, size=4), [0])]
    with pytest.raises(ValueError, match=r"images of one shape|hold images of one shape, got \[\(4, 4, 1\), \(8, 8, 1"):
        draw_memories_side_by_side(shown, NAMES, "")
    with pytest.raises(ValueError, match="got no memory"):
        draw_memories_side_by_side([], NAMES, "")
    with pytest.raises(ValueError, match="labels: 0 to 12, but 12 class names"):
        draw_memories_side_by_side([shown[0], ImageSet("b", constant(0.5, 0, 12), [0, 12])], NAMES, "")


def points() -> DataFrame:
    lines = [
        ("", "real", "cat", 0, 0), ("", "real", "cat", 2, 0), ("", "real", "cat", 4, 6), ("", "real", "dog", 9, 9),
        ("dm", "synthetic", "cat", 1, 1), ("dsa", "synthetic", "dog", 8, 8), ("dsa", "synthetic", "cat", 3, 3),
    ]  # fmt: skip
    return DataFrame(lines, columns=["memory", "kind", "class", "x", "y"])


def test_features_of_each_memory_stand_among_the_same_real_ones() -> None:
    figure = draw_features(points(), "title")
    assert [axes.get_title() for axes in figure.axes] == ["dm", "dsa"]
    for axes, own in zip(figure.axes, ([[[1, 1]], []], [[[3, 3]], [[8, 8]]]), strict=True):
        offsets = [np.asarray(marks.get_offsets()).tolist() for marks in axes.collections]
        real, synthetic = offsets[::2], offsets[1::2]
        assert real == [[[0, 0], [2, 0], [4, 6]], [[9, 9]]]
        assert synthetic == own
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog"]


def test_classes_can_be_told_apart_without_colour() -> None:
    names = [f"class {c}" for c in range(10)]
    many = DataFrame({"memory": "dm", "kind": "synthetic", "class": names, "x": 0.0, "y": 0.0})
    (legend,) = draw_features(many, "").legends
    assert len({line.get_marker() for line in legend.get_lines()}) == 10
    assert len({line.get_color() for line in legend.get_lines()}) == 10


def test_points_that_cannot_be_shown_are_refused() -> None:
    some = points()
    with pytest.raises(ValueError, match="synthetic images of 1 to 10 classes are shown, got 0 of 2"):
        draw_features(some[some["kind"] == "real"], "")
    many = DataFrame({"memory": "dm", "kind": "synthetic", "class": list(map(str, range(11))), "x": 0.0, "y": 0.0})
    with pytest.raises(ValueError, match="1 to 10 classes are shown, got 11 of 11"):
        draw_features(many, "")


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_drawing_gives_the_same_bytes(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = points().replace({"dsa": "<script> $\\frac{$ \x1b", "dog": "_$x{"})
    for draw in (side_by_side, lambda: draw_features(odd, "<b>")):
        assert saving.to_bytes(draw(), f"a{suffix}") == saving.to_bytes(draw(), f"a{suffix}")
    assert not list(tmp_path.iterdir())
