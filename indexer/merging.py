"""One gallery into another of the same embedder, in one revision."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import insert, select

from indexer import attributes, folder, history
from indexer.attributes import Attributes
from indexer.catalog import Catalog
from indexer.errors import EmbedderMismatch
from indexer.history import Change, Coming
from indexer.lock import WriterLock
from indexer.names import refuse_twins
from indexer.printable import printable
from indexer.reader import Reader, Row, chunks, unpacked
from indexer.runtimes import Runtime
from indexer.schema import embeddings, images, runtimes, thumbnails

Key = tuple[str, str | None]  # class name; content of the reference, None for the class itself


def merge(gallery: str | os.PathLike[str], other: str | os.PathLike[str]) -> Change:
    """Add the classes and references of the gallery ``other`` to the one at ``gallery``, in one revision.

    Classes of the same name become one. Content that its class has already adds nothing; content that the gallery
    knows keeps its vector. Attributes come along, except where the class or the reference has one of that key. The
    other gallery stays as it is; killed, the gallery is as before.

    Raises:
        EmbedderMismatch: another embedder made the other gallery.
        ClassExists: names in the two differ only by case; nothing was changed.
        GalleryBusy: another process is writing to the gallery.
    """
    into, source = folder.find(gallery), folder.find(other)
    with (
        closing(Catalog(into / folder.CATALOG)) as ours,
        closing(Catalog(source / folder.CATALOG)) as theirs,
        WriterLock(into / folder.LOCK).held(),
    ):
        if ours.fingerprint != theirs.fingerprint:
            raise EmbedderMismatch(
                f"{other}: made with another embedder ({theirs.fingerprint[:12]}) than {gallery}"
                f" ({ours.fingerprint[:12]}); upgrade one of them to the weights of the other first"
            )
        with theirs.reading() as reader:
            return _merged(ours, reader, source)


def _merged(ours: Catalog, theirs: Reader, source: Path) -> Change:
    offered = _keys(theirs)
    with ours.reading() as reader:
        refuse_twins({*theirs.names().values(), *reader.names().values()})
        known = _keys(reader)
        missing = _missing(_attributes(theirs, offered), _attributes(reader, known))
    fresh = {key: row for key, row in offered.items() if key not in known}
    for some in chunks(dict.fromkeys(row.hash for row in fresh.values())):
        _stage(ours, theirs, some)
    come = [Coming(name, row.hash, row.root, row.path) for (name, _), row in fresh.items()]
    summary = f"merge {printable(str(source))}: {history.counted(len(come), 'reference')}"
    with ours.writing() as reader:

        def more(revision: int) -> None:
            _write(reader, revision, missing)

        return history.revise(reader, "merge", summary, come=come, more=more if missing else None)


def _keys(reader: Reader) -> dict[Key, Row]:
    names = reader.names()
    return {(names[row.class_id], row.hash): row for row in reader.references()}


def _stage(ours: Catalog, theirs: Reader, hashes: Sequence[str]) -> None:
    """Write down the embeddings and the thumbnails of some contents, as far as they are not known."""
    joined = select(
        images.c.hash, embeddings.c.vector, embeddings.c.mapped, thumbnails.c.jpeg, runtimes.c.name, runtimes.c.cosine
    )
    joined = joined.join(embeddings, theirs.embedded(images.c.id)).where(images.c.hash.in_(hashes))
    joined = joined.outerjoin(runtimes, runtimes.c.id == embeddings.c.runtime_id)
    rows = theirs.connection.execute(joined.outerjoin(thumbnails, thumbnails.c.image_id == images.c.id)).all()
    with ours.writing() as reader:
        for made_by in dict.fromkeys((row.name, row.cosine) for row in rows):
            some = [row for row in rows if (row.name, row.cosine) == made_by]
            vectors = unpacked([row.vector for row in some], reader.dim)
            runtime = None if made_by[0] is None else Runtime(*made_by)
            mapped = {row.hash for row in some if row.mapped}
            history.stage(reader, [row.hash for row in some], vectors, mapped=mapped, runtime=runtime)
        ids = reader.image_ids(hashes)
        kept = [{"image_id": ids[row.hash], "jpeg": row.jpeg} for row in rows if row.jpeg is not None]
        if kept:
            reader.connection.execute(insert(thumbnails).prefix_with("OR IGNORE"), kept)


def _attributes(reader: Reader, rows: Mapping[Key, Row]) -> dict[Key, Attributes]:
    names = reader.names()
    places = {row.id: key for key, row in rows.items()}
    return {(names[class_id], None): value for class_id, value in attributes.of_classes(reader)} | {
        places[id]: value for id, value in attributes.of_references(reader)
    }


def _missing(offered: Mapping[Key, Attributes], known: Mapping[Key, Attributes]) -> dict[Key, Attributes]:
    """Return what the attributes become, as far as keys come to them."""
    return {
        key: {**value, **known.get(key, {})}
        for key, value in offered.items()
        if value.keys() - known.get(key, {}).keys()
    }


def _write(reader: Reader, revision: int, missing: Mapping[Key, Attributes]) -> None:
    classes = reader.class_ids({name for name, _ in missing})
    ids = reader.image_ids({hash for _, hash in missing if hash is not None})
    values = {(classes[name], ids.get(hash or "")): value for (name, hash), value in missing.items()}
    stored = attributes.stored(reader, classes.values())
    ended = [stored[place][0] for place in values if place in stored]
    attributes.write(reader.connection, revision, ended, values)
