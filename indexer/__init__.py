"""Vectors in, neighbours out."""

from indexer import kernels  # noqa: F401 - first: it says how FAISS is to be loaded
from indexer.alignment import Loss
from indexer.build import Plan, Report, Status, index, plan, status
from indexer.changes import Changes, File, Renamed
from indexer.compaction import Compaction
from indexer.conditions import Where
from indexer.description import Described, Description
from indexer.differences import ClassDiff, Diff
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
    RevisionMissing,
    SourceError,
    WeightsError,
)
from indexer.gallery import Gallery, Reference
from indexer.history import Change, Coming
from indexer.images import MAX_PIXELS, ImageLike, Loaded, load
from indexer.merging import merge
from indexer.pipeline import Job, Model, Progress, Unusable
from indexer.places import Folder, Source, Stat
from indexer.portable import Portable, export_gallery, import_gallery
from indexer.reader import Revision
from indexer.repair import Repair
from indexer.search import ClassHit, ClassHits, ReferenceHit, Score
from indexer.seen import KnownFailure, Seen
from indexer.sources import Failure, Found, Listing, find
from indexer.upgrading import Upgrade, upgrade
from indexer.vectors import METRICS, prototype, unit

__all__ = [
    "MAX_PIXELS",
    "METRICS",
    "ArgumentError",
    "Change",
    "Changes",
    "ClassDiff",
    "ClassExists",
    "ClassHit",
    "ClassHits",
    "ClassMissing",
    "Coming",
    "Compaction",
    "Described",
    "Description",
    "Diff",
    "EmbedderMismatch",
    "Failure",
    "File",
    "FirstsightError",
    "Folder",
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
    "KnownFailure",
    "Listing",
    "Loaded",
    "Loss",
    "Model",
    "Plan",
    "Portable",
    "Progress",
    "Reference",
    "ReferenceHit",
    "Renamed",
    "Repair",
    "Report",
    "Revision",
    "RevisionMissing",
    "Score",
    "Seen",
    "Source",
    "SourceError",
    "Stat",
    "Status",
    "Unusable",
    "Upgrade",
    "WeightsError",
    "Where",
    "export_gallery",
    "find",
    "import_gallery",
    "index",
    "load",
    "merge",
    "plan",
    "prototype",
    "status",
    "unit",
    "upgrade",
]
