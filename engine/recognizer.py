"""The query layer: a gallery with the embedder that made it. Where a photo becomes a name: ``recognizing``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from engine.embedder import Embedder, merged
from engine.learned import load_score
from engine.recognizing import Recognizing, listed
from engine.runtime import choose_device
from engine.runtime_trials import check_asked
from engine.runtimes import RUNTIME, Runtimes
from engine.weights import load_embedder, weights_name
from indexer import build
from indexer.errors import GalleryMissing, SourceError
from indexer.gallery import Change, Gallery
from indexer.images import ImageLike, Loaded
from indexer.places import Source
from indexer.search import Score
from indexer.sources_opened import opened
from indexer.thumbnails import thumbnail


class Recognizer(Recognizing):
    """A gallery and the embedder that made it. Use it as a context manager, or ``close`` it.

    Args:
        gallery: whose vectors come from the embedder.
        embedder: of the images to come.
        score: a learned one, by which ``recognize`` orders the nearest classes; None leaves the order of the cosine.
        runtime: "auto", "torch", "openvino" or "onnx" (``engine.runtimes``).
    """

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | Embedder = "imagenet",
        device: str | None = None,
        runtime: str = RUNTIME,
    ) -> Self:
        """Return a recognizer with a new, empty gallery at ``path``.

        Args:
            path: the folder to make.
            weights: "imagenet", "bundled", a file that ``train`` wrote, or either with a size, as "bundled@112" or
                "bundled@64of107" (``engine.weights.load_embedder``); or an embedder.
            device: "cpu", "cuda", "mps"; the best there is if None.
            runtime: "auto", "torch", "openvino" or "onnx": what runs the embedder.

        Raises:
            GalleryExists, WeightsError: and nothing is made.
        """
        check_asked(runtime)
        embedder, score = _loaded(weights, device)
        description = {"weights": weights_name(weights)}
        gallery = Gallery.create(path, dim=embedder.dim, fingerprint=embedder.fingerprint, embedder=description)
        return cls(gallery, embedder, score, runtime=runtime)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | Embedder | None = None,
        device: str | None = None,
        runtime: str = RUNTIME,
    ) -> Self:
        """Return a recognizer for the gallery at ``path``.

        Args:
            path: of a gallery.
            weights: where the gallery's embedder is now, if it is not where it was when the gallery was made; its
                learned score may be another one.
            device: "cpu", "cuda", "mps"; the best there is if None.
            runtime: "auto", "torch", "openvino" or "onnx": what runs the embedder.

        Raises:
            GalleryMissing, GalleryNewer, GalleryOlder, GalleryDamaged, WeightsError, EmbedderMismatch.
            RuntimeMismatch: the runtime's embeddings differ too much from the gallery's.
        """
        gallery = Gallery.open(path)
        try:
            return cls(gallery, *_loaded(weights or gallery.embedder["weights"], device), runtime=runtime)
        except BaseException:
            gallery.close()
            raise

    def close(self) -> None:
        """Close the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def index(self, folder: build.Images, **how: Unpack[build.Options]) -> build.Report:
        """Make the gallery hold what ``folder`` holds, a class per sub-folder; return what changed.

        Images may also come from a zip or tar file, a list (CSV, Parquet), a URL, or any (class name, image) pairs.
        Takes the arguments of ``indexer.build.index``. Interrupted or killed, it goes on where it was when called
        again. Nothing that is known already is embedded again.
        """
        if not how.get("dry_run"):
            told: Any = {name: how[name] for name in ("class_depth", "progress", "memory") if name in how}
            self.runtimes.settle(folder, **told)
            how.setdefault("batch_size", self.runtimes.batch_size)
        return build.index(self.gallery, folder, BulkModel(self.embedder, self.runtimes), **how)

    def learn(self, name: str, images: ImageLike | Sequence[ImageLike], *, thumbnails: bool = False) -> Change:
        """Add one image, or a list of them, to the references of class ``name``; the class need not exist.

        With ``thumbnails`` a small JPEG of each is kept, as by ``index``.

        Raises:
            ImageError: one of them cannot be used; then none is added.
            ClassExists: the gallery has a class whose name differs only by case.
        """
        loaded = [self.embedder.load(image) for image in listed(images)]
        vectors = self.runtimes.embed([self.embedder.prepare(one.image) for one in loaded])
        change = self.gallery.add(
            name, [(one.hash, _absolute(one), vector) for one, vector in zip(loaded, vectors, strict=True)]
        )
        if thumbnails:
            self.gallery.thumbnails.keep({one.hash: thumbnail(one.image) for one in loaded})
        return change

    def forget(self, name: str) -> Change:
        """Remove the class ``name`` and all its references."""
        return self.gallery.remove(name)

    def rename(self, old: str, new: str) -> Change:
        """Give the class ``old`` the name ``new``."""
        return self.gallery.rename(old, new)


@dataclass(frozen=True, slots=True)
class BulkModel:
    """The embedder as ``indexer.build`` wants it: pixels are prepared in its threads, embedded in its batches."""

    embedder: Embedder
    runtimes: Runtimes | None = None

    @property
    def dim(self) -> int:
        """Floats in an embedding."""
        return self.embedder.dim

    @property
    def fingerprint(self) -> str:
        """Of the embedder."""
        return self.embedder.fingerprint

    @property
    def enough(self) -> int:
        """Pixels along its shorter side that an image need have."""
        return self.embedder.preprocessing.enough

    @property
    def working(self) -> int:
        """Bytes that an image takes while it is embedded."""
        return self.embedder.working

    def prepare(self, image: Any) -> NDArray[np.uint8]:
        """Return the pixels of the network's input, look by look."""
        return self.embedder.prepare(image)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return unit vectors ``(n, dim)`` of prepared images."""
        return merged(images, self.embedder.embed_pixels) if self.runtimes is None else self.runtimes.embed(images)


def _loaded(weights: str | os.PathLike[str] | Embedder, device: str | None) -> tuple[Embedder, Score | None]:
    if isinstance(weights, Embedder):
        return weights, None
    embedder = load_embedder(weights, device=choose_device(device))
    return embedder, load_score(weights, dim=embedder.dim)


def _absolute(loaded: Loaded) -> str | None:
    return None if loaded.path is None else str(Path(loaded.path).absolute())


def index_folder(
    folder: str | os.PathLike[str],
    gallery: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    runtime: str = RUNTIME,
    **how: Unpack[build.Options],
) -> build.Report:
    """Index ``folder`` into the gallery at ``gallery``, which is made if there is none; return what changed.

    The folder may also be a zip or tar file, a list or a URL, as for ``indexer.build.index``.
    A gallery is made with ``weights``, or those that ``Recognizer.create`` takes; an existing one keeps its own.
    A folder that cannot be indexed leaves no gallery behind, nor does a dry run. Other arguments are those of
    ``indexer.build.index``.
    """
    # A wrong folder is told before weights are fetched and a gallery is made.
    source = opened(folder, **({"class_depth": how["class_depth"]} if "class_depth" in how else {}))
    source.listing()
    try:
        recognizer = Recognizer.open(gallery, weights=weights, device=device, runtime=runtime)
    except GalleryMissing:
        chosen: dict[str, Any] = {} if weights is None else {"weights": weights}
        return _index_into_new(source, Path(gallery), {**chosen, "device": device, "runtime": runtime}, how)
    with recognizer:
        return recognizer.index(source, **how)


def _index_into_new(source: Source, gallery: Path, chosen: dict[str, Any], how: build.Options) -> build.Report:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "dry.gallery" if how.get("dry_run") else gallery
        made = Recognizer.create(path, **chosen)  # refuses what is there already: it is not ours
        try:
            with made:
                return made.index(source, **how)
        except SourceError:
            shutil.rmtree(path, ignore_errors=True)
            raise
