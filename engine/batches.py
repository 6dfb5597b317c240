"""What a training batch is made of: a folder of labelled pixels, and the samplers that draw rows from it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.preprocessing import Preprocessing, to_unit_range
from indexer.errors import ArgumentError, ImageError, SourceError
from indexer.images import load
from indexer.sources import Failure, find

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and what they show; a label is an integer without meaning.

    Attributes:
        images: ``(n, 3, h, w)`` of range 0..1.
        labels: of each image, ``(n,)``.
        share: how much of each image shows its label, ``(n,)`` of 0..1; None: all of every image.
        others: what the rest of each image shows, ``(n,)``; given with ``share``.
    """

    images: Tensor
    labels: Tensor
    share: Tensor | None = None
    others: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """Return the images of several batches as one."""
        images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
        if all(part.share is None for part in parts):
            return cls(images, labels)
        shares = [
            part.labels.new_ones(len(part.labels)).float() if part.share is None else part.share for part in parts
        ]
        others = [part.labels if part.others is None else part.others for part in parts]
        return cls(images, labels, torch.cat(shares), torch.cat(others))

    def moved(self, first: int) -> Batch:
        """Return the same images with ``first`` added to every label."""
        others = None if self.others is None else self.others + first
        return replace(self, labels=self.labels + first, others=others)

    def likeness(self) -> Tensor:
        """Return how much each two images show of the same class, ``(n, n)`` of 0..1: 0 or 1 if none is mixed."""
        if self.share is None or self.others is None:
            return (self.labels[:, None] == self.labels[None, :]).float()
        classes = torch.cat([self.labels, self.others]).unique(return_inverse=True)[1].view(2, -1)
        shows = torch.zeros(len(self.labels), int(classes.max()) + 1, device=self.labels.device)
        for of_class, part in zip(classes, (self.share, 1 - self.share), strict=True):
            shows.scatter_add_(1, of_class[:, None], part[:, None].float())
        return shows @ shows.T


class LabelledImages:
    """The images of a folder, decoded once into a file that the system pages in as it is read.

    Attributes:
        pixels: uint8 ``(n, size, size, 3)``, memory-mapped: memory stays bounded however large the folder is.
        labels: ``(rows,)``; with ``quarter_turns`` row ``r`` shows image ``r % n`` turned ``r // n`` times by 90
            degrees, and each turn of a class is a class of its own.
        names: class name of each label.
        failed: files that could not be used.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], classes: Sequence[str], failed: Sequence[Failure] = (), *, quarter_turns: bool
    ) -> None:
        names, labels = np.unique(np.array(classes), return_inverse=True)
        turns = range(4) if quarter_turns else range(1)
        self.pixels = pixels
        self.names = [name for _ in turns for name in names.tolist()]
        self.labels = np.concatenate([labels + len(names) * turn for turn in turns])
        self.failed = list(failed)
        self._turn_of_label = np.repeat(np.arange(len(turns)), len(names))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and class names: what a training run writes down of its data."""
        digest = hashlib.sha256(repr((self.names, self.labels.tolist())).encode())
        for start in range(0, len(self.pixels), 1024):
            digest.update(np.ascontiguousarray(self.pixels[start : start + 1024]).data)
        return digest.hexdigest()

    @cached_property
    def rows_of(self) -> list[NDArray[np.int64]]:
        """The rows of each label."""
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.labels))[:-1])

    @cached_property
    def siblings(self) -> list[list[int]]:
        """Labels grouped by the folder that their class folders lie in, the turns apart: each is a hard choice."""
        groups: dict[tuple[str, int], list[int]] = {}
        for label, name in enumerate(self.names):
            groups.setdefault((name.rpartition("/")[0], int(self._turn_of_label[label])), []).append(label)
        return list(groups.values())

    def batch(self, rows: Sequence[int], device: torch.device) -> Batch:
        """Return the images and labels of ``rows``, on ``device``."""
        count = len(self.pixels)
        pixels = np.stack([np.rot90(self.pixels[row % count], row // count) for row in rows])
        return Batch(to_unit_range(pixels, device), torch.from_numpy(self.labels[list(rows)]).to(device))


def read_folder(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    class_depth: int = 1,
    quarter_turns: bool = False,
    progress: Progress | None = None,
) -> LabelledImages:
    """Return the images of ``folder``, a class per sub-folder, as the network will see them.

    Raises:
        SourceError: the folder holds no image that can be read, or only one class.
    """
    files = find(folder, class_depth=class_depth)
    size = preprocessing.size
    with tempfile.TemporaryFile() as scratch:
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(max(1, len(files.files)), size, size, 3))
    classes: list[str] = []
    failed = list(files.failed)

    def read(path: str) -> NDArray[np.uint8] | ImageError:
        try:
            return preprocessing.pixels(load(Path(files.root) / path, enough=preprocessing.enough).image)
        except ImageError as error:
            return error

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files.files), 256):  # in portions: a pool's own queue would hold every image
            portion = files.files[start : start + 256]
            for file, outcome in zip(portion, threads.map(read, [file.path for file in portion]), strict=True):
                if isinstance(outcome, ImageError):
                    failed.append(Failure(file.path, outcome.reason))
                else:
                    pixels[len(classes)] = outcome
                    classes.append(file.name)
            if progress:
                progress("reading", min(start + 256, len(files.files)), len(files.files))
    if len(set(classes)) < 2:
        raise SourceError(f"{folder}: training needs images of at least two classes, found {len(set(classes))}")
    return LabelledImages(pixels[: len(classes)], classes, failed, quarter_turns=quarter_turns)


class Sampler(Protocol):
    """Decides which rows make a batch; it never touches pixels."""

    def check(self, images: LabelledImages) -> None:
        """Raise ArgumentError if the images cannot supply such batches."""

    def fitting(self, images: LabelledImages) -> Sampler:
        """Return such a sampler with no more classes in a batch than the images have."""

    def draw(self, images: LabelledImages, random: Random) -> list[int]:
        """Return the row numbers of one batch."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """Batches of ``n_classes`` times ``n_images``; a class with fewer images shows some of them more than once.

    Attributes:
        n_classes: classes in a batch, P.
        n_images: images of each class, K: two or more, so that each image has one that is alike.
        siblings: share of the batches whose classes lie in one parent folder, or few: the ones hardest to tell apart.
    """

    n_classes: int = 8
    n_images: int = 4
    siblings: float = 0.0

    def __post_init__(self) -> None:
        if self.n_classes < 2 or self.n_images < 2:
            raise ArgumentError("a balanced batch needs at least 2 classes and 2 images of each")
        if not 0 <= self.siblings <= 1:
            raise ArgumentError("siblings is a share of the batches: give a number from 0 to 1")

    def check(self, images: LabelledImages) -> None:
        """Refuse a folder with fewer classes than a batch holds."""
        if len(images.rows_of) < self.n_classes:
            raise ArgumentError(
                f"a batch asks for {self.n_classes} classes, the folder holds {len(images.rows_of)}: "
                f"use at most {len(images.rows_of)} classes a batch"
            )

    def fitting(self, images: LabelledImages) -> Balanced:
        """Return the same, of all classes if there are fewer than a batch holds."""
        return replace(self, n_classes=min(self.n_classes, len(images.rows_of)))

    def draw(self, images: LabelledImages, random: Random) -> list[int]:
        """Return ``n_classes * n_images`` row numbers, class by class."""
        if random.random() < self.siblings:
            labels = self._draw_siblings(images, random)
        else:
            labels = random.sample(range(len(images.rows_of)), self.n_classes)
        return [row for label in labels for row in self._draw_rows(images.rows_of[label].tolist(), random)]

    def _draw_siblings(self, images: LabelledImages, random: Random) -> list[int]:
        labels: list[int] = []
        for group in random.sample(images.siblings, len(images.siblings)):
            labels += random.sample(group, min(len(group), self.n_classes - len(labels)))
            if len(labels) == self.n_classes:
                break
        return labels

    def _draw_rows(self, rows: list[int], random: Random) -> list[int]:
        repeats = -(-self.n_images // len(rows))
        return random.sample(rows * repeats, self.n_images)
