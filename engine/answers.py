"""What the recognizer answers: classes that an image may show, references that look like it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.search import ClassHits

TEMPERATURE = 0.1
"""Of the softmax behind ``Match.probability``: the one that the bundled weights were trained with."""

LEARNED_TEMPERATURE = 1.0
"""The same for a learned score: how far its values lie apart, it has learned too."""


@dataclass(frozen=True, slots=True)
class Match:
    """A class that an image may show.

    Attributes:
        name: of the class.
        score: higher is better: the cosine, or the negative Euclidean distance, to the class's prototype; if the
            weights have a learned score, that one, whatever the metric.
        distance: lower is better: 1 - cosine, or the Euclidean distance, to the prototype. A learned score may order
            the matches otherwise.
        probability: share of the class in a softmax over the cosines, or the learned scores, of the nearest
            prototypes (100 of them, or ``k``): how it stands against the other classes, if the image shows one of
            them at all.
        reference: the class's reference that is most like the image.
        attributes: of the class.
        mapped: whether that reference's image was gone at an upgrade, and its vector was mapped from an older one.
    """

    name: str
    score: float
    distance: float
    probability: float
    reference: str
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A reference image that is like the query: its class, itself, how alike, its attributes over the class's.

    ``mapped``: its image was gone at an upgrade, and its vector was mapped from an older one.
    """

    name: str
    reference: str
    score: float
    distance: float
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What an image shows: the nearest classes, best first, one match a class.

    Attributes:
        image: the path of the image, None if it came without one.
        matches: best first; empty only if the gallery is, or holds nothing of which the conditions are true.
        metric: "cosine" or "euclidean".
    """

    image: str | None
    matches: list[Match]
    metric: str

    @property
    def name(self) -> str | None:
        """The nearest class; None if there is none."""
        return self.matches[0].name if self.matches else None


def matches_from(hits: ClassHits, *, learned: bool = False) -> list[Match]:
    """Return the classes that the gallery found, each with its share of the softmax."""
    if not hits.hits:
        return []
    logits = (hits.scores - hits.scores.max()) / (LEARNED_TEMPERATURE if learned else TEMPERATURE)
    shares = np.exp(logits) / np.exp(logits).sum()
    return [
        Match(hit.name, hit.score, hit.distance, float(share), hit.reference, hit.attributes, hit.mapped)
        for hit, share in zip(hits.hits, shares, strict=False)
    ]
