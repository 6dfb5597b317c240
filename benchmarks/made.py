"""Made embeddings with the structure that real ones have, of any number: what can be known of them is known.

Classes stand in groups, as birds and cars do; a class's centre is one of its group's, moved along few of the many
dimensions; its images are spread around it along the same ones, and a little along all. Distractors are images of
things that have no class: nothing that is asked for is among them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

INTRINSIC = 32  # dimensions in which images differ much; real embeddings have some ten
REFERENCES = 10  # of a class
CLASSES_OF_GROUP = 50
DISTRACTORS = 0.2  # of all vectors
STRANGERS = 0.1  # of all queries
BLOCK = 1 << 16  # vectors made at once
IN_MEMORY = 8 << 30  # bytes of vectors; more lie in a file that is mapped, and gone when the program ends


@dataclass(frozen=True, slots=True)
class Set:
    """References ``(n, dim)`` with labels, -1 for a distractor; queries with theirs, -1 for a stranger."""

    vectors: Vectors
    labels: NDArray[np.int64]
    queries: Vectors
    asked: NDArray[np.int64]


class World:
    """Where embeddings of ``dim`` floats come from; its seed decides all of them."""

    def __init__(self, dim: int, classes: int, seed: int) -> None:
        draw = np.random.default_rng((seed, 0))
        groups = draw.standard_normal((max(1, classes // CLASSES_OF_GROUP), INTRINSIC), np.float32)
        moved = draw.standard_normal((classes, INTRINSIC), np.float32)
        self._centres = groups[draw.integers(0, len(groups), classes)] + np.float32(0.8) * moved
        self._groups = groups
        self._basis = draw.standard_normal((INTRINSIC, dim), np.float32) / np.float32(INTRINSIC**0.5)

    def images(self, labels: NDArray[np.int64], draw: np.random.Generator) -> Vectors:
        """Return an image of each label; of -1 one of a thing that has no class."""
        centres = self._centres[labels]
        loose = np.flatnonzero(labels < 0)
        groups = self._groups[draw.integers(0, len(self._groups), len(loose))]
        centres[loose] = groups + np.float32(0.8) * draw.standard_normal((len(loose), INTRINSIC), np.float32)
        spread = centres + np.float32(0.5) * draw.standard_normal(centres.shape, np.float32)
        vectors = spread @ self._basis
        vectors += np.float32(0.1) * draw.standard_normal(vectors.shape, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _room(count: int, dim: int) -> Vectors:
    if 4 * count * dim <= IN_MEMORY:
        return np.empty((count, dim), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(count, dim))


def made_set(count: int, dim: int, queries: int, seed: int) -> Set:
    """Return ``count`` references and some queries: new images of their classes, and strangers."""
    draw = np.random.default_rng((seed, 1))
    classes = max(1, int(count * (1 - DISTRACTORS)) // REFERENCES)
    world = World(dim, classes, seed)
    labels = np.full(count, -1)
    labels[: classes * REFERENCES] = np.repeat(np.arange(classes), REFERENCES)
    labels = draw.permutation(labels)
    vectors = _room(count, dim)
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = world.images(labels[start : start + BLOCK], draw)
    asked = np.where(draw.random(queries) < STRANGERS, -1, draw.integers(0, classes, queries))
    return Set(vectors, labels, world.images(asked, draw), asked)
