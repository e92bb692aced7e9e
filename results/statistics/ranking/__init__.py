"""How well a proxy ranks architectures: rank statistics and their bootstrap intervals. Numbers in, numbers out.

Shapes: A architectures, R networks of each, B bootstrap draws. Scores are (..., A): a statistic works along the last
axis and gives one number for each of the leading ones, so that all draws are one call.

    nan    there is no such network (or, in a result, no such number); never a score
    -inf   a network that diverged. An architecture any of whose networks diverged scores -inf: it is ranked last,
           tied with the others that did, and counted by whoever prints the result

Architectures stand in any order. What is picked from equal scores is not told by them: every order of the equal is as
likely, and a number is its mean over these orders, worked out, not sampled.
"""

from harness.results.statistics.ranking.ceiling import halves, noise_ceiling
from harness.results.statistics.ranking.correlations import (
    kendall_tau_b,
    partial_rho,
    rho_of_picked,
    spearman_rho,
    weighted_tau,
)
from harness.results.statistics.ranking.resampling import (
    AccuracyMatrix,
    Difference,
    Drawn,
    Estimate,
    Sample,
    Scores,
    Statistic,
    bootstrap,
    interval,
    paired,
    percentiles,
    picks,
    ranks,
    ranks_of_best,
    ranks_of_picked,
    whole,
)
from harness.results.statistics.ranking.scores import Array, Places
from harness.results.statistics.ranking.selection import (
    at_chance,
    best_rank,
    chance_bound,
    picked,
    regret,
    regret_at_random,
    regret_curve,
    share,
    tied,
    top_k_agreement,
)

__all__ = [
    "AccuracyMatrix",
    "Array",
    "Difference",
    "Drawn",
    "Estimate",
    "Places",
    "Sample",
    "Scores",
    "Statistic",
    "at_chance",
    "best_rank",
    "bootstrap",
    "chance_bound",
    "halves",
    "interval",
    "kendall_tau_b",
    "noise_ceiling",
    "paired",
    "partial_rho",
    "percentiles",
    "picked",
    "picks",
    "ranks",
    "ranks_of_best",
    "ranks_of_picked",
    "regret",
    "regret_at_random",
    "regret_curve",
    "rho_of_picked",
    "share",
    "spearman_rho",
    "tied",
    "top_k_agreement",
    "weighted_tau",
    "whole",
]
