"""The embedder as something runs it: prepared pixels in, unit vectors out, and how near to plain float32 they are."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from engine.embedder import Embedder, in_batches
from engine.preprocessing import to_unit_range

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]

PLAIN: Final = "torch-float32"
# What a runtime must keep to, to be trusted. In eight bits a trained ResNet-101 keeps a mean cosine of 0.997 to float32
# and a worst one, of 500 images, of 0.958, and 0.2 points of class recall at most are lost; one whose sums saturate has
# a mean of 0.67, and loses seven points (docs/performance.md).
WORST: Final = 0.95
MEAN: Final = 0.99
NOISE: Final = 0.25  # embedders whose images are all alike: the error beside what tells two of them apart
EXACT: Final = 1e-5  # as near to 1 as float32 in another order of summation


class Agreement(NamedTuple):
    """How embeddings compare with those that plain float32 makes of the same images.

    Attributes:
        worst: the least cosine of an image's two embeddings.
        mean: the mean cosine.
        noise: the median distance between an image's two embeddings, over that between different images.
    """

    worst: float
    mean: float
    noise: float

    @classmethod
    def between(cls, truth: Vectors, vectors: Vectors) -> Agreement:
        """Return it for unit vectors ``(n, dim)`` of the same images, n at least 1; -1 where they are not finite."""
        if vectors.shape != truth.shape or not np.isfinite(vectors).all():
            return cls(-1.0, -1.0, np.inf)
        cosines = np.einsum("ij,ij->i", truth.astype(np.float64), vectors.astype(np.float64))
        apart = float(np.median(np.linalg.norm(truth - np.roll(truth, 1, axis=0), axis=1)))
        error = float(np.median(np.linalg.norm(truth - vectors, axis=1)))
        return cls(float(cosines.min()), float(cosines.mean()), error / apart if apart > 0 else np.inf)

    @property
    def trusted(self) -> bool:
        """Whether embeddings like these may stand for those of plain float32."""
        near = self.worst >= WORST and self.mean >= MEAN and self.noise <= NOISE
        return near or self.worst >= 1 - EXACT


@dataclass(frozen=True, slots=True)
class Running:
    """An embedder, run by something.

    Attributes:
        name: library or device, and precision: "torch-float32", "openvino-int8".
        run: pixels ``(n, size, size, 3)``, n at least 1, to unit vectors ``(n, dim)``.
        dim: floats in an embedding.
    """

    name: str
    run: Callable[[Pixels], Vectors]
    dim: int

    def embed(self, pixels: Sequence[Pixels] | Pixels, *, batch_size: int | None = None) -> Vectors:
        """Return unit vectors ``(n, dim)`` of prepared images, in batches of at most ``batch_size``."""
        if not len(pixels):
            return np.empty((0, self.dim), np.float32)
        return in_batches(self.run, np.ascontiguousarray(pixels), size=batch_size or len(pixels))


class Features(nn.Module):
    """An embedder without its last step, batch norm folded into the convolutions, for a runtime to convert.

    Takes uint8 pixels ``(n, size, size, 3)``, returns features ``(n, dim)`` of any length, of which ``finished`` makes
    embeddings. The embedder stays as it is: nothing that has weights is shared with it, whatever this is converted to.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        # Tracing makes containers of its own, and folding copies each convolution: to copy all before would take the
        # memory twice.
        self.backbone = fuse(embedder.backbone.eval(), inplace=True)
        self.projection = copy.deepcopy(embedder.projection)
        for name in ("mean", "std"):
            channels = torch.tensor(getattr(embedder.preprocessing, name), device=embedder.device)
            self.register_buffer(name, 255 * channels.view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features."""
        images = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        return self.projection(self.backbone(images))


def finished(embedder: Embedder, features: Vectors, pixels: Pixels) -> Vectors:
    """Return the embeddings ``(n, dim)`` of pixels ``(n, size, size, 3)`` of which something made ``features``.

    Colours are no part of the network: they are told by PyTorch, in float32, beside features of any precision.
    """
    if embedder.colours is None:
        return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), np.float32)
    with torch.inference_mode():
        images = to_unit_range(pixels, embedder.device)
        return embedder.finished(torch.from_numpy(features).to(embedder.device), images).cpu().numpy()


def plain(embedder: Embedder) -> Running:
    """Return the embedder as PyTorch runs it, layer by layer, in float32: what all else is compared with."""
    device = embedder.device.type
    return Running(PLAIN if device == "cpu" else f"{device}-float32", embedder.embed_pixels, embedder.dim)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what libraries say of themselves, and their progress bars: standard output is for answers."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
