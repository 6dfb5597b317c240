"""Classification: every class of the training sets has a vector of its own, which is learned with the network.

Zhai and Wu 2019, "Classification is a Strong Baseline for Deep Metric Learning" (arXiv:1811.12649): cosines with the
class vectors, divided by a temperature, through a softmax over all classes. Each image is compared with every class of
the training sets instead of the few of its batch, so that fewer batches teach the same. An embedder that knows
something already can lend the vectors their beginning (Qi, Brown and Lowe 2018, "Low-Shot Learning with Imprinted
Weights", arXiv:1712.07136).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.batches import Balanced, Batch, Sampler
from engine.recipes.pairs import TEMPERATURE, contrast
from engine.recipes.recipe import ClassMeans, Recipe, full_precision
from indexer.errors import ArgumentError


class Classification(Recipe):
    """Softmax over all classes of the training sets; the class vectors are left behind when training ends.

    Args:
        dim: length of an embedding, and of a class vector.
        temperature: of the softmax.
        contrast: weight of the contrastive loss of the same batch, which is added: classes of few images, whose vectors
            are seldom met, are learnt from each other at once.
        imprint: images of each class whose mean embedding its vector begins as; 0 begins in any direction.
        sampler: which rows make a batch.
    """

    takes_mixed = True

    def __init__(
        self,
        *,
        dim: int,
        temperature: float = 0.05,
        contrast: float = 0.0,
        imprint: int = 0,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0 or contrast < 0:
            raise ArgumentError("temperature must be positive, and contrast 0 or more")
        if imprint < 0:
            raise ArgumentError("imprint counts images of a class: 0, or more")
        self.temperature, self.contrast, self.imprint = temperature, contrast, imprint
        self.sampler = sampler or Balanced()
        self.classes = nn.Parameter(torch.empty(0, dim))

    def begin(self, classes: Sequence[int], means: ClassMeans | None = None) -> None:
        """Give each class the mean of some of its images for a vector, or one drawn in all directions alike.

        Of length 1: Adam's steps are of one size, and only the direction counts, so longer ones would turn more slowly.
        """
        if self.imprint and means is not None:
            vectors = means(self.imprint)
        else:
            vectors = torch.randn(sum(classes), self.classes.shape[1])
        self.classes = nn.Parameter(nn.functional.normalize(vectors, dim=1))

    def end(self) -> None:
        """Forget the class vectors: a gallery knows other classes."""
        self.begin(())

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return the mean negative log-probability of the classes that the images show, and what contrast adds."""
        if batch.labels.max() >= len(self.classes) or batch.labels.min() < 0:
            raise ArgumentError(
                f"labels of {len(self.classes)} classes are 0 to {len(self.classes) - 1}: begin with more"
            )
        embeddings = embedder(batch.images)
        loss = self._classified(embeddings, batch)
        if self.contrast:
            loss = loss + self.contrast * contrast(embeddings, batch.likeness(), TEMPERATURE)
        return loss

    def _classified(self, embeddings: Tensor, batch: Batch) -> Tensor:
        with full_precision(embeddings):
            logits = embeddings.float() @ nn.functional.normalize(self.classes, dim=1).T / self.temperature
            own = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
            if batch.share is None or batch.others is None:
                return own.mean()
            other = nn.functional.cross_entropy(logits, batch.others, reduction="none")
            return (batch.share * own + (1 - batch.share) * other).mean()
