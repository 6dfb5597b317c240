"""Where an embedder's weights come from and how they are kept: safetensors files, never a pickle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from engine.embedder import LARGEST, Embedder, check_size
from engine.vision import ResNet101_Weights
from indexer.errors import ArgumentError, WeightsError
from indexer.folder import written_whole

BUNDLED = Path(__file__).with_name("bundled.safetensors")
FORMAT = 1
_SIZED = re.compile(r"(.+)@([0-9]{1,4000}(?:of[0-9]{1,4000})?)", re.DOTALL)  # int() reads no more digits
# The first set of torchvision's weights: its features are better neighbours than those of the second one, whose
# recipe (label smoothing, mix-up) gives more accurate classifiers (Kornblith et al. 2021, arXiv:2010.16402).
IMAGENET = ResNet101_Weights.IMAGENET1K_V1


def load_embedder(weights: str | os.PathLike[str] = "imagenet", *, device: torch.device | None = None) -> Embedder:
    """Return the embedder with these weights, ready to embed.

    Args:
        weights: "imagenet" (torchvision's ResNet-101, downloaded once), "bundled" (the small checkpoint that comes
            with this package) or the path of a file that ``train`` wrote. "bundled@112", and so with the others, shows
            them images with 112 pixels along a side instead of as many as they learnt from, "bundled@64of107" the
            middle 64 pixels square of images whose shorter side is made 107.
        device: where it shall run; the CPU if None.

    Raises:
        WeightsError: they cannot be had, or are not an embedder's.
        ArgumentError: they cannot be shown images of that size.
    """
    path, (_, size) = checkpoint_file(weights), split_size(weights)
    embedder = _imagenet() if path is None else _from_file(path)
    if size:
        embedder = _seeing(embedder, size)
    return embedder.to(device or torch.device("cpu")).eval().requires_grad_(False)


def split_size(weights: str | os.PathLike[str]) -> tuple[str, str]:
    """Return weights without the size that they are to be shown images at, and that size, "" if they say none.

    A file whose own name ends like that is a file.
    """
    whole = str(weights)
    sized = _SIZED.fullmatch(whole)
    if sized is None or Path(whole).is_file():
        return whole, ""
    return sized[1], sized[2]


def weights_name(weights: str | os.PathLike[str] | Embedder) -> str:
    """Return what a gallery writes down, to find the weights again: a path is kept whole."""
    if isinstance(weights, Embedder):
        return "given"
    name, size = split_size(weights)
    found = name if name in {"imagenet", "bundled"} else str(Path(name).absolute())
    return f"{found}@{size}" if size else found


def _seeing(embedder: Embedder, size: str) -> Embedder:
    """Return the same network for images of a size, as it stands in weights' names: "112", "64of107"."""
    pixels, *of = map(int, size.split("of"))
    check_size(embedder.backbone_name, pixels)
    own = embedder.preprocessing
    if of and not pixels <= of[0] <= LARGEST:
        raise ArgumentError(
            f"size {size}: an image of which {pixels} pixels are shown has {pixels} to {LARGEST} a side"
        )
    preprocessing = own.middle(pixels, *of) if of else own.resized(pixels)
    described = {**embedder.description(), "preprocessing": preprocessing.as_dict()}
    try:
        return _filled(dict(embedder.state_dict()), lambda: Embedder.from_description(described))
    except RuntimeError as error:
        raise ArgumentError(f"size {size}: these weights' head fits images of {own.size} pixels alone") from error


def _imagenet() -> Embedder:
    try:
        state = torch.hub.load_state_dict_from_url(
            IMAGENET.url, progress=True, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the imagenet weights cannot be downloaded ({error}): without a network use the weights 'bundled' "
            "that come with this package, or a FILE that `firstsight train` wrote"
        ) from error
    weights = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return _filled(weights, lambda: Embedder("resnet101"))


def _filled(state: dict[str, Tensor], make: Callable[[], Embedder]) -> Embedder:
    """Return an embedder whose weights are the tensors of ``state``: memory for them is taken once.

    Raises:
        RuntimeError: they do not fit it.
    """
    with torch.device("meta"), _Undrawn():
        embedder = make()
    for name, tensor in state.items():
        if tensor.ndim == 4:  # one after the other, so that the old one goes before the next one comes
            state[name] = tensor.contiguous(memory_format=torch.channels_last)
    embedder.load_state_dict(state, assign=True)
    return embedder


class _Undrawn(TorchFunctionMode):
    """No random weights: tensors on "meta" have none to draw, and to pretend to PyTorch imports its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave alone what would be filled with random numbers; do all else as usual."""
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _from_file(path: Path) -> Embedder:
    card, state = read_checkpoint(path, prefix="embedder.")
    try:
        state = without_prefix(state, "embedder.")
        embedder = _filled(state, lambda: Embedder.from_description(card["embedder"]))
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: the weights do not fit the embedder that they describe ({reason})") from error
    return embedder


def checkpoint_file(weights: str | os.PathLike[str]) -> Path | None:
    """Return the path of the checkpoint "bundled" or of a file that ``train`` wrote; "imagenet" has none: None.

    Raises:
        WeightsError: there is no such file.
    """
    name, _ = split_size(weights)
    if name == "imagenet":
        return None
    path = BUNDLED if name == "bundled" else Path(name)
    if not path.is_file():
        raise WeightsError(f"no weights {os.fspath(weights)!r}: choose 'imagenet', 'bundled' or a file that exists")
    return path


def save_checkpoint(path: Path, embedder: Embedder, recipe: torch.nn.Module, card: Mapping[str, Any]) -> None:
    """Write embedder, recipe and a card that tells of them to ``path``, in float16: whole, or not at all."""
    tensors = {f"embedder.{name}": tensor for name, tensor in embedder.state_dict().items()}
    tensors |= {f"recipe.{name}": tensor for name, tensor in recipe.state_dict().items()}
    tensors = {name: _compact(tensor) for name, tensor in tensors.items()}
    metadata = {"firstsight": json.dumps({"format": FORMAT, "embedder": embedder.description(), **card})}
    with written_whole(path) as file:
        file.write(save(tensors, metadata))


def _compact(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def read_checkpoint(path: Path, *, prefix: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a checkpoint's card and its tensors, float32 again: only those whose names begin with ``prefix``.

    Raises:
        WeightsError: the file is no checkpoint of this program, is damaged, or is of a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get("firstsight", "null"))
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dictionary
            state = {name: _whole(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a safetensors file, or damaged ({error})") from error
    if not isinstance(card, dict) or "embedder" not in card:
        raise WeightsError(f"{path}: not a checkpoint that `firstsight train` wrote")
    if card.get("format") != FORMAT:
        raise WeightsError(f"{path}: checkpoint format {card.get('format')}, this version reads {FORMAT}: upgrade it")
    return card, state


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
