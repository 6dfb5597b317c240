"""What of a gallery may be searched approximately: its references, and its prototypes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import numpy as np

from indexer import folder
from indexer.catalog import Catalog
from indexer.errors import ArgumentError
from indexer.faiss_index import FaissIndex, Ids
from indexer.reader import Stamp
from indexer.snapshot import Snapshot
from indexer.trials import Promise
from indexer.tuning import QUERIES, Progress, Tuning, tune
from indexer.vectors import Vectors

# Prototypes that a probability counts and a learned score orders: beyond the hundred nearest hardly one is the right
# class, and that many cost less to score than the query cost to embed.
SHORTLIST: Final = 100

Kinds = list[str] | None


@dataclass(frozen=True, slots=True)
class Searched:
    """One of them.

    Attributes:
        what: its name.
        file: where an approximate index of it lies, in the gallery's folder.
        index: the exact one of a snapshot.
        tune: finds the cheapest approximate one that keeps a promise; of these kinds, if any are given.
        moved: the ids whose vectors are others than they were at a revision, as far as ids stay when vectors change;
            None if nothing can be said.
    """

    what: str
    file: str
    index: Callable[[Snapshot], FaissIndex]
    tune: Callable[[Snapshot, Promise, Kinds, Progress | None], Tuning]
    moved: Callable[[Catalog, Stamp], Collection[int] | None]


def searched(what: str) -> Searched:
    """Return what is called so; an ArgumentError names the choices."""
    if what not in SEARCHED:
        raise ArgumentError(f"unknown index {what!r}; choose one of {', '.join(SEARCHED)}")
    return SEARCHED[what]


def _tune_references(snapshot: Snapshot, promise: Promise, kinds: Kinds, progress: Progress | None) -> Tuning:
    return tune(snapshot.references.laid_out(), _labels(snapshot), promise, kinds=kinds, progress=progress)


def _tune_prototypes(snapshot: Snapshot, promise: Promise, kinds: Kinds, progress: Progress | None) -> Tuning:
    """Every query wants the cosines of a shortlist, so the promise is about as many at least.

    A prototype that is left out is to the others what a photo of a strange thing is. A photo of a known one stands
    further from its class than their mean: references show that, where classes have several.
    """
    prototypes = snapshot.prototypes
    promise = replace(promise, k=max(promise.k, SHORTLIST))
    photos = _photos(snapshot)
    return tune(prototypes.laid_out(), prototypes.ids, promise, photos=photos, kinds=kinds, progress=progress)


def _photos(snapshot: Snapshot, seed: int = 0) -> Vectors | None:
    """Return references that are not their classes' only ones; None if there are too few to measure anything with."""
    labels = _labels(snapshot)
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[places] > 1)
    if len(several) < QUERIES:
        return None
    rows = np.random.default_rng(seed).choice(several, QUERIES, replace=False)
    return snapshot.references.laid_out()[np.sort(rows)]


def _labels(snapshot: Snapshot) -> Ids:
    """Return the class ids of the references, by the order of their rows."""
    ids = snapshot.references.ids
    labels = np.empty_like(ids)
    order = np.argsort(ids)
    for _, page in snapshot.known.passing():
        places = order[np.searchsorted(ids, list(page), sorter=order)]
        labels[places] = [known.class_id for known in page.values()]
    return labels


def _stay(catalog: Catalog, since: Stamp) -> Collection[int]:
    """Return no ids: a reference with another vector is another reference."""
    return ()


def _remade(catalog: Catalog, since: Stamp) -> Collection[int] | None:
    """Return the classes with a reference that came or went: their prototypes are others."""
    with catalog.reading() as reader:
        return reader.touched_since(since.revision) if reader.knows(since) else None


REFERENCES = Searched("references", folder.NEARBY, attrgetter("references"), _tune_references, _stay)
PROTOTYPES = Searched("prototypes", folder.NEARBY_PROTOTYPES, attrgetter("prototypes"), _tune_prototypes, _remade)
SEARCHED = {one.what: one for one in (REFERENCES, PROTOTYPES)}
