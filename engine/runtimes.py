"""Which runtime embeds for a gallery: the one that was chosen for it before, one chosen by trying, or plain PyTorch."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from engine import runtime_kept
from engine.embedder import Embedder, merged, one_look_each
from engine.running import Pixels, Running, Vectors, plain
from engine.runtime_kept import Choice
from engine.runtime_trials import BATCHES, SAMPLE, check_asked, choose, family_of, fits
from indexer.errors import ImageError
from indexer.gallery import Gallery
from indexer.images import read
from indexer.pipeline import Progress
from indexer.places import Source
from indexer.room import MEMORY, in_bytes, shared_out
from indexer.runtimes import Runtime, require_alike, strangers
from indexer.sources_opened import opened

RUNTIME: Final = "auto"
BATCH: Final = 32
WORTH: Final = 60.0  # seconds of embedding ahead for which it is worth while to convert and to try: that takes as long


class Runtimes:
    """Runs the embedder of a gallery.

    What is asked for is "auto", "torch", "openvino", "onnx", or one by its name, as "openvino-int8". What was chosen
    for the gallery on this machine before is used again. Nothing is tried before there is need: "auto" does so only
    where much is to be embedded, and is plain PyTorch until then.

    Raises:
        ArgumentError: there is no runtime of that name.
        RuntimeMismatch: its embeddings cannot be compared with those of the gallery.
        FirstsightError: it is not installed.
    """

    def __init__(self, embedder: Embedder, gallery: Gallery, asked: str = RUNTIME) -> None:
        self.embedder, self.gallery, self.asked = embedder, gallery, check_asked(asked)
        self.choice: Choice | None = None
        self._running: Running | None = None
        if not self._take_kept() and asked in ("auto", "torch", plain(embedder).name):
            self._take_plain()

    @property
    def name(self) -> str:
        """What runs the embedder; "" while nothing was asked to."""
        return "" if self._running is None else self._running.name

    @property
    def batch_size(self) -> int:
        """Images at once: as many as was found to be fastest, if that was looked for."""
        return BATCH if self.choice is None else self.choice.batch_size

    def embed(self, pixels: Sequence[Pixels]) -> Vectors:
        """Return unit vectors ``(n, dim)`` of prepared images; if nothing is chosen yet, by what they show.

        Each is as ``Embedder.prepare`` made it: looks ``(m, size, size, 3)``.
        """
        if self._running is None and len(pixels):
            self._choose(list(_of_references(self.embedder, self.gallery)) or pixels)
        if self._running is None or not len(pixels):
            return np.empty((0, self.embedder.dim), np.float32)
        return merged(pixels, partial(self._running.embed, batch_size=self.batch_size))

    def settle(
        self, images: object, *, class_depth: int = 1, progress: Progress | None = None, memory: int | str = MEMORY
    ) -> None:
        """Choose, if it is worth while, before a source of images is embedded; an iterable shows none beforehand.

        Args:
            images: what ``indexer.build.index`` will be given.
            class_depth: as there.
            progress: called with ("trying runtimes", done, total).
            memory: that the process shall keep to: larger batches are not tried, nor what takes more to convert but
                the first of them.
        """
        if self.choice is not None:
            if self._running is not None and self.choice.name == plain(self.embedder).name:
                self._running = family_of(self.choice.name).load(self.embedder, self.choice.name, Path())
            return
        if not isinstance(images, str | os.PathLike | Source):
            return
        source = opened(images, class_depth=class_depth)
        files = source.listing().files
        sample = list(_prepared(self.embedder, (partial(source.read, files[at].path) for at in _spread(len(files)))))
        if sample and (self._running is None or self._worth(sample[:2], len(files) - len(self.gallery))):
            most = shared_out(memory, self.embedder, BATCHES[-1])[1]
            self._choose(sample, progress, most=most, memory=in_bytes(memory))

    def _worth(self, some: Sequence[Pixels], ahead: int) -> bool:
        """Tell by embedding some images whether so many more would take long."""
        started = time.perf_counter()
        plain(self.embedder).embed(np.concatenate(some))
        return ahead * (time.perf_counter() - started) / len(some) > WORTH

    def _take_kept(self) -> bool:
        """Use what was chosen before, if it is whole and is what is asked for."""
        kept = runtime_kept.load(self.gallery.path, self.embedder)
        if kept is None or not fits(kept[0].name, self.asked):
            return False
        choice, files = kept
        if strangers(choice.runtime, self.gallery.runtimes()):
            return False
        try:
            self._running = _ready(self.embedder, choice, files)
        except Exception:
            return False
        self.choice = choice
        self.gallery.runtime = choice.runtime
        return True

    def _take_plain(self) -> None:
        self._running = plain(self.embedder)
        runtime = Runtime(self._running.name, 1.0)
        require_alike(runtime, self.gallery.runtimes(), self.gallery.path)
        self.gallery.runtime = runtime

    def _choose(
        self,
        sample: Sequence[Pixels],
        progress: Progress | None = None,
        *,
        most: int = BATCHES[-1],
        memory: float = math.inf,
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self.gallery.path, prefix=".runtime-") as scratch:
            choice, self._running, files = choose(
                self.embedder,
                one_look_each(sample),
                asked=self.asked,
                others=self.gallery.runtimes(),
                scratch=Path(scratch),
                most=most,
                memory=memory,
                progress=progress,
            )
            runtime_kept.save(self.gallery.path, self.embedder, choice, files)
        self.choice, self.gallery.runtime = choice, choice.runtime


def _ready(embedder: Embedder, choice: Choice, files: Sequence[Path]) -> Running:
    if choice.name == plain(embedder).name:  # to fold takes longer than to embed an image
        return plain(embedder)
    return family_of(choice.name).load(embedder, choice.name, files[0] if files else Path(), choice.threads)


def _of_references(embedder: Embedder, gallery: Gallery) -> Iterator[Pixels]:
    """Yield pixels of some references whose images are where they were."""
    known = [Path(one.root or "", one.path) for one in gallery.references() if one.path is not None]
    return _prepared(embedder, (partial(read, known[at]) for at in _spread(len(known))))


def _prepared(embedder: Embedder, images: Iterable[Callable[[], bytes]]) -> Iterator[Pixels]:
    for image in images:
        with suppress(ImageError):  # indexing says what is wrong with it
            yield embedder.prepare(embedder.load(image()).image)


def _spread(count: int) -> list[int]:
    """Return places all over a list of so many, as images that follow one another are alike."""
    return sorted(np.random.default_rng(0).permutation(count)[:SAMPLE].tolist())
