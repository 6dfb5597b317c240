"""The choice of a runtime and its converted network, kept in a gallery's folder; a choice proves that it is whole.

It is derived: measured for these weights, on this processor, by these versions of the libraries, and it is for another
combination as if it were not there. Where it is lost only time is.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from engine.embedder import Embedder
from engine.running import Agreement
from indexer.folder import sync, written_whole
from indexer.runtimes import Runtime

FOLDER: Final = "runtimes"
FORMAT: Final = 1
PACKAGES: Final = ("torch", "openvino", "nncf", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime that was chosen, and why.

    Attributes:
        name: library or device, and precision.
        label: the name, with what it was calibrated by: what the catalog calls it.
        agreement: with plain float32, on images of the gallery.
        batch_size: images at once that were fastest.
        threads: that were fastest; the library's own choice if None.
        rates: images a second of all that was tried and could be trusted.
        left_out: why the others were not.
    """

    name: str
    label: str
    agreement: Agreement
    batch_size: int
    threads: int | None = None
    rates: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Runtime:
        """As the catalog knows it."""
        return Runtime(self.label, min(1.0, self.agreement.worst))


def circumstances(embedder: Embedder) -> str:
    """Return what a choice depends on: weights, processor and versions, as 16 hexadecimal digits."""
    told = [embedder.fingerprint, _processor(), embedder.device.type, os.cpu_count(), *map(_version, PACKAGES)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def save(gallery: Path, embedder: Embedder, choice: Choice, files: Iterable[Path]) -> None:
    """Keep a choice with the files of its network, which are moved there; an older one of the same weights goes."""
    place = gallery / FOLDER
    place.mkdir(exist_ok=True)
    stem = f"{circumstances(embedder)}-{secrets.token_hex(4)}"
    sums = {}
    for path in files:
        target = place / f"{stem}{path.suffix}"
        sums[target.name] = _sum(path)
        path.replace(target)
    told = {**asdict(choice), "agreement": choice.agreement._asdict()}
    facts = {"format": FORMAT, "fingerprint": embedder.fingerprint, "files": sums, "choice": told}
    with written_whole(_record(gallery, embedder)) as file:
        file.write(json.dumps(facts, indent=1).encode())
    sync(place)
    _sweep(place)


def load(gallery: Path, embedder: Embedder) -> tuple[Choice, list[Path]] | None:
    """Return the choice kept for these circumstances and the files of its network; None unless all is whole."""
    place = gallery / FOLDER
    if not place.is_dir():
        return None
    try:
        facts = json.loads(_record(gallery, embedder).read_bytes())
        if facts["format"] != FORMAT or facts["fingerprint"] != embedder.fingerprint:
            return None
        files = [place / name for name in facts["files"]]
        if any(path.parent != place or _sum(path) != facts["files"][path.name] for path in files):
            return None
        told = facts["choice"]
        return Choice(**{**told, "agreement": Agreement(**told["agreement"])}), files
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record(gallery: Path, embedder: Embedder) -> Path:
    return gallery / FOLDER / f"{circumstances(embedder)}.json"


def _sweep(place: Path) -> None:
    """Delete files that no choice names."""
    named: set[str] = set()
    for record in place.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            named |= {record.name, *json.loads(record.read_bytes())["files"]}
    for path in place.iterdir():
        if path.name not in named:
            with suppress(OSError):
                path.unlink()


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _version(package: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


@cache
def _processor() -> str:
    told: list[Any] = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    if torch.cuda.is_available():
        told.append(torch.cuda.get_device_name())
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told += [next((line for line in lines if line.startswith(kind)), "") for kind in ("model name", "flags")]
    return json.dumps(told or platform.processor())
