"""What is drawn on even paper, found and shown as large as wanted: a drawing says the same written small and large.

Digits and letters are brought to one size before they are recognised since LeCun et al. (1998, "Gradient-based learning
applied to document recognition"); to embed a picture at several sizes and take the mean is what He et al. (2016,
arXiv:1512.03385, section 3.4) do when they test.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 64  # pixels along a side that say where ink is
EDGE = 256  # pixels of the image's edge that are looked at, or up to twice as many
EVEN = 0.9  # of them that must look like the paper
NEAR, FAR = 24, 60  # grey levels of 255 that paper differs from itself at most, and ink from paper at least
GREY = 24  # levels by which the channels of a colourless pixel differ
MOST = 0.5  # of the image that is ink; where there is more, it is no drawing
LEAST = 0.4  # of the image's longer side: what is drawn smaller is enlarged no more than this, as a dot is a dot


class Ink(NamedTuple):
    """What is drawn: the colour of the paper, and the box (left, top, right, bottom) around the ink, in pixels."""

    paper: tuple[int, int, int]
    box: tuple[float, float, float, float]


def find_ink(image: Image.Image) -> Ink | None:
    """Return what is drawn on an RGB image, if it is a colourless drawing on even paper: photos are none."""
    edge = _edge(image)
    paper = np.median(edge, axis=0)
    if np.mean(np.abs(edge - paper).max(axis=1) <= NEAR) < EVEN:
        return None
    grid = np.asarray(image.resize((GRID, GRID), Image.Resampling.BILINEAR), np.int16)
    if (np.ptp(grid, axis=2) > GREY).any():
        return None
    ink = np.abs(grid - paper).max(axis=2) > FAR
    if not 0 < ink.mean() <= MOST:
        return None
    columns, rows = (np.flatnonzero(ink.any(axis=axis)) for axis in (0, 1))
    across, down = (side / GRID for side in image.size)
    box = (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)
    red, green, blue = paper.astype(int).tolist()
    return Ink((red, green, blue), box)


def shown(image: Image.Image, ink: Ink, size: int, share: float) -> NDArray[np.uint8]:
    """Return the drawing in the middle of ``(size, size, 3)`` of its paper, its longer side that share of it."""
    left, top, right, bottom = ink.box
    scale = share * size / max(right - left, bottom - top, LEAST * max(image.size))
    width, height = (max(1, round(scale * side)) for side in (right - left, bottom - top))
    page = Image.new("RGB", (size, size), ink.paper)
    drawing = image.resize((width, height), Image.Resampling.BILINEAR, box=ink.box)
    page.paste(drawing, ((size - width) // 2, (size - height) // 2))
    return np.array(page)


def _edge(image: Image.Image) -> NDArray[np.int16]:
    """Return some of the outermost pixels, ``(n, 3)``, from all four sides."""
    width, height = image.size
    strips = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    edge = np.concatenate([np.asarray(image.crop(strip), np.int16).reshape(-1, 3) for strip in strips])
    return edge[:: max(1, len(edge) // EDGE)]
