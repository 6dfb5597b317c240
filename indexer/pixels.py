"""Any mode of pixels as upright RGB."""

from __future__ import annotations

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


def upright(image: Image.Image) -> Image.Image:
    """Return the image as the camera was held, by its EXIF orientation; the image itself if there is none."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged metadata costs the orientation, not the image
        turn = None
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, on white where it is transparent; the image itself if it is RGB already."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image)))
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(clear, mask=clear.getchannel("A"))
    return white


def _eight_bit(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey samples `(h, w)` as 0..255: scaled, where Pillow would clip.

    Samples of 16 bits keep their upper 8. For integers of 32 bits and floats the file does not say what is white: the
    smallest usual range that holds them is taken (0..1 for floats, 0..255, 0..65535), or else their own.
    """
    if samples.dtype.itemsize == 2:
        return (samples >> 8).astype(np.uint8)
    values = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)  # a span of 1e-45 or 6e38 fits
    low, high = float(values.min()), float(values.max())
    whites = (1.0, 255.0, 65535.0) if samples.dtype.kind == "f" else (255.0, 65535.0)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    if white is not None:
        low, high = 0.0, white
    values -= low
    values *= 255 / ((high - low) or 1.0)
    return np.rint(values).astype(np.uint8)
