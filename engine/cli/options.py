"""Options that several commands share; their defaults are read from the library, where each is written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from indexer.conditions import typed

GalleryPath = Annotated[Path, typer.Option("--gallery", "-g", help="folder of the gallery")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object a line and nothing else")]
Images = Annotated[list[str], typer.Argument(help="image files", show_default=False)]
_WEIGHTS = typer.Option(
    help="imagenet, bundled, or a file that `train` wrote; with a size, as bundled@112, shown that many pixels a side, "
    "as bundled@64of107 the middle 64 of 107",
    show_default=False,
)
Weights = Annotated[str | None, _WEIGHTS]
NewWeights = Annotated[str, _WEIGHTS]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best there is if left out", show_default=False)]
Runtime = Annotated[str, typer.Option(help="what runs the embedder: auto, torch, openvino or onnx")]
AsOf = Annotated[
    int | None, typer.Option(help="a revision: answer as the gallery was then", metavar="REVISION", show_default=False)
]
Conditions = Annotated[
    list[str] | None,
    typer.Option("--where", help="only what has such attributes: 'site=paris', 'price<5', ...", show_default=False),
]
Thumbnails = Annotated[bool, typer.Option("--thumbnails", help="keep a small JPEG of each image")]
Memory = Annotated[str, typer.Option(help="that the process shall keep to, as in 800MB", metavar="BYTES")]
ClassDepth = Annotated[int, typer.Option(help="how many folder levels name a class")]

KeepRemoved = Annotated[bool, typer.Option("--keep-removed", help="references stay whose files are gone")]
Paranoid = Annotated[bool, typer.Option("--paranoid", help="read every file, also those that look unchanged")]
Retry = Annotated[bool, typer.Option("--retry", help="try files again that could not be used before")]


def conditions(where: list[str] | None) -> dict[str, Any] | None:
    """Return the conditions of ``--where``; None if there are none."""
    return typed(where) if where else None


def default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of a parameter of the library."""
    return inspect.signature(function).parameters[name].default
