"""OpenVINO: float32, bfloat16 where the processor computes with it, and eight bits. Needs the extra "openvino"."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from engine.embedder import Embedder
from engine.running import Features, Pixels, Running, Vectors, finished, quietly
from indexer.errors import FirstsightError
from indexer.room import hand_back

EXTRA: Final = "openvino"
SUFFIXES: Final = (".xml", ".bin")
TAKES: Final = 3.5  # bytes of memory, for each byte of float32 weights: mostly while it is calibrated
_PRECISIONS: Final = {"openvino-float32": "f32", "openvino-bf16": "bf16", "openvino-int8": "f32"}


def names(embedder: Embedder) -> list[str]:
    """Return what can run here, the most exact first; a FirstsightError names the extra if it is not installed."""
    able = _library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    eight_bits = ["openvino-int8"] if find_spec("nncf") else []
    return ["openvino-float32", *(["openvino-bf16"] if "BF16" in able else []), *eight_bits]


def make(embedder: Embedder, name: str, calibration: Pixels, path: Path) -> None:
    """Write the converted network to ``path`` and beside it; in eight bits by what ``calibration`` shows.

    Args:
        embedder: stays as it is.
        name: one of ``names``.
        calibration: pixels ``(n, size, size, 3)``, images of the kind that will be embedded.
        path: of the ``.xml`` file.
    """
    library, whole = _library(), path.with_name("openvino-float32.xml")
    with quietly():
        if not whole.exists():
            _convert(embedder, whole)
        if name == "openvino-int8":
            # Read from the file, it is not held as PyTorch's, as a trace and as OpenVINO's at the same time.
            model = _in_eight_bits(library.Core().read_model(whole), calibration)
            library.save_model(model, path, compress_to_fp16=False)
        elif path != whole:
            for suffix in SUFFIXES:
                shutil.copyfile(whole.with_suffix(suffix), path.with_suffix(suffix))


def _convert(embedder: Embedder, path: Path) -> None:
    library, size = _library(), embedder.preprocessing.size
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    # OpenVINO would trace it, too, and then once more to compare: the embeddings are compared anyway.
    network = torch.jit.trace(Features(embedder).cpu(), example, check_trace=False)
    model = library.convert_model(network, example_input=example, input=[(-1, size, size, 3)])
    library.save_model(model, path, compress_to_fp16=False)
    del network, model
    hand_back()


def load(embedder: Embedder, name: str, path: Path, threads: int | None = None) -> Running:
    """Return the network that was written to ``path``, compiled for this processor."""
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _PRECISIONS[name], "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = _library().Core().compile_model(str(path), "CPU", settings)

    def run(pixels: Pixels) -> Vectors:
        return finished(embedder, compiled(np.ascontiguousarray(pixels))[0], pixels)

    return Running(name, run, embedder.dim)


def _in_eight_bits(model: Any, calibration: Pixels) -> Any:
    import nncf  # noqa: PLC0415 - an extra, and slow to come
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    dataset = nncf.Dataset([calibration[i : i + 1] for i in range(len(calibration))])
    # By default what exceeds the mean of the images' extremes is cut off, and biases are corrected for that. Calibrated
    # on some tens of images, those least like them then come out far from float32: at a cosine of 0.89, not 0.996.
    parameters = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=True
    )
    return nncf.quantize(model, dataset, subset_size=len(calibration), advanced_parameters=parameters)


def _library() -> Any:
    try:
        with quietly():
            import openvino  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FirstsightError("the runtime openvino needs packages: pip install 'firstsight[openvino]'") from error
    return openvino
