"""Class names: which ones are allowed, and when two are the same."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

from indexer.errors import ArgumentError, ClassExists


def check_name(name: str) -> str:
    """Return ``name`` in Unicode's composed form (NFC); an ArgumentError says what is wrong with it."""
    if not isinstance(name, str):
        raise ArgumentError(f"a class name is a string, not {name!r}")
    if not name:
        raise ArgumentError("a class name is not empty")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ArgumentError(f"the class name {name!a} holds a control character or a broken one; rename it")
    if name != name.strip() or name != name.strip("/"):
        raise ArgumentError(f"the class name {name!r} begins or ends with a blank or a slash; rename it")
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """Return the form in which names that differ only by case are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def refuse_twins(names: Iterable[str]) -> dict[str, str]:
    """Return the names by their folded form; ClassExists if two of them differ only by case."""
    folded: dict[str, str] = {}
    for name in sorted(names):
        other = folded.setdefault(fold(name), name)
        if other != name:
            raise ClassExists(twins(other, name))
    return folded


def twins(name: str, other: str) -> str:
    """Return what is wrong with these two names."""
    if name == other:
        return f"there is a class {other!r} already; choose another name"
    return f"the class names {name!r} and {other!r} differ only by case; make them equal, or rename one"


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'heron'?`` if some name is close, else nothing."""
    folded = {fold(candidate): candidate for candidate in names}
    close = difflib.get_close_matches(fold(name), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
