"""How well a proxy ranks architectures: rank statistics and their bootstrap intervals. Numbers in, numbers out.

Shapes: A architectures, R networks of each, B bootstrap draws. Scores are (..., A): a statistic works along the last
axis and gives one number for each of the leading ones, so that all draws are one call.

    nan    there is no such network (or, in a result, no such number); never a score
    -inf   a network that diverged. An architecture of which any network diverged scores -inf: it ranks last,
           tied with the others that diverged, and whoever prints the result counts it

The order of the architectures does not matter. Equal scores do not say which architecture is selected: each order of
them is as likely, and a number is its exact mean over these orders.
"""

from harness.results.statistics.ranking.ceiling import ceiling_of_mean, noise_ceiling, split_sizes
from harness.results.statistics.ranking.correlations import (
    kendall_tau_b,
    partial_rho,
    rho_of_selected,
    spearman_rho,
    weighted_tau,
)
from harness.results.statistics.ranking.resampling import (
    AccuracyMatrix,
    Difference,
    Draws,
    Estimate,
    Sample,
    Scores,
    Statistic,
    bootstrap,
    estimate,
    full_sample,
    paired_difference,
    percentiles,
    rank_statistic,
    rho_among_best,
    rho_among_selected,
    selection_statistic,
)
from harness.results.statistics.ranking.scores import Array, Places
from harness.results.statistics.ranking.selection import (
    best_rank,
    chance_bound,
    count_at_chance,
    count_fraction,
    count_tied,
    regret,
    regret_at_random,
    regret_curve,
    selection_chances,
    top_k_agreement,
)

__all__ = [
    "AccuracyMatrix",
    "Array",
    "Difference",
    "Draws",
    "Estimate",
    "Places",
    "Sample",
    "Scores",
    "Statistic",
    "best_rank",
    "bootstrap",
    "ceiling_of_mean",
    "chance_bound",
    "count_at_chance",
    "count_fraction",
    "count_tied",
    "estimate",
    "full_sample",
    "kendall_tau_b",
    "noise_ceiling",
    "paired_difference",
    "partial_rho",
    "percentiles",
    "rank_statistic",
    "regret",
    "regret_at_random",
    "regret_curve",
    "rho_among_best",
    "rho_among_selected",
    "rho_of_selected",
    "selection_chances",
    "selection_statistic",
    "spearman_rho",
    "split_sizes",
    "top_k_agreement",
    "weighted_tau",
]
