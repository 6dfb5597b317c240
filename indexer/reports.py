"""What indexing did, or would do, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.changes import Renamed
from indexer.gallery import Gallery
from indexer.planning import Plan
from indexer.printable import printable
from indexer.sources import Failure
from indexer.stations import Stations

NAMED = 3  # renamed classes that a summary names


@dataclass(frozen=True, slots=True)
class Report:
    """What indexing a folder did.

    Attributes:
        added: files whose content is new in their class.
        changed: files that have another content than before.
        moved: files with known content that were somewhere else before, but for those of renamed classes.
        renamed: classes all of whose files are in a class of another name now.
        removed: references whose files are gone from the folder.
        unchanged: files that the gallery knows as they are, copies within a class among them.
        failed: what could not be used, and why. A reference whose file is among them stays.
        classes: classes in the gallery now.
        images: references in the gallery now.
        revision: the gallery's newest; no new one if nothing changed.
        seconds: that all this took.
        stations: where the time went; None where nothing was carried out.
        runtime: what runs the embedder, as the gallery has it of what was embedded; None if nobody said, or as above.
    """

    added: int
    changed: int
    moved: int
    renamed: list[Renamed]
    removed: int
    unchanged: int
    failed: list[Failure]
    classes: int
    images: int
    revision: int
    seconds: float
    stations: Stations | None
    runtime: str | None


@dataclass(frozen=True, slots=True)
class Status(Report):
    """What indexing a folder would do.

    Attributes:
        paths: of the files "added", "changed", "moved" (where they are now) and "removed", sorted.
    """

    paths: dict[str, list[str]]


def report(gallery: Gallery, planned: Plan, seconds: float, stations: Stations | None = None) -> Report:
    """Return what carrying out a plan did."""
    changes, classes = planned.changes, gallery.classes()
    return Report(
        added=len(changes.added),
        changed=len(changes.changed),
        moved=len(changes.moved),
        renamed=changes.renamed,
        removed=changes.removed,
        unchanged=changes.unchanged,
        failed=planned.failed,
        classes=len(classes),
        images=sum(classes.values()),
        revision=gallery.revision,
        seconds=seconds,
        stations=stations,
        runtime=None if stations is None or gallery.runtime is None else gallery.runtime.name,
    )


def preview(gallery: Gallery, planned: Plan, seconds: float) -> Status:
    """Return what carrying out a plan would do."""
    counts, changes = report(gallery, planned, seconds), planned.changes
    listed = {"added": changes.added, "changed": changes.changed, "moved": changes.moved}
    paths = {kind: [printable(file.path) for file in files] for kind, files in listed.items()}
    fields = {name: getattr(counts, name) for name in Report.__slots__}
    return Status(**fields, paths=paths | {"removed": changes.lost})


def summary(planned: Plan) -> str:
    """Return a plan in words, as the log has it."""
    changes = planned.changes
    renamed = [f"renamed class {one.old} -> {one.new}" for one in changes.renamed[:NAMED]]
    if len(changes.renamed) > NAMED:
        renamed.append(f"{len(changes.renamed) - NAMED:,} more classes renamed")
    counts = {
        "added": len(changes.added),
        "changed": len(changes.changed),
        "moved": len(changes.moved),
        "removed": changes.removed,
    }
    done = [*renamed, *(f"{count:,} {what}" for what, count in counts.items() if count)]
    return f"index {printable(planned.root)}: {', '.join(done) or 'attributes'}"
