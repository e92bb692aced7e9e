import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results import rows
from harness.results.figures import drawing, proxies, registry, saving, search_costs, search_ranks
from tests.results.figures.drawn import draw_rows
from tests.results.files import write_rows
from tests.results.searched import MODELS, NEAR, TRUE, Row, alike, frame, trained, zero_cost

NAN = math.nan
NAMES = ["nas_axes", "nas_cost", "nas_ranks", "nas_regret", "nas_scatter", "nas_size"]
each_figure = pytest.mark.parametrize("name", NAMES)
# Ids 0 to 8: norms none and batchnorm ..., activations and poolings in turn; all of width 32 and depth 1.
BACKWARDS = alike((5.0, 4.0, 3.0, 2.0, 1.0))


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (search_costs, proxies):
        monkeypatch.setattr(module, "DRAWS", 20)


def some() -> DataFrame:
    return frame(
        trained("full", TRUE, seconds=100),
        trained("dm", NEAR, seconds=5),
        trained("dm", BACKWARDS, seconds=2, ipc=10),
        trained("early-stopping", NEAR, seconds=4),
        zero_cost("params", {arch: 10.0 ** (arch + 3) for arch in range(5)}),
    )


def draw(name: str, some_rows: DataFrame) -> Figure:
    return draw_rows(registry.FIGURES[name], some_rows)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]


def points(axes: Axes) -> list[tuple[float, float]]:
    return [point for line in axes.get_lines() for point in xy(line)]


def xy(line: object) -> Iterator[tuple[float, float]]:
    x, y = (np.asarray(of(), dtype=float).tolist() for of in (line.get_xdata, line.get_ydata))  # type: ignore[attr-defined]
    yield from zip(x, y, strict=True)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_figure_is_listed_with_what_it_shows() -> None:
    assert [name for name in sorted(registry.FIGURES) if name.startswith("nas_")] == NAMES
    for name in NAMES:
        assert (registry.FIGURES[name].draw.__doc__ or "").splitlines()[0].endswith(".")


def test_a_scatter_of_all_where_5_percent_are_few() -> None:
    data = search_ranks.nas_scatter_data(some())
    dm = data[data["proxy"] == "dm, 50 per class"]
    assert dm[["arch", "proxy_accuracy", "true_accuracy"]].to_numpy().tolist() == [
        ["0", 20, 50], ["1", 30, 60], ["2", 25, 70], ["3", 40, 80], ["4", 45, 90],
    ]  # fmt: skip
    assert (dm["selected"].iloc[0], dm["architectures"].iloc[0], dm["rho"].iloc[0]) == (5, 5, pytest.approx(0.9))
    figure = draw("nas_scatter", some())
    low, high = dm[["rho_low", "rho_high"]].iloc[0]
    assert titles(figure) == [
        "dm, 10 per class: rho (test) -1.00 [-1.00, -1.00]\nall 5",
        f"dm, 50 per class: rho (test) 0.90 [{low:.2f}, {high:.2f}]\nall 5",
        f"early-stopping: rho (test) 0.90 [{low:.2f}, {high:.2f}]\nall 5",
        "params: rho (score) 1.00 [1.00, 1.00]\nall 5",
    ]  # fmt: skip
    assert points(figure.axes[1]) == [(20, 50), (30, 60), (25, 70), (40, 80), (45, 90)]
    assert [axes.get_xlabel() for axes in figure.axes][2:] == ["test accuracy on the proxy (%)", "parameters"]
    assert figure.axes[3].get_xscale() == "log"
    assert "cifar10, preset paper, space convnet720" in figure.get_suptitle()


def test_the_scatter_of_the_paper_has_the_top_5_percent() -> None:
    truth = alike([arch / 10 for arch in range(200)])
    proxy = {arch: [(float(arch), 100.0 - arch / 4)] for arch in range(200)}  # picks 190 .. 199, tests fall
    proxy[195] = [(195.0, 0.0), (NAN, NAN)]
    both = frame(trained("full", truth), trained("dm", proxy))
    data = search_ranks.nas_scatter_data(both)
    # 195 diverged, so 189 is among the ten.
    assert data["arch"].tolist() == [str(arch) for arch in range(189, 200) if arch != 195]
    assert data["proxy_accuracy"].tolist() == [100 - int(arch) / 4 for arch in data["arch"]]
    assert titles(draw("nas_scatter", both))[0].startswith("dm: rho (test) -1.00 [-1.00, -1.00]\ntop 10 of 200")


def test_a_network_that_diverged_has_no_place_and_is_counted() -> None:
    figure = draw("nas_scatter", frame(trained("full", TRUE), trained("dm", {**NEAR, 0: [(NAN, NAN)]})))
    assert titles(figure)[0].endswith("all 5, 1 diverged")
    assert len(points(figure.axes[0])) == 4


def test_ranks_and_scatter_name_the_scores_of_their_rho() -> None:
    # In validation the proxy ranks as the truth does, in test the other way round: rho is 1 of one and -1 of the other.
    proxy = {arch: [(20.0 + arch, 40.0 - arch)] for arch in range(5)}
    both = frame(trained("full", TRUE), trained("dm", proxy), zero_cost("params", dict(enumerate((1.0, 2, 3, 4, 5)))))
    ranks, scatter = draw("nas_ranks", both), draw("nas_scatter", both)
    assert titles(ranks)[0] == "dm: rho (validation) 1.00 [1.00, 1.00], n = 5"
    assert titles(scatter)[0].startswith("dm: rho (test) -1.00 [-1.00, -1.00]")
    assert [title.partition(" 1")[0] for title in (titles(ranks)[2], titles(scatter)[1])] == ["params: rho (score)"] * 2
    assert "of the validation accuracy on the proxy" in ranks.get_suptitle().replace("\n", " ")
    assert "of the test accuracies that are drawn" in scatter.get_suptitle().replace("\n", " ")


def test_changed_settings_stand_above_a_search() -> None:
    changed = frame(trained("full", TRUE), trained("dm", NEAR, changes="memory.lr=2"))
    for name in NAMES:
        if name != "nas_size":
            assert "memory.lr=2" in draw(name, changed).get_suptitle()
            assert "memory.lr=2" in list(registry.FIGURES[name].data(changed)["changes"])


def test_ranks_by_hand() -> None:
    tied = alike((20, 30, 30, 40, 45))
    data = search_ranks.nas_ranks_data(frame(trained("full", TRUE), trained("dm", tied)))
    assert data["true_rank"].tolist() == [5, 4, 3, 2, 1]
    assert data["proxy_rank"].tolist() == [5, 3.5, 3.5, 2, 1]
    assert data[["width", "depth", "norm", "activation", "pooling"]].iloc[4].tolist() == [
        32, 1, "nonorm", "relu", "maxpooling",
    ]  # fmt: skip


def test_ranks_have_a_row_per_proxy_and_a_column_per_axis() -> None:
    figure = draw("nas_ranks", some())
    assert len(figure.axes) == 4 * 2  # depth, width and norm have one value each
    assert titles(figure)[0] == "dm, 10 per class: rho (validation) -1.00 [-1.00, -1.00], n = 5"
    activation = figure.axes[0]
    sigmoid, relu = activation.get_lines()
    assert sorted(xy(sigmoid)) == [(1, 5), (2, 4), (3, 3)]  # ids 0 1 2: the proxy's best, truly the worst
    assert sorted(xy(relu)) == [(4, 2), (5, 1)]
    assert sigmoid.get_marker() != relu.get_marker()
    named = [text.get_text() for text in figure.axes[-2].get_legend().get_texts()]  # type: ignore[union-attr]
    assert named == ["sigmoid", "relu"]


def test_axes_by_hand() -> None:
    data = search_ranks.nas_axes_data(some()).set_index(["axis", "value", "proxy"])
    # Sigmoid: ids 0 1 2, truths 50 60 70: std 10, t(df 2) = 4.3027, half width 4.3027 x 10 / sqrt(3) = 24.84.
    assert data["mean"]["activation", "sigmoid", "full"] == 60
    assert data["n"]["activation", "sigmoid", "full"] == 3
    assert data["high"]["activation", "sigmoid", "full"] == pytest.approx(60 + 24.84, abs=0.01)
    assert data["mean"]["activation", "relu", "dm, 50 per class"] == 42.5
    assert "params" not in data.index.get_level_values("proxy")  # its unit is another
    assert list(data.loc["pooling"].index.unique("value")) == ["nopooling", "maxpooling", "avgpooling"]


def test_an_axis_of_one_value_has_numbers_and_no_panel() -> None:
    figure = draw("nas_axes", some())
    data = search_ranks.nas_axes_data(some())
    several = [axis for axis, part in data.groupby("axis", sort=False) if part["value"].nunique() > 1]
    assert [axes.get_xlabel() for axes in figure.axes] == several
    assert 1 < len(several) < data["axis"].nunique()


def test_axes_leave_out_what_diverged() -> None:
    data = search_ranks.nas_axes_data(frame(trained("full", {**TRUE, 0: [(NAN, NAN)]}), trained("dm", NEAR)))
    full = data[(data["proxy"] == "full") & (data["value"] == "sigmoid")].iloc[0]
    assert (full["mean"], full["n"]) == (65, 2)


def test_regret_by_hand() -> None:
    data = search_costs.nas_regret_data(some())
    by_proxy = {str(proxy): part["regret"].tolist() for proxy, part in data.groupby("proxy")}
    assert by_proxy["dm, 50 per class"] == [0, 0, 0, 0, 0]
    assert by_proxy["dm, 10 per class"] == [40, 30, 20, 10, 0]
    # One of 50 .. 90 at random is 70 on average; the best of k is k (5 + 1) / (k + 1) of 5, ten points each.
    assert by_proxy[search_costs.AT_RANDOM] == pytest.approx([20, 10, 5, 2, 0])
    drawn = data[data["proxy"] != search_costs.AT_RANDOM]
    assert (drawn["low"] <= drawn["high"]).all()
    figure = draw("nas_regret", some())
    assert [axes.get_title() for axes in figure.axes] == [
        "dm, 10 per class, league pixel",
        "dm, 50 per class, league pixel",
        "early-stopping, league full",
        "params, no images",
    ]
    assert all(len(axes.collections) == 1 for axes in figure.axes)  # its own band, no other's
    # Behind either dm stands the other; nothing else is of the leagues of the other two.
    grey = [sum(line.get_color() == drawing.BEHIND for line in axes.get_lines()) for axes in figure.axes]
    assert grey == [1, 1, 0, 0]
    assert legend(figure) == ["the other proxies of its league", "tried at random"]
    assert "n = 5 architectures" in figure.get_suptitle()


@pytest.mark.parametrize("name", ["nas_axes", "nas_cost", "nas_regret", "nas_size"])
def test_proxies_are_compared_on_shared_architectures(name: str) -> None:
    few = alike((30, 25, 40), of=(1, 2, 3))
    both = frame(trained("full", TRUE), trained("dm", NEAR), trained("dsa", few))
    data, figure = registry.FIGURES[name].data(both), draw_rows(registry.FIGURES[name], both)
    assert set(data["architectures"]) == {3}
    if name == "nas_axes":
        assert set(data.groupby(["axis", "proxy"])["n"].sum()) == {3}
    assert "n = 3 architectures that all have" in figure.get_suptitle().replace("\n", " ")
    apart = frame(trained("full", TRUE), trained("dm", few), trained("dsa", alike((1.0, 2.0), of=(0, 4))))
    with pytest.raises(ValueError, match="no architecture is shared by all of"):
        draw_rows(registry.FIGURES[name], apart)


def test_ties_for_the_last_place_are_drawn_and_counted() -> None:
    truth = alike([arch / 10 for arch in range(200)])
    depth = zero_cost("depth", {arch: float(arch // 50) for arch in range(200)}, unit="layers")
    both = frame(trained("full", truth), depth)
    data = search_ranks.nas_scatter_data(both)
    assert (len(data), data["selected"].iloc[0]) == (50, 10)
    assert titles(draw("nas_scatter", both))[0] == "depth: rho (score) undefined\ntop 10 of 200, 50 with ties"


def test_regret_where_nothing_picked_trained() -> None:
    truth = {**TRUE, 4: [(NAN, NAN)]}
    data = search_costs.nas_regret_data(frame(trained("full", truth), trained("dm", NEAR)))
    assert data.loc[data["proxy"] == "dm", "regret"].tolist() == [math.inf, 0, 0, 0, 0]
    draw("nas_regret", frame(trained("full", truth), trained("dm", NEAR))).draw_without_rendering()


def test_rho_against_the_size_of_the_proxy_set() -> None:
    data = search_costs.nas_size_data(some())
    assert data[["proxy", "ipc"]].fillna(0).to_numpy().tolist() == [
        ["dm", 10], ["dm", 50], ["early-stopping", 0], ["params", 0],
    ]  # fmt: skip
    assert data["spearman_rho"].tolist() == pytest.approx([-1, 0.9, 0.9, 1])
    (axes,) = draw("nas_size", some()).axes
    colour = drawing.STYLES["dm"].colour
    (line,) = [line for line in axes.get_lines() if line.get_color() == colour and line.get_marker() == "o"]
    assert np.array(list(xy(line))) == pytest.approx(np.array([[10, -1], [50, 0.9]]))
    assert len(axes.patches) == 2  # the bands of those without a budget
    with pytest.raises(ValueError, match="none of the 1 proxies has a budget"):
        draw("nas_size", frame(trained("full", TRUE), trained("early-stopping", NEAR)))


def test_cost_against_rho() -> None:
    truth = {arch: [(value, value), (value, value)] for arch, value in enumerate((50.0, 60.0, 70.0, 80.0, 90.0))}
    params = zero_cost("params", dict(enumerate((1.0, 2.0, 3.0, 4.0, 5.0))))
    both = frame(trained("full", truth, seconds=100), trained("dm", NEAR, seconds=5), params)
    data = search_costs.nas_cost_data(both).set_index("proxy")
    assert data["seconds"].fillna(-1).to_dict() == {"full": 200, "dm": 5, "params": -1}  # two networks of the truth
    assert data["spearman_rho"].to_dict() == pytest.approx({"full": 1, "dm": 0.9, "params": 1})
    (axes,) = draw("nas_cost", both).axes
    assert axes.get_xscale() == "log"
    assert (200, 1) in points(axes)
    said = draw("nas_cost", both).get_suptitle().replace("\n", " ")
    assert "on a CPU" in said
    # Halves that agree leave no noise: the mean of both allows sqrt(2 x 1 / (1 + 1)) = 1.
    assert "full: noise ceiling of half of its trainings (1 against 1), rho 1.00; the mean of both halves" in said
    assert "halves allows rho 1.00; no intervals" in said
    assert (data["halves"]["full"], data["noise_ceiling_of_mean"]["full"]) == ("1 against 1", 1)
    elsewhere = frame(trained("full", truth, seconds=100), trained("dm", NEAR, device="a GPU"))
    with pytest.raises(ValueError, match="one device of training seconds; the rows mix a CPU and a GPU: select one"):
        draw("nas_cost", elsewhere)
    assert math.isnan(search_costs.nas_cost_data(some()).set_index("proxy")["spearman_rho"]["full"])  # one network each
    unknown = frame(trained("full", TRUE, seconds=NAN), trained("dm", NEAR, seconds=NAN))
    with pytest.raises(ValueError, match="none of the 2 proxies tells the seconds"):
        draw("nas_cost", unknown)


@pytest.mark.parametrize("other", [{"preset": "quick"}, {"dataset": "mnist"}, {"dataset_digest": "2"}, {"space": "x"}])
def test_a_mixture_is_refused(other: dict[str, str]) -> None:
    more = [*trained("full", TRUE, **other), *trained("dm", NEAR, **other)]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"a figure shows one {next(iter(other))}; the rows mix .* and .*: select one"):
        draw("nas_cost", frame(trained("full", TRUE), trained("dm", NEAR), more))


@each_figure
def test_nothing_to_compare_is_refused(name: str) -> None:
    alone, apart = trained("full", TRUE), trained("dm", alike((1.0,), of=(99,)))
    with pytest.raises(ValueError, match="no proxy shares an architecture with the truth"):
        registry.FIGURES[name].data(frame(alone, apart))


@pytest.mark.parametrize("name", ["nas_axes", "nas_ranks"])
def test_another_space_has_no_axes(name: str) -> None:
    others: list[Row] = [
        row | {"model": "mine"} for part in (trained("full", TRUE), trained("dm", NEAR)) for row in part
    ]
    with pytest.raises(ValueError, match="mine: axes are told by names such as convnet"):
        draw_rows(registry.FIGURES[name], frame(others))


@each_figure
def test_smoke_and_other_data_are_marked(name: str) -> None:
    own = {"preset": "smoke", "exactness": "from jpeg"}
    figure = draw_rows(registry.FIGURES[name], frame(trained("full", TRUE, **own), trained("dm", NEAR, **own)))  # type: ignore[arg-type]
    assert "cifar10 (from jpeg), preset smoke (smoke: not a result)" in figure.get_suptitle().replace("\n", " ")


@each_figure
def test_the_numbers_survive_a_file(name: str, tmp_path: Path) -> None:
    write_rows(some().to_dict("records"), tmp_path / "rows.csv")
    data = registry.FIGURES[name].data
    assert data(rows.read(tmp_path)).equals(data(some()))


@each_figure
def test_drawing_is_the_same_each_time_and_writes_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = frame(trained("full", TRUE), trained("$\\frac{$", NEAR))
    figures = [draw_rows(registry.FIGURES[name], odd) for _ in range(2)]
    assert not list(tmp_path.iterdir())
    # A name read as mathematics would raise here.
    first, second = (saving.to_bytes(figure, "a.svg") for figure in figures)
    assert first == second


def test_names_that_begin_with_an_underscore_are_shown() -> None:
    assert "_hidden" in legend(draw("nas_cost", frame(trained("full", TRUE), trained("_hidden", NEAR))))


def test_nothing_is_wider_than_its_figure() -> None:
    figure = draw("nas_scatter", frame(trained("full", TRUE), *(trained(f"a-method-{i}", NEAR) for i in range(4))))
    figure.draw_without_rendering()
    assert all(axes.get_tightbbox().x1 <= figure.bbox.width for axes in figure.axes)  # type: ignore[union-attr]
    assert len(figure.axes) == 4  # the two empty places of the second line are gone
    assert MODELS[0] in set(search_ranks.nas_scatter_data(some())["model"])
