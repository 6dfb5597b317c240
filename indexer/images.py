"""Any image, made safe: whatever comes in, an upright RGB picture or one clear `ImageError` comes out."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Named, so that no thread finds Pillow half initialised: they register themselves when imported.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from indexer import regular
from indexer.errors import ImageError
from indexer.pixels import to_rgb, turn_of
from indexer.printable import printable
from indexer.quiet import quietly
from indexer.regular import NotRegular

MAX_PIXELS: Final = 2**26  # 256 MiB as Pillow holds them; decoding them takes 1 GiB at most
SLOW_PIXELS: Final = 2**20  # where Pillow reads number by number: about 3 s
MAX_SCANNED: Final = 2**31  # pixels times scans of a JPEG, about 3 s; a progressive one has ten or so
MAX_BYTES: Final = 512 * 2**20
ENOUGH: Final = 192  # pixels along the shorter side that are never gone below: a good thumbnail needs them

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]

# A closed list: formats with a reliable signature, and none that runs a program (EPS calls Ghostscript).
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
_COST: Final = 16  # bytes a pixel that decoding and turning into RGB take at most
_SCANNED: Final = 6  # bytes a pixel, at whole size, that a progressive JPEG's coefficients take
_GREEDY: Final = ("WEBP", "AVIF", "JPEG2000")  # their decoders hold an image several times
_UNKNOWN: Final = "is not an image that can be read (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 and PPM are)"
_SIGNATURES: Final = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "WebP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II\*\0|MM\0\*",
    "BMP": rb"BM....\0\0\0\0",
    "AVIF": rb"....ftypavi[fs]",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "PPM": rb"P[1-6]\s+[#\d]",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A decoded image, and what it is known by."""

    image: Image.Image
    """Upright, fully decoded, mode RGB."""
    hash: str
    """SHA-256 (hex) of the file's bytes, or of size and RGB pixels for an image that was no file."""
    path: str | None
    """As given, when it was a path."""


def load(
    image: ImageLike,
    *,
    max_pixels: int = MAX_PIXELS,
    enough: int | None = None,
    admit: Callable[[int], None] | None = None,
) -> Loaded:
    """Return any image as upright RGB, with its hash.

    Args:
        image: a path, bytes, a binary file object (read from its start), a PIL image, or an `(h, w, 3)` uint8 array.
        max_pixels: refuse larger ones before they are decoded; half of it is the limit for WebP, AVIF and JPEG 2000,
            whose decoders need twice the memory. Pillow's own ceiling, twice `PIL.Image.MAX_IMAGE_PIXELS`, stays in
            force.
        enough: as for `decode`; what comes as pixels keeps them all.
        admit: as for `decode`; not asked about what is in memory already.

    Raises:
        ImageError: in every bad case, with a reason in one line.
    """
    if isinstance(image, Image.Image):
        return _from_pixels(image, "PIL image", max_pixels)
    if isinstance(image, np.ndarray):
        return _from_pixels(_from_array(image), "array", max_pixels)
    if isinstance(image, str | os.PathLike):
        path = os.fsdecode(image)
        data = read(path)
        return Loaded(decode(data, path=path, max_pixels=max_pixels, enough=enough, admit=admit), identify(data), path)
    if isinstance(image, bytes | bytearray | memoryview):
        data, origin = bytes(image), "bytes"
    elif hasattr(image, "read"):
        data, origin = _read_object(image)
    else:
        _refuse(type(image).__name__, "is not an image: give a path, bytes, a file object, a PIL image or an array")
    return Loaded(decode(data, path=origin, max_pixels=max_pixels, enough=enough, admit=admit), identify(data), None)


def decode(
    data: bytes,
    *,
    path: str,
    max_pixels: int = MAX_PIXELS,
    enough: int | None = None,
    admit: Callable[[int], None] | None = None,
) -> Image.Image:
    """Return the file's bytes as an upright RGB image; of an animation, the first frame.

    Transparent parts become white, 16-bit and float samples are scaled to 8 bit. The format is told by content.

    Args:
        data: the whole file.
        path: what to call it in an error.
        max_pixels: as for `load`.
        enough: a JPEG is decoded at a half, a quarter or an eighth of its size, where its shorter side keeps at least
            so many pixels, and `ENOUGH`: several times faster for a camera's photo, and hardly another picture once it
            is resized to half of that or less. All its pixels if None.
        admit: told how many bytes decoding will take at most, before it begins.

    Raises:
        ImageError: `data` is empty, no image, damaged, cut short or too large.
    """
    if not data:
        _refuse(path, "is empty")
    with _only_image_errors(path, max_pixels, data), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_cost(image, data, path, max_pixels)
        _check_size(image, path, max_pixels)
        takes = len(data) + (_SCANNED * image.width * image.height if "progressive" in image.info else 0)
        if enough is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (max(enough, ENOUGH),) * 2)
        if admit is not None:
            admit(takes + _COST * image.width * image.height)
        rgb = _upright_rgb(image, path, max_pixels, ours=True)
        rgb.info = {}  # or a camera's orientation would be applied once more where this image is loaded again
        return rgb


def identify(data: bytes) -> str:
    """Return what a file is known by, wherever it lies: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def read(path: str | os.PathLike[str]) -> bytes:
    """Return a regular file's bytes.

    Raises:
        ImageError: it is missing, empty, larger than `MAX_BYTES`, not a regular file, or cannot be read.
    """
    name = os.fsdecode(path)
    try:
        with regular.opened(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                _refuse(name, f"is larger than {MAX_BYTES // 2**20} MiB")
            data = file.read(size)
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError(printable(name), _reading_reason(error)) from error
    return data or _refuse(name, "is empty")


def looks_like_image(path: str | os.PathLike[str]) -> bool:
    """Tell by the header, not by the suffix, whether a file is an image; False for what cannot be opened."""
    try:
        with quietly(), regular.opened(path) as file, Image.open(file, formats=_FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # whatever a parser throws at foreign bytes, they are no image
        return False


def _refuse(path: str, reason: str) -> NoReturn:
    raise ImageError(printable(path), reason)


def _read_object(file: Any) -> tuple[bytes, str]:
    """Return a file object's bytes from its start, and what to call it."""
    name = getattr(file, "name", None)
    origin = name if isinstance(name, str) else "file object"
    chunks: list[bytes] = []
    left = MAX_BYTES
    try:
        if file.seekable():
            file.seek(0)
        while chunk := file.read(2**20):
            left -= len(chunk)
            if left < 0:
                _refuse(origin, f"is larger than {MAX_BYTES // 2**20} MiB")
            chunks.append(chunk)
        return b"".join(chunks), origin
    except ImageError:
        raise
    except Exception as error:  # a file object is any class with a read method
        raise ImageError(printable(origin), _reading_reason(error)) from error


def _reading_reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, NotRegular):
        return str(error).replace("folder", "folder, not an image")
    if isinstance(error, TypeError):
        return "is not open in binary mode"
    return (
        f"cannot be read: {printable(getattr(error, 'strerror', None) or str(error) or type(error).__name__).lower()}"
    )


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        _refuse("array", f"has shape {array.shape} and type {array.dtype}; give (h, w, 3) uint8, RGB")
    return Image.fromarray(array)


def _from_pixels(image: Image.Image, origin: str, max_pixels: int) -> Loaded:
    with _only_image_errors(origin, max_pixels):
        rgb = _upright_rgb(image, origin, max_pixels)
        size, pixels = rgb.size, rgb.tobytes()
        digest = hashlib.sha256(b"rgb %d x %d\n" % size)
        digest.update(pixels)
        return Loaded(Image.frombytes("RGB", size, pixels), digest.hexdigest(), None)


def _check_cost(image: Image.Image, data: bytes, path: str, max_pixels: int) -> None:
    """Refuse what would take much more time or memory than other images of its size."""
    if image.format in _GREEDY:
        _check_size(image, path, max_pixels // 2)
    if image.format == "PPM" and image.mode != "1" and any(tile[0].startswith("ppm") for tile in _tiles(image)):
        _check_size(image, path, min(max_pixels, SLOW_PIXELS))
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") * image.width * image.height > MAX_SCANNED:
        _refuse(path, "has too many scans (JPEG): save it again")


def _tiles(image: Image.Image) -> list[Any]:
    return getattr(image, "tile", [])  # names of decoders, and what they decode


def _check_size(image: Image.Image, path: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        _refuse(path, f"is too large: {width} × {height} pixels, and the limit is {max_pixels} in all")
    if width < 1 or height < 1:
        _refuse(path, "has no pixels")


def _upright_rgb(image: Image.Image, path: str, max_pixels: int, *, ours: bool = False) -> Image.Image:
    _check_size(image, path, max_pixels)
    image.load()
    turn = turn_of(image)
    rgb = to_rgb(image)
    if ours and rgb is not image:
        image.close()  # before the picture is turned: three of them may not fit into memory
    return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _only_image_errors(path: str, max_pixels: int, data: bytes = b"") -> Iterator[None]:
    """Turn whatever a decoder throws at foreign bytes into an `ImageError` with a short reason."""
    try:
        with quietly():
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        ceiling = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(printable(path), f"is too large: the limit is {ceiling} pixels") from error
    except Exception as error:
        lasting = bool(data) and not isinstance(error, MemoryError) and "memory" not in str(error).lower()
        raise ImageError(printable(path), _damage(error, data), lasting=lasting) from error


def _damage(error: Exception, data: bytes) -> str:
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    kind = next((kind for kind, start in _SIGNATURES.items() if re.match(start, data, re.DOTALL)), None)
    if data and kind is None:
        return _UNKNOWN
    named = f" ({kind})" if kind else ""
    if "truncated" in str(error).lower():
        return f"is cut short{named}: copy it again"
    return f"is damaged{named}: replace it"
