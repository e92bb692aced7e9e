"""Figures as functions of their data. Nothing global is touched and nothing is written, save by `save`."""

import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures.condensed import (
    condense_accuracy,
    condense_accuracy_data,
    condense_iterations,
    condense_iterations_data,
)
from harness.results.figures.heat import (
    cl_matrix,
    cl_matrix_data,
    cross_arch,
    cross_arch_data,
    recipe_by_memory,
    recipe_by_memory_data,
)
from harness.results.figures.images import memory_images
from harness.results.figures.scaling import budget, budget_data, cost, cost_data, large_ipc, large_ipc_data
from harness.results.figures.search import (
    nas_axes,
    nas_axes_data,
    nas_cost,
    nas_cost_data,
    nas_ranks,
    nas_ranks_data,
    nas_regret,
    nas_regret_data,
    nas_scatter,
    nas_scatter_data,
    nas_size,
    nas_size_data,
)
from harness.results.figures.stream import cl_accuracy, cl_accuracy_data

__all__ = ["FIGURES", "Plot", "about", "cl_accuracy", "kind_of", "memory_images", "to_bytes"]

KIND = ", a figure of the harness"  # what a file's title ends with, after the name of the figure in it


class Plot(NamedTuple):
    """A figure of rows, and the numbers in it, for the CSV that is kept beside it."""

    draw: Callable[[DataFrame], Figure]
    data: Callable[[DataFrame], DataFrame]


FIGURES = {
    "budget": Plot(budget, budget_data),
    "cl_accuracy": Plot(cl_accuracy, cl_accuracy_data),
    "cl_matrix": Plot(cl_matrix, cl_matrix_data),
    "condense_accuracy": Plot(condense_accuracy, condense_accuracy_data),
    "condense_iterations": Plot(condense_iterations, condense_iterations_data),
    "cost": Plot(cost, cost_data),
    "cross_arch": Plot(cross_arch, cross_arch_data),
    "large_ipc": Plot(large_ipc, large_ipc_data),
    "nas_axes": Plot(nas_axes, nas_axes_data),
    "nas_cost": Plot(nas_cost, nas_cost_data),
    "nas_ranks": Plot(nas_ranks, nas_ranks_data),
    "nas_regret": Plot(nas_regret, nas_regret_data),
    "nas_scatter": Plot(nas_scatter, nas_scatter_data),
    "nas_size": Plot(nas_size, nas_size_data),
    "recipe_by_memory": Plot(recipe_by_memory, recipe_by_memory_data),
}


def about(draw: Callable[..., object]) -> str:
    """What a figure shows, in one line: the first of what its function says of itself."""
    return next(iter((inspect.getdoc(draw) or "").splitlines()), "")


def to_bytes(figure: Figure, path: str | Path, kind: str = "") -> bytes:
    """The content of a .pdf, .png or .svg file of a figure; the same drawing gives the same bytes.

    Args:
        path: name of the file, whose suffix is the format.
        kind: name of the figure, which `kind_of` reads back.
    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    # Dates, and the programs' versions, would make the bytes differ from day to day.
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}, ".svg": {"Date": None}}
    if path.suffix not in metadata:
        raise ValueError(f"{path}: a figure is written as {', '.join(metadata)}, not {path.suffix or 'without suffix'}")
    title = {"Title": f"{kind}{KIND}"} if kind else {}
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "results", "pdf.fonttype": 42}):
        figure.savefig(content, format=path.suffix[1:], dpi=200, metadata=metadata[path.suffix] | title)
    return content.getvalue()


def kind_of(content: bytes) -> str:
    """The name of the figure in a file of `to_bytes`; "" where the file does not say."""
    found = re.search(rb"([\w-]+)%s" % KIND.encode(), content)
    return found[1].decode() if found else ""
