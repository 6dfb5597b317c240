"""A gallery, asked: the nearest classes and references of vectors, and how they are searched."""

from __future__ import annotations

from typing import Final

from numpy.typing import ArrayLike

from indexer import search
from indexer.conditions import Conditions, Where
from indexer.gallery_opened import OpenedGallery
from indexer.search import K_CLASSES, K_REFERENCES, METRIC, ClassHits, ReferenceHit, Score
from indexer.searched import REFERENCES, SHORTLIST, searched
from indexer.serving import Serving
from indexer.trials import Promise
from indexer.tuning import Progress, Tuning
from indexer.vectors import as_queries, check_count, metric_named

OF: Final = REFERENCES.what  # what is tuned unless something else is asked for


class AskedGallery(OpenedGallery):
    """What a gallery answers: the part of ``Gallery`` that searches it."""

    def search_classes(
        self,
        queries: ArrayLike,
        *,
        k: int = K_CLASSES,
        metric: str = METRIC,
        shortlist: int = SHORTLIST,
        score: Score | None = None,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[ClassHits]:
        """Return the nearest classes, by their prototypes, of each query: ``(dim,)`` or ``(n, dim)``, of any length.

        Args:
            queries: embeddings by the embedder that made the gallery.
            k: classes to return at most.
            metric: "cosine" or "euclidean".
            shortlist: prototypes whose cosines to return at least.
            score: a learned one, by which to order those prototypes anew; the distances stay the metric's.
            where: conditions on attributes (``indexer.conditions``): only classes with a reference like that are
                found, and only such a one decides. A prototype is the mean of all references all the same.
            as_of: a revision, to be answered as the gallery was then; the newest one if None.

        Raises:
            ArgumentError: a query of another dim, an unknown metric, k below 1, a score that gives no finite numbers,
                conditions that cannot be asked.
            RevisionMissing: there is no such revision, or no longer.
        """
        points, chosen = as_queries(queries, self.dim), metric_named(metric)
        k, shortlist = check_count("k", k), check_count("shortlist", shortlist, least=0)
        asked = None if where is None else Conditions(where)
        nearest = self._nearest["prototypes"].search_rows if as_of is None else search.exact_prototypes
        return self._views.ask(
            lambda snapshot: search.classes(
                snapshot, points, k=k, metric=chosen, shortlist=shortlist, score=score, where=asked, nearest=nearest
            ),
            as_of,
        )

    def search_references(
        self,
        queries: ArrayLike,
        *,
        k: int = K_REFERENCES,
        metric: str = METRIC,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[list[ReferenceHit]]:
        """Return the nearest references of each query: ``(dim,)`` or ``(n, dim)``, of any length; as of a revision.

        With conditions (``indexer.conditions``), only of those whose attributes, or their class's, are like that.

        Raises:
            ArgumentError: a query of another dim, an unknown metric, k below 1, conditions that cannot be asked.
            RevisionMissing: there is no such revision, or no longer.
        """
        points, chosen, k = as_queries(queries, self.dim), metric_named(metric), check_count("k", k)
        asked = None if where is None else Conditions(where)
        nearest = self._nearest["references"].search_rows if as_of is None else search.exact_references
        return self._views.ask(
            lambda snapshot: search.references(snapshot, points, k=k, metric=chosen, where=asked, nearest=nearest),
            as_of,
        )

    def tune(
        self,
        promise: Promise | None = None,
        *,
        of: str = OF,
        apply: bool = False,
        progress: Progress | None = None,
    ) -> Tuning:
        """Find the index of the references, or of the prototypes, that keeps a promise of ``ann_recall`` at least cost.

        Takes minutes.

        Args:
            promise: what to keep; by default what ``Promise()`` says. Of prototypes every query wants a shortlist, so
                what is promised of them is about as many at least.
            of: "references", which ``search_references`` looks for, or "prototypes", which ``search_classes`` does.
            apply: search them by it from now on.
            progress: told of each step.

        Raises:
            ArgumentError: there is no such index.
        """
        nearest = self._nearest[searched(of).what]
        tuning, snapshot = self._views.ask(
            lambda snapshot: (nearest.tune(snapshot, promise or Promise(), progress=progress), snapshot)
        )
        if apply:
            nearest.apply(tuning, snapshot)
        return tuning

    def serving(self, of: str = OF) -> Serving:
        """Return how the references, or the prototypes, are searched, and what checks of live queries have found."""
        return self._nearest[searched(of).what].facts()

    def slow(self) -> dict[str, float]:
        """Return what of references and prototypes is searched exactly and takes longer than a promise allows.

        Each with the milliseconds of a query that comes alone, which take a second or two to measure: ``tune`` may find
        an index that takes less.
        """
        measured = self._views.ask(
            lambda snapshot: {what: nearest.slow(snapshot) for what, nearest in self._nearest.items()}
        )
        return {what: milliseconds for what, milliseconds in measured.items() if milliseconds is not None}
