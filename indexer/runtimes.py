"""What ran the embedder when an embedding was made, and how far two of them may differ within one gallery.

A runtime is known by a name, and by the least cosine of its embeddings to those of plain float32, measured on the
gallery's own images. That is an angle, and angles obey the triangle inequality: the embeddings that two runtimes make
of one image are apart by no more than the sum of their angles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import insert, select, update

from indexer.errors import RuntimeMismatch
from indexer.reader import Reader, chunks
from indexer.schema import embeddings, references, runtimes

MIXED: Final = 0.95  # the cosine of what the angles of two runtimes may add up to: 18.2 degrees


class Runtime(NamedTuple):
    """What ran the embedder: its name, and the least cosine to plain float32 that was measured, 1 for itself."""

    name: str
    cosine: float

    @property
    def angle(self) -> float:
        """How far its embeddings are from those of plain float32, in radians."""
        return math.acos(max(-1.0, min(1.0, self.cosine)))


def strangers(runtime: Runtime, others: Iterable[Runtime]) -> list[Runtime]:
    """Return those of the others whose embeddings must not be compared with those of ``runtime``."""
    most = math.acos(MIXED)
    return [one for one in others if one.name != runtime.name and one.angle + runtime.angle > most]


def require_alike(runtime: Runtime, others: Iterable[Runtime], gallery: object) -> None:
    """Raise RuntimeMismatch unless the embeddings of ``runtime`` can be compared with those of all the others."""
    for other in strangers(runtime, others):
        raise RuntimeMismatch(
            f"{gallery}: holds embeddings made by {other.name} (cosine {other.cosine:.4f} to float32), from which those"
            f" of {runtime.name} ({runtime.cosine:.4f}) may differ too much: use --runtime torch, or a new gallery"
        )


def known(reader: Reader) -> list[Runtime]:
    """Return the runtimes that made embeddings by the reader's embedder, the first one first."""
    made = select(runtimes.c.name, runtimes.c.cosine).where(runtimes.c.embedder_id == reader.embedder_id)
    return [Runtime(*row) for row in reader.connection.execute(made.order_by(runtimes.c.id))]


def of_references(reader: Reader, ids: Iterable[int]) -> dict[int, str]:
    """Return the names of what made the vectors of these references, by their ids, as far as that was said."""
    made = (
        select(references.c.id, runtimes.c.name)
        .join(embeddings, embeddings.c.image_id == references.c.image_id)
        .join(runtimes, runtimes.c.id == embeddings.c.runtime_id)
        .where(embeddings.c.embedder_id == reader.embedder_id)
    )
    return {
        id: name
        for some in chunks(ids)
        for id, name in reader.connection.execute(made.where(references.c.id.in_(some)))
    }


def written_down(reader: Reader, runtime: Runtime) -> int:
    """Return the id of a runtime that makes embeddings by the reader's embedder, after writing it down.

    Measured again on other images, the smaller cosine counts.

    Raises:
        RuntimeMismatch: its embeddings cannot be compared with those that are there.
    """
    connection = reader.connection
    same = (runtimes.c.embedder_id == reader.embedder_id) & (runtimes.c.name == runtime.name)
    row = connection.execute(select(runtimes.c.id, runtimes.c.cosine).where(same)).first()
    if row is not None and row.cosine <= runtime.cosine:
        return row.id
    require_alike(runtime, known(reader), "the gallery")
    if row is not None:
        connection.execute(update(runtimes).where(same).values(cosine=runtime.cosine))
        return row.id
    made = insert(runtimes).values(embedder_id=reader.embedder_id, name=runtime.name, cosine=runtime.cosine)
    return int(connection.execute(made.returning(runtimes.c.id)).scalar_one())
