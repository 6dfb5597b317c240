"""Queries made of references, as like those to come as can be had: what an index is measured with before it serves.

A query is a new photo. A reference that was left out of the index is to it what such a photo is: as near to its own
class, as far from the others; and a stranger, if its class has no other. But a gallery may hold nearly the same photo
twice, and then one of the two is easier to find by the other than a new photo is. So each one is also mixed with a
reference of its class (of any class, if its own has no other): what lies between two photos of a thing is like a third.
Which of the two kinds is harder depends on the gallery; a promise must hold for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.faiss_index import Ids
from indexer.vectors import VANISHING, SomeVectors, Vectors

HELD_SHARE = 0.2  # of the references that are left out, at most


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Rows ``held`` are left out of the index, ``kept`` make it; each held one gives a query of both kinds."""

    held: Ids
    kept: Ids
    queries: tuple[Vectors, Vectors]


def rehearsal(vectors: SomeVectors, labels: NDArray[np.int64], count: int, seed: int) -> Rehearsal:
    """Return ``count`` queries of each kind, or as many as there can be.

    Args:
        vectors: references ``(n, dim)`` of length 1, n at least 2.
        labels: the class of each, ``(n,)``.
        count: references to leave out; no more than a fifth are.
        seed: of the choice.
    """
    draw = np.random.default_rng(seed)
    rows = draw.permutation(len(vectors))
    left_out = min(count, max(1, int(HELD_SHARE * len(vectors))))
    held, kept = rows[:left_out], np.sort(rows[left_out:])
    photos = vectors[held]
    share = draw.uniform(0, 1, (left_out, 1)).astype(np.float32)
    mixed = (1 - share) * photos + share * vectors[_partners(labels, held, kept, draw)]
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    mixed = np.where(lengths < VANISHING, photos, mixed / np.maximum(lengths, VANISHING))
    return Rehearsal(held, kept, (photos, np.ascontiguousarray(mixed, np.float32)))


def _partners(labels: NDArray[np.int64], held: Ids, kept: Ids, draw: np.random.Generator) -> Ids:
    """Return for each held row a kept one of its class, drawn at random; of any class, if its own has none."""
    order = kept[np.argsort(labels[kept], kind="stable")]
    first, last = (np.searchsorted(labels[order], labels[held], side=side) for side in ("left", "right"))
    alone = first == last
    return order[draw.integers(np.where(alone, 0, first), np.where(alone, len(order), last))]
