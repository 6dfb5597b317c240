"""Any mode of pixels as upright RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

_TURNS: Final[dict[Any, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


STRIP: Final = 2**18  # pixels that are looked at together: copies of a whole large image would not fit into memory


def upright(image: Image.Image) -> Image.Image:
    """Return the image as the camera was held, by its EXIF orientation; the image itself if there is none."""
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return what makes the image upright, by its EXIF orientation; None if it is so already."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged metadata costs the orientation, not the image
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, on white where it is transparent; the image itself if it is RGB already.

    Memory: the image, the new one, and some MB.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Yield parts of the image, over its whole width, with where they lie."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box)


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    for box, strip in _strips(image):
        clear = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        white.paste(clear, box, mask=clear.getchannel("A"))
    return white


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a grey image with samples of 16 or 32 bits as one of 0..255: scaled, where Pillow would clip.

    Samples of 16 bits keep their upper 8. For integers of 32 bits and floats the file does not say what is white: the
    smallest usual range that holds them is taken (0..1 for floats, 0..255, 0..65535), or else their own.
    """
    grey = Image.new("L", image.size)
    short = image.mode.startswith("I;16")
    low, high = (0.0, 65535.0) if short else _range(image)
    for box, strip in _strips(image):
        if short:
            samples = (np.asarray(strip) >> 8).astype(np.uint8)
        else:
            values = _finite(strip) - low
            values *= 255 / ((high - low) or 1.0)
            samples = np.rint(values).astype(np.uint8)
        grey.paste(Image.fromarray(samples), box)
    return grey


def _range(image: Image.Image) -> tuple[float, float]:
    """Return which samples are black and white."""
    ends = [(float(values.min()), float(values.max())) for values in (_finite(strip) for _, strip in _strips(image))]
    low, high = min(least for least, _ in ends), max(most for _, most in ends)
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    return (low, high) if white is None else (0.0, white)


def _finite(image: Image.Image) -> NDArray[np.float64]:
    samples = np.nan_to_num(np.asarray(image), nan=0.0, posinf=0.0, neginf=0.0)
    return samples.astype(np.float64)  # a span of 1e-45 or 6e38 fits
