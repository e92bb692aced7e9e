import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from pandas import DataFrame

from harness.results import rows
from harness.results.figures import registry, saving
from tests.results.condensed import CONVNET3, Row, Values, frame, networks
from tests.results.figures.drawn import draw_rows
from tests.results.files import write_rows

cl_matrix, cross_arch, recipes = (registry.FIGURES[name] for name in ("cl_matrix", "cross_arch", "recipe_by_memory"))
each_figure = pytest.mark.parametrize("plot", [cl_matrix, cross_arch, recipes])
BATCH_NORM = CONVNET3.replace("instancenorm", "batchnorm")
HALF = 12.7062  # of the interval of two orders or sets at mean -1 and +1: t(df 1) * sqrt(2) / sqrt(2)


def stream(memory: str = "dm", steps: int = 2, orders: int = 2, **more: object) -> list[Row]:
    """After experience e, 60 - 10 e on the images of the first, 5 more on each later one; orders at -1 and +1."""
    setting = {
        "track": "cl", "dataset": "cifar10", "preset": "paper", "memory": memory, "league": "pixel", "ipc": 20,
        "recipe": "dm", "model": "convnet3", "steps": steps, "split": "test", "unit": "%", "repeat": 0,
        "metric": "experience_accuracy",
    } | more  # fmt: skip
    return [
        setting | {"order": str(order), "experience": e, "tested_experience": tested,
                   "value": 60 - 10 * e + 5 * tested + (2 * order - 1) * (orders > 1)}
        for order in range(orders) for e in range(steps) for tested in range(e + 1)
    ]  # fmt: skip


def judged(mean: float, memory: str = "dm", **more: object) -> list[Row]:
    """Two sets at mean -1 and +1."""
    values: Values = {(0, 0): mean - 1, (1, 0): mean + 1}
    setting = {"memory": memory, "stored_bytes": 122880} | more
    return networks(values, uint8=None, **setting)


def drawn(axes: Axes) -> list[list[float | None]]:
    """The values of a heat map, from the top down; None: no cell."""
    (mesh,) = axes.collections
    values: list[list[float | None]] = np.ma.asarray(mesh.get_array()).tolist()
    return values


def cells(axes: Axes) -> dict[tuple[float, float], str]:
    """(row, column) -> what stands in the cell."""
    return {(text.get_position()[1] - 0.5, text.get_position()[0] - 0.5): text.get_text() for text in axes.texts}


def names(axes: Axes) -> tuple[list[str], list[str]]:
    """Down and across."""
    return tuple([label.get_text() for label in each.get_ticklabels()] for each in (axes.yaxis, axes.xaxis))  # type: ignore[return-value]


def of_maps(figure: object) -> list[Axes]:
    """All but the colour bar."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]  # type: ignore[attr-defined]


# --- cl-matrix ------------------------------------------------------------------------------------------------------


def test_a_matrix_holds_the_means_of_the_orders() -> None:
    figure = draw_rows(cl_matrix, frame(stream()))
    (axes,) = of_maps(figure)
    assert drawn(axes) == [[60, None], [50, 55]]
    assert cells(axes) == {(0, 0): "60.0\n± 12.7", (1, 0): "50.0\n± 12.7", (1, 1): "55.0\n± 12.7"}
    assert axes.yaxis_inverted()
    assert names(axes) == (["0", "1"], ["0", "1"])
    assert axes.get_title() == "dm, 2 steps\nn = 2 orders x 1 net"
    assert "mean ± half of its 95 % interval, over orders" in figure.get_suptitle()


def test_the_numbers_behind_a_matrix() -> None:
    data = cl_matrix.data(frame(stream())).set_index(["experience", "tested_experience"])
    assert data["mean"].to_dict() == {(0, 0): 60, (1, 0): 50, (1, 1): 55}
    assert data[["low", "high"]].to_numpy()[-1] == pytest.approx([55 - HALF, 55 + HALF], abs=1e-3)
    assert data["n"].tolist() == [2, 2, 2]


def test_memories_and_numbers_of_steps_have_a_matrix_each() -> None:
    parts = [*(stream(memory) for memory in ("dm", "dsa", "dc", "herding", "random")), stream(steps=10)]
    figure = draw_rows(cl_matrix, frame(*parts, stream("idc", league="storage")))
    titles = [axes.get_title().split("\n")[0] for axes in of_maps(figure)]
    assert titles == [
        "dc, 2 steps", "dm, 2 steps", "dsa, 2 steps", "herding, 2 steps", "random, 2 steps",
        "idc, league storage, 2 steps", "dm, 10 steps",
    ]  # fmt: skip
    assert cells(of_maps(figure)[-1])[(9, 9)] == "15"  # 60 - 90 + 45; no room for an interval


def test_a_long_stream_has_no_room_for_numbers() -> None:
    (axes,) = of_maps(draw_rows(cl_matrix, frame(stream(steps=20))))
    assert set(cells(axes).values()) == {""}
    assert drawn(axes)[19][19] == 60 - 190 + 95


def test_one_order_has_no_interval() -> None:
    figure = draw_rows(cl_matrix, frame(stream(orders=1)))
    assert cells(of_maps(figure)[0])[(0, 0)] == "60.0"
    assert "mean, one value each, no interval" in figure.get_suptitle()
    assert "n = 1 order x 1 net" in of_maps(figure)[0].get_title()


# --- cross-arch -----------------------------------------------------------------------------------------------------


def test_condensing_networks_are_rows_and_tested_ones_columns() -> None:
    some = frame(
        judged(65, memory_model=BATCH_NORM, model=BATCH_NORM, ipc=50),
        judged(61, memory_model=BATCH_NORM, model="alexnet-batchnorm", ipc=50),
        judged(60, memory_model="alexnet-batchnorm", model=BATCH_NORM, ipc=50),
        judged(43, "random", memory_model="", model=BATCH_NORM, ipc=50, iterations=None),
    )
    figure = draw_rows(cross_arch, some)
    (axes,) = of_maps(figure)
    assert names(axes) == (
        ["dm, alexnet-bn", "dm, convnet-d3-w128-bn", "random"],
        ["alexnet-bn", "convnet-d3-w128-bn"],
    )
    assert drawn(axes) == [[None, 60], [61, 65], [None, 43]]
    # DM paper, Table 3: 65.2, and for AlexNet 61.3; condensed with AlexNet 60.5
    assert cells(axes)[(1, 1)] == "65.0\n± 12.7\n(65.2)"
    assert cells(axes)[(1, 0)] == "61.0\n± 12.7\n(61.3)"
    assert cells(axes)[(2, 1)] == "43.0\n± 12.7"
    said = figure.get_suptitle()
    assert "cifar10, 50 images per class, preset paper\nrecipe dm" in said
    assert "in brackets: published" in said
    assert "n = 2 sets x 1 net" in said


def test_budgets_and_leagues_have_a_map_each() -> None:
    some = frame(judged(40), judged(30, ipc=1), judged(50, "idc", league="storage"),
                 judged(80, "full", league="full", ipc=None, memory_model="", iterations=None))  # fmt: skip
    for plot in (cross_arch, recipes):
        figure = draw_rows(plot, some)
        assert [axes.get_title() for axes in of_maps(figure)] == [
            "1 image per class, league pixel", "10 images per class, league pixel",
            "10 images per class, league storage", "league full",
        ]  # fmt: skip
        assert [drawn(axes) for axes in of_maps(figure)] == [[[30]], [[40]], [[50]], [[80]]]
        (mappable,) = {axes.collections[0].norm for axes in of_maps(figure)}  # one scale for all
        assert (mappable.vmin, mappable.vmax) == (30, 80)


# --- recipe-by-memory -----------------------------------------------------------------------------------------------


def test_memories_stand_against_recipes() -> None:
    figure = draw_rows(recipes, frame(judged(49), judged(44, recipe="dc"), judged(52, "dsa"), judged(33, "mim-dm")))
    (axes,) = of_maps(figure)
    assert names(axes) == (["dm", "dsa", "mim-dm (reconstruction)"], ["dc", "dm"])
    assert drawn(axes) == [[44, 49], [None, 52], [None, 33]]
    assert cells(axes)[(0, 1)] == "49.0\n± 12.7\n(48.9)"  # DM paper, Table 1
    assert cells(axes)[(0, 0)] == "44.0\n± 12.7"  # published under its own recipe only


def test_the_last_iteration_stands_for_a_run() -> None:
    (axes,) = of_maps(draw_rows(recipes, frame(judged(30, iterations=1000), judged(40))))
    assert drawn(axes) == [[40]]


# --- all of them ----------------------------------------------------------------------------------------------------


def of(plot: registry.Plot, *memories: str, **more: object) -> DataFrame:
    """Rows of memories such as the figure needs."""
    return frame(*(stream(name, **more) if plot is cl_matrix else judged(40, name, **more) for name in memories))  # type: ignore[arg-type]


@each_figure
@pytest.mark.parametrize(
    ("memory", "more", "message"),
    [
        ("dsa", {"dataset": "cifar100"}, "one dataset; the rows mix cifar10 and cifar100"),
        ("dsa", {"preset": "quick"}, "one preset; the rows mix paper and quick"),
        ("dsa", {"split": "validation"}, "one split; the rows mix test and validation"),
        ("dm", {"changes": "memory.lr=2"}, "dm in one configuration; the rows mix '' and 'memory.lr=2'"),
    ],
)
def test_mixtures_are_refused(plot: registry.Plot, memory: str, more: dict[str, object], message: str) -> None:
    mixed = pd.concat([of(plot, "dm"), of(plot, memory, **more)], ignore_index=True)
    with pytest.raises(ValueError, match=message):
        plot.data(mixed)


@each_figure
def test_changed_settings_are_named(plot: registry.Plot) -> None:
    changed = of(plot, "dm", changes="memory.lr=2")
    assert "changed from the preset: memory.lr=2" in draw_rows(plot, changed).get_suptitle()
    assert set(plot.data(changed)["changes"]) == {"memory.lr=2"}


@each_figure
def test_rows_of_another_kind_are_refused(plot: registry.Plot) -> None:
    with pytest.raises(ValueError, match=r"none of the \d rows is a \w+ of track"):
        draw_rows(plot, of(plot, "dm", track="nas"))


@each_figure
def test_smoke_rows_and_other_data_are_marked(plot: registry.Plot) -> None:
    said = draw_rows(plot, of(plot, "dm", preset="smoke", exactness="from jpeg")).get_suptitle().replace("\n", " ")
    assert "preset smoke (smoke: not a result)" in said
    assert "cifar10 (from jpeg)" in said


@each_figure
def test_the_same_rows_give_the_same_bytes(plot: registry.Plot) -> None:
    odd = of(plot, "$\\frac{$", "_hidden", "<script>alert('1')</script> --", "a\x1b\x00b", "dm")
    first, second = (saving.to_bytes(draw_rows(plot, odd), "a.svg") for _ in range(2))
    assert first == second
    tags = [str(element.tag) for element in ElementTree.fromstring(first).iter()]
    assert not [tag for tag in tags if "script" in tag]


@each_figure
def test_the_numbers_survive_a_file(plot: registry.Plot, tmp_path: Path) -> None:
    some = of(plot, "dm", "own")
    write_rows(some.assign(key=[f"{i}" for i in range(len(some))]).to_dict("records"), tmp_path / "rows.csv")
    assert plot.data(rows.read(tmp_path)).equals(plot.data(some))


@each_figure
def test_every_number_can_be_read_on_its_ground(plot: registry.Plot) -> None:
    figure = draw_rows(plot, frame(stream(), stream("dsa", steps=4)) if plot is cl_matrix else of(plot, "dm"))
    for axes in of_maps(figure):
        (mesh,) = axes.collections
        for text in axes.texts:
            value = np.ma.asarray(mesh.get_array())[int(text.get_position()[1]), int(text.get_position()[0])]
            red, green, blue, _ = mesh.cmap(mesh.norm(value))
            # Contrast by relative luminance (WCAG 2.1), of sRGB
            linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
            ground = float(np.dot([0.2126, 0.7152, 0.0722], linear))
            ink = 1.0 if text.get_color() == "white" else 0.0
            assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 4.5
