"""Vectors in, neighbours out."""

from indexer.build import Plan, Report, index, plan
from indexer.changes import Changes, File
from indexer.errors import (
    ArgumentError,
    ClassExists,
    ClassMissing,
    EmbedderMismatch,
    FirstsightError,
    GalleryBusy,
    GalleryDamaged,
    GalleryError,
    GalleryExists,
    GalleryMissing,
    GalleryNewer,
    GalleryOlder,
    ImageError,
    SourceError,
    WeightsError,
)
from indexer.gallery import Gallery, Reference
from indexer.history import Change, Coming
from indexer.images import MAX_PIXELS, ImageLike, Loaded, load
from indexer.pipeline import Job, Model, Progress
from indexer.reader import Revision
from indexer.search import ClassHit, ClassHits, ReferenceHit, Score
from indexer.sources import Failure, Found, Listing, find
from indexer.vectors import METRICS, prototype, unit

__all__ = [
    "MAX_PIXELS",
    "METRICS",
    "ArgumentError",
    "Change",
    "Changes",
    "ClassExists",
    "ClassHit",
    "ClassHits",
    "ClassMissing",
    "Coming",
    "EmbedderMismatch",
    "Failure",
    "File",
    "FirstsightError",
    "Found",
    "Gallery",
    "GalleryBusy",
    "GalleryDamaged",
    "GalleryError",
    "GalleryExists",
    "GalleryMissing",
    "GalleryNewer",
    "GalleryOlder",
    "ImageError",
    "ImageLike",
    "Job",
    "Listing",
    "Loaded",
    "Model",
    "Plan",
    "Progress",
    "Reference",
    "ReferenceHit",
    "Report",
    "Revision",
    "Score",
    "SourceError",
    "WeightsError",
    "find",
    "index",
    "load",
    "plan",
    "prototype",
    "unit",
]
