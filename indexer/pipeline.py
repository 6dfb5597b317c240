"""Read, decode, embed, write: many files through a model, in bounded memory.

Threads read, decode and prepare ahead, at most ``workers + batch_size`` images; one more embeds batches, in the order
of the files; the calling thread collects the next batch meanwhile, and commits embeddings every few seconds. However
many files there are, no more than ``workers + 3 * batch_size + 1`` prepared images are alive at once, and no more
pictures than there is room for.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer import images
from indexer.errors import ArgumentError, FirstsightError, ImageError
from indexer.places import Source
from indexer.printable import printable
from indexer.room import Room, shared_out
from indexer.sources import Failure
from indexer.stations import Clock

COMMIT_SECONDS = 2.0  # what a kill costs at most
COMMIT_ROWS = 4096
YIELDING = 5  # steps of niceness

Progress = Callable[[str, int, int], None]
Look = Callable[[str, Image.Image], None]
"""What else is done with an image: given the hash of its content and itself, in several threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Model(Protocol):
    """What turns images into embeddings. The indexer knows no more of it.

    It may also say in ``enough`` how many pixels along its shorter side an image need have (``images.decode``), and in
    ``working`` how many bytes of memory an image takes while it is embedded.
    """

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
        """Return the embeddings, ``(n, dim)``, of prepared images; called in one thread at a time."""
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
    memory: int | str,
    workers: int,
    progress: Progress,
    look: Look | None = None,
) -> tuple[list[Unusable], Clock]:
    """Embed the jobs; return the files that could not be used, and where the time went.

    Interrupted, it keeps what is embedded already.
    """
    failed: list[Unusable] = []
    room, batch_size = shared_out(memory, model, batch_size)
    ahead = workers + batch_size
    clock = Clock(workers=workers, batch_size=batch_size, room=ahead)
    way = _Way(model, source, max_pixels, look, room, clock)
    progress("embedding", 0, len(jobs))
    outcomes = in_order(way.prepared, jobs, workers=workers, ahead=ahead)
    with Batches(model, stage, batch_size, clock) as batches, closing(outcomes):
        for done, (job, (array, failures)) in enumerate(zip(jobs, outcomes, strict=True), start=1):
            failed += failures
            if array is not None:
                clock.taken()
                batches.add(job.hash, array)
            if not batches.filling or done == len(jobs):
                progress("embedding", done, len(jobs))
    return failed, clock


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int) -> Generator[Result]:
    """Yield ``work(item)`` for each item, in order, with threads that are at most ``ahead`` items in front."""
    feed = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="indexer", initializer=_give_way) as pool:
        try:
            window: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(feed, ahead))
            while window:
                result = window.popleft().result()
                window.extend(pool.submit(work, item) for item in islice(feed, 1))
                yield result
                del result
        finally:
            pool.shutdown(cancel_futures=True)


def _give_way() -> None:
    """Let this thread yield to the network, and to those who ask galleries meanwhile. On Linux, threads can."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + YIELDING)


def identified(path: str, source: Source) -> str | Failure:
    """Return the hash of one of a source's files, or why there is none."""
    try:
        return images.identify(source.read(path))
    except ImageError as error:
        return Failure(printable(path), error.reason)


@dataclass(frozen=True, slots=True)
class _Way:
    """From a file to the network's pixels."""

    model: Model
    source: Source
    max_pixels: int
    look: Look | None
    room: Room
    clock: Clock

    def prepared(self, job: Job) -> tuple[NDArray[Any] | None, list[Unusable]]:
        """Return the prepared image of the first file that still has the content, and the failures before it."""
        failures: list[Unusable] = []
        for path in job.paths:
            try:
                array = self._pixels(path, job.hash)
                self.clock.prepared()
                return array, failures
            except ImageError as error:
                failures.append(Unusable(path, error.reason, job.hash if error.lasting else None))
        return None, failures

    def _pixels(self, path: str, hash: str) -> NDArray[Any]:
        with self.clock.at("reading"):
            data = self.source.read(path)
            if images.identify(data) != hash:
                raise ImageError(path, "has another content than when it was hashed; index the folder again")
        with self.room.place() as place:
            with self.clock.at("decoding"):
                image = images.decode(
                    data, path=path, max_pixels=self.max_pixels, enough=enough_for(self.model), admit=place.take
                )
            with self.clock.at("preparing"):
                if self.look is not None:
                    self.look(hash, image)
                return self.model.prepare(image)


def enough_for(model: Model) -> int | None:
    """Return how many pixels along its shorter side an image need have for a model; None if it does not say."""
    return getattr(model, "enough", None)


class Batches:
    """Collects prepared images into batches, and embeddings into commits.

    A thread embeds one batch while the next is collected, and the one before is committed.
    """

    def __init__(self, model: Model, stage: Stage, size: int, clock: Clock) -> None:
        self.model, self.stage, self.size, self.clock = model, stage, size, clock
        self.filling: list[tuple[str, NDArray[Any]]] = []
        self.embedded: list[tuple[list[str], NDArray[np.float32]]] = []  # and not committed
        self.committed = time.monotonic()
        self._network = ThreadPoolExecutor(1, thread_name_prefix="indexer-network")
        self._embedding: tuple[list[str], Future[NDArray[np.float32]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._embed()
                self._collect()
        except BaseException as error:
            kind = type(error)
            raise
        finally:
            self._end(failed=kind is not None)

    def add(self, hash: str, array: NDArray[Any]) -> None:
        """Take a prepared image; have the batch embedded when it is full, commit when some seconds have passed."""
        self.filling.append((hash, array))
        if self._embedding and self._embedding[1].done():
            self._collect()  # a failure is known at once
        if len(self.filling) == self.size:
            self._embed()
        rows = sum(len(hashes) for hashes, _ in self.embedded)
        if rows >= COMMIT_ROWS or time.monotonic() - self.committed >= COMMIT_SECONDS:
            self._commit()

    def _embed(self) -> None:
        """Let the network have the batch, as soon as it is done with the one before."""
        self._collect()
        if self.filling:
            hashes, arrays = [hash for hash, _ in self.filling], [array for _, array in self.filling]
            self.filling.clear()
            self.clock.begun()
            self._embedding = hashes, self._network.submit(self._embedded, arrays)

    def _embedded(self, arrays: list[NDArray[Any]]) -> NDArray[np.float32]:
        with self.clock.embedding(len(arrays)):
            vectors = np.asarray(self.model.embed(arrays), np.float32)
        if vectors.shape != (len(arrays), self.model.dim):
            raise ArgumentError(
                f"the model made vectors of shape {vectors.shape} from {len(arrays)} images;"
                f" it should be ({len(arrays)}, {self.model.dim})"
            )
        return vectors

    def _collect(self) -> None:
        """Wait for the batch that the network has, if it has one."""
        if self._embedding is not None:
            hashes, outcome = self._embedding
            wait([outcome])  # interrupted here, it can still be collected
            self._embedding = None
            self.embedded.append((hashes, outcome.result()))

    def _commit(self) -> None:
        if self.embedded:
            hashes = [hash for some, _ in self.embedded for hash in some]
            with self.clock.at("writing"):
                self.stage(hashes, np.concatenate([vectors for _, vectors in self.embedded]))
            self.embedded.clear()
        self.committed = time.monotonic()

    def _end(self, *, failed: bool) -> None:
        """Commit what is embedded; after a failure, whose error is the one to show, as far as that goes."""
        try:
            if failed:
                with suppress(Exception):
                    self._collect()
                with suppress(FirstsightError):
                    self._commit()
            else:
                self._commit()
        finally:
            self._network.shutdown()
