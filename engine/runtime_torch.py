"""PyTorch: batch norm folded into the convolutions, channels last, bfloat16 where the processor computes with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from engine.embedder import Embedder
from engine.running import Features, Pixels, Running, Vectors, finished

EXTRA: Final = ""
SUFFIXES: Final = ()  # nothing is kept: folding takes a second
TAKES: Final = 1.2  # bytes of memory, for each byte of float32 weights: a folded copy
# A copy is there while something runs it.
_FOLDED: Final[WeakKeyDictionary[Embedder, WeakValueDictionary[str, Features]]] = WeakKeyDictionary()
PIECE: Final = 64  # images that go to a GPU at once: the next ones are copied while it computes


def names(embedder: Embedder) -> list[str]:
    """Return what can run here, the most exact first."""
    device = embedder.device.type
    if device == "cuda":
        return ["cuda-float32", *(["cuda-bf16"] if torch.cuda.is_bf16_supported() else [])]
    if device != "cpu":
        return [f"{device}-float32"]
    # Without the instructions bfloat16 is emulated, and slower than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return ["torch-float32", *(["torch-bf16"] if native else [])]


def make(embedder: Embedder, name: str, calibration: Pixels, path: Path) -> None:
    """Convert nothing: PyTorch runs the embedder itself."""


def load(embedder: Embedder, name: str, path: Path, threads: int | None = None) -> Running:
    """Return the embedder as a copy that runs faster: one copy, for however many threads."""
    network = _folded(embedder, name)
    if embedder.device.type == "cuda":
        return Running(name, _Cuda(network, embedder, compiled=name.endswith("-bf16")), embedder.dim)

    @torch.inference_mode()
    def run(pixels: Pixels) -> Vectors:
        with _threads(threads):
            features = network(torch.from_numpy(pixels).to(embedder.device)).float().cpu().numpy()
            return finished(embedder, features, pixels)

    return Running(name, run, embedder.dim)


def _folded(embedder: Embedder, name: str) -> Features:
    known = _FOLDED.setdefault(embedder, WeakValueDictionary())
    network = known.get(name)
    if network is None:
        precision = torch.bfloat16 if name.endswith("-bf16") else torch.float32
        network = Features(embedder).to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        known[name] = network
    return network


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Cuda:
    """Pixels go to the GPU in pieces, from pinned memory, on a stream of their own: it computes meanwhile."""

    def __init__(self, network: Features, embedder: Embedder, *, compiled: bool) -> None:
        # All pieces have one shape, so that it is compiled once.
        self.network: Any = torch.compile(network, dynamic=False) if compiled else network
        self.embedder, self.device = embedder, embedder.device
        self.copying = torch.cuda.Stream(self.device)
        self.pinned: list[Tensor] = []

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> Vectors:
        """Return unit vectors ``(n, dim)`` of pixels ``(n, size, size, 3)``."""
        starts = list(range(0, len(pixels), PIECE))
        waiting = self._sent(pixels, starts[0], 0)
        made = []
        for turn, (_, following) in enumerate(pairwise([*starts, None]), start=1):
            piece, arrived = waiting
            if following is not None:
                waiting = self._sent(pixels, following, turn)
            torch.cuda.current_stream(self.device).wait_event(arrived)
            # The copying stream must not give this memory away while the network reads it.
            piece.record_stream(torch.cuda.current_stream(self.device))
            made.append(self.network(piece).float())
        return finished(self.embedder, torch.cat(made)[: len(pixels)].cpu().numpy(), pixels)

    def _sent(self, pixels: Pixels, start: int, turn: int) -> tuple[Tensor, torch.cuda.Event]:
        """Begin to copy a piece, filled up to its full size; return it and the event of its arrival."""
        if not self.pinned:
            shape = (PIECE, *pixels.shape[1:])
            self.pinned = [torch.zeros(shape, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
            self.sent = [torch.cuda.Event() for _ in range(2)]
        buffer, event = self.pinned[turn % 2], self.sent[turn % 2]
        event.synchronize()  # what was in it has left
        some = np.ascontiguousarray(pixels[start : start + PIECE])
        buffer[: len(some)].copy_(torch.from_numpy(some))
        with torch.cuda.stream(self.copying):
            piece = buffer.to(self.device, non_blocking=True)
            event.record(self.copying)
        return piece, event
