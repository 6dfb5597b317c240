"""Is a gallery sound? Every law of the catalog and of its views, checked against the rows themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select, text

from indexer import pages_file, view_file
from indexer.catalog import Catalog, space
from indexer.errors import ArgumentError, FirstsightError
from indexer.faiss_index import FaissIndex
from indexer.folder import KNOWN, REFERENCES, VIEWS
from indexer.history import counted
from indexer.laws import LAWS
from indexer.names import check_name, fold
from indexer.past import kept
from indexer.reader import CHUNK, Reader, Stamp, chunks, unpacked
from indexer.schema import embedders, embeddings, images, references, tables
from indexer.sealed import Label, NoView
from indexer.snapshot import GATHERED, MAPPINGS, Snapshot
from indexer.told import Told
from indexer.vectors import Vectors, prototype

OF_VIEWS = ("in memory", *VIEWS)  # how a sentence begins that is about a view
SHOWN = 20  # sentences about one kind of damage
LENGTH_ERROR = 1e-4  # float32 rounding leaves a length within 1e-6 of 1


def catalog_problems(catalog: Catalog, folder: Path) -> list[str]:
    """Return what is wrong with the catalog, and with the views in ``folder`` that claim to show it, a sentence each.

    Views that are missing or behind are not wrong. Memory: the views on disk, and about 0.1 kB a reference.
    """
    found: list[str] = []
    try:
        with catalog.reading() as reader:
            for check in (_file, _laws, _names, _vectors):
                found += _some(check(reader))
            found += _saved_views(catalog, reader, folder)
    except FirstsightError as error:
        found.append(str(error))
    return found


def snapshot_problems(catalog: Catalog, snapshot: Snapshot) -> list[str]:
    """Return in what the views in memory differ from the catalog; nothing if they show another revision."""
    with catalog.reading() as reader:
        if snapshot.stamp != reader.newest():
            return []
        try:
            found = list(_misknown("in memory", snapshot.mappings, reader))
            found += _differences("in memory, references", snapshot.references, _true_references(reader))
            found += _differences("in memory, prototypes", snapshot.prototypes, _true_prototypes(reader))
        except NoView as error:
            return [f"in memory: a view {error}; the next query that comes upon it makes it anew"]
        return found


def _some(sentences: Iterable[str]) -> Iterator[str]:
    iterator = iter(sentences)
    yield from islice(iterator, SHOWN)
    rest = sum(1 for _ in iterator)
    if rest:
        yield f"and {rest:,} more like the last"


def _file(reader: Reader) -> Iterator[str]:
    for (problem,) in reader.connection.execute(text("PRAGMA integrity_check")):
        if problem != "ok":
            yield f"the catalog's file is damaged: {' '.join(problem.split())}"
    for table, row, parent, _ in reader.connection.execute(text("PRAGMA foreign_key_check")):
        yield f"row {row} of {table} points to a row of {parent} that is not there"
    present = set(reader.connection.scalars(text("SELECT name FROM sqlite_master")))
    for index in sorted(str(index.name) for table in tables.tables.values() for index in table.indexes):
        if index not in present:
            yield f"the catalog lacks its index {index}"


def _laws(reader: Reader) -> Iterator[str]:
    for sentence, query in LAWS.items():
        for row in reader.connection.execute(text(query)):
            yield sentence.format(row[0])


def _names(reader: Reader) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in reader.names().values():
        other = seen.setdefault(fold(name), name)
        if other is not name:
            yield f"the class names {other!r} and {name!r} are the same but for their case"
    for name, folded in reader.connection.execute(text("SELECT name, folded FROM names")):
        try:
            fit = check_name(name) == name
        except ArgumentError:
            fit = False
        if not fit or folded != fold(name):
            yield f"{name!a} is not a class name as the catalog writes them"


def _vectors(reader: Reader) -> Iterator[str]:
    for id, dim in reader.connection.execute(select(embedders.c.id, embedders.c.dim)).all():
        yield from _vectors_by(reader, id, dim)


def _vectors_by(reader: Reader, embedder_id: int, dim: int) -> Iterator[str]:
    stored = select(images.c.hash, embeddings.c.vector).join(images, images.c.id == embeddings.c.image_id)
    stored = stored.where(embeddings.c.embedder_id == embedder_id).order_by(embeddings.c.id)
    for rows in reader.connection.execute(stored.execution_options(yield_per=CHUNK)).partitions():
        whole = [row for row in rows if len(row.vector) == 4 * dim]
        for row in rows:
            if len(row.vector) != 4 * dim:
                yield f"image {row.hash[:12]}: its vector has {len(row.vector)} bytes, not {4 * dim}"
        vectors = np.frombuffer(b"".join(row.vector for row in whole), "<f4").reshape(-1, dim)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for place in np.flatnonzero(~(np.abs(lengths - 1.0) <= LENGTH_ERROR)):
            yield f"image {whole[place].hash[:12]}: its vector has the length {lengths[place]:g}, not 1"


def _saved_views(catalog: Catalog, reader: Reader, folder: Path) -> Iterator[str]:
    for what in VIEWS:
        if not (folder / what).exists():
            continue
        try:
            yield from _saved_view(catalog, reader, folder / what)
        except NoView as error:
            if not _is_of_another_embedder(catalog, reader, folder / what):
                yield f"{what} {error}; the next query makes it anew"


def _saved_view(catalog: Catalog, reader: Reader, path: Path) -> Iterator[str]:
    label, problems = _opened(path, catalog.id, catalog.dim)
    stamp = Stamp(label.revision, label.mark)
    oldest, _ = kept(reader.connection)
    if stamp.revision < oldest:
        return  # forgotten by compact since: it is behind
    if not reader.knows(stamp):
        yield f"{path.name} shows a revision that this gallery never had; the next query makes it anew"
    elif stamp == reader.newest():
        yield from problems(reader)


def _opened(path: Path, gallery: str, dim: int) -> tuple[Label, Callable[[Reader], Iterable[str]]]:
    """Return what a view on disk shows, and how it differs from the catalog; NoView unless it is whole."""
    what = path.name
    if what == KNOWN:
        mappings, label = pages_file.load(path, MAPPINGS, what=what, gallery=gallery)
        for pages in mappings.values():
            deque(pages.passing(), maxlen=0)  # each page is read, and so checked
        return label, lambda reader: _misknown(what, mappings, reader)
    index, label = view_file.load(path, what=what, gallery=gallery, dim=dim)
    index.all_vectors()
    truth = _true_references if what == REFERENCES else _true_prototypes
    return label, lambda reader: _differences(what, index, truth(reader))


def _is_of_another_embedder(catalog: Catalog, reader: Reader, path: Path) -> bool:
    """Whether a whole view shows this gallery before an upgrade, or before one was undone: it only lags behind."""
    for fingerprint, dim in reader.connection.execute(select(embedders.c.fingerprint, embedders.c.dim)):
        with suppress(NoView):
            _opened(path, space(catalog.gallery, fingerprint), dim)
            return True
    return False


def _misknown(what: str, mappings: Mapping[str, Mapping[int, Any]], reader: Reader) -> Iterator[str]:
    """Yield how mappings differ from what the catalog says."""
    known, members, names, of_classes, of_references, mapped = mappings.values()
    told = Told.load(reader)
    truth: dict[int, list[int]] = {}
    for row in reader.references():
        truth.setdefault(row.class_id, []).append(row.id)
    if dict(known) != {row.id: (row.class_id, row.shown) for row in reader.references()} or dict(members) != truth:
        yield f"{what}: the references are not the catalog's"
    if dict(names) != reader.names():
        yield f"{what}: the names are not the catalog's"
    if dict(of_classes) != dict(told.of_class) or dict(of_references) != dict(told.own):
        yield f"{what}: the attributes are not the catalog's"
    if dict(mapped) != dict(told.mapped):
        yield f"{what}: the marks of mapped vectors are not the catalog's"


def _true_references(reader: Reader) -> Iterator[tuple[list[int], Vectors]]:
    return reader.vectors(row.id for row in reader.references())


def _true_prototypes(reader: Reader) -> Iterator[tuple[list[int], Vectors]]:
    stored = (
        select(references.c.class_id, embeddings.c.vector)
        .join(embeddings, reader.embedded(references.c.image_id))
        .where(references.c.went.is_(None))
        .order_by(references.c.class_id, references.c.id)
    )
    rows = reader.connection.execute(stored.execution_options(yield_per=CHUNK))
    means = ((class_id, _mean(members, reader.dim)) for class_id, members in groupby(rows, key=itemgetter(0)))
    for some in chunks(means):
        yield [class_id for class_id, _ in some], np.stack([mean for _, mean in some])


def _mean(rows: Iterable[Any], dim: int) -> Vectors:
    return prototype(unpacked([row.vector for row in some], dim) for some in chunks(rows, GATHERED))


def _differences(what: str, index: FaissIndex, truth: Iterable[tuple[list[int], Any]]) -> Iterator[str]:
    """Yield how an index differs from the (ids, vectors) it should hold."""
    held, missing, wrong = set(index.ids.tolist()), 0, 0
    if len(held) != len(index):
        yield f"{what}: holds some rows twice"
    for ids, vectors in truth:
        here = np.array([id in held for id in ids])
        missing += int((~here).sum())
        held.difference_update(ids)
        gap = np.abs(index.vectors(np.array(ids)[here]) - vectors[here]).max(axis=1, initial=0.0)
        wrong += int((~(gap <= LENGTH_ERROR)).sum())
    if missing:
        yield f"{what}: lacks {counted(missing, 'row')} of the catalog"
    if held:
        yield f"{what}: holds {counted(len(held), 'row')} that the catalog does not"
    if wrong:
        yield f"{what}: holds {counted(wrong, 'wrong vector')}"
