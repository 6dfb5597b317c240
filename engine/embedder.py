"""The embedder: an image in, a unit vector out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from engine.colours import Colours
from engine.preprocessing import Preprocessing, to_unit_range
from engine.vision import Bottleneck, ResNet
from indexer.errors import ArgumentError
from indexer.images import MAX_PIXELS, ImageLike, Loaded, load


def resnet101(_size: int) -> nn.Module:
    """Return torchvision's ResNet-101, untrained: 2048 features, 42.5 M parameters."""
    return ResNet(Bottleneck, [3, 4, 23, 3], zero_init_residual=True)


def resnet101_slim(_size: int) -> nn.Module:
    """Return a ResNet-101 with bottlenecks a quarter as wide, untrained: 2048 features, 8.8 M parameters."""
    return ResNet(Bottleneck, [3, 4, 23, 3], width_per_group=16, zero_init_residual=True)


def conv4(size: int) -> nn.Module:
    """Return the four blocks of 64 filters of the few-shot papers (Vinyals et al. 2016, arXiv:1606.04080).

    64 features at 28 pixels, 1,600 at 84. It exists so that the tables of those papers can be checked.
    """
    blocks = [
        nn.Sequential(nn.Conv2d(before, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        for before in (3, 64, 64, 64)
    ]
    network = nn.Sequential(*blocks, nn.Flatten())
    network.fc = nn.Linear(64 * (size // 16) ** 2, 1)
    return network


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "resnet101": resnet101,
    "resnet101-slim": resnet101_slim,
    "conv4": conv4,
}
"""The untrained network for images of a size in pixels; its last layer, ``fc``, tells how many features it has."""

SMALLEST = {"conv4": 16}
"""Fewest pixels along a side that a network can see; 32 if not named here."""
LARGEST = 2048
"""Most pixels along a side: an image of them takes gigabytes while it is embedded."""

# Of the network's input, that layers' outputs take: ResNet-101 takes 500 layer by layer, 250 to 400 with batch norm
# folded, and what several threads have freed and the C library keeps comes to nearly as much again.
BYTES_A_PIXEL = 800


def check_size(backbone: str, size: int) -> None:
    """Raise ArgumentError if the network of that name cannot see images with so many pixels along a side."""
    least = SMALLEST.get(backbone, 32)
    if not least <= size <= LARGEST:
        raise ArgumentError(f"size {size}: the network needs at least {least} pixels, and takes {LARGEST} at most")


class Embedder(nn.Module):
    """A backbone, its pooled features, an optional linear projection, colours beside them if wanted, and length 1.

    Args:
        backbone: a name in ``BACKBONES``.
        dim: floats that a linear projection makes of the backbone's features, which are taken as they are if None.
        preprocessing: how an image becomes the network's input.
        colours: floats that follow those and tell of the image's colours; none if None.
    """

    def __init__(
        self,
        backbone: str = "resnet101",
        *,
        dim: int | None = None,
        preprocessing: Preprocessing | None = None,
        colours: int | None = None,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ArgumentError(f"unknown backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
        preprocessing = preprocessing or Preprocessing()
        network = BACKBONES[backbone](preprocessing.size)
        features = int(network.fc.in_features)  # type: ignore[arg-type, union-attr]
        network.fc = nn.Identity()  # the features are wanted, not ImageNet's classes
        self.backbone_name = backbone
        self.backbone = network.to(memory_format=torch.channels_last)
        self.projection = nn.Identity() if dim is None else nn.Linear(features, dim, bias=False)
        self.colours = None if colours is None else Colours(colours)
        self.dim = (dim or features) + (colours or 0)
        self.preprocessing = preprocessing
        self._fingerprint: str | None = None

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters()).device

    @property
    def working(self) -> int:
        """Bytes of the process's memory that an image takes while it is embedded; a GPU has its own."""
        return BYTES_A_PIXEL * self.preprocessing.size**2 if self.device.type == "cpu" else 0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of architecture, preprocessing and weights: two embedders with the same one embed alike.

        Computed once: an embedder whose weights change afterwards is for training, not for a gallery.
        """
        if self._fingerprint is None:
            self._fingerprint = self._digest()
        return self._fingerprint

    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            if not name.endswith("num_batches_tracked"):  # a count kept while training, without effect on embeddings
                digest.update(name.encode())
                digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """Return what, beside the weights, makes this embedder: ready for JSON."""
        described = {
            "backbone": self.backbone_name,
            "dim": self.projection.out_features if isinstance(self.projection, nn.Linear) else None,
            "preprocessing": self.preprocessing.as_dict(),
        }
        # Weights without colours are described, and so their fingerprint made, as before there were any.
        return described if self.colours is None else {**described, "colours": self.colours.dim}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Embedder:
        """Return the untrained embedder that ``description`` described."""
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        return cls(
            description["backbone"],
            dim=description["dim"],
            preprocessing=preprocessing,
            colours=description.get("colours"),
        )

    def adapted(self, *, dim: int | None, preprocessing: Preprocessing) -> Embedder:
        """Return an embedder with this one's backbone, for images of another size, or with a new head.

        Args:
            dim: length of an embedding that a new, untrained projection gives, without colours; None keeps the head.
            preprocessing: of the new embedder.

        Raises:
            ArgumentError: the network cannot see images of that size, or the head does not fit their features.
        """
        check_size(self.backbone_name, preprocessing.size)
        if dim is not None:
            adapted = Embedder(self.backbone_name, dim=dim, preprocessing=preprocessing)
            adapted.backbone.load_state_dict(self.backbone.state_dict())
            return adapted
        adapted = Embedder.from_description({**self.description(), "preprocessing": preprocessing.as_dict()})
        try:
            adapted.load_state_dict(self.state_dict())
        except RuntimeError as error:
            raise ArgumentError(
                f"a head made for images of {self.preprocessing.size} pixels does not fit those of "
                f"{preprocessing.size}: give it a new one (dim)"
            ) from error
        return adapted

    def forward(self, images: Tensor) -> Tensor:
        """Return unit embeddings ``(n, dim)`` of images ``(n, 3, h, w)`` whose values lie in 0..1."""
        seen = self.preprocessing.normalize(images).contiguous(memory_format=torch.channels_last)
        return self.finished(self.projection(self.backbone(seen)), images)

    def finished(self, features: Tensor, images: Tensor) -> Tensor:
        """Return the unit embeddings ``(n, dim)`` of images of whose pixels the network made ``features``."""
        features = nn.functional.normalize(features.float(), dim=1)
        if self.colours is None:
            return features
        return nn.functional.normalize(torch.cat([features, self.colours(images)], dim=1), dim=1)

    def load(self, image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Loaded:
        """Return an image with no more pixels than this network needs: the way of all that it embeds or learns from.

        Raises:
            ImageError: it cannot be used.
        """
        return load(image, max_pixels=max_pixels, enough=self.preprocessing.enough)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the pixels of an RGB image that the network is to see, ``(n, size, size, 3)``: n looks at it."""
        return self.preprocessing.looks(image)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors ``(n, dim)`` for n looks, ``(size, size, 3)`` each, in one batch."""
        if not len(pixels):
            return np.empty((0, self.dim), np.float32)
        training = self.training
        self.eval()
        try:
            return self(to_unit_range(np.array(pixels), self.device)).cpu().numpy()  # copied: PyTorch wants to own it
        finally:
            self.train(training)

    def embed(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Return unit vectors ``(n, dim)`` of one image or a list of them, embedded in batches.

        An image is a path, bytes, a file object, a ``PIL.Image.Image`` or an ``(h, w, 3)`` uint8 array.

        Raises:
            ImageError: one of them cannot be used.
        """
        many: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        embed = partial(in_batches, self.embed_pixels, size=batch_size)
        vectors = [
            merged([self.prepare(self.load(one).image) for one in many[start : start + batch_size]], embed)
            for start in range(0, len(many), batch_size)
        ]
        return np.concatenate(vectors) if vectors else np.empty((0, self.dim), np.float32)


def in_batches(
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]], looks: NDArray[np.uint8], *, size: int
) -> NDArray[np.float32]:
    """Return what ``embed`` makes of looks ``(n, ...)``, n at least 1, handed to it at most ``size`` at a time."""
    return np.concatenate([embed(looks[start : start + size]) for start in range(0, len(looks), size)])


def one_look_each(prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one look ``(n, size, size, 3)`` at each of n prepared images; of those that have several, each in turn."""
    return np.stack([looks[place % len(looks)] for place, looks in enumerate(prepared)])


def merged(
    prepared: Sequence[NDArray[np.uint8]], embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return unit vectors ``(n, dim)`` of n images, at least one: of each the direction of its looks' mean.

    Args:
        prepared: the looks ``(m, size, size, 3)`` at each image, as ``Embedder.prepare`` returns them.
        embed: looks -> unit vectors. What it makes of an image with one look is returned as it is.
    """
    vectors = embed(np.concatenate(prepared))
    counts = np.array([len(looks) for looks in prepared])
    if (counts == 1).all():
        return vectors
    sums = np.add.reduceat(vectors, np.cumsum(counts) - counts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(counts[:, np.newaxis] == 1, sums, sums / np.maximum(lengths, 1e-12))
