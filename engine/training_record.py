"""The record of a training run: what was done, with what, and how it went, as a file and as a page."""

from __future__ import annotations

import datetime
import json
import platform
import shlex
import sys
from html import escape
from pathlib import Path
from typing import Any

import torch

from engine import report
from engine.vision import version
from indexer.folder import written_whole


def versions() -> dict[str, str]:
    """Return the versions of what the figures of a run depend on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": version}


def write_record(
    out: Path, settings: dict[str, Any], losses: list[float], measured: list[tuple[int, float]], *, seconds: float
) -> Path:
    """Write ``NAME.training.json`` and ``NAME.training.html`` beside the weights ``NAME.safetensors``; return the page.

    Args:
        out: the weights.
        settings: of the run.
        losses: of each step.
        measured: (step, accuracy) on the validation classes; may be empty.
        seconds: of the last, or only, part of the run.
    """
    record = {
        "command": command(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "settings": settings,
        "history": {"loss": [round(loss, 5) for loss in losses], "validation": measured},
    }
    with written_whole(out.with_suffix(".training.json")) as file:
        file.write((json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    page = out.with_suffix(".training.html")
    with written_whole(page) as file:
        file.write(_page(out.name, record).encode())
    return page


def command() -> str:
    """Return the command line of this process, its program by name: a record is for others too."""
    program, *arguments = sys.argv or [""]
    return shlex.join([Path(program).name, *arguments])


def _page(name: str, record: dict[str, Any]) -> str:
    losses, measured, settings = record["history"]["loss"], record["history"]["validation"], record["settings"]
    numbers = [
        (f"{len(losses):,}", "batches"),
        (f"{sum(one['images'] for one in settings['data']):,}", "images"),
        (f"{losses[-1]:.3f}", f"loss at last, {losses[0]:.3f} at first"),
    ]
    drawings = [
        "<h2>Loss</h2>",
        report.curve(list(enumerate(losses, 1)), smooth=max(1, len(losses) // 50), label="loss by batch"),
    ]
    if measured:
        best = max(accuracy for _, accuracy in measured)
        numbers.append((f"{100 * best:.1f} %", "of the validation queries right, at best"))
        drawings += [
            "<h2>Accuracy on classes it does not learn from, one image each</h2>",
            report.curve([(step, 100 * share) for step, share in measured], label="accuracy in per cent by batch"),
        ]
    return report.page(
        f"Training of {name}",
        f"<h1>Training of {escape(name)}</h1>",
        f'<p class="soft">{escape(record["command"])}</p>',
        report.figures(numbers),
        *drawings,
        "<h2>Settings</h2>",
        f"<pre>{escape(json.dumps(settings, indent=1, ensure_ascii=False))}</pre>",
    )
