"""What an embedder learns from: one folder or several, each with its own views and its own share of every batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor

from engine.augment import Augment, cut_mix
from engine.batches import Batch, LabelledImages, Progress, Sampler, read_folder
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from indexer.errors import ArgumentError
from indexer.sources import Failure


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A folder of images to learn from, a class per sub-folder.

    Attributes:
        folder: where the images lie.
        class_depth: how many folder levels name a class.
        quarter_turns: whether each class turned by 90, 180 and 270 degrees is a further class, as with letters.
        augment: the random views.
        sampler: which rows make a batch; if None the recipe's own choice, with no more classes than the folder has.
        cutmix: share of the batches in which a rectangle of each image shows another one, labels mixed alike.
    """

    folder: str | os.PathLike[str]
    class_depth: int = 1
    quarter_turns: bool = False
    augment: Augment = field(default_factory=Augment)
    sampler: Sampler | None = None
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.cutmix <= 1:
            raise ArgumentError("cutmix is a share of the batches: give a number from 0 to 1")

    def views(self, batch: Batch, random: Random) -> Batch:
        """Return a random view of each image of ``batch``, mixed if this is such a batch."""
        generator = torch.Generator().manual_seed(random.getrandbits(63))
        images = self.augment(batch.images, generator)
        if random.random() >= self.cutmix:
            return Batch(images, batch.labels)
        images, partner, share = cut_mix(images, generator)
        return Batch(images, batch.labels, share, batch.labels[partner])


class Mixture:
    """Training sets that are learnt together: a part of each batch comes from every one of them.

    One network then keeps one set of batch-norm statistics for all, which batches of one set at a time would not give.
    """

    def __init__(self, sets: Sequence[TrainingSet], images: Sequence[LabelledImages], sampler: Sampler) -> None:
        self.sets, self.images = sets, images
        self.samplers = [one.sampler or sampler.fitting(rows) for one, rows in zip(sets, images, strict=True)]
        for chosen, rows in zip(self.samplers, images, strict=True):
            chosen.check(rows)

    @property
    def count(self) -> int:
        """Images in all sets."""
        return sum(len(images.pixels) for images in self.images)

    @property
    def classes(self) -> list[int]:
        """Classes in each set, those that quarter turns make included."""
        return [len(images.rows_of) for images in self.images]

    @property
    def failed(self) -> list[Failure]:
        """Files of all sets that could not be used."""
        return [failure for images in self.images for failure in images.failed]

    def batch(self, random: Random, device: torch.device) -> Batch:
        """Return the batch that ``random`` draws, seen through each set's random views."""
        parts, first_label = [], 0
        for one, images, sampler in zip(self.sets, self.images, self.samplers, strict=True):
            part = one.views(images.batch(sampler.draw(images, random), device), random)
            parts.append(part.moved(first_label))
            first_label += len(images.rows_of)
        return Batch.joined(parts)

    @torch.no_grad()
    def class_means(self, embedder: Embedder, count: int, *, progress: Progress | None = None) -> Tensor:
        """Return the mean embedding ``(classes, dim)`` of ``count`` images of each class of all sets, seen plainly.

        A class with fewer images is the mean of those it has; which ones are taken is the same every time.
        """
        means: list[Tensor] = []
        learning = embedder.training
        embedder.eval()
        for images in self.images:
            for rows in images.rows_of:
                chosen = Random(len(means)).sample(rows.tolist(), min(count, len(rows)))
                means.append(embedder(images.batch(chosen, embedder.device).images).mean(0))
                if progress:
                    progress("imprinting", len(means), sum(self.classes))
        embedder.train(learning)
        return torch.stack(means)

    def check_mixing(self, takes_mixed: bool, recipe: str) -> None:
        """Raise ArgumentError if images are to be mixed for a recipe whose loss wants one label an image."""
        if not takes_mixed and any(one.cutmix for one in self.sets):
            raise ArgumentError(
                f"the recipe {recipe} wants one class an image: leave out cutmix, or use contrastive or classification"
            )

    def description(self) -> list[dict[str, Any]]:
        """Return what makes these batches, ready for JSON: two runs that say the same see the same."""
        return [
            {
                "images": len(images.pixels),
                "classes": len(images.rows_of),
                "fingerprint": images.fingerprint,
                "quarter_turns": one.quarter_turns,
                "augment": asdict(one.augment),
                "cutmix": one.cutmix,
                "sampler": {"kind": type(sampler).__name__, **asdict(sampler)},  # type: ignore[call-overload]
            }
            for one, images, sampler in zip(self.sets, self.images, self.samplers, strict=True)
        ]


def read_sets(
    sets: Sequence[TrainingSet], preprocessing: Preprocessing, sampler: Sampler, progress: Progress | None = None
) -> Mixture:
    """Return the images of ``sets`` as the network will see them, batches drawn by ``sampler`` where a set has none.

    Raises:
        SourceError: a folder holds no image that can be read, or only one class.
        ArgumentError: a set cannot supply such batches.
    """
    images = [
        read_folder(
            one.folder,
            preprocessing,
            class_depth=one.class_depth,
            quarter_turns=one.quarter_turns,
            progress=progress,
        )
        for one in sets
    ]
    return Mixture(sets, images, sampler)
