"""Made photos: what they show is made up, what they cost to read and decode is not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 640, 480


def photo(number: int, label: int, seed: int) -> Image.Image:
    """Return an image that costs a decoder what a photo costs: soft fields of colour, some shapes, and grain."""
    draw, of_class = np.random.default_rng((seed, 0, number)), np.random.default_rng((seed, 1, label))
    image = _noise(of_class, 160)
    for cell, share in ((80, 0.4), (20, 0.3)):
        image = Image.blend(image, _noise(draw, cell), share)
    pen = ImageDraw.Draw(image)
    for colour in of_class.integers(0, 256, (6, 3)).tolist():
        x, y = (draw.random(2) * SIZE).tolist()
        width, height = draw.integers(20, 120, 2).tolist()
        pen.ellipse((x - width, y - height, x + width, y + height), tuple(colour))
    return Image.blend(image, _noise(draw, 2), 0.1)


def _noise(draw: np.random.Generator, cell: int) -> Image.Image:
    """Return smooth noise whose spots are about ``cell`` pixels wide."""
    width, height = SIZE
    spots = draw.integers(0, 256, (height // cell + 1, width // cell + 1, 3), np.uint8)
    return Image.fromarray(spots).resize(SIZE, Image.Resampling.BICUBIC)


def make_photos(folder: Path, numbers: Iterable[int], *, classes: int, seed: int) -> None:
    """Write the photos of these numbers; a number's remainder by ``classes`` is its class."""

    def make(number: int) -> None:
        label = number % classes
        path = folder / f"class {label:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number, label, seed).save(path, quality=88)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(make, numbers):
            pass
