import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from indexer.images import decode
from indexer.pixels import to_rgb, upright


def scene():
    """6 x 4, no two pixels alike, so that no turn looks like another."""
    return np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image, kind, **options):
    return np.asarray(decode(encoded(image, kind, **options), path="test"))


TURNS_BY_HAND = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_each_orientation_of_a_camera_comes_out_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}

    found = decoded(Image.fromarray(scene()), kind, exif=exif, **options)

    assert np.array_equal(TURNS_BY_HAND[orientation](scene()), found)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "MPO"])
def test_each_orientation_of_a_lossy_format_agrees_with_pillows_own_turning(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(scene()), kind, exif=exif)

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")

    assert np.array_equal(np.asarray(expected), np.asarray(decode(data, path="test")))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert np.array_equal(scene(), decoded(Image.fromarray(scene()), "PNG", exif=exif))


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"\0" * 40, b"MM\0*\0\0"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_costs_the_orientation_and_not_the_image(kind, exif):
    image = Image.fromarray(np.full((8, 8, 3), 77, np.uint8))

    assert np.ptp(decoded(image, kind, exif=b"Exif\0\0" + exif)) == 0


def test_an_image_turned_upright_is_not_turned_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    once = decode(encoded(Image.fromarray(scene()), "PNG", exif=exif), path="test")

    assert np.array_equal(np.asarray(once), np.asarray(upright(once)))


def test_palette_colours_are_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])

    assert decoded(image, "PNG").tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize(("kind", "transparency"), [("GIF", 0), ("PNG", 0), ("PNG", bytes([0, 255]))])
def test_transparent_palette_colours_become_white(kind, transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])

    assert decoded(image, kind, transparency=transparency).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize(("mode", "colour", "transparency"), [("RGB", (9, 8, 7), (9, 8, 7)), ("L", 9, 9)])
def test_a_colour_declared_transparent_becomes_white(mode, colour, transparency):
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 50 if mode == "L" else (50, 50, 50))

    assert decoded(image, "PNG", transparency=transparency).tolist() == [[[255] * 3, [50] * 3]]


@pytest.mark.parametrize("channels", [1, 3], ids=["LA", "RGBA"])
def test_alpha_blends_with_white(channels):
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    alpha = rng.integers(0, 256, (5, 7, 1), dtype=np.uint8)
    share = alpha / 255

    found = decoded(Image.fromarray(np.concatenate([colour, alpha], axis=2)), "PNG")

    assert np.abs(found - (colour * share + 255 * (1 - share))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_colours_multiplied_by_their_alpha_blend_with_white(mode):
    image = Image.new("RGBA" if mode == "RGBa" else "LA", (1, 1), (100,) * (len(mode) - 1) + (51,)).convert(mode)

    assert np.abs(np.array(to_rgb(image).getpixel((0, 0))) - (100 * 0.2 + 255 * 0.8)).max() <= 2


def test_a_palette_beside_an_alpha_channel_blends_with_white():
    image = Image.new("PA", (1, 1), (1, 51))
    image.putpalette([0, 0, 0, 100, 0, 255])

    assert to_rgb(image).getpixel((0, 0)) == (224, 204, 255)


def test_ink_becomes_light():
    ink = bytes([0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255])
    light = [[[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]]

    assert decoded(Image.frombytes("CMYK", (5, 1), ink), "TIFF").tolist() == light


def test_ink_in_a_jpeg_is_not_inverted():
    found = decoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)

    assert np.abs(found.astype(int) - [0, 255, 255]).max() <= 6


def test_ink_in_a_jpeg_that_stores_luma_is_converted_back():
    wanted = (200, 60, 30)
    luma = Image.new("RGB", (1, 1), tuple(255 - value for value in wanted)).convert("YCbCr").getpixel((0, 0))
    data = bytearray(encoded(Image.new("CMYK", (16, 16), (*(255 - value for value in luma), 0)), "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2  # Adobe's word for YCCK, which Pillow reads but does not write

    assert np.abs(np.asarray(decode(bytes(data), path="test")).astype(int) - wanted).max() <= 4


def test_ycbcr_and_hsv_become_rgb():
    red = Image.new("RGB", (2, 2), (255, 0, 0))

    for mode in ("YCbCr", "HSV"):
        assert np.abs(np.asarray(to_rgb(red.convert(mode))).astype(int) - [255, 0, 0]).max() <= 2


def test_one_bit_is_black_and_white():
    assert decoded(Image.frombytes("1", (2, 1), b"\x80"), "PNG").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    deep = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)

    found = decoded(Image.fromarray(deep), kind)

    assert np.array_equal(found[..., 0], np.arange(256).reshape(16, 16))
    assert np.array_equal(found[..., 0], found[..., 2])


def test_16_bit_grey_is_scaled_whatever_its_byte_order():
    deep = np.array([[0, 257 * 100, 65535]], ">u2")

    assert np.asarray(to_rgb(Image.frombytes("I;16B", (3, 1), deep.tobytes())))[0, :, 0].tolist() == [0, 100, 255]


def test_16_bit_colour_is_scaled():
    header, samples = b"P6 2 1 65535\n", np.array([65535, 257 * 7, 0, 257, 0, 65535], ">u2")

    found = np.asarray(decode(header + samples.tobytes(), path="test"))

    assert np.abs(found.astype(int) - [[[255, 7, 0], [1, 0, 255]]]).max() <= 1


def test_a_16_bit_pgm_is_scaled():
    samples = np.array([0, 257 * 7, 65535], ">u2")

    assert np.asarray(decode(b"P5 3 1 65535\n" + samples.tobytes(), path="test"))[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.4, 255.0], [0, 51, 255]),
        ([0.0, 257 * 51, 65535.0], [0, 51, 255]),
        ([-1.0, -0.6, 1.0], [0, 51, 255]),
        ([0.0, 2e5, 1e6], [0, 51, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
        ([-3e38, -1.8e38, 3e38], [0, 51, 255]),
        ([-1e-45, -1e-45, 0.0], [0, 0, 255]),
        ([float("nan"), float("inf"), 1.0], [0, 0, 255]),
    ],
)
def test_floats_are_scaled_by_the_smallest_usual_range_that_holds_them(samples, expected):
    image = Image.fromarray(np.array([samples], np.float32))

    assert decoded(image, "TIFF")[0, :, 1].tolist() == expected


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([0, 1, 255], [0, 1, 255]), ([0, 257, 65535], [0, 1, 255]), ([0, 2 * 10**5, 10**6], [0, 51, 255])],
)
def test_32_bit_integers_are_scaled_likewise(samples, expected):
    assert decoded(Image.fromarray(np.array([samples], np.int32)), "TIFF")[0, :, 1].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for frame in frames:
        ImageDraw.Draw(frame).point((0, 0), "black")

    found = decoded(frames[0], kind, save_all=True, append_images=frames[1:])

    assert np.abs(found[8:, 8:].astype(int) - [255, 0, 0]).max() <= 4
