"""Figures drawn for tests."""

from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures.registry import Plot


def draw_rows(plot: Plot, rows: DataFrame) -> Figure:
    """Draw the figure of some rows."""
    return plot.draw(plot.data(rows))
