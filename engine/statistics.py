"""How far a measured figure can be trusted, and whether one method is better than another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from indexer import promise
from indexer.errors import ArgumentError
from indexer.promise import Z


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How much better the first of two methods is on the same tasks.

    Attributes:
        difference: mean of the first one's figures minus the second one's.
        low: lower end of its 95 % interval.
        high: upper end.
        p: chance of a difference at least as large, either way, were both methods alike.
    """

    difference: float
    low: float
    high: float
    p: float


def wilson(right: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval, within 0..1, of the share of ``right`` in ``trials`` (Wilson 1927)."""
    if trials < 1 or not 0 <= right <= trials:
        raise ArgumentError(f"{right} right of {trials} trials: there must be a trial, and no more right than trials")
    return promise.wilson(right / trials, trials)


def mean_interval(figures: ArrayLike) -> tuple[float, float, float]:
    """Return the mean of independent figures ``(n,)`` and the ends of its 95 % interval, 1.96 s / sqrt(n) around it.

    Raises:
        ArgumentError: fewer than two figures, which tell nothing of their spread.
    """
    values = np.asarray(figures, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ArgumentError("an interval needs at least 2 figures: measure more often")
    mean, half = float(values.mean()), Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def paired_test(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Return how much better ``first`` is than ``second``, figures ``(n,)`` of two methods on the same n tasks.

    The paired t-test with the normal distribution in place of Student's: for a thousand tasks they are alike, for
    ten the p-value is too small.

    Raises:
        ArgumentError: the figures are not of the same tasks, or of fewer than two.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ArgumentError(
            f"figures of {one.shape} and {other.shape} tasks cannot be paired: measure both on the same"
        )
    difference, low, high = mean_interval(one - other)
    error = (high - low) / (2 * Z)
    if error == 0:  # each task shows the same difference: no doubt is left
        return PairedTest(difference, low, high, 1.0 if difference == 0 else 0.0)
    return PairedTest(difference, low, high, math.erfc(abs(difference) / error / math.sqrt(2)))
