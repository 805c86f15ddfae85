"""Is a difference more than chance: paired randomisation, bootstrap intervals over queries, Holm, win / tie / loss.

The test statistic is the mean difference over queries. Under the null hypothesis the two systems are exchangeable on
each query, so each difference may flip its sign; p is the share of sign patterns (drawn at random, the observed one
counted in) whose mean is at least as far from 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

N_RANDOMISATIONS = 100_000
N_RESAMPLES = 10_000
TIE = 1e-9
"""Differences up to this are ties; a measure's own rounding is far below it."""
_ROUNDING = 1e-12
_BLOCK_CELLS = 4_000_000
"""Cells of one block of random draws: 32 MB of float64."""


@dataclass(frozen=True)
class PairedComparison:
    """System a against system b on the same queries. `difference` is mean(a) - mean(b)."""

    difference: float
    interval: tuple[float, float]
    """95 % percentile bootstrap over queries."""
    p: float
    n_wins: int
    n_ties: int
    n_losses: int
    smallest_visible: float
    """The difference this many queries show with 80 % power at p < .05: 2.8 · SD / √n."""


def compare_paired(
    a: Float64Array,
    b: Float64Array,
    *,
    rng: np.random.Generator,
    n_randomisations: int = N_RANDOMISATIONS,
    n_resamples: int = N_RESAMPLES,
) -> PairedComparison:
    """Compares two columns of per-query values. a, b: (n_queries,), row i of both is the same query."""
    differences = paired_differences(a, b)
    wins, ties, losses = win_tie_loss(differences)
    return PairedComparison(
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences, rng=rng, n_resamples=n_resamples),
        p=randomisation_test(differences, rng=rng, n_randomisations=n_randomisations),
        n_wins=wins,
        n_ties=ties,
        n_losses=losses,
        smallest_visible=smallest_visible_difference(differences),
    )


def paired_differences(a: Float64Array, b: Float64Array) -> Float64Array:
    """a - b, (n_queries,). Raises InvalidInput where the two are not paired."""
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(f"{a.shape} and {b.shape} values are not paired; compare two runs over the same queries")
    if not len(a):
        raise InvalidInput("there is no query to compare on; check the judgements")
    return a - b


def randomisation_test(
    differences: Float64Array, *, rng: np.random.Generator, n_randomisations: int = N_RANDOMISATIONS
) -> float:
    """Two-sided p of the mean difference: (1 + #{|T*| >= |T|}) / (1 + B).

    differences: (n_queries,). Queries without a difference contribute 0 to every pattern and are left out of the draws.
    Identical systems give exactly 1.
    """
    moving = differences[np.abs(differences) > 0]
    observed = abs(float(moving.sum()))
    n_as_far, left = 0, n_randomisations
    block = max(1, _BLOCK_CELLS // max(1, len(moving)))
    while left:
        n = min(block, left)
        # sum(±d) = sum(d) - 2 sum(d where flipped): one matrix product of bits with d.
        flipped = _random_bits(rng, n, len(moving))
        sums = moving.sum() - 2.0 * (flipped @ moving)
        # Means are compared as sums, so the allowance for rounding is that of a mean times n.
        n_as_far += int(np.count_nonzero(np.abs(sums) >= observed - _ROUNDING * len(differences)))
        left -= n
    return (1 + n_as_far) / (1 + n_randomisations)


def bootstrap_interval(
    values: Float64Array, *, rng: np.random.Generator, n_resamples: int = N_RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over resampled queries. values: (n_queries,)."""
    n = len(values)
    if not n:
        raise InvalidInput("there is no query to resample; check the judgements")
    means = np.empty(n_resamples)
    block = max(1, _BLOCK_CELLS // n)
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        means[start : start + rows] = values[rng.integers(0, n, size=(rows, n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction over one declared family; never below p, monotone in p, at most 1."""
    m = len(p_values)
    adjusted, highest = [0.0] * m, 0.0
    for position, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (m - position) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def win_tie_loss(differences: Float64Array) -> tuple[int, int, int]:
    """Queries won, tied (|difference| <= 1e-9) and lost."""
    wins = int(np.count_nonzero(differences > TIE))
    losses = int(np.count_nonzero(differences < -TIE))
    return wins, len(differences) - wins - losses, losses


def smallest_visible_difference(differences: Float64Array) -> float:
    """2.8 · SD / √n: 80 % power at a two-sided 5 % level (2.8 = 1.96 + .84); 0 for fewer than two queries."""
    n = len(differences)
    return 2.8 * float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0


def _random_bits(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns) of fair 0.0 / 1.0; eight per random byte."""
    packed = rng.integers(0, 256, size=(rows, (columns + 7) // 8), dtype=np.uint8)
    return np.unpackbits(packed, axis=1, count=columns).astype(np.float64)
