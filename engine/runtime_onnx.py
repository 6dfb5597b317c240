"""ONNX Runtime: float32 and eight bits. Needs the extra "onnx"."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from engine.embedder import Embedder
from engine.running import Features, Pixels, Running, Vectors, finished, quietly
from indexer.errors import FirstsightError
from indexer.room import hand_back

EXTRA: Final = "onnx"
SUFFIXES: Final = (".onnx",)
TAKES: Final = 5.0  # bytes of memory, for each byte of float32 weights: mostly while it is calibrated


def names(embedder: Embedder) -> list[str]:
    """Return what can run here, the most exact first; a FirstsightError names the extra if it is not installed."""
    _library()
    return ["onnx-float32", "onnx-int8"]


def make(embedder: Embedder, name: str, calibration: Pixels, path: Path) -> None:
    """Write the converted network to ``path``; in eight bits by what ``calibration`` shows.

    Args:
        embedder: stays as it is.
        name: one of ``names``.
        calibration: pixels ``(n, size, size, 3)``, images of the kind that will be embedded.
        path: of the ``.onnx`` file.
    """
    _library()
    whole = path.with_name("onnx-float32.onnx")
    with quietly():
        if not whole.exists():
            _convert(embedder, whole)
        if name == "onnx-int8":
            _in_eight_bits(whole, path, calibration)
        elif path != whole:
            shutil.copyfile(whole, path)


def _convert(embedder: Embedder, path: Path) -> None:
    size = embedder.preprocessing.size
    torch.onnx.export(
        Features(embedder).cpu(),
        (torch.zeros((1, size, size, 3), dtype=torch.uint8),),
        str(path),
        input_names=["pixels"],
        output_names=["features"],
        dynamic_axes={"pixels": {0: "n"}, "features": {0: "n"}},
        dynamo=False,  # the newer exporter needs yet another package
    )
    hand_back()


def load(embedder: Embedder, name: str, path: Path, threads: int | None = None) -> Running:
    """Return the network that was written to ``path``, prepared for this processor."""
    library = _library()
    options = library.SessionOptions()
    options.log_severity_level = 3
    # Its threads would spin on after a batch, and take the processor from what decodes, or is timed, beside it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> Vectors:
        return finished(embedder, session.run(None, {"pixels": np.ascontiguousarray(pixels)})[0], pixels)

    return Running(name, run, embedder.dim)


class _Images:
    """Calibration images, one at a time, as the quantizer asks for them."""

    def __init__(self, pixels: Pixels) -> None:
        self.rest: Iterator[Any] = iter(pixels[:, np.newaxis])

    def get_next(self) -> dict[str, Pixels] | None:
        """Return the next image, None after the last."""
        image = next(self.rest, None)
        return None if image is None else {"pixels": image}


def _in_eight_bits(source: Path, path: Path, calibration: Pixels) -> None:
    from onnxruntime import quantization  # noqa: PLC0415 - an extra

    quantization.quantize_static(
        str(source),
        str(path),
        _Images(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # Without VNNI two products of eight bits are added in sixteen, and saturate: weights keep to seven bits.
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def _library() -> Any:
    try:
        import onnx  # noqa: F401, PLC0415 - an extra
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise FirstsightError("the runtime onnx needs packages: pip install 'firstsight[onnx]'") from error
    return onnxruntime
