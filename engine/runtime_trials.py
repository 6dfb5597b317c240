"""Runtimes chosen by trying them: what agrees with plain float32 on the user's own images, and is the fastest."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Final, TypeVar

import numpy as np
import torch

from engine import runtime_onnx, runtime_openvino, runtime_torch
from engine.embedder import Embedder
from engine.running import Agreement, Pixels, Running, plain
from engine.runtime_kept import Choice
from indexer.errors import ArgumentError, FirstsightError, RuntimeMismatch
from indexer.pipeline import Progress
from indexer.room import hand_back, resident
from indexer.runtimes import MIXED, Runtime, strangers

FAMILIES: Final[dict[str, ModuleType]] = {
    "torch": runtime_torch,
    "onnx": runtime_onnx,
    "openvino": runtime_openvino,
}
SAMPLE: Final = 64  # images: every other one to calibrate with, the rest to compare on
LEAST: Final = 16  # images that eight bits are calibrated with, at least
ROUNDS: Final = 3
BATCHES: Final = (1, 8, 32)
GAIN: Final = 1.05  # what a larger batch must bring: it holds more images in memory


Key = TypeVar("Key")


def check_asked(asked: str) -> str:
    """Return what may be asked for: "auto", a family, or one of its names; ArgumentError if it is none."""
    family = asked.split("-", maxsplit=1)[0]
    if asked != "auto" and asked not in FAMILIES and (family not in {*FAMILIES, "cuda", "mps"} or "-" not in asked):
        raise ArgumentError(f"unknown runtime {asked!r}: choose auto, {', '.join(FAMILIES)}, or one like openvino-int8")
    return asked


def family_of(name: str) -> ModuleType:
    """Return the module that runs what is called so."""
    return FAMILIES.get(name.split("-", maxsplit=1)[0], runtime_torch)


def fits(name: str, asked: str) -> bool:
    """Return whether a runtime is one that was asked for."""
    return asked in ("auto", name) or FAMILIES.get(asked) is family_of(name)


def candidates(embedder: Embedder, asked: str) -> list[str]:
    """Return the runtimes that are asked for and can run here.

    Raises:
        FirstsightError: what was asked for by name is not installed, or cannot run on this machine.
    """
    found: list[str] = []
    for family in FAMILIES.values():
        try:
            found += [name for name in family.names(embedder) if fits(name, asked)]
        except FirstsightError:
            if asked != "auto" and family in (FAMILIES.get(asked), family_of(asked)):
                raise
    if embedder.device.type != "cpu":  # the other libraries would leave the GPU idle
        found = [name for name in found if asked != "auto" or family_of(name) is runtime_torch]
    if not found:
        raise FirstsightError(f"the runtime {asked} cannot run on this machine: use --runtime auto")
    return found


@dataclass(frozen=True, slots=True)
class _Tried:
    name: str
    label: str
    path: Path
    agreement: Agreement


def choose(
    embedder: Embedder,
    pixels: Pixels,
    *,
    asked: str,
    others: Collection[Runtime],
    scratch: Path,
    most: int = BATCHES[-1],
    memory: float = math.inf,
    progress: Progress | None = None,
) -> tuple[Choice, Running, list[Path]]:
    """Return the fastest runtime whose embeddings may stand for those of plain float32, ready to run, and its files.

    Args:
        embedder: stays as it is.
        pixels: ``(n, size, size, 3)``, images of the gallery or to come into it, n at least 1.
        asked: "auto", a family or a name.
        others: what made the embeddings that are in the gallery already.
        scratch: a folder to write the files to.
        most: images at once that there is memory for.
        memory: bytes that the process shall keep to; the first that is tried may take more.
        progress: called with ("trying runtimes", done, total).

    Raises:
        RuntimeMismatch: what was asked for by name does not agree with float32, or not with the others.
        FirstsightError: it is not installed, or fails.
    """
    half = max(1, len(pixels) // 2)
    calibration, held_out = pixels[:half], pixels[half:] if len(pixels) > 1 else pixels
    sizes = [size for size in BATCHES if size <= most] or [1]
    truth = plain(embedder).embed(held_out, batch_size=1)  # it takes most memory, and time is not what it is asked for

    def agreement(running: Running) -> Agreement:
        return Agreement.between(truth, running.embed(held_out, batch_size=sizes[-1]))

    best: _Tried | None = None
    rates: dict[str, float] = {}
    left_out: dict[str, str] = {}
    # The least exact first: they are small, and the fastest so far is loaded again beside each that follows.
    names = candidates(embedder, asked)[::-1]
    for done, name in enumerate(names):
        if progress:
            progress("trying runtimes", done, len(names))
        needed = _needed(embedder, name)
        if best and needed > memory:
            left_out[name] = f"takes {needed / 1e9:.1f} GB of memory while it is converted"
            continue
        try:
            one, running = _tried(embedder, name, calibration, scratch, agreement)
        except Exception as error:
            left_out[name] = f"fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            continue
        reason = _objection(one, others)
        if reason:
            left_out[name] = reason
        else:
            rates |= _rates({name: running} | _loaded(embedder, best), held_out[: min(sizes[-1], BATCHES[1])])
            best = one if best is None or rates[name] >= rates[best.name] else best
        del running  # each may hold hundreds of megabytes: while the next is made, none is held
        hand_back()
    if best is None:
        name, reason = next(reversed(left_out.items()))
        raise RuntimeMismatch(f"the runtime {name} cannot be used: it {reason}; use --runtime torch")
    choice, path = Choice(best.name, best.label, best.agreement, sizes[-1], None, rates, left_out), best.path
    files = [path.with_suffix(suffix) for suffix in family_of(choice.name).SUFFIXES]
    return *_settled(embedder, choice, path, held_out, sizes), files


def _needed(embedder: Embedder, name: str) -> float:
    """Return the bytes that this process would hold at most while it converts the embedder."""
    weights = 4 * sum(tensor.numel() for tensor in embedder.parameters())
    return resident() + family_of(name).TAKES * weights


def _tried(
    embedder: Embedder, name: str, calibration: Pixels, scratch: Path, agreement: Callable[[Running], Agreement]
) -> tuple[_Tried, Running]:
    """Convert the embedder and compare it: what fails at either is not held while the next one is made."""
    label, path, running = _made(embedder, name, calibration, scratch)
    return _Tried(name, label, path, agreement(running)), running


def _made(embedder: Embedder, name: str, calibration: Pixels, scratch: Path) -> tuple[str, Path, Running]:
    """Convert the embedder; return what to call it, where its file is, and itself."""
    label, family = name, family_of(name)
    if name.endswith("-int8"):
        if len(calibration) < LEAST:
            raise FirstsightError(f"{2 * LEAST} images are needed to calibrate it, and there are fewer")
        # Calibrated by other images it would be another network.
        label = f"{name}-{hashlib.sha256(calibration.tobytes()).hexdigest()[:8]}"
    path = scratch / f"{label}{next(iter(family.SUFFIXES), '')}"
    family.make(embedder, name, calibration, path)
    hand_back()
    return label, path, family.load(embedder, name, path)


def _loaded(embedder: Embedder, best: _Tried | None) -> dict[str, Running]:
    """Return the fastest so far, if there is one, from its file again."""
    return {} if best is None else {best.name: family_of(best.name).load(embedder, best.name, best.path)}


def _objection(one: _Tried, others: Collection[Runtime]) -> str | None:
    agreement = one.agreement
    if not agreement.trusted:
        return f"differs from float32 (cosine {agreement.worst:.4f} at worst, {agreement.mean:.4f} in the mean)"
    for other in strangers(Runtime(one.label, min(1.0, agreement.worst)), others):
        return f"may differ from {other.name}, which made embeddings of this gallery, by a cosine below {MIXED}"
    return None


def in_turns(running: Mapping[Key, Running], batch: Pixels, rounds: int = ROUNDS) -> dict[Key, list[float]]:
    """Return the seconds that each takes for a batch, round by round, measured in turns: A B A B."""
    spent: dict[Key, list[float]] = {key: [] for key in running}
    for turn in range(rounds + 1):
        for key, one in running.items():
            started = time.perf_counter()
            one.embed(batch)
            if turn:  # the first one warms up
                spent[key].append(time.perf_counter() - started)
    return spent


def _rates(running: Mapping[Key, Running], batch: Pixels) -> dict[Key, float]:
    """Return images a second of each."""
    return {key: round(len(batch) / median(times), 2) for key, times in in_turns(running, batch).items()}


def _settled(
    embedder: Embedder, choice: Choice, path: Path, pixels: Pixels, sizes: Sequence[int]
) -> tuple[Choice, Running]:
    """Find batch size and threads by measuring: the fewest of each that are as fast as any, but for a twentieth."""
    allowed = torch.get_num_threads()  # by the user
    counts = sorted({max(1, allowed // 2), allowed}) if embedder.device.type == "cpu" else [None]
    running = {count: family_of(choice.name).load(embedder, choice.name, path, count) for count in counts}
    rates: dict[tuple[int, int | None], float] = {}
    for size in sizes:
        batch = np.resize(pixels, (size, *pixels.shape[1:]))
        rates |= {(size, count): rate for count, rate in _rates(running, batch).items()}
    size, threads = next(key for key, rate in rates.items() if GAIN * rate >= max(rates.values()))
    return replace(choice, batch_size=size, threads=threads), running[threads]
