import pytest
from matplotlib.figure import Figure

from harness.results.figures import captions, drawing, registry, saving


@pytest.mark.parametrize(
    ("model", "shorter"),
    [
        ("convnet-d3-w128-instancenorm-relu-avgpooling", "convnet-d3-w128"),
        ("convnet-d3-w32-batchnorm-swish-maxpooling", "convnet-d3-w32-bn-swish-maxpooling"),
        ("alexnet-batchnorm", "alexnet-bn"),
        ("resnet18-batchnorm-ap", "resnet18-bn-ap"),
        ("mlp", "mlp"),
        ("", ""),
    ],
)
def test_networks_have_shorter_names(model: str, shorter: str) -> None:
    assert captions.network_in_words(model) == shorter


def test_what_no_font_draws_is_a_space() -> None:
    assert drawing.printable("a\x1bb\x00c\td\ne ü$") == "a b c d\ne ü$"


def test_a_title_is_no_wider_than_its_figure() -> None:
    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.subplots()
    drawing.add_title(figure, "word " * 60 + "\nthe second line")
    figure.draw_without_rendering()
    (title,) = (text for text in figure.texts)
    assert title.get_window_extent().width < figure.bbox.width
    assert title.get_text().endswith("\nthe second line")


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ([1], ["1"]),
        ([1, 10, 50], ["50", "10", "1"]),
        # Factor 1000 over eighths: marks are a factor 2.37 apart at least.
        ([1, 2, 10, 20, 50, 100, 500, 1000], ["1000", "100", "20", "2"]),
        ([0.5, 12.25], ["12.25", "0.5"]),
    ],
)
def test_a_logarithmic_axis_is_marked_where_there_is_room(values: list[float], marked: list[str]) -> None:
    axes = Figure().subplots()
    drawing.scale_logarithmic(axes, values)
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == marked


def test_lines_side_by_side_stand_about_their_place() -> None:
    factors = [drawing.side_by_side(number, 3, [1, 100]) for number in range(3)]
    # A twentieth of two tens: a tenth of a ten, half of it to each side.
    assert factors == pytest.approx([10**-0.05, 1, 10**0.05])
    assert drawing.side_by_side(0, 1, [1, 100]) == 1
    assert drawing.side_by_side(1, 2, [5]) == pytest.approx(10**0.025)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_file_says_which_figure_it_is_of(suffix: str) -> None:
    figure = Figure()
    figure.subplots().set_title("cl-accuracy, of another maker")
    assert saving.kind_of(saving.to_bytes(figure, f"a{suffix}", "cross-arch")) == "cross-arch"
    assert saving.kind_of(saving.to_bytes(figure, f"a{suffix}")) == ""


def test_every_figure_says_what_it_shows_in_one_line() -> None:
    for plot in registry.FIGURES.values():
        assert 20 < len(registry.about(plot.draw)) <= 120
        assert registry.about(plot.draw).endswith(".")
