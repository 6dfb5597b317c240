"""Is a gallery sound? Every law of the catalog and of its views, checked against the rows themselves."""

from __future__ import annotations

from pathlib import Path

from indexer.catalog import Catalog
from indexer.snapshot import Snapshot


def problems(catalog: Catalog, folder: Path, snapshot: Snapshot | None) -> list[str]:
    """Return what is wrong, a sentence each."""
    return []
