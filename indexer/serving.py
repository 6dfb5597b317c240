"""The approximate index of a gallery's references."""

from __future__ import annotations

import numpy as np

from indexer.snapshot import Snapshot
from indexer.trials import Promise
from indexer.tuning import Progress, Tuning, tune


def tune_references(snapshot: Snapshot, promise: Promise | None = None, *, progress: Progress | None = None) -> Tuning:
    """Find the cheapest index of a snapshot's references that keeps the promise."""
    ids = snapshot.references.ids
    labels = np.fromiter((snapshot.known[id].class_id for id in ids.tolist()), np.int64, len(ids))
    return tune(snapshot.references.all_vectors(), labels, promise, progress=progress)
