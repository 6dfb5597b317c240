"""Where a photo becomes a name: images in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from engine.answers import Answer, Hit, matches_from
from engine.embedder import Embedder
from engine.runtimes import RUNTIME, Runtimes
from indexer.conditions import Where
from indexer.errors import ImageError
from indexer.gallery import Gallery
from indexer.images import ImageLike
from indexer.search import K_CLASSES, K_REFERENCES, METRIC, Score

Metric = Literal["cosine", "euclidean"]


class Recognizing:
    """What a ``Recognizer`` answers: the part of it that changes nothing."""

    def __init__(
        self, gallery: Gallery, embedder: Embedder, score: Score | None = None, *, runtime: str = RUNTIME
    ) -> None:
        gallery.require(embedder.fingerprint)
        self.runtimes = Runtimes(embedder, gallery, runtime)
        self.gallery = gallery
        self.embedder = embedder
        self.score = score

    @overload
    def recognize(
        self,
        images: list[Any],
        *,
        k: int = ...,
        metric: Metric = ...,
        where: Where | None = ...,
        as_of: int | None = ...,
    ) -> list[Answer]: ...
    @overload
    def recognize(
        self,
        images: ImageLike,
        *,
        k: int = ...,
        metric: Metric = ...,
        where: Where | None = ...,
        as_of: int | None = ...,
    ) -> Answer: ...
    def recognize(
        self,
        images: ImageLike | list[Any],
        *,
        k: int = K_CLASSES,
        metric: Metric = METRIC,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> Answer | list[Answer]:
        """Return what an image shows, or a list of answers for a list of images.

        Args:
            images: paths, bytes, file objects, PIL images or ``(h, w, 3)`` uint8 arrays.
            k: how many classes an answer names at most.
            metric: "cosine" or "euclidean"; on unit vectors both order alike, the numbers differ. Weights with a
                learned score order by that.
            where: conditions on attributes, as in ``{"site": "paris", "price": {"<": 5}}``: the answer is that of a
                gallery without the classes of which no reference is like that (``indexer.conditions``).
            as_of: a revision, to be answered as the gallery was then; the newest one if None.

        Raises:
            ImageError: one of them cannot be used (``recognize_each`` goes on instead).
            RevisionMissing: there is no such revision, or no longer.
            ArgumentError: k below 1, an unknown metric, conditions that cannot be asked.
        """
        answers = self.recognize_each(listed(images), k=k, metric=metric, where=where, as_of=as_of)
        return _as_asked(images, answers)

    def recognize_each(
        self,
        images: Sequence[ImageLike],
        *,
        k: int = K_CLASSES,
        metric: Metric = METRIC,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[Answer | ImageError]:
        """Return for each image its answer, or the error that says why there is none."""
        how: dict[str, Any] = {"k": k, "metric": metric, "where": where, "as_of": as_of}
        return self._each(
            images,
            lambda vectors: self.gallery.search_classes(vectors, score=self.score, **how),
            lambda path, hits: Answer(path, matches_from(hits, learned=self.score is not None), metric),
        )

    @overload
    def search(
        self, images: list[Any], *, k: int = ..., where: Where | None = ..., as_of: int | None = ...
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self, images: ImageLike, *, k: int = ..., where: Where | None = ..., as_of: int | None = ...
    ) -> list[Hit]: ...
    def search(
        self,
        images: ImageLike | list[Any],
        *,
        k: int = K_REFERENCES,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Return the ``k`` reference images most like an image, best first, or a list of such lists.

        With conditions, as for ``recognize``, of those only whose attributes, or their class's, are like that.
        """
        return _as_asked(images, self.search_each(listed(images), k=k, where=where, as_of=as_of))

    def search_each(
        self,
        images: Sequence[ImageLike],
        *,
        k: int = K_REFERENCES,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[list[Hit] | ImageError]:
        """Return for each image its nearest references, or the error that says why there are none."""
        return self._each(
            images,
            lambda vectors: self.gallery.search_references(vectors, k=k, where=where, as_of=as_of),
            lambda path, hits: [
                Hit(hit.name, hit.reference, hit.score, hit.distance, hit.attributes, hit.mapped) for hit in hits
            ],
        )

    def _each(
        self,
        images: Sequence[ImageLike],
        look_up: Callable[[NDArray[np.float32]], Sequence[Any]],
        answer: Callable[[str | None, Any], Any],
    ) -> list[Any]:
        """Embed in batches, look up at once; an image that cannot be used gives its error in its place."""
        outcomes: list[Any] = []
        for start in range(0, len(images), 32):
            prepared, paths = [], []
            for image in images[start : start + 32]:
                try:
                    loaded = self.embedder.load(image)
                except ImageError as error:
                    outcomes.append(error)
                    continue
                outcomes.append(None)
                paths.append(loaded.path)
                prepared.append(self.embedder.prepare(loaded.image))
            found = iter(zip(paths, look_up(self.runtimes.embed(prepared)), strict=True))
            outcomes[start:] = [answer(*next(found)) if one is None else one for one in outcomes[start:]]
        return outcomes


def listed(images: Any) -> list[Any]:
    """Return a list of images as it is, one image as a list of one."""
    return list(images) if isinstance(images, list | tuple) else [images]


def _as_asked(images: Any, outcomes: list[Any]) -> Any:
    """One answer for one image, a list for a list; the first error, if there is one, is raised."""
    for outcome in outcomes:
        if isinstance(outcome, ImageError):
            raise outcome
    return outcomes if isinstance(images, list | tuple) else outcomes[0]
