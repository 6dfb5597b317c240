"""Thumbnails made along with bulk indexing: each image is decoded once, for its embedding and its thumbnail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

from indexer import images
from indexer.changes import File
from indexer.errors import ImageError
from indexer.gallery import Gallery
from indexer.pipeline import in_order
from indexer.places import Source
from indexer.reader import chunks
from indexer.thumbnails import thumbnail


class Pictures:
    """Collects the thumbnails of images that are being embedded, and keeps each with its embedding."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._made: dict[str, bytes] = {}

    def look(self, hash: str, image: Image.Image) -> None:
        """Make the thumbnail of a content; called in several threads."""
        self._made[hash] = thumbnail(image)

    def take(self, hash: str, jpeg: bytes, *, known: bool) -> None:
        """Take a thumbnail that is made already; that of a ``known`` content is kept at once, if it has none."""
        if not known:
            self._made[hash] = jpeg
        elif self._gallery.thumbnails.lacking([hash]):
            self._gallery.thumbnails.keep({hash: jpeg})

    def stage(self, hashes: Sequence[str], vectors: Any) -> None:
        """Write down embeddings as the gallery does, and their thumbnails."""
        self._gallery.stage(hashes, vectors)
        self._gallery.thumbnails.keep({hash: self._made.pop(hash) for hash in hashes})

    def fill(self, files: Iterable[File], source: Source, *, max_pixels: int, workers: int) -> None:
        """Make the thumbnails that known contents of these files lack; a file that has changed meanwhile gives none."""
        paths = {file.hash: file.path for file in files}
        lacking = sorted(self._gallery.thumbnails.lacking(paths))

        def make(hash: str) -> tuple[str, bytes | None]:
            try:
                data = source.read(paths[hash])
                image = images.decode(data, path=paths[hash], max_pixels=max_pixels, enough=images.ENOUGH)
            except ImageError:
                return hash, None
            return hash, thumbnail(image) if images.identify(data) == hash else None

        for some in chunks(in_order(make, lacking, workers=workers, ahead=4 * workers)):
            self._gallery.thumbnails.keep({hash: jpeg for hash, jpeg in some if jpeg is not None})
