"""Distillation: a student finds images as alike as its teacher does.

Passalis and Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer" (arXiv:1803.10837): an
image's cosines with the others of its batch, through a softmax, are a distribution, and the student's shall be the
teacher's. Their embeddings may differ in length, and what the images show need not be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from engine.batches import Balanced, Batch, Sampler
from engine.embedder import Embedder
from engine.recipes.pairs import TEMPERATURE, contrast
from engine.recipes.recipe import ClassMeans, Recipe, full_precision
from engine.weights import checkpoint_file, load_embedder
from indexer.errors import ArgumentError


class Distillation(Recipe):
    """Each image is compared with the others of its training set in the batch, by the student and by the teacher.

    Args:
        teacher: weights, as for ``load_embedder``; or several, one for each training set in their order, so that a
            student learns of each what the one knows best who teaches it. Only training needs them.
        temperature: of both softmaxes.
        contrast: weight of the contrastive loss of the same batch, which is added: what the labels say.
        sampler: which rows make a batch.
    """

    def __init__(
        self,
        *,
        dim: int | None = None,
        teacher: str | Sequence[str] | None = None,
        temperature: float = 0.05,
        contrast: float = 0.0,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0 or contrast < 0:
            raise ArgumentError("temperature must be positive, and contrast 0 or more")
        self.teacher = [teacher] if isinstance(teacher, str) else list(teacher or ())
        self.temperature, self.contrast = temperature, contrast
        self.sampler = sampler or Balanced()
        # The teachers are no modules of this one: they neither learn nor are kept.
        self._taught: list[tuple[range | None, Embedder]] = []

    def check(self, sets: int) -> None:
        """Refuse to learn without a teacher, or with several that are not one for each training set.

        Raises:
            ArgumentError: so it is.
            WeightsError: there are no such weights.
        """
        if not self.teacher:
            raise ArgumentError("distillation learns from a teacher: give it weights, as teacher=FILE")
        if len(self.teacher) not in {1, sets}:
            raise ArgumentError(
                f"distillation: {len(self.teacher)} teachers for {sets} training set{'s' if sets > 1 else ''}, "
                "give one for all or one for each"
            )
        for weights in self.teacher:
            checkpoint_file(weights)

    def begin(self, classes: Sequence[int], means: ClassMeans | None = None) -> None:
        """Load the teachers: each teaches the labels of its training set, an only one whatever there is."""
        ends = list(accumulate(classes, initial=0))
        labels = [None] if len(self.teacher) == 1 else [range(*pair) for pair in pairwise(ends)]
        self._taught = list(zip(labels, map(load_embedder, self.teacher), strict=True))

    def end(self) -> None:
        """Let the teachers go."""
        self._taught = []

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return how far the student's likenesses are from the teacher's, a mean over the images."""
        embeddings = embedder(batch.images)
        parts = [embeddings.new_zeros(())]
        for labels, teacher in self._taught:
            own = torch.ones_like(batch.labels, dtype=torch.bool)
            if labels is not None:
                own = (batch.labels >= labels.start) & (batch.labels < labels.stop)
            if own.any():
                known = self._told(teacher, batch.images[own])
                parts.append(own.float().mean() * divergence(embeddings[own], known, self.temperature))
        if self.contrast:
            parts.append(self.contrast * contrast(embeddings, batch.likeness(), TEMPERATURE))
        return torch.stack(parts).sum()

    @staticmethod
    @torch.no_grad()
    def _told(teacher: Embedder, images: Tensor) -> Tensor:
        side = teacher.preprocessing.size
        if images.shape[-1] != side:
            images = nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        known: Tensor = teacher.to(images.device)(images)
        return known


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the student's likenesses from the teacher's, a scalar.

    Args:
        student: unit vectors ``(n, dim)``.
        teacher: unit vectors of the same images ``(n, any dim)``.
        temperature: of the softmax over the other images.
    """
    count = len(student)
    others = ~torch.eye(count, dtype=torch.bool, device=student.device)
    with full_precision(student):
        said, known = (
            (vectors.float() @ vectors.float().T / temperature)[others].view(count, count - 1).log_softmax(1)
            for vectors in (student, teacher)
        )
        return nn.functional.kl_div(said, known, reduction="batchmean", log_target=True)
