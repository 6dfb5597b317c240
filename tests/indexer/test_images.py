import hashlib
import io
import os
import random
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from indexer import images
from indexer.errors import ImageError
from indexer.images import decode, identify, load, looks_like_image, read
from indexer.printable import printable


def noise(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(kind="PNG", image=None, **options):
    file = io.BytesIO()
    (image or Image.fromarray(noise())).save(file, kind, **options)
    return file.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x0131] = "a camera's software"
    return tags


OTHER = Image.fromarray(noise(seed=1))
FILES = {
    "jpeg": encoded("JPEG", exif=exif()),
    "jpeg-progressive": encoded("JPEG", progressive=True),
    "mpo": encoded("MPO", save_all=True, append_images=[OTHER]),
    "png": encoded("PNG", exif=exif()),
    "png-palette": encoded("PNG", OTHER.convert("P"), transparency=3),
    "png-animated": encoded("PNG", save_all=True, append_images=[OTHER]),
    "gif": encoded("GIF", save_all=True, append_images=[OTHER]),
    "webp": encoded("WEBP", exif=exif()),
    "webp-lossless": encoded("WEBP", lossless=True),
    "webp-animated": encoded("WEBP", save_all=True, append_images=[OTHER]),
    "tiff": encoded("TIFF", exif=exif()),
    "tiff-lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff-deflate": encoded("TIFF", compression="tiff_deflate"),
    "tiff-jpeg": encoded("TIFF", compression="jpeg"),
    "tiff-float": encoded("TIFF", Image.fromarray(noise()[..., 0].astype(np.float32))),
    "bmp": encoded("BMP"),
    "avif": encoded("AVIF", exif=exif()),
    "jpeg2000": encoded("JPEG2000"),
    "ppm": encoded("PPM"),
}

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"  # to open one may run a program


def png_claiming(width, height):
    """A PNG of 60 bytes that says it is large."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def reason(image, **options):
    with pytest.raises(ImageError) as caught:
        load(image, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    return caught.value.reason


def kept_or_refused(data):
    """Decode: the law is an RGB image or an ImageError of one line, and no warning."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            image = decode(data, path="x")
        except ImageError as error:
            image, message = None, str(error)
        if image is None:
            assert "\n" not in message
        else:
            assert image.mode == "RGB"
            assert len(image.tobytes()) == 3 * image.width * image.height
    assert [str(warning.message) for warning in heard] == []


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_sound_file_of_each_format_is_decoded(data):
    assert decode(data, path="x").mode == "RGB"


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_file_cut_short_anywhere_is_an_image_or_an_error(data):
    for length in range(0, len(data), 1 + len(data) // 80):
        kept_or_refused(data[:length])


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_random_bytes_changed_is_an_image_or_an_error(name):
    dice = random.Random(name)
    for _ in range(80):
        data = bytearray(FILES[name])
        end = min(len(data), dice.choice([64, 256, len(data)]))  # headers break in more ways than pixels
        for _ in range(dice.choice([1, 2, 5, 20])):
            data[dice.randrange(end)] = dice.choice([0, 255, dice.randrange(256)])
        kept_or_refused(bytes(data))


@pytest.mark.parametrize(
    "error", [ValueError, struct.error, zlib.error, EOFError, OverflowError, MemoryError, KeyError]
)
def test_whatever_a_decoder_throws_is_an_image_error(monkeypatch, error):
    def broken(*args, **options):
        raise error("two\nlines")

    monkeypatch.setattr(Image, "open", broken)

    assert "\n" not in reason(FILES["png"])


def test_stopping_the_program_is_not_an_image_error(monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", stopped)

    with pytest.raises(KeyboardInterrupt):
        load(FILES["png"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"class,name\n1,heron\n", "is not an image that can be read"),
        (b"BMW, Audi and other cars", "is not an image that can be read"),
        (b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40, "is not an image that can be read"),
        (EPS, "is not an image that can be read"),
        (FILES["jpeg"][:-40], "is cut short (JPEG)"),
        (FILES["png"][:-60], "is cut short (PNG)"),
        (FILES["jpeg"][:20], "is damaged (JPEG)"),
        (FILES["png"][:20], "is cut short (PNG)"),
        (FILES["webp"][:40], "is damaged (WebP)"),
    ],
)
def test_the_reason_tells_what_is_wrong(data, expected):
    assert expected in reason(data)


def test_the_content_counts_and_not_the_suffix(tmp_path):
    (tmp_path / "heron.jpg").write_bytes(FILES["png"])

    assert np.array_equal(np.asarray(load(tmp_path / "heron.jpg").image), np.asarray(load(FILES["png"]).image))


def test_a_small_file_that_claims_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))

    for side in (9_460, 13_000, 20_000, 2**31 - 1):  # beyond Pillow's warning, at its error, far beyond
        assert "is too large" in reason(png_claiming(side, side))


def test_the_limit_of_pixels_is_a_parameter_and_inclusive(tmp_path):
    (tmp_path / "a.png").write_bytes(FILES["png"])

    for given in (FILES["png"], tmp_path / "a.png", Image.fromarray(noise()), noise()):
        assert load(given, max_pixels=192).image.size in {(16, 12), (12, 16)}
        assert "the limit is 191" in reason(given, max_pixels=191)


def test_a_limit_above_pillows_warning_is_quiet():
    data = png_claiming(10_000, 9_000)

    assert "is cut short" in reason(data, max_pixels=100_000_000)


def test_a_missing_file_is_an_image_error(tmp_path):
    assert reason(tmp_path / "heron.jpg") == "does not exist"


def test_a_file_that_vanishes_between_two_looks_is_an_image_error(tmp_path, monkeypatch):
    path = tmp_path / "heron.png"
    path.write_bytes(FILES["png"])
    look = os.stat

    def vanishing(name, **options):
        found = look(name, **options)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "stat", vanishing)

    assert reason(str(path)) == "does not exist"


def test_a_file_without_permission_is_an_image_error(tmp_path, monkeypatch):
    path = tmp_path / "heron.png"
    path.write_bytes(FILES["png"])
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything, so the system's answer is played
        monkeypatch.setattr(
            "builtins.open", lambda *args, **more: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )

    assert reason(path) == "cannot be read: permission denied"


def test_an_error_of_the_disk_is_an_image_error(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    (tmp_path / "heron.png").write_bytes(FILES["png"])
    monkeypatch.setattr("builtins.open", broken)

    assert reason(tmp_path / "heron.png") == "cannot be read: input/output error"


def test_a_folder_named_like_an_image_is_an_image_error(tmp_path):
    (tmp_path / "heron.jpg").mkdir()

    assert reason(tmp_path / "heron.jpg") == "is a folder, not an image"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no fifos here")
def test_a_fifo_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "heron.jpg")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(reason(tmp_path / "heron.jpg")), daemon=True)
    asking.start()
    asking.join(5)

    assert answers == ["is not a regular file"]
    assert not looks_like_image(tmp_path / "heron.jpg")


def test_an_empty_file_is_an_image_error(tmp_path):
    (tmp_path / "heron.jpg").touch()

    assert reason(tmp_path / "heron.jpg") == "is empty"


def test_a_file_beyond_the_limit_of_bytes_is_never_read(tmp_path, monkeypatch):
    (tmp_path / "heron.png").write_bytes(FILES["png"])
    monkeypatch.setattr(images, "MAX_BYTES", len(FILES["png"]) - 1)

    assert "is larger than" in reason(tmp_path / "heron.png")
    assert "is larger than" in reason(io.BytesIO(FILES["png"]))


@pytest.mark.parametrize("path", ["a\0b.jpg", "x" * 300 + ".jpg", "", "no/such\nfolder.jpg", "\udce9.jpg"])
def test_a_path_that_cannot_exist_is_an_image_error(path):
    assert reason(path)


def test_an_error_names_the_path_on_one_printable_line(tmp_path):
    with pytest.raises(ImageError) as caught:
        read(f"{tmp_path}/caf\udce9\n\x1b[31m.jpg")

    assert caught.value.path == f"{tmp_path}/caf\\udce9\\n\\x1b[31m.jpg"
    str(caught.value).encode()


def test_printable_leaves_readable_names_alone():
    for name in ("été/Ωmega 鳥.jpg", "e\u0301", "👩\u200d🔬", "with blank"):
        assert printable(name) == name


@pytest.mark.parametrize(
    "given",
    [
        None,
        3,
        ["a.jpg"],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        io.StringIO("text"),
        Image.new("RGB", (0, 5)),
    ],
    ids=repr,
)
def test_what_is_no_image_at_all_is_an_image_error(given):
    assert reason(given)


def test_path_bytes_and_file_object_give_the_same(tmp_path):
    path = tmp_path / "heron.png"
    path.write_bytes(FILES["png"])
    with path.open("rb") as file:
        results = [
            load(path),
            load(str(path)),
            load(FILES["png"]),
            load(io.BytesIO(FILES["png"])),
            load(file),
            load(file),
        ]

    assert {result.hash for result in results} == {hashlib.sha256(FILES["png"]).hexdigest()}
    assert len({result.image.tobytes() for result in results}) == 1
    assert [result.path for result in results] == [str(path), str(path), None, None, None, None]


def test_a_stream_that_cannot_be_rewound_is_read_from_where_it_is():
    source, sink = os.pipe()
    with os.fdopen(sink, "wb") as file:
        file.write(FILES["png"])
    with os.fdopen(source, "rb") as file:
        assert load(file).hash == identify(FILES["png"])


def test_a_broken_pil_image_is_an_image_error():
    assert "is cut short" in reason(Image.open(io.BytesIO(FILES["png"][:-60])))


def test_the_hash_of_a_file_is_that_of_its_bytes_and_of_nothing_else(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(FILES["png"])

    assert load(tmp_path / "a.png").hash == load(tmp_path / "b.jpg").hash == identify(FILES["png"])
    assert identify(FILES["png"]) != identify(FILES["png"] + b"\0")


def test_an_array_and_a_pil_image_of_the_same_pixels_hash_alike():
    pixels = noise()

    hashes = {load(given).hash for given in (pixels, np.asfortranarray(pixels), Image.fromarray(pixels))}

    assert len(hashes) == 1
    assert load(Image.fromarray(pixels).convert("RGBA")).hash in hashes


def test_other_pixels_or_another_shape_hash_otherwise():
    pixels, changed = noise(), noise()
    changed[3, 4, 1] ^= 1

    assert len({load(given).hash for given in (pixels, changed, pixels.reshape(16, 12, 3), pixels[::-1])}) == 4


def test_a_pil_image_is_turned_upright_like_its_file():
    file, opened = load(FILES["png"]), load(Image.open(io.BytesIO(FILES["png"])))

    assert file.image.tobytes() == opened.image.tobytes()
    assert load(file.image).image.tobytes() == file.image.tobytes()


def test_the_callers_image_and_array_are_left_as_they_are():
    pixels = noise()
    given = Image.fromarray(pixels)
    given.info["exif"] = exif().tobytes()
    loaded = load(given)
    loaded.image.paste("red", (0, 0, 4, 4))
    load(pixels).image.paste("red", (0, 0, 4, 4))

    assert np.array_equal(pixels, noise())
    assert np.array_equal(np.asarray(given), noise())
    assert "exif" in given.info


def test_decoding_in_threads_gives_what_one_thread_gives():
    expected = [decode(data, path="x").tobytes() for data in FILES.values()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: decode(data, path="x").tobytes(), list(FILES.values()) * 10))

    assert found == expected * 10


ODD_TIFF = FILES["tiff"].replace(struct.pack("<HHI", 305, 2, 20), struct.pack("<HHI", 305, 2, 2**30))


def test_an_image_with_odd_metadata_is_decoded_without_a_warning():
    with pytest.warns(UserWarning, match="Skipping tag 305"), Image.open(io.BytesIO(ODD_TIFF)) as image:
        image.load()  # Pillow alone remarks on it

    decode(ODD_TIFF, path="x")  # and here a warning would be an error
    with pytest.raises(UserWarning, match="Skipping tag 305"):  # as it is for the caller's own Pillow, afterwards too
        Image.open(io.BytesIO(ODD_TIFF)).load()


def test_warnings_of_others_are_heard_while_a_thread_decodes(monkeypatch):
    def chatty(*args, **options):
        with ThreadPoolExecutor(1) as pool:  # another thread opens the image on its own account
            pool.submit(opening, io.BytesIO(ODD_TIFF)).result()
        return opening(*args, **options)

    opening = Image.open
    monkeypatch.setattr(Image, "open", chatty)

    with pytest.warns(UserWarning, match="Skipping tag 305"):
        decode(FILES["png"], path="x")


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_an_image_looks_like_one_whatever_it_is_called(data, tmp_path):
    (tmp_path / "notes.txt").write_bytes(data)

    assert looks_like_image(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "data", [b"", b"BMW, Audi", b"P1 is the first person", EPS, b"RIFF and raff", b"II*\0", b"\xff\xd8\xff"]
)
def test_other_files_do_not_look_like_images(data, tmp_path):
    (tmp_path / "heron.jpg").write_bytes(data)

    assert not looks_like_image(tmp_path / "heron.jpg")
    assert not looks_like_image(tmp_path / "missing.jpg")
    assert not looks_like_image(tmp_path)


def test_an_image_too_large_to_decode_still_looks_like_one(tmp_path):
    (tmp_path / "map.png").write_bytes(png_claiming(20_000, 20_000))

    assert looks_like_image(tmp_path / "map.png")
