"""Read, decode, embed, write: many files through a model, in bounded memory.

Threads read and decode ahead, at most ``workers + batch_size`` images; the calling thread embeds batches in the order
of the files and hands embeddings on every few seconds. However many files there are, no more than
``workers + 2 * batch_size + 1`` prepared images are alive at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer import images
from indexer.errors import ArgumentError, FirstsightError, ImageError
from indexer.places import Source
from indexer.sources import Failure

COMMIT_SECONDS = 2.0  # what a kill costs at most
COMMIT_ROWS = 4096

Progress = Callable[[str, int, int], None]
Look = Callable[[str, Image.Image], None]
"""What else is done with an image: given the hash of its content and itself, in several threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Model(Protocol):
    """What turns images into embeddings. The indexer knows no more of it."""

    @property
    def dim(self) -> int:
        """Floats in an embedding."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells models apart whose embeddings cannot be compared."""
        ...

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """Return a small array of fixed size; called in several threads."""
        ...

    def embed(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the embeddings, ``(n, dim)``, of prepared images; called in one thread."""
        ...


class Job(NamedTuple):
    """A content to embed, and the files below the root that have it."""

    hash: str
    paths: Sequence[str]


class Unusable(NamedTuple):
    """A file that could not be used, and why; with the hash of its content if that is at fault, and always will be."""

    path: str
    reason: str
    hash: str | None


class Stage(Protocol):
    """Where embeddings go: hashes and vectors ``(n, dim)``."""

    def __call__(self, hashes: Sequence[str], vectors: NDArray[np.float32], /) -> None:
        """Keep them for good."""
        ...


def run(
    jobs: Sequence[Job],
    model: Model,
    stage: Stage,
    *,
    source: Source,
    batch_size: int,
    max_pixels: int,
    workers: int,
    progress: Progress,
    look: Look | None = None,
) -> list[Unusable]:
    """Embed the jobs; return the files that could not be used. Interrupted, it keeps what is embedded already."""
    failed: list[Unusable] = []

    def prepare(job: Job) -> tuple[NDArray[Any] | None, list[Unusable]]:
        return _prepared(job, model, source, max_pixels, look)

    progress("embedding", 0, len(jobs))
    outcomes = in_order(prepare, jobs, workers=workers, ahead=workers + batch_size)
    with Batches(model, stage, batch_size) as batches, closing(outcomes):
        for done, (job, (array, failures)) in enumerate(zip(jobs, outcomes, strict=True), start=1):
            failed += failures
            if array is not None:
                batches.add(job.hash, array)
            if not batches.filling or done == len(jobs):
                progress("embedding", done, len(jobs))
    return failed


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int) -> Generator[Result]:
    """Yield ``work(item)`` for each item, in order, with threads that are at most ``ahead`` items in front."""
    feed = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="indexer") as pool:
        try:
            window: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(feed, ahead))
            while window:
                result = window.popleft().result()
                window.extend(pool.submit(work, item) for item in islice(feed, 1))
                yield result
                del result
        finally:
            pool.shutdown(cancel_futures=True)


def identified(path: str, source: Source) -> str | Failure:
    """Return the hash of one of a source's files, or why there is none."""
    try:
        return images.identify(source.read(path))
    except ImageError as error:
        return Failure(images.printable(path), error.reason)


def _prepared(
    job: Job, model: Model, source: Source, max_pixels: int, look: Look | None
) -> tuple[NDArray[Any] | None, list[Unusable]]:
    """Return the prepared image of the first file that still has the content, and the failures before it."""
    failures: list[Unusable] = []
    for path in job.paths:
        try:
            data = source.read(path)
            if images.identify(data) != job.hash:
                raise ImageError(path, "has another content than when it was hashed; index the folder again")
            image = images.decode(data, path=path, max_pixels=max_pixels)
            if look is not None:
                look(job.hash, image)
            return model.prepare(image), failures
        except ImageError as error:
            failures.append(Unusable(path, error.reason, job.hash if error.lasting else None))
    return None, failures


class Batches:
    """Collects prepared images into batches, and embeddings into commits."""

    def __init__(self, model: Model, stage: Stage, size: int) -> None:
        self.model, self.stage, self.size = model, stage, size
        self.filling: list[tuple[str, NDArray[Any]]] = []
        self.hashes: list[str] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.committed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._embed()
            self._commit()
        else:
            with suppress(FirstsightError):  # the first error is the one to show
                self._commit()

    def add(self, hash: str, array: NDArray[Any]) -> None:
        """Take a prepared image; embed when the batch is full, commit when some seconds have passed."""
        self.filling.append((hash, array))
        if len(self.filling) == self.size:
            self._embed()
        if len(self.hashes) >= COMMIT_ROWS or time.monotonic() - self.committed >= COMMIT_SECONDS:
            self._commit()

    def _embed(self) -> None:
        if not self.filling:
            return
        vectors = np.asarray(self.model.embed([array for _, array in self.filling]), np.float32)
        if vectors.shape != (len(self.filling), self.model.dim):
            raise ArgumentError(
                f"the model made vectors of shape {vectors.shape} from {len(self.filling)} images;"
                f" it should be ({len(self.filling)}, {self.model.dim})"
            )
        self.hashes += [hash for hash, _ in self.filling]
        self.vectors.append(vectors)
        self.filling.clear()

    def _commit(self) -> None:
        if self.hashes:
            self.stage(self.hashes, np.concatenate(self.vectors))
            self.hashes, self.vectors = [], []
        self.committed = time.monotonic()
