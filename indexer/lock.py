"""The writer's lock: one writer at a time. It belongs to a process and dies with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from indexer import regular
from indexer.errors import GalleryBusy, GalleryError, GalleryMissing
from indexer.regular import NotRegular

LOCK_SECONDS = 2.0  # how long a second writer waits before it gives up


class WriterLock:
    """A lock between threads and processes; whoever holds it may take it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._processes = FileLock(path, thread_local=False, poll_interval=0.02)

    @contextmanager
    def held(self, *, seconds: float | None = None) -> Iterator[None]:
        """Hold the lock for a while; GalleryBusy if it cannot be had within ``seconds``, LOCK_SECONDS if not given."""
        patience = LOCK_SECONDS if seconds is None else seconds
        if not self._threads.acquire(timeout=patience):
            raise self._busy()
        try:
            self._acquire(patience)
            try:
                yield
            finally:
                self._processes.release()
        finally:
            self._threads.release()

    def _acquire(self, seconds: float) -> None:
        if not self.path.parent.is_dir():  # the lock would make the folder anew, and lock nothing
            raise GalleryMissing(f"{self.path.parent}: the gallery is gone; nothing can be written")
        try:
            with suppress(FileNotFoundError):
                regular.check(self.path.stat())
            self._processes.acquire(timeout=seconds)
        except Timeout as error:
            raise self._busy() from error
        except NotRegular as error:
            raise GalleryError(f"{self.path}: {error}, so it cannot lock; remove it and try again") from error
        except OSError as error:
            raise GalleryError(
                f"{self.path.parent}: cannot be written ({error.strerror}); check its permissions"
            ) from error
        with suppress(OSError):  # only so that others can say who is writing
            self.path.write_text(f"{os.getpid()}\n")

    def _busy(self) -> GalleryBusy:
        owner = ""
        with suppress(OSError, ValueError):
            owner = f" (process {int(self.path.read_text())})"
        return GalleryBusy(f"{self.path.parent}: somebody else is writing to it{owner}; try again when that is done")
