"""How many of the exact neighbours an index finds, and how far a measured ``ann_recall`` can be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors

Z = 1.959964
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""
ROUNDING = 1e-6  # two ways to compute a float32 cosine differ by less


def shares_found(scores: Vectors, exact: Vectors) -> NDArray[np.float64]:
    """Return which share ``(n,)`` of its k nearest neighbours each query was given.

    A neighbour counts as found if what was found scores as well as the k-th of the exact ones: of vectors that are
    alike any will do.

    Args:
        scores: of what was found, ``(n, k)``, best first; minus infinity where there was nothing.
        exact: of the k nearest, ``(n, k)``, best first.
    """
    return np.mean(scores >= exact[:, -1:] - ROUNDING, axis=1, dtype=np.float64)


def lower_bound(shares: NDArray[np.floating[Any]], k: int) -> float:
    """Return the lower end of the 95 % interval of the mean of shares ``(n,)`` of k.

    Neighbours of one query are found or missed together, so n queries for k neighbours are fewer than n k trials: as
    many as would spread as the shares do, and no fewer than n.
    """
    mean, spread = float(np.mean(shares)), float(np.var(shares, ddof=1)) if len(shares) > 1 else 0.0
    trials = float(len(shares))
    if spread > 0:
        trials *= min(max(mean * (1 - mean) / spread, 1.0), float(k))
    return wilson(mean, trials)[0]


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval, within 0..1, of a share that was found in so many trials (Wilson 1927)."""
    middle = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials**2)) / (1 + Z * Z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
