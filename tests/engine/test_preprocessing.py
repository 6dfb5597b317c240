"""One way from a file to the network's pixels: however it is encoded, and however much of it is decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.preprocessing import Preprocessing
from engine.weights import BUNDLED, load_embedder
from indexer.errors import ImageError
from indexer.images import ENOUGH, decode, load

PIXELS = 1.5  # of 255, mean over an image: how much decoding at a part of the size may change what the network sees
COSINE = 0.999  # of embeddings by the bundled weights


def photo(width, height, seed=0):
    """Return what a camera might: soft fields, edges, grain."""
    draw = np.random.default_rng(seed)
    soft = Image.fromarray(draw.integers(0, 256, (7, 9, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    edges = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8)).resize((width, height), Image.Resampling.BOX)
    grain = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1))
    return Image.blend(Image.blend(soft, edges, 0.4), grain, 0.2)


def jpeg(image, **how):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **how)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


KINDS = {
    "640 x 480": (jpeg(photo(640, 480)), 2),
    "odd sides": (jpeg(photo(811, 643)), 2),
    "large": (jpeg(photo(2400, 1800)), 8),
    "narrow": (jpeg(photo(2000, 390)), 2),
    "progressive": (jpeg(photo(1000, 800), progressive=True), 4),
    "grey": (jpeg(photo(900, 800).convert("L")), 4),
    "CMYK": (jpeg(photo(900, 800).convert("CMYK")), 4),
    "whole colour": (jpeg(photo(900, 800), subsampling=0), 4),
    "on its side": (jpeg(photo(900, 800), exif=turned(6)), 4),
    "mirrored": (jpeg(photo(900, 800), exif=turned(5)), 4),
    "just too small": (jpeg(photo(640, 2 * ENOUGH - 1)), 1),
    "small": (jpeg(photo(100, 80)), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_decoded_in_part_shows_the_network_what_the_whole_one_does(kind):
    data, share = KINDS[kind]
    whole = decode(data, path="x")
    for preprocessing in (Preprocessing.whole(64), Preprocessing(size=64, resize=80)):
        some = decode(data, path="x", enough=preprocessing.enough)

        assert some.mode == "RGB"
        assert some.size == tuple(-(-side // share) for side in whole.size)
        assert min(some.size) >= min(ENOUGH, *whole.size)
        ours, theirs = (preprocessing.pixels(image).astype(float) for image in (some, whole))
        assert np.abs(ours - theirs).mean() <= (PIXELS if share > 1 else 0)


def test_no_more_is_left_out_than_a_large_network_can_do_without():
    data = jpeg(photo(2400, 1800))

    assert decode(data, path="x", enough=Preprocessing().enough).size == (1200, 900)
    assert decode(data, path="x", enough=1800).size == (2400, 1800)
    assert load(data, enough=Preprocessing().enough).image.size == (1200, 900)
    assert load(decode(data, path="x"), enough=16).image.size == (2400, 1800)  # pixels are what they are


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16", "P", "LA", "1"])
def test_other_formats_keep_all_their_pixels_whatever_they_are_called(mode, tmp_path):
    image = photo(700, 500)
    image = (
        Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
    )
    image.save(tmp_path / "really.jpg", "PNG")

    some, whole = (load(tmp_path / "really.jpg", enough=enough).image for enough in (16, None))

    assert some.size == (700, 500)
    assert some.tobytes() == whole.tobytes()


def test_a_jpeg_cut_short_is_refused_in_part_as_it_is_whole():
    data = jpeg(photo(1600, 1200))
    for share in (0.02, 0.3, 0.9, 0.999):
        cut, told = data[: int(share * len(data))], []
        for enough in (None, 16):
            with pytest.raises(ImageError) as error:
                decode(cut, path="x", enough=enough)
            told.append(error.value.reason)
        assert told[0] == told[1]


def test_a_damaged_jpeg_is_refused_in_part_if_and_only_if_it_is_whole():
    good = jpeg(photo(500, 400))
    refused = 0
    for seed in range(60):
        dice, data = np.random.default_rng(seed), bytearray(good)
        for place in dice.integers(0, len(data) if seed % 2 else 700, 8):
            data[place] = dice.integers(256)
        outcomes = []
        for enough in (None, 16):
            try:
                outcomes.append(decode(bytes(data), path="x", enough=enough).mode)
            except ImageError as error:
                outcomes.append(error.reason)
        assert outcomes[0] == outcomes[1]
        refused += outcomes[0] != "RGB"
    assert 5 < refused < 60


def test_the_limit_of_pixels_is_that_of_the_whole_picture():
    with pytest.raises(ImageError, match="1600 × 1200 pixels"):
        decode(jpeg(photo(1600, 1200)), path="x", enough=16, max_pixels=1600 * 1200 - 1)


def test_memory_is_asked_for_before_decoding_and_less_for_a_part():
    asked = []
    for data, enough in ((KINDS["large"][0], None), (KINDS["large"][0], 16), (KINDS["progressive"][0], 16)):
        decode(data, path="x", enough=enough, admit=asked.append)

    whole, part, scanned = asked
    assert 2400 * 1800 * 4 < whole < 2400 * 1800 * 20
    assert part < whole / 30
    assert scanned > 1000 * 800 * 6


@pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")
def test_embeddings_of_a_file_agree_with_those_of_its_whole_picture():
    embedder = load_embedder("bundled")
    files = [data for data, _ in KINDS.values()]

    of_files = embedder.embed(files)
    of_pictures = embedder.embed([decode(data, path="x") for data in files])

    assert (of_files * of_pictures).sum(axis=1).min() >= COSINE
