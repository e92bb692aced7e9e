"""The figures by name, each as a function of rows with the numbers in it."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

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
from harness.results.figures.scaling import budget, budget_data, cost, cost_data, large_ipc, large_ipc_data
from harness.results.figures.search_costs import (
    nas_cost,
    nas_cost_data,
    nas_regret,
    nas_regret_data,
    nas_size,
    nas_size_data,
)
from harness.results.figures.search_ranks import (
    nas_axes,
    nas_axes_data,
    nas_ranks,
    nas_ranks_data,
    nas_scatter,
    nas_scatter_data,
)
from harness.results.figures.stream import cl_accuracy, cl_accuracy_data

__all__ = [
    "FIGURES",
    "Plot",
    "about",
    "budget",
    "budget_data",
    "cl_accuracy",
    "cl_accuracy_data",
    "cl_matrix",
    "cl_matrix_data",
    "condense_accuracy",
    "condense_accuracy_data",
    "condense_iterations",
    "condense_iterations_data",
    "cost",
    "cost_data",
    "cross_arch",
    "cross_arch_data",
    "large_ipc",
    "large_ipc_data",
    "nas_axes",
    "nas_axes_data",
    "nas_cost",
    "nas_cost_data",
    "nas_ranks",
    "nas_ranks_data",
    "nas_regret",
    "nas_regret_data",
    "nas_scatter",
    "nas_scatter_data",
    "nas_size",
    "nas_size_data",
    "recipe_by_memory",
    "recipe_by_memory_data",
]


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
