"""Every error a user can cause, as one tree: catch the branch you mean.

FirstsightError
├── ArgumentError              a wrong argument (also a ValueError)
├── ImageError                 one image that cannot be used: ``path``, ``reason``
├── SourceError                a folder that cannot be indexed as it is
├── WeightsError               weights that cannot be had or do not fit
└── GalleryError
    ├── GalleryMissing         there is no gallery at that path
    ├── GalleryExists          there is one already
    ├── GalleryBusy            another process is writing
    ├── GalleryNewer           made by a newer version of the program
    ├── GalleryOlder           made by an older one, where it cannot be changed
    ├── GalleryDamaged         its catalog cannot be read
    ├── EmbedderMismatch       made with another embedder
    ├── RuntimeMismatch        made by another runtime, whose embeddings differ too much
    ├── ClassMissing           no class of that name
    ├── ClassExists            a class of that name, or one that differs only by case
    └── RevisionMissing        no revision of that number, or no longer
"""

from __future__ import annotations


class FirstsightError(Exception):
    """The root: its message is one line that says what is wrong and what to do."""


class ArgumentError(FirstsightError, ValueError):
    """A wrong argument."""


class ImageError(FirstsightError):
    """One image that cannot be used, and why; ``lasting`` if these very bytes never can be."""

    def __init__(self, path: str, reason: str, *, lasting: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.lasting = lasting


class SourceError(FirstsightError):
    """A folder that cannot be indexed as it is."""


class WeightsError(FirstsightError):
    """Weights that cannot be had or do not fit."""


class GalleryError(FirstsightError):
    """Anything wrong with a gallery."""


class GalleryMissing(GalleryError):
    """There is no gallery at that path."""


class GalleryExists(GalleryError):
    """There is a gallery at that path already."""


class GalleryBusy(GalleryError):
    """Another process is writing to the gallery."""


class GalleryNewer(GalleryError):
    """The gallery was made by a newer version of the program."""


class GalleryOlder(GalleryError):
    """The gallery was made by an older version of the program, and may not be changed to suit this one."""


class GalleryDamaged(GalleryError):
    """The catalog of the gallery cannot be read."""


class EmbedderMismatch(GalleryError):
    """The gallery was made with another embedder."""


class RuntimeMismatch(GalleryError):
    """The gallery's embeddings were made by another runtime, and those of this one differ too much from them."""


class ClassMissing(GalleryError):
    """The gallery has no class of that name."""


class ClassExists(GalleryError):
    """The gallery has a class of that name, or one that differs from it only by case."""


class RevisionMissing(GalleryError):
    """The gallery has no revision of that number, or has forgotten it."""
