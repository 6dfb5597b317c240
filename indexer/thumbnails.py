"""Small pictures of contents, for pages to show when the images themselves are gone.

They can be had again as long as the images are there, so they stand outside of the gallery's history.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Final

from PIL import Image
from sqlalchemy import insert, select

from indexer.catalog import Catalog
from indexer.lock import WriterLock
from indexer.reader import chunks
from indexer.schema import images, thumbnails

SIDE: Final = 96  # pixels, of the longer side
QUALITY: Final = 80  # of the JPEG: some 3 kB


def thumbnail(image: Image.Image) -> bytes:
    """Return an RGB image as a JPEG that fits into a square of 96 pixels; a smaller one keeps its size."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


class Thumbnails:
    """The thumbnails that a gallery keeps, by the hash of the content."""

    def __init__(self, catalog: Catalog, writer: WriterLock) -> None:
        self._catalog = catalog
        self._writer = writer

    def get(self, hash: str) -> bytes | None:
        """Return the JPEG of a content, None if there is none."""
        stored = select(thumbnails.c.jpeg).join(images, images.c.id == thumbnails.c.image_id)
        with self._catalog.reading() as reader:
            return reader.connection.scalar(stored.where(images.c.hash == hash))

    def lacking(self, hashes: Iterable[str]) -> set[str]:
        """Return those of the hashes whose content the catalog knows without a thumbnail."""
        bare = (
            select(images.c.hash)
            .outerjoin(thumbnails, images.c.id == thumbnails.c.image_id)
            .where(thumbnails.c.image_id.is_(None))
        )
        found: set[str] = set()
        with self._catalog.reading() as reader:
            for chunk in chunks(hashes):
                found.update(reader.connection.scalars(bare.where(images.c.hash.in_(chunk))))
        return found

    def keep(self, jpegs: Mapping[str, bytes]) -> None:
        """Write down thumbnails of contents that the catalog knows; of others, and of those that have one, none."""
        with self._writer.held(), self._catalog.writing() as reader:
            for chunk in chunks(jpegs):
                known = select(images.c.hash, images.c.id).where(images.c.hash.in_(chunk))
                ids = {hash: id for hash, id in reader.connection.execute(known)}
                present = select(thumbnails.c.image_id).where(thumbnails.c.image_id.in_(ids.values()))
                done = set(reader.connection.scalars(present))
                rows = [{"image_id": id, "jpeg": jpegs[hash]} for hash, id in ids.items() if id not in done]
                if rows:
                    reader.connection.execute(insert(thumbnails), rows)
