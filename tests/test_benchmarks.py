"""What the benchmarks claim of the bundled weights holds, and their protocols are what they say.

Skipped where the image sets are absent.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.batches import LabelledImages, read_folder
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.weights import BUNDLED, load_embedder
from indexer.sources import find

NAMES = (
    *("choose_shares", "data", "digits", "filters", "grocery", "heldout", "omniglot", "protocols", "readers", "rows"),
    *("scale", "sync", "train_bundled"),
)


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Import a benchmark, with a cache of its own."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def packed(path, names, colour=0):
    """Write an archive that holds an image of 8 x 8 pixels under each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as archive:
        for number, name in enumerate(names):
            pixels = np.full((8, 8), colour, np.uint8)
            pixels[number % 8, : number % 5 + 1] = 255
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = len(data.getvalue())
            data.seek(0)
            archive.addfile(entry, data)


@pytest.fixture
def small_omniglot(monkeypatch, tmp_path):
    """Two alphabets to learn from and one to test with, three characters of 20 drawings each."""
    monkeypatch.setenv("FIRSTSIGHT_DATA", str(tmp_path / "data"))
    for part, alphabets in {"background": ("Greek", "Latin"), "evaluation": ("Tengwar",)}.items():
        drawings = [f"{a}/character0{c}/s{s:02}.png" for a in alphabets for c in (1, 2, 3) for s in range(1, 21)]
        packed(tmp_path / f"data/omniglot/images_{part}.tar.xz", [f"images_{part}/{name}" for name in drawings])


@pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")
def test_the_bundled_weights_know_characters_of_new_alphabets_from_one_drawing(program):
    try:
        right = program("omniglot").lake(load_embedder("bundled"))
    except FileNotFoundError as absent:
        pytest.skip(str(absent))

    assert len(right) == 20
    assert sum(right) / 400 >= 0.88


def test_digits_are_written_larger_thinner_and_bolder_by_what_the_names_say(program):
    ink = np.zeros((8, 8))
    ink[2:6, 3:5] = 16

    dark = {
        how: [int(np.ptp(np.flatnonzero((np.asarray(write(ink)) < 128).any(axis)))) + 1 for axis in (1, 0)]
        for how, write in program("digits").ways().items()
    }

    assert dark == {
        "as the demo shows them": [20, 10],
        "on 52 of 64 pixels": [26, 14],
        "on 32 of 64 pixels": [16, 8],
        "on 24 of 64 pixels": [12, 6],
        "a pixel thinner on every side": [18, 8],
        "a pixel bolder on every side": [22, 12],
    }


# -- splits ------------------------------------------------------------------------------------------------------------


def test_the_split_of_vinyals_shares_no_character_and_leaves_none_out(program, small_omniglot, monkeypatch):
    protocols = program("protocols")
    monkeypatch.setattr(protocols, "VINYALS_TRAINING", 6)

    training, test = protocols.vinyals_split()

    assert (len(training), len(test)) == (6, 3)
    assert set(training) | set(test) == protocols.omniglot_characters().keys()
    assert len({name.split("/")[0] for name in training}) > 2
    assert protocols.vinyals_split() == (training, test)
    assert protocols.vinyals_split(1) != (training, test)
    folder = protocols.vinyals_training_folder()
    files = find(folder, class_depth=2).files
    assert sorted({found.name for found in files}) == training
    assert len(files) == 6 * 20
    assert protocols.vinyals_training_folder() == folder


def test_a_training_folder_of_photos_shows_nothing_that_a_held_out_class_shows(program, tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTSIGHT_DATA", str(tmp_path / "data"))
    cifar = [f"cifar100/{s}/{c}/{s}.png" for s in ("train", "test") for c in ("apple", "beaver", "snail", "snake")]
    tiny = ("n01443537_goldfish", "n01944390_snail", "n02279972_monarch")
    packed(tmp_path / "data/cifar100/cifar100_jpeg.tar.xz", cifar)
    packed(
        tmp_path / "data/tiny_imagenet_100/tiny_imagenet_100.tar.xz",
        [f"tiny_imagenet_100/{s}/{c}/{s}.png" for s in ("train", "val") for c in tiny],
    )

    folder = program("protocols").photo_training_folder()

    assert [found.path for found in find(folder, class_depth=2).files] == [
        "cifar100/apple/test/test.png",
        "cifar100/apple/train/train.png",
        "tiny_imagenet/n01443537_goldfish/train/train.png",
        "tiny_imagenet/n01443537_goldfish/val/val.png",
    ]
    monkeypatch.setitem(program("protocols").HELD_OUT, "cifar100", ("beaver",))
    images = program("heldout").held_out_images
    assert [path.name for path in images("cifar100")["beaver"]] == ["train.png", "test.png"]


def test_shares_are_chosen_by_what_is_neither_learnt_nor_held_out(program):
    protocols, choosing = program("protocols"), program("choose_shares")

    for name, left_out in protocols.SAME_THING.items():
        assert not protocols.held_out(name) & left_out.keys()
    # Drawings decide among the mixtures that lose little of photos, and not beyond them.

    def chosen_of(*mixtures):
        names = choosing.PHOTOS, "fine", "coarse"
        return choosing.chosen_of([dict(zip(names, one, strict=True)) for one in mixtures])

    assert chosen_of((50.0, 70.0, 70.0), (48.5, 80.0, 70.0), (47.9, 90.0, 90.0)) == 1
    assert chosen_of((40.0, 90.0, 90.0), (50.0, 70.0, 60.0), (49.0, 60.0, 60.0)) == 1
    assert chosen_of((50.0, 80.0, 50.0), (50.0, 70.0, 70.0)) == 1
    # What differs by chance only is decided by photos.
    assert chosen_of((50.0, 70.2, 70.1), (51.0, 70.0, 70.0), (51.9, 69.0, 70.0)) == 1


def test_colours_stand_beside_features_as_long_as_asked_for_in_the_mean_of_photos(program):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    embedder = Embedder("conv4", dim=8, preprocessing=Preprocessing.whole(16)).eval()
    spots = random.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    photos = LabelledImages(spots.repeat(4, axis=1).repeat(4, axis=2), ["one"] * 50, quarter_turns=False)

    made = program("train_bundled").coloured(embedder, photos, 0.5, 0)

    images = photos.batch(range(50), embedder.device).images
    with torch.inference_mode():
        lengths, both, alone = made.colours(images).norm(dim=1), made(images), embedder(images)
    assert lengths.square().mean() == pytest.approx(0.25, rel=1e-3)
    assert lengths.std() > 0.01
    torch.testing.assert_close(both[:, :8] * (1 + lengths.square()).sqrt()[:, None], alone)


def test_a_drawing_in_a_mirror_has_left_and_right_exchanged(program, tmp_path):
    pixels = np.zeros((3, 4), np.uint8)
    pixels[1, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "drawing.png")

    seen = program("choose_shares").in_a_mirror(tmp_path / "drawing.png")

    assert np.argwhere(np.asarray(seen.convert("L"))).tolist() == [[1, 3]]


def test_a_coarse_drawing_in_a_mirror_keeps_what_twelve_pixels_show_and_nothing_finer(program, tmp_path):
    pixels = np.zeros((120, 120), np.uint8)
    pixels[:, ::2] = 255  # finer than a pixel of twelve
    pixels[:, 60:] = 255
    Image.fromarray(pixels).save(tmp_path / "drawing.png")

    seen = np.asarray(program("choose_shares").coarse_in_a_mirror(tmp_path / "drawing.png").convert("L"), np.float64)

    assert seen.shape == (120, 120)
    assert abs(seen[:, :40] - 255).max() < 20
    assert abs(seen[:, 80:] - 127.5).max() < 20


def test_every_fifth_class_is_held_out_and_what_shows_the_same_is_of_the_other_set(program):
    protocols, data = program("protocols"), program("data")
    names = data.data_folder() / "semantic" / "cifar100_class_names.txt"
    tiny = data.data_folder() / "tiny_imagenet_100" / "tiny_imagenet_100.tar.xz"
    if not names.is_file() or not tiny.is_file():
        pytest.skip("the image sets are not here")
    with tarfile.open(tiny, "r|xz") as archive:  # read only as far as the list of classes, which comes first
        entry = archive.next()
        assert Path(entry.name).name == "classes.txt"
        numbers = [line.split("\t")[0] for line in archive.extractfile(entry).read().decode().splitlines()]
    lines = names.read_text(encoding="utf-8").splitlines()[:100]  # further ones are of groups of classes
    cifar = sorted(line.split()[1] for line in lines)

    held = protocols.HELD_OUT
    assert list(held["cifar100"]) == cifar[4::5]
    assert [name.split("_")[0] for name in held["tiny_imagenet"]] == sorted(numbers)[4::5]
    for one, other in (("cifar100", "tiny_imagenet"), ("tiny_imagenet", "cifar100")):
        same = protocols.SAME_THING[one]
        assert set(same.values()) <= protocols.held_out(other)
        assert not same.keys() & protocols.held_out(one)
    assert set(protocols.SAME_THING["cifar100"]) <= set(cifar)
    assert {name.split("_")[0] for name in protocols.SAME_THING["tiny_imagenet"]} <= set(numbers)


# -- figures -----------------------------------------------------------------------------------------------------------


def alphabets(names, characters, drawings=20, noise=0.0):
    random = np.random.default_rng(0)
    made = {}
    for name in names:
        vectors = random.normal(size=(characters, 1, 32)) + noise * random.normal(size=(characters, drawings, 32))
        made[name] = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
    return made


def test_the_400_trials_of_koch_are_of_the_last_ten_alphabets_by_name(program):
    omniglot = program("omniglot")
    known = alphabets("klmnopqrst", 25)
    blind = {name: np.zeros((25, 20, 32), np.float32) for name in "abcdefghij"}

    assert omniglot.koch({**known, **blind}, seed=0) == [20] * 20
    assert omniglot.koch({**known, **{f"z{name}": vectors for name, vectors in blind.items()}}, seed=0) == [1] * 20


def test_random_trials_and_kochs_are_drawn_by_their_seed_and_are_never_of_one_drawing_alone(program):
    omniglot = program("omniglot")
    noisy = alphabets("abcdefghij", 25, noise=3.0)

    for measure in (
        lambda seed, score=None: omniglot.within_alphabet(noisy, 300, seed, score),
        lambda seed, score=None: (sum(omniglot.koch(noisy, seed, score)), 400),
    ):
        right, trials = measure(0)
        assert 0.1 < right / trials < 0.9  # a drawing that found itself would be right always
        assert measure(0) == (right, trials)
        assert len({measure(seed) for seed in range(4)}) > 1
        upside_down, _ = measure(0, lambda queries, support, labels, n_way: -queries @ support.T)
        assert upside_down < right / 4


def test_what_vinyals_tests_with_is_turned_and_small_as_training_sees_it(program, small_omniglot, monkeypatch):
    omniglot, protocols = program("omniglot"), program("protocols")
    monkeypatch.setattr(protocols, "VINYALS_TRAINING", 6)
    characters = protocols.omniglot_characters()
    folder = protocols.linked("test", {name: characters[name] for name in protocols.vinyals_split()[1]})
    seen = read_folder(folder, Preprocessing.whole(28), class_depth=2, quarter_turns=True)

    class Pixels(Embedder):
        dim = 28 * 28

        def __init__(self):
            pass

        def embed(self, images, *, batch_size):
            flat = np.stack([np.asarray(Preprocessing.whole(28).pixels(image))[..., 0].ravel() for image in images])
            return flat.astype(np.float32)

    vectors, labels = omniglot.vinyals_vectors(Pixels())

    expected = seen.batch(range(240), torch.device("cpu"))
    assert labels.tolist() == expected.labels.tolist()
    np.testing.assert_array_equal(vectors, 255 * expected.images[:, 0].flatten(1).numpy())


@pytest.mark.parametrize(
    ("learnt", "refused"),
    [
        ([], set()),
        ({"classes": 964}, {"vinyals"}),
        ([{"classes": 3856}, {"classes": 143}], {"vinyals"}),
        ([{"classes": 4800}], {"lake", "koch"}),
    ],
)
def test_weights_are_not_tested_with_what_they_have_learnt(program, learnt, refused):
    omniglot = program("omniglot")
    card = {"training": {"data": learnt}}

    assert {name for name in ("lake", "koch", "vinyals") if omniglot.refusal(card, name)} == refused


def test_a_grocery_photo_is_right_by_its_fine_its_five_nearest_or_its_coarse_class(program):
    grocery = program("grocery")
    random = np.random.default_rng(0)
    icons = grocery.Photos(np.eye(8, dtype=np.float32), np.arange(8))
    queries = random.normal(size=(60, 8)).astype(np.float32)
    test = grocery.Photos(queries, random.integers(0, 8, 60))
    coarse = np.array([0, 0, 1, 1, 1, 2, 3, 4])

    counts = grocery.right_answers(grocery.ranked(test, icons, 8), test.labels, coarse)

    order = [sorted(range(8), key=lambda label: -query[label]) for query in queries]
    pairs = list(zip(order, test.labels.tolist(), strict=True))
    assert counts == {
        "fine top-1": sum(best[0] == label for best, label in pairs),
        "fine top-5": sum(label in best[:5] for best, label in pairs),
        "coarse top-1": sum(coarse[best[0]] == coarse[label] for best, label in pairs),
    }


def test_groceries_are_chosen_by_without_a_test_photo(program, monkeypatch):
    grocery = program("grocery")
    seen = []

    def photos(_embedder, split, _names):
        seen.append(split)
        return grocery.Photos(np.repeat(np.eye(8, dtype=np.float32), 6, axis=0), np.repeat(np.arange(8), 6))

    monkeypatch.setattr(grocery, "photos", photos)
    monkeypatch.setattr(grocery, "classes", lambda: ([str(number) for number in range(8)], np.arange(8)))
    asked = {"weights": "bundled", "score": "cosine", "fine_tuned": False, "seed": 0, "draws": 2}

    chosen_by = list(grocery.measured(argparse.Namespace(choose=True, **asked)))

    assert set(seen) == {"iconic", "train", "val"}
    assert {one["goal"] for one in chosen_by} == {""}
    kept = [one["goal"] for one in grocery.measured(argparse.Namespace(choose=False, **asked))]
    assert (kept[0], "test" in seen) == (">= 28", True)


def test_photos_drawn_for_a_gallery_are_different_ones_of_each_class(program):
    grocery = program("grocery")
    pool = grocery.Photos(np.arange(30, dtype=np.float32)[:, None], np.repeat([0, 1, 2], 10))

    some = grocery.drawn(pool, 5, np.random.default_rng(0))

    assert some.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(np.unique(some.vectors)) == 15
    assert (some.vectors[:, 0] // 10).tolist() == some.labels.tolist()


# -- galleries under load ----------------------------------------------------------------------------------------------


def test_readers_beside_a_writer_get_whole_answers_and_in_the_end_the_new_ones(program, tmp_path, monkeypatch):
    readers = program("readers")
    monkeypatch.setattr(readers, "READERS", 2)

    rows = readers.measure(tmp_path, count=40, classes=20, seconds=0.2, seed=0)

    assert {line["measure"]: line["value"] for line in rows if line["goal"].startswith("=")} == {
        "readers that ended without an error": 2,
        "images indexed beside them": 40,
        "answers neither of before nor of after": 0,
        "answers of before after one of after": 0,
        "readers that saw what was indexed": 2,
    }


def test_an_answer_that_is_neither_of_before_nor_of_after_is_noticed(program, tmp_path, monkeypatch):
    readers = program("readers")
    path = tmp_path / "made.gallery"
    held = readers.make_gallery(path, 10, seed=0)
    queries = np.stack(list(held.values()))[:4]
    right, wrong = readers.nearest(queries, held), [["another"]] * 4
    told = []

    class Pipe:
        send = staticmethod(told.append)

    for truths in ((right, wrong), (wrong, wrong), (wrong, right)):

        class Phase:
            left = iter([0] * 4)
            value = property(lambda self: next(self.left, readers.OVER))

        readers.read(path, queries, truths, Phase(), Pipe)

    assert [answer[1:] for answer in told[1::2]] == [(0, 0, False), (4, 0, False), (0, 0, True)]


def test_a_large_gallery_is_measured_in_full(program, tmp_path, monkeypatch):
    scale = program("scale")
    monkeypatch.setattr(scale, "ADDED", 3)
    monkeypatch.setattr(scale, "MANY", 20)

    rows = scale.measure(tmp_path / "made.gallery", 300, seed=0)

    assert [line["measure"].removeprefix("300 references: ") for line in rows] == [
        "opening",
        "from opening to the first answer, views current",
        "adding one reference",
        "adding one reference, the gallery answers queries too",
        "one reference, seen in another process",
        "20 references, seen in another process",
    ]
    assert all(0 < line["value"] < 60 for line in rows)


# -- following a folder ------------------------------------------------------------------------------------------------


def test_the_cost_of_a_status_is_told_beside_that_of_a_bare_walk(program, monkeypatch):
    sync = program("sync")
    monkeypatch.setattr(sync, "RACY_NS", 0)  # hashed in turn 1 of 2, then too: young files are not believed

    rows = sync.measure(120, 2, goal=60.0)

    status, walk, ratio = (one["value"] for one in rows[:3])
    assert ratio == pytest.approx(status / walk, rel=0.05)
    assert rows[0]["holds"] is True
    assert [one["unit"] for one in rows] == ["s", "s", "times", "s", "s"]


def test_an_answer_under_conditions_is_wrong_if_a_score_a_place_or_a_hit_is(program):
    filters = program("filters")
    vectors = np.eye(4)
    query = np.array([[0.8, 0.6, 0.0, 0.0]], np.float32)
    right = [(0, 0.8), (1, 0.6)]

    assert filters.wrong([right], vectors, query, 2) == 0
    for answer in ([(0, 0.8)], [(1, 0.8), (0, 0.6)], [(0, 0.8), (1, 0.7)], [(0, 0.8), (2, 0.6)], right[::-1]):
        assert filters.wrong([answer], vectors, query, 2) == 1
    assert filters.place_of("3/4") == 34
