"""Images in, names out: the embedder, the recipes that teach it, and the recognizer that answers."""

from __future__ import annotations

from engine.answers import Answer, Hit, Match
from engine.embedder import Embedder
from engine.recognizer import Recognizer
from engine.training import train

__all__ = ["Answer", "Embedder", "Hit", "Match", "Recognizer", "train"]
