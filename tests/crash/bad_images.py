"""A hundred bad files, some odd good ones and some dear ones, made from nothing."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib

import numpy as np
from PIL import Image

from indexer.images import MAX_PIXELS


def encoded(kind, image=None, **options):
    file = io.BytesIO()
    (image or picture()).save(file, kind, **options)
    return file.getvalue()


def picture(width=24, height=16, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width=4, height=4, *, depth=8, colour=2, more=b"", data=None):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + 16 * width))) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def exif(tag, kind, count, value, following=0):
    """EXIF of one entry."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI4sI", tag, kind, count, value, following)


def tiff(*entries, following=0):
    """A TIFF of entries (tag, type, count, value) alone."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


GREY_TIFF = [
    (256, 3, 1, 4),
    (257, 3, 1, 4),
    (258, 3, 1, 8),
    (259, 3, 1, 1),
    (262, 3, 1, 1),
    (273, 4, 1, 0),
    (279, 4, 1, 16),
]


def endless_scans():
    """A progressive JPEG of one colour, 4,000 pixels square, whose last scan comes 500 times."""
    data = encoded("JPEG", Image.new("L", (4000, 4000), 99), progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 500 + data[-2:]


# -- good files made bad ---------------------------------------------------------------------------------------------

GOOD = {
    "jpeg": encoded("JPEG", exif=exif(0x0112, 3, 1, b"\0\x06\0\0")),
    "png": encoded("PNG"),
    "gif": encoded("GIF"),
    "webp": encoded("WEBP"),
    "tiff": encoded("TIFF", compression="tiff_lzw"),
    "bmp": encoded("BMP"),
}
# Where each says how large it is, and how it is written.
SIZES = {
    "jpeg": (GOOD["jpeg"].index(b"\xff\xc0") + 5, ">HH"),
    "png": (16, ">II"),
    "gif": (6, "<HH"),
    "webp": (26, "<HH"),
    "bmp": (18, "<ii"),
}
HUGE = {"H": 0xFFFF, "I": 0x7FFFFFFF, "i": 0x7FFFFFFF}


def sized(kind, value):
    data, (place, form) = bytearray(GOOD[kind]), SIZES[kind]
    struct.pack_into(form, data, place, *([HUGE[form[1]]] * 2 if value is None else value))
    if kind == "png":
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def flipped(data, dice, count):
    changed = bytearray(data)
    for _ in range(count):
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def mutations(kind, data):
    dice, middle = random.Random(kind), len(data) // 2
    made = {
        "cut in half": data[:middle],
        "cut after its signature": data[:12],
        "without its last byte": data[:-1],
        "without its beginning": data[16:],
        "with its beginning blank": bytes(16) + data[16:],
        "with its middle blank": data[:middle] + bytes(64) + data[middle + 64 :],
        "all ones from the middle": data[:middle] + b"\xff" * (len(data) - middle),
        "with more in the middle": data[:middle] + b"more" + data[middle:],
        "twice": data + data,
        "backwards": data[::-1],
        "with one bit flipped": flipped(data, dice, 1),
        "with twenty bits flipped": flipped(data, dice, 20),
        "with its header shaken": flipped(data[:64], dice, 8) + data[64:],
    }
    if kind in SIZES:
        made |= {"of a huge size": sized(kind, None), "of no size": sized(kind, (0, 0))}
    return {f"{kind} {what}": data for what, data in made.items()}


MUTATED = {name: made for kind, data in GOOD.items() for name, made in mutations(kind, data).items()}

# -- bad from the beginning: a file (or how to make a larger one), and what is said of it ------------------------------

UNKNOWN = "is not an image that can be read"
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"heron\n" * 9, UNKNOWN),
    "html": (b"<!doctype html><img src=heron.jpg>", UNKNOWN),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNKNOWN),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", UNKNOWN),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN),
    "zip": (b"PK\x03\x04" + bytes(60), UNKNOWN),
    "program": (b"\x7fELF" + bytes(60), UNKNOWN),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), UNKNOWN),
    "blank": (bytes(10_000), UNKNOWN),
    "noise": (random.Random(1).randbytes(10_000), UNKNOWN),
    "icon": (encoded("ICO"), UNKNOWN),
    "png bomb": (png(60_000, 60_000, data=b""), "is too large"),
    "png just too large": (png(8192, 8193, data=b""), f"the limit is {MAX_PIXELS}"),
    "png of no rows": (png(4, 0), "is damaged"),
    "png of text that explodes": (
        png(more=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26)))),
        "is damaged",
    ),
    "png of a strange depth": (png(depth=7), "is damaged"),
    "png of a strange colour": (png(colour=5), "is damaged"),
    "png in colours without a palette": (png(colour=3), "is damaged"),
    "png whose pixels are no data": (png(data=b"not compressed"), "is damaged"),
    "png whose pixels end early": (png(64, 64, data=zlib.compress(bytes(99))), "is cut short"),
    "jpeg of nothing": (b"\xff\xd8\xff\xd9", "is damaged"),
    "jpeg of endless scans": (endless_scans, "too many scans"),
    "gif of nothing": (b"GIF89a\x04\0\x04\0\0\0\0;", "is damaged"),
    "webp too large": (lambda: encoded("WEBP", Image.new("L", (8192, 4097)), quality=0, method=0), "is too large"),
    "tiff that leads to itself": (tiff(following=8), "is damaged"),
    "tiff of nothing": (tiff(), "is damaged"),
    "tiff whose pixels are elsewhere": (tiff(*GREY_TIFF[:5], (273, 4, 1, 2**31), (279, 4, 1, 16)), "is cut short"),
    "tiff of many gigabytes": (tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31), *GREY_TIFF[2:]), "is too large"),
    "tiff of an unknown compression": (tiff(*GREY_TIFF[:3], (259, 3, 1, 777), *GREY_TIFF[4:]), "is damaged"),
    "tiff of half its entries": (tiff(*GREY_TIFF)[:50], "is"),
    "ppm of no white": (b"P6 4 4 0\n" + bytes(48), "is damaged"),
    "ppm that is read by the number": (lambda: b"P6 2000 2000 100\n" + bytes(12_000_000), "the limit is 1048576"),
    "ppm of words": (b"P3 4 4 255\n" + b"heron " * 48, "is damaged"),
    "jpeg 2000 cut short": (encoded("JPEG2000")[:150], "is"),
    "avif cut short": (encoded("AVIF")[:150], "is damaged"),
}

# -- odd, and good ---------------------------------------------------------------------------------------------------

OTHER = picture(seed=1)
PALETTE = chunk(b"PLTE", bytes(range(12)))
SQUARE, WIDE = (4, 4), (24, 16)
ODD = {
    "png with transparent colours": (png(colour=3, more=PALETTE + chunk(b"tRNS", b"\0\x80")), SQUARE),
    "png with more transparencies than colours": (png(colour=3, more=PALETTE + chunk(b"tRNS", bytes(99))), SQUARE),
    "png of 16 bits with transparency": (png(depth=16, colour=6), SQUARE),
    "png of one bit": (png(depth=1, colour=0), SQUARE),
    "png of a broken colour profile": (png(more=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))), SQUARE),
    "png animated": (encoded("PNG", save_all=True, append_images=[OTHER]), WIDE),
    "gif animated": (encoded("GIF", save_all=True, append_images=[OTHER]), WIDE),
    "webp animated": (encoded("WEBP", save_all=True, append_images=[OTHER]), WIDE),
    "jpeg in four colours": (encoded("JPEG", picture().convert("CMYK")), WIDE),
    "jpeg with a long comment": (encoded("JPEG", comment=b"heron " * 10_000), WIDE),
    "jpeg of one pixel": (encoded("JPEG", picture(1, 1)), (1, 1)),
    "jpeg very wide": (encoded("JPEG", Image.new("L", (65_000, 1))), (65_000, 1)),
    "jpeg turned in an unknown way": (encoded("JPEG", exif=exif(0x0112, 3, 1, b"\0\x09\0\0")), WIDE),
    "jpeg turned by a word": (encoded("JPEG", exif=exif(0x0112, 2, 4, b"left")), WIDE),
    "jpeg with metadata that leads to itself": (encoded("JPEG", exif=exif(0x8769, 4, 1, b"\0\0\0\x08", 8)), WIDE),
    "jpeg with metadata of gigabytes": (encoded("JPEG", exif=exif(0x0131, 2, 2**31, b"\0\0\0\x08")), WIDE),
    "jpeg with metadata of noise": (encoded("JPEG", exif=b"Exif\0\0" + random.Random(2).randbytes(999)), WIDE),
    "tiff of floats that are no numbers": (encoded("TIFF", Image.new("F", WIDE, float("nan"))), WIDE),
    "tiff of several pages": (encoded("TIFF", save_all=True, append_images=[OTHER]), WIDE),
    "bmp upside down": (GOOD["bmp"][:22] + struct.pack("<i", -16) + GOOD["bmp"][26:], WIDE),
}

# -- large and dear: a million pixels, in the ways that take most memory -----------------------------------------------

LARGE = 1024
TURNED = exif(0x0112, 3, 1, b"\0\x06\0\0")


def large(kind, mode="RGBA", **options):
    return encoded(kind, picture(LARGE, LARGE).convert(mode), **options)


DEAR = {
    "png transparent and turned": lambda: large("PNG", exif=TURNED, compress_level=1),
    "png of 16 bits": lambda: png(LARGE, LARGE, depth=16, colour=4),
    "jpeg progressive in four colours": lambda: large("JPEG", "CMYK", progressive=True, subsampling=0),
    "jpeg progressive and turned": lambda: large("JPEG", "RGB", progressive=True, subsampling=0, exif=TURNED),
    "tiff of floats": lambda: encoded("TIFF", Image.new("F", (LARGE, LARGE), 0.5)),
    "tiff of integers": lambda: encoded("TIFF", Image.new("I", (LARGE, LARGE), 70_000)),
    "webp transparent and turned": lambda: large("WEBP", lossless=True, quality=0, method=0, exif=TURNED),
    "avif transparent": lambda: large("AVIF", speed=10),
    "jpeg 2000 transparent": lambda: large("JPEG2000"),
}
HALF_THE_PIXELS = ("webp", "avif", "jpeg 2000")


# -- places where a file should be -------------------------------------------------------------------------------------

PLACES = {
    "folder.jpg": (lambda path: path.mkdir(), "is a folder"),
    "fifo.jpg": (os.mkfifo, "is not a regular file"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "itself.jpg": (lambda path: path.symlink_to(path), "cannot be read"),
    "nowhere.jpg": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "missing.jpg": (lambda path: None, "does not exist"),
}
