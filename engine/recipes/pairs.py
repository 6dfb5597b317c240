"""The supervised contrastive loss, which more than one recipe uses.

Khosla et al. 2020, "Supervised Contrastive Learning" (arXiv:2004.11362), positives averaged outside the logarithm.
"""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.1  # it learns from scratch


def contrast(embeddings: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Return how surprising it is that each image's likes are near it among all of the batch, a scalar.

    Args:
        embeddings: unit vectors ``(n, dim)``.
        same: how much of the same two images show, ``(n, n)`` of 0..1; an image and itself do not count.
        temperature: of the softmax over the batch.
    """
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    similar = same.masked_fill(itself, 0)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, float("-inf"))
    anchors = similar.sum(1) > 0
    if not anchors.any():  # without a single similar pair, only the pushing apart counts
        return logits.logsumexp(1).mean()
    log_share = logits.log_softmax(1).masked_fill(itself, 0.0)
    return -((log_share * similar).sum(1)[anchors] / similar.sum(1)[anchors]).mean()
