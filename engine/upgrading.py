"""A gallery to other weights."""

from __future__ import annotations

import os
from typing import TypedDict, Unpack

from engine.embedder import Embedder
from engine.recognizer import BulkModel
from engine.running import plain
from engine.runtime import choose_device
from engine.weights import load_embedder, weights_name
from indexer import folder, upgrading
from indexer.pipeline import Progress
from indexer.runtimes import Runtime
from indexer.upgrading import Upgrade


class Options(TypedDict, total=False):
    """The other arguments of ``indexer.upgrading.upgrade``; their defaults are its own."""

    drop_missing: bool
    batch_size: int
    max_pixels: int
    memory: int | str
    workers: int | None
    progress: Progress | None


def upgrade_gallery(
    gallery: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | Embedder,
    device: str | None = None,
    **how: Unpack[Options],
) -> Upgrade:
    """Embed the images of the gallery at ``gallery`` with other weights, and put those in the place of its own.

    It is one revision, there whole or not at all; killed, the next run goes on. Old vectors whose images are gone are
    mapped and marked, with the loss stated. Other arguments are those of ``indexer.upgrading.upgrade``.

    Args:
        gallery: the folder of the gallery.
        weights: as for ``load_embedder``, or an embedder.
        device: "cpu", "cuda", "mps"; the best there is if None.

    Raises:
        GalleryMissing, GalleryBusy, WeightsError: as their names say.
        GalleryError: images are gone, and those at hand are too few to learn a map from, or there are none.
    """
    folder.find(gallery)  # a wrong path is told before weights are fetched
    chosen = weights if isinstance(weights, Embedder) else load_embedder(weights, device=choose_device(device))
    runtime = Runtime(plain(chosen).name, 1.0)  # what BulkModel runs where nothing else was chosen
    description = {"weights": weights_name(weights)}
    return upgrading.upgrade(gallery, BulkModel(chosen), embedder=description, runtime=runtime, **how)
