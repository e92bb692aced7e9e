"""The figures of rows by name, each as its numbers and its drawing."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure
from pandas import DataFrame

from harness.results.figures import condensed, heat, scaling, search_costs, search_ranks, stream


class Plot(NamedTuple):
    """A figure: the function that computes its numbers from rows, and the function that draws them.

    The numbers are all that the figure shows. The same frame is drawn and written beside the figure as CSV.
    """

    data: Callable[[DataFrame], DataFrame]
    draw: Callable[[DataFrame], Figure]


FIGURES = {
    "budget": Plot(scaling.budget_data, scaling.draw_budget),
    "cl_accuracy": Plot(stream.cl_accuracy_data, stream.draw_cl_accuracy),
    "cl_matrix": Plot(heat.cl_matrix_data, heat.draw_cl_matrix),
    "condense_accuracy": Plot(condensed.condense_accuracy_data, condensed.draw_condense_accuracy),
    "condense_iterations": Plot(condensed.condense_iterations_data, condensed.draw_condense_iterations),
    "cost": Plot(scaling.cost_data, scaling.draw_cost),
    "cross_arch": Plot(heat.cross_arch_data, heat.draw_cross_arch),
    "large_ipc": Plot(scaling.large_ipc_data, scaling.draw_large_ipc),
    "nas_axes": Plot(search_ranks.nas_axes_data, search_ranks.draw_nas_axes),
    "nas_cost": Plot(search_costs.nas_cost_data, search_costs.draw_nas_cost),
    "nas_ranks": Plot(search_ranks.nas_ranks_data, search_ranks.draw_nas_ranks),
    "nas_regret": Plot(search_costs.nas_regret_data, search_costs.draw_nas_regret),
    "nas_scatter": Plot(search_ranks.nas_scatter_data, search_ranks.draw_nas_scatter),
    "nas_size": Plot(search_costs.nas_size_data, search_costs.draw_nas_size),
    "recipe_by_memory": Plot(heat.recipe_by_memory_data, heat.draw_recipe_by_memory),
}


def about(draw: Callable[..., object]) -> str:
    """What a figure shows, in one line: the first line of the docstring of its function."""
    return next(iter((inspect.getdoc(draw) or "").splitlines()), "")
