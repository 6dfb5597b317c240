"""How well a gallery names images of known class: recall_at_k, mAP@R, R-precision, and what is taken for what.

recall_at_k is of classes: is the right class among the first k. mAP@R and R-precision rank the reference images, with
R the number of references of the query's class, as Musgrave, Belongie and Lim 2020 define them (arXiv:2003.08505).
N-way K-shot episodes are `engine.few_shot`'s.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.few_shot import few_shot
from engine.recognizer import Recognizer
from engine.statistics import paired_test, wilson
from indexer.errors import ArgumentError, ImageError, SourceError
from indexer.gallery import Gallery
from indexer.images import MAX_PIXELS
from indexer.pipeline import Progress, in_order
from indexer.printable import printable
from indexer.reader import chunks
from indexer.search import Score
from indexer.sources import Failure, Found, Listing, find
from indexer.vectors import check_count

__all__ = [
    "Confusion",
    "Evaluation",
    "OfClass",
    "Share",
    "evaluate",
    "evaluate_folder",
    "few_shot",
    "paired_test",
    "wilson",
]

KS = (1, 5, 10)
HITS = 2**16  # references ranked at once: bounds memory whatever R is


@dataclass(frozen=True, slots=True)
class Share:
    """A share of all queries, 0..1, and the ends of its 95 % interval (Wilson)."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often a class was taken for another one."""

    true: str
    answered: str
    count: int


@dataclass(frozen=True, slots=True)
class OfClass:
    """A class: its queries, and how many of them were named rightly."""

    name: str
    queries: int
    right: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a gallery names queries of known class.

    Attributes:
        queries: that were asked and count.
        recall_at_k: by k, the share of queries whose class is among the first k; all of them once k reaches the
            number of classes in the gallery.
        map_at_r: mean over the queries of mAP@R, 0..1.
        r_precision: mean over the queries of the share of their class in the R nearest references, 0..1.
        confusions: what was taken for what, most frequent first.
        per_class: the classes of the queries, by name.
        without_class: images by class that the gallery does not know; they are not asked and do not count.
        known_already: images that are references of the gallery themselves; they are not asked and do not count.
        failed: files that could not be used, and why.
        classes: in the gallery.
        seconds: that all this took.
    """

    queries: int
    recall_at_k: dict[int, Share]
    map_at_r: float
    r_precision: float
    confusions: list[Confusion]
    per_class: list[OfClass]
    without_class: dict[str, int]
    known_already: int = 0
    failed: list[Failure] = field(default_factory=list)
    classes: int = 0
    seconds: float = 0.0


def evaluate(
    gallery: Gallery,
    queries: NDArray[np.float32],
    names: Sequence[str],
    *,
    ks: Sequence[int] = KS,
    score: Score | None = None,
) -> Evaluation:
    """Return how well ``gallery`` names embeddings ``(n, dim)`` whose classes are ``names``.

    Args:
        gallery: must not hold the queries themselves.
        queries: embeddings by the embedder that made the gallery.
        names: the class of each query.
        ks: for ``recall_at_k``.
        score: a learned one, by which the gallery orders the nearest classes; the references are ranked by cosine.

    Raises:
        ArgumentError: the gallery knows the class of no query, or there are not as many names as queries.
    """
    if len(queries) != len(names):
        raise ArgumentError(f"{len(queries)} queries need as many names of classes, not {len(names)}")
    tally = _Tally(gallery, ks, score)
    if not tally.sizes.keys() & set(names):
        raise ArgumentError(tally.refusal(len(set(names))))
    tally.add(queries, names)
    return tally.evaluation()


def evaluate_folder(
    recognizer: Recognizer,
    folder: str | os.PathLike[str],
    *,
    class_depth: int = 1,
    ks: Sequence[int] = KS,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Evaluation:
    """Return how well ``recognizer`` names the images of ``folder``, a class per sub-folder, named as in the gallery.

    Images that are references themselves, told by their content, would find themselves: they are left out and counted.
    Memory: a few batches of images, and about 0.5 kB a file and a reference.

    Args:
        recognizer: a gallery and its embedder.
        folder: images that the gallery does not hold.
        class_depth: how many folder levels name a class.
        ks: for ``recall_at_k``.
        batch_size: images embedded at once.
        max_pixels: larger images are left out.
        progress: called with ("evaluating", done, total).

    Raises:
        SourceError: the gallery knows none of the folder's classes, holds all its images, or none of them can be read.
    """
    started = time.perf_counter()
    check_count("batch_size", batch_size)
    listing = find(folder, class_depth=class_depth)
    tally = _Tally(recognizer.gallery, ks, recognizer.score)
    asked = [found for found in listing.files if found.name in tally.sizes]
    if not asked:
        raise SourceError(f"{folder}: {tally.refusal(len({found.name for found in listing.files}))}")
    known = {reference.hash for reference in recognizer.gallery.references()}
    images = _Images(recognizer, listing, known, max_pixels)
    for batch in chunks(images.read(asked, progress or _silent), batch_size):
        tally.add(recognizer.runtimes.embed([pixels for _, pixels in batch]), [name for name, _ in batch])
    images.check(len(asked))
    strangers = Counter(found.name for found in listing.files if found.name not in tally.sizes)
    return replace(
        tally.evaluation(),
        without_class=dict(sorted(strangers.items())),
        known_already=images.known_already,
        failed=sorted(images.failed, key=lambda failure: failure.path),
        seconds=round(time.perf_counter() - started, 3),
    )


class _Tally:
    """Adds up answers batch by batch: memory depends on the number of classes, not on that of queries."""

    def __init__(self, gallery: Gallery, ks: Sequence[int], score: Score | None) -> None:
        self.gallery, self.score = gallery, score
        self.ks = sorted({check_count("k", k) for k in ks} | {1})
        self.sizes = gallery.classes()
        self.asked: Counter[str] = Counter()
        self.within: Counter[int] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.strangers: Counter[str] = Counter()
        self.precision = self.average = 0.0

    def refusal(self, classes: int) -> str:
        """Say why nothing can be asked."""
        if not self.sizes:
            return "the gallery is empty: index references first"
        return (
            f"the gallery knows none of the {classes:,} classes asked for, but others like {next(iter(self.sizes))!r}:"
            " name the classes as the gallery does, or choose images of its classes"
        )

    def add(self, queries: NDArray[np.float32], names: Sequence[str]) -> None:
        """Ask the gallery for queries ``(n, dim)`` of these classes."""
        self.strangers.update(name for name in names if name not in self.sizes)
        rows = [row for row, name in enumerate(names) if name in self.sizes]
        step = max(1, HITS // max(self.ks))
        for start in range(0, len(rows), step):
            chosen = rows[start : start + step]
            self._add_classes(queries[chosen], [names[row] for row in chosen])
        of_class: dict[str, list[int]] = {}
        for row in rows:
            of_class.setdefault(names[row], []).append(row)
        for name, members in of_class.items():
            step = max(1, HITS // self.sizes[name])
            for start in range(0, len(members), step):
                self._add_references(queries[members[start : start + step]], name)

    def _add_classes(self, queries: NDArray[np.float32], names: Sequence[str]) -> None:
        found = self.gallery.search_classes(queries, k=max(self.ks), score=self.score)
        for name, hits in zip(names, found, strict=True):
            answered = [hit.name for hit in hits.hits]
            self.asked[name] += 1
            self.answers[name, answered[0]] += 1
            rank = answered.index(name) if name in answered else len(answered)
            self.within.update(k for k in self.ks if rank < k)

    def _add_references(self, queries: NDArray[np.float32], name: str) -> None:
        size = self.sizes[name]
        found = self.gallery.search_references(queries, k=size)
        same = np.array([[hit.name == name for hit in hits] for hits in found])
        precisions = same.cumsum(1) / np.arange(1, size + 1)
        self.precision += float(same.mean(1).sum())
        self.average += float((precisions * same).mean(1).sum())

    def evaluation(self) -> Evaluation:
        """Return what the answers add up to."""
        queries = self.asked.total()
        wrong = ((pair, count) for pair, count in self.answers.items() if pair[0] != pair[1])
        return Evaluation(
            queries=queries,
            recall_at_k={k: Share(self.within[k] / queries, *wilson(self.within[k], queries)) for k in self.ks},
            map_at_r=self.average / queries,
            r_precision=self.precision / queries,
            confusions=[Confusion(*pair, count) for pair, count in sorted(wrong, key=lambda one: (-one[1], one[0]))],
            per_class=[OfClass(name, self.asked[name], self.answers[name, name]) for name in sorted(self.asked)],
            without_class=dict(sorted(self.strangers.items())),
            classes=len(self.sizes),
        )


class _Images:
    """The images of a folder that may be asked, prepared by threads, and a count of those that may not."""

    def __init__(self, recognizer: Recognizer, listing: Listing, known: set[str], max_pixels: int) -> None:
        self.embedder, self.listing, self.known, self.max_pixels = recognizer.embedder, listing, known, max_pixels
        self.failed = list(listing.failed)
        self.known_already = 0

    def read(self, asked: Sequence[Found], progress: Progress) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield class and pixels of each image that can be used and is new to the gallery, in order."""
        workers = min(16, os.cpu_count() or 1)
        outcomes = in_order(self._prepared, asked, workers=workers, ahead=4 * workers)
        progress("evaluating", 0, len(asked))
        with closing(outcomes):
            for done, (found, outcome) in enumerate(zip(asked, outcomes, strict=True), start=1):
                if isinstance(outcome, Failure):
                    self.failed.append(outcome)
                elif outcome is None:
                    self.known_already += 1
                else:
                    yield found.name, outcome
                progress("evaluating", done, len(asked))

    def check(self, asked: int) -> None:
        """Raise SourceError if nothing was left to ask."""
        if self.known_already + len(self.failed) - len(self.listing.failed) < asked:
            return
        shown = printable(self.listing.root)
        if self.known_already:
            raise SourceError(f"{shown}: {self.known_already:,} images are references themselves: give it new ones")
        raise SourceError(
            f"{shown}: no image can be read; the first is {self.failed[-1].path}: {self.failed[-1].reason}"
        )

    def _prepared(self, found: Found) -> NDArray[np.uint8] | Failure | None:
        try:
            loaded = self.embedder.load(Path(self.listing.root) / found.path, max_pixels=self.max_pixels)
        except ImageError as error:
            return Failure(printable(found.path), error.reason)
        return None if loaded.hash in self.known else self.embedder.prepare(loaded.image)


def _silent(stage: str, done: int, total: int) -> None:
    pass
