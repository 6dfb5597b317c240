"""Images in, names out: the embedder, the recipes that teach it, and the recognizer that answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.answers import Answer, Hit, Match
    from engine.embedder import Embedder
    from engine.recognizer import Recognizer
    from engine.training import train

__all__ = ["Answer", "Embedder", "Hit", "Match", "Recognizer", "train"]

_HOMES = {
    "Answer": "answers",
    "Embedder": "embedder",
    "Hit": "answers",
    "Match": "answers",
    "Recognizer": "recognizer",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562): what needs no torch does not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
