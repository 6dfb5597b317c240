"""Thumbnails outlive their images, and cost the history nothing."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from indexer import build, images
from indexer.thumbnails import SIDE, thumbnail


def wide(path, seed):
    """Write a photo larger than a thumbnail: a red bar on a ground of some colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (300, 150), (0, 40 * seed, 255 - 40 * seed))
    picture.paste((255, 0, 0), (0, 0, 60, 150))
    picture.save(path, format="PNG")
    return path


@pytest.fixture
def photos(tmp_path):
    for seed in range(4):
        wide(tmp_path / "photos" / f"class {seed // 2}" / f"{seed}.png", seed)
    return tmp_path / "photos"


def kept(gallery):
    return {one.hash: gallery.thumbnail(one.hash) for one in gallery.references()}


def shown(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.convert("RGB")


def test_a_thumbnail_is_a_small_jpeg_that_looks_like_its_image(photos):
    with Image.open(photos / "class 0" / "1.png") as image:
        small = shown(thumbnail(image))
        alike = np.asarray(image.resize(small.size), float) - np.asarray(small, float)

    assert small.size == (SIDE, SIDE // 2)
    assert np.abs(alike).mean() < 8


def test_a_small_image_keeps_its_size_and_the_given_one_is_not_changed():
    image = Image.new("RGB", (20, 10), (255, 0, 0))

    assert shown(thumbnail(image)).size == image.size == (20, 10)


def test_indexing_keeps_a_thumbnail_of_each_content_when_asked(gallery, model, photos):
    shutil.copy(photos / "class 0" / "0.png", photos / "class 1" / "copy.png")

    build.index(gallery, photos, model, thumbnails=True)
    shutil.rmtree(photos)

    assert len(kept(gallery)) == 4
    assert all(shown(jpeg).size == (96, 48) for jpeg in kept(gallery).values())
    assert gallery.verify() == []


def test_without_being_asked_none_is_kept(gallery, model, photos):
    build.index(gallery, photos, model)

    assert set(kept(gallery).values()) == {None}
    assert gallery.thumbnail("unknown") is None


def test_asked_later_the_known_images_get_theirs_without_being_embedded_again(gallery, model, photos):
    build.index(gallery, photos, model)
    (photos / "class 0" / "0.png").unlink()
    wide(photos / "class 0" / "9.png", 5)
    before = model.embedded

    build.index(gallery, photos, model, thumbnails=True, keep_removed=True)

    assert model.embedded == before + 1
    gone = [hash for hash, jpeg in kept(gallery).items() if jpeg is None]
    assert len(gone) == 1
    assert len(kept(gallery)) == 5


def test_a_dry_run_keeps_none(gallery, model, photos):
    build.index(gallery, photos, model)

    build.index(gallery, photos, model, thumbnails=True, dry_run=True)

    assert set(kept(gallery).values()) == {None}


def test_each_thumbnail_is_of_its_own_content(gallery, model, photos):
    build.index(gallery, photos, model, thumbnails=True, workers=4, batch_size=3)

    for path in photos.glob("*/*.png"):
        loaded = images.load(path)
        assert gallery.thumbnail(loaded.hash) == thumbnail(loaded.image)


def test_what_the_catalog_does_not_know_and_what_has_one_stay_as_they_are(gallery):
    gallery.add("heron", [("h0", None, np.eye(16)[0])])

    gallery.thumbnails.keep({"h0": b"first", "unknown": b"other"})
    gallery.thumbnails.keep({"h0": b"second"})

    assert gallery.thumbnail("h0") == b"first"
    assert gallery.thumbnail("unknown") is None
    assert gallery.thumbnails.lacking(["h0", "unknown"]) == set()
    assert gallery.revision == 1
