"""A drawing on even paper is seen smaller and larger as well, wherever and however large it is; a photo is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from engine.embedder import Embedder, merged
from engine.paper import FAR, LEAST, find_ink, shown
from engine.preprocessing import Preprocessing
from engine.recognizer import BulkModel, Recognizer
from engine.weights import load_embedder

SHARES = 0.5, 0.8
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def drawing(side=200, at=(50, 60), large=100, *, paper=WHITE, pen=BLACK, size=None):
    """A closed figure with a foot, ``large`` pixels high and three quarters as wide, with its corner at a place."""
    image = Image.new("RGB", size or (side, side), paper)
    figure = [(0, 0), (0.75, 0), (0.75, 1), (0.4, 1), (0.4, 0.3), (0.2, 0.3), (0.2, 0.6), (0, 0.6)]
    points = [(at[0] + large * x, at[1] + large * y) for x, y in figure]
    ImageDraw.Draw(image).polygon(points, fill=pen)
    return image


@pytest.fixture
def sketcher():
    """An embedder that looks at drawings three times."""
    return Preprocessing(size=32, resize=32, fit="stretch", ink=SHARES)


def far_from(pixels, paper):
    return np.abs(pixels.astype(int) - paper).max(axis=-1) > FAR


def test_further_looks_are_alike_however_large_and_wherever_it_was_drawn(sketcher):
    first, second = (sketcher.looks(one).astype(float) for one in (drawing(), drawing(300, (20, 150), 130)))

    assert first.shape == second.shape == (3, 32, 32, 3)
    apart = np.abs(first - second).mean(axis=(1, 2, 3))
    assert apart[0] > 40
    assert (apart[1:] < 8).all()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", [(200, 200), (250, 180), (180, 240)])
def test_the_longer_side_of_what_is_drawn_fills_the_share_and_its_form_stays(share, size):
    image = drawing(size=size)

    ink = far_from(shown(image, find_ink(image), 64, share), WHITE)

    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert high == pytest.approx(64 * share, abs=4)
    assert wide == pytest.approx(0.75 * high, abs=5)
    for places in (rows, columns):
        assert (places[0] + places[-1]) / 2 == pytest.approx(31.5, abs=2)


def test_a_dot_stays_a_dot():
    dot = drawing(at=(90, 90), large=12)

    assert np.ptp(np.flatnonzero(far_from(shown(dot, find_ink(dot), 64, 0.8), WHITE).any(axis=1))) + 1 == pytest.approx(
        64 * 0.8 * 12 / (LEAST * 200), abs=4
    )


@pytest.mark.parametrize(("paper", "pen"), [(WHITE, BLACK), (BLACK, WHITE), ((230, 225, 220), (60, 60, 60))])
def test_the_paper_goes_on_around_the_drawing(sketcher, paper, pen):
    looks = sketcher.looks(drawing(paper=paper, pen=pen))

    assert len(looks) == 3
    assert (looks[:, 0, 0] == paper).all()
    assert (looks[1][[0, -1]] == paper).all()


NOISE = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.fromarray(NOISE), id="no even edge"),
        pytest.param(Image.new("RGB", (90, 90), WHITE), id="nothing on it"),
        pytest.param(drawing(pen=(200, 30, 30)), id="in colour"),
        pytest.param(drawing(at=(10, 5), large=240), id="cut off by the edge"),
        pytest.param(drawing(pen=(230, 230, 230)), id="too pale"),
        pytest.param(Image.new("RGB", (1, 1), WHITE), id="one pixel"),
        pytest.param(Image.new("RGB", (3000, 2), WHITE), id="a line"),
    ],
)
def test_what_is_no_drawing_on_even_paper_is_seen_once(sketcher, image):
    assert find_ink(image) is None
    np.testing.assert_array_equal(sketcher.looks(image), sketcher.pixels(image)[np.newaxis])


def test_mostly_ink_is_no_drawing():
    page = Image.new("RGB", (100, 100), WHITE)
    page.paste(BLACK, (5, 5, 95, 95))

    assert find_ink(page) is None


def test_who_does_not_ask_for_further_looks_has_one_and_is_described_as_before():
    plain, sketcher = Preprocessing.whole(32), replace(Preprocessing.whole(32), ink=SHARES)

    assert len(plain.looks(drawing())) == 1
    assert "ink" not in plain.as_dict()
    assert Preprocessing.from_dict(plain.as_dict()) == plain
    assert Preprocessing.from_dict({**sketcher.as_dict(), "ink": list(SHARES)}) == sketcher
    assert Embedder("tiny", preprocessing=plain).fingerprint != Embedder("tiny", preprocessing=sketcher).fingerprint


@pytest.fixture
def looking(embedder, sketcher):
    embedder.preprocessing = sketcher
    return embedder


def by_hand(embedder, image):
    """The direction of the mean of what the network makes of each look, alone."""
    looks = embedder.preprocessing.looks(image)
    total = np.sum([embedder.embed_pixels([look])[0].astype(np.float64) for look in looks], axis=0)
    return total / np.linalg.norm(total)


def test_an_embedding_is_the_mean_of_the_looks_in_any_company(looking):
    mixed = [Image.fromarray(NOISE), drawing(), drawing(at=(10, 10)), Image.new("RGB", (50, 50), WHITE), drawing(300)]

    vectors = looking.embed(mixed, batch_size=3)

    np.testing.assert_allclose(vectors, [by_hand(looking, image) for image in mixed], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_an_image_with_one_look_has_the_networks_own_vector_to_the_bit():
    looks = [np.full((count, 4, 4, 3), number, np.uint8) for number, count in enumerate((1, 3, 1))]
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)

    vectors = merged(looks, lambda pixels: rows[: len(pixels)])

    assert vectors.dtype == np.float32
    assert (vectors[0] == rows[0]).all()
    assert (vectors[2] == rows[4]).all()
    mean = rows[1:4].sum(axis=0)
    np.testing.assert_allclose(vectors[1], mean / np.linalg.norm(mean), atol=1e-6)


def test_galleries_queries_and_bulk_indexing_see_a_drawing_alike(looking, tmp_path):
    folder = tmp_path / "figures"
    for name, image in (("figure", drawing()), ("noise", Image.fromarray(NOISE))):
        (folder / name).mkdir(parents=True)
        image.save(folder / name / "one.png")
    files = sorted(folder.rglob("*.png"))
    expected = looking.embed(files)

    bulk = BulkModel(looking)
    np.testing.assert_allclose(bulk.embed([bulk.prepare(Image.open(file)) for file in files]), expected, atol=1e-6)
    with Recognizer.create(tmp_path / "g.gallery", weights=looking) as recognizer:
        assert recognizer.index(folder).added == 2
        for file, name in zip(files, ("figure", "noise"), strict=True):
            match = recognizer.recognize(file).matches[0]
            assert (match.name, match.score) == (name, pytest.approx(1, abs=1e-5))
        elsewhere = recognizer.recognize(drawing(400, (30, 200), 150)).matches[0]
        assert (elsewhere.name, elsewhere.reference) == ("figure", str(files[0]))


def test_the_bundled_weights_look_at_drawings_three_times_at_any_size():
    for weights, size in (("bundled", 64), ("bundled@96", 96)):
        preprocessing = load_embedder(weights).preprocessing
        assert preprocessing.looks(drawing()).shape == (3, size, size, 3)
        assert len(preprocessing.looks(Image.fromarray(NOISE))) == 1
