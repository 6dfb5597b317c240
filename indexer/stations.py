"""Where the time of bulk work goes: a clock at each station that an image passes on its way into a gallery."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

IN_THREADS: Final = ("reading", "decoding", "preparing")
ORDER: Final = (*IN_THREADS, "embedding", "writing")


@dataclass(frozen=True, slots=True)
class Stations:
    """What each station took, in seconds; they work at the same time, so their sum is more than all took together.

    Attributes:
        finding: until it was known what there is to embed: files listed, read and hashed.
        reading: files read and their content checked, summed over the threads.
        decoding: bytes made pictures, summed over the threads.
        preparing: pictures made the network's pixels (and thumbnails), summed over the threads.
        embedding: the network at work.
        writing: embeddings committed.
        waiting: the network had nothing to do, from the first file on. Where it is small, only a faster network helps.
        ahead: pictures that lay ready whenever a batch was begun, on average, as a share of the room for them.
        workers: threads that read, decoded and prepared.
        batch_size: images embedded at once: as asked for, or as many as the memory allows.
        images: embedded.
    """

    finding: float
    reading: float
    decoding: float
    preparing: float
    embedding: float
    writing: float
    waiting: float
    ahead: float
    workers: int
    batch_size: int
    images: int


class Clock:
    """Adds up what threads spend at their stations."""

    def __init__(self, *, workers: int, batch_size: int, room: int) -> None:
        self._workers, self._batch_size, self._room = workers, batch_size, room
        self._spent = dict.fromkeys((*ORDER, "waiting"), 0.0)
        self._changing = threading.Lock()
        self._idle_since = time.perf_counter()
        self._ready = self._seen_ready = self._batches = self._images = 0

    @contextmanager
    def at(self, station: str) -> Iterator[None]:
        """Count the time of a block for a station."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add(station, time.perf_counter() - started)

    @contextmanager
    def embedding(self, images: int) -> Iterator[None]:
        """Count the time of a block for the network, and what went before it as waiting."""
        started = time.perf_counter()
        self._add("waiting", started - self._idle_since)
        try:
            yield
        finally:
            self._idle_since = time.perf_counter()
            self._add("embedding", self._idle_since - started)
            self._images += images

    def prepared(self) -> None:
        """A picture lies ready."""
        with self._changing:
            self._ready += 1

    def taken(self) -> None:
        """One of those that lay ready has been taken."""
        with self._changing:
            self._ready -= 1

    def begun(self) -> None:
        """A batch is begun."""
        with self._changing:
            self._seen_ready += self._ready
            self._batches += 1

    def read(self, *, finding: float = 0.0) -> Stations:
        """Return what was counted up to now."""
        ahead = self._seen_ready / (self._batches * self._room) if self._batches else 0.0
        return Stations(
            finding=finding,
            **self._spent,
            ahead=ahead,
            workers=self._workers,
            batch_size=self._batch_size,
            images=self._images,
        )

    def _add(self, station: str, seconds: float) -> None:
        with self._changing:
            self._spent[station] += seconds
