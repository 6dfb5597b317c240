"""What several operations do to a gallery and beside it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pictures

from indexer.errors import EmbedderMismatch
from indexer.gallery import Gallery


def told(dice: Random) -> dict[str, Any]:
    """Attributes by chance; None takes one away."""
    values = {"price": dice.randrange(9), "site": dice.choice(("pond", "lake", None)), "seen": [True, "twice"]}
    return {key: values[key] for key in dice.sample(sorted(values), dice.randint(1, 3))}


def learn(gallery: Gallery, name: str, numbers: list[int]) -> None:
    """Learn pictures, as from files that ``Upgrade`` writes."""
    known = gallery.path.with_name("learnt")
    gallery.add(
        name,
        [
            (pictures.content(number), str(known / f"{number}.png"), pictures.vector(number, gallery.fingerprint))
            for number in numbers
        ],
    )


def written(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pictures.file(number))


def current(gallery: Gallery) -> Gallery:
    """The gallery, opened again where an upgrade, or the undoing of one, wants that."""
    try:
        _ = gallery.revision
    except EmbedderMismatch:
        gallery.close()
        return Gallery.open(gallery.path)
    return gallery
