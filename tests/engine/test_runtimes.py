from __future__ import annotations

import gc
import json
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import runtime_kept, runtime_torch, runtime_trials, runtimes
from engine.demo import write_images
from engine.embedder import BYTES_A_PIXEL, Embedder
from engine.preprocessing import Preprocessing
from engine.recognizer import Recognizer, index_folder
from engine.running import Agreement, Running, plain
from engine.runtime_trials import candidates, choose
from engine.weights import BUNDLED, load_embedder
from indexer.errors import ArgumentError, FirstsightError, RuntimeMismatch
from indexer.gallery import Gallery
from indexer.runtimes import Runtime


def installed():
    found = []
    for name in runtime_trials.FAMILIES:
        try:
            found += runtime_trials.FAMILIES[name].names(Embedder("conv4", preprocessing=Preprocessing.whole(16)))
        except FirstsightError:
            found.append(pytest.param(name, marks=pytest.mark.skip(reason=f"{name} is not installed")))
    return found


def an_embedder():
    """A trained-like one: its batch norm has seen images, so that folding it changes every weight."""
    torch.manual_seed(0)
    made = Embedder("conv4", dim=12, preprocessing=Preprocessing.whole(16))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    made.eval().requires_grad_(False)
    # Features of random weights are nearly the same for all images: what they share goes.
    with torch.inference_mode():
        made.projection, projection = torch.nn.Identity(), made.projection
        shared = made(torch.from_numpy(some_pixels()).permute(0, 3, 1, 2).float() / 255).mean(0)
        projection.weight -= torch.outer(projection.weight @ shared, shared) / (shared @ shared)
    made.projection = projection
    return made


def some_pixels():
    """Images of all brightnesses and colours."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 80, (64, 16, 16, 3))
    return (noise + random.integers(0, 175, (64, 1, 1, 3))).astype(np.uint8)


@pytest.fixture
def embedder():
    return an_embedder()


@pytest.fixture
def pixels():
    return some_pixels()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Each runtime, converted once: embedder, folder, file and what runs."""
    made = {}

    def convert(name):
        if name not in made:
            embedder, folder = an_embedder(), tmp_path_factory.mktemp(name)
            made[name] = embedder, folder, *runtime_trials._made(embedder, name, some_pixels()[:32], folder)[1:]
        return made[name]

    return convert


@pytest.fixture
def gallery(embedder, tmp_path):
    facts = {"dim": embedder.dim, "fingerprint": embedder.fingerprint}
    with Gallery.create(tmp_path / "g.gallery", **facts) as made:
        yield made


def naive(embedder, pixels):
    """Embeddings by the layers themselves, in float64, an image at a time."""
    exact = Embedder.from_description(embedder.description())
    exact.load_state_dict(embedder.state_dict())
    exact = exact.double().eval()
    mean, std = (np.array(getattr(embedder.preprocessing, name)) for name in ("mean", "std"))
    vectors = []
    for image in pixels:
        scaled = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[np.newaxis].copy())
        features = exact.projection(exact.backbone(scaled))[0].detach().numpy()
        vectors.append(features / np.linalg.norm(features))
    return np.array(vectors)


# -- one contract for all runtimes -------------------------------------------------------------------------


@pytest.mark.parametrize("name", installed())
def test_a_runtime_makes_the_vectors_of_a_naive_forward_pass(name, converted, pixels):
    embedder, _, _, running = converted(name)

    vectors = running.embed(list(pixels[32:]))

    truth = naive(embedder, pixels[32:])
    agreement = Agreement.between(truth.astype(np.float32), vectors)
    assert vectors.dtype == np.float32
    assert vectors.shape == (32, 12)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    if name.endswith("-float32"):
        np.testing.assert_allclose(vectors, truth, atol=1e-5)
    assert agreement.mean > 0.8  # in eight bits: random weights even nothing out
    before = an_embedder().state_dict()
    assert all(torch.equal(before[key], value) for key, value in embedder.state_dict().items())
    assert not embedder.training


@pytest.mark.parametrize("name", installed())
def test_a_runtime_keeps_the_order_and_does_not_mind_the_batch(name, converted, pixels):
    *_, running = converted(name)

    together = running.embed(pixels)

    for size in (1, 3, 64, 100):
        np.testing.assert_allclose(running.embed(pixels, batch_size=size), together, atol=1e-5)
    np.testing.assert_allclose(running.embed(pixels[::-1]), together[::-1], atol=1e-5)
    assert running.embed([]).shape == (0, 12)
    assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("name", [name for name in installed() if str(name).endswith("-float32")])
def test_a_runtime_is_as_precise_as_asked_for_whatever_its_file_is_called(name, embedder, pixels, tmp_path):
    family = runtime_trials.family_of(name)
    path = tmp_path / f"another{next(iter(family.SUFFIXES), '')}"

    family.make(embedder, name, pixels[:32], path)

    np.testing.assert_allclose(family.load(embedder, name, path).embed(pixels), naive(embedder, pixels), atol=1e-5)


@pytest.mark.parametrize("name", installed())
def test_a_runtime_tells_of_colours_beside_the_features(name, converted, pixels):
    embedder, _, path, running = converted(name)
    torch.manual_seed(1)
    coloured = Embedder.from_description({**embedder.description(), "colours": 5}).eval()
    coloured.load_state_dict(embedder.state_dict(), strict=False)

    vectors = runtime_trials.family_of(name).load(coloured, name, path).embed(pixels)

    with torch.inference_mode():
        colours = coloured.colours(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
    truth = np.concatenate([running.embed(pixels), colours], axis=1)
    assert np.linalg.norm(colours, axis=1).min() > 0.01
    np.testing.assert_allclose(vectors, truth / np.linalg.norm(truth, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", installed())
def test_a_runtime_is_idle_after_a_batch(name, converted, pixels):
    *_, running = converted(name)
    spent = []

    for _ in range(5):
        running.embed(pixels)
        started = time.process_time()
        time.sleep(0.05)
        spent.append(time.process_time() - started)

    assert min(spent) < 0.01  # threads that wait for work by spinning: 0.035


@pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")
@pytest.mark.parametrize("name", [name for name in installed() if str(name).endswith("-int8")])
def test_eight_bits_keep_near_to_float32_even_for_the_images_least_like_those_they_were_calibrated_with(name, tmp_path):
    embedder = load_embedder("bundled")
    paths, *_ = write_images(tmp_path / "demo", seed=0, say=lambda _: None)
    digits = np.stack([embedder.prepare(embedder.load(path).image)[0] for path in paths[:160]])

    *_, running = runtime_trials._made(embedder, name, digits[:32], tmp_path)

    assert Agreement.between(plain(embedder).embed(digits[32:]), running.embed(digits[32:])).worst > 0.98


@pytest.mark.parametrize("name", installed())
def test_what_was_converted_runs_again_from_its_file(name, converted, pixels):
    embedder, folder, path, running = converted(name)
    vectors = running.embed(pixels)
    family = runtime_trials.family_of(name)

    for threads in (None, 1, 2):
        again = family.load(embedder, name, path, threads)
        np.testing.assert_allclose(again.embed(pixels), vectors, atol=1e-5)
    assert torch.get_num_threads() == 1
    assert {one.suffix for one in folder.iterdir()} == set(family.SUFFIXES)


@pytest.mark.parametrize(("family", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_a_runtime_that_is_not_installed_names_its_extra(family, package, embedder, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(FirstsightError, match=rf"pip install 'firstsight\[{family}\]'"):
        candidates(embedder, family)
    assert not [name for name in candidates(embedder, "auto") if name.startswith(family)]


def test_only_what_exists_can_be_asked_for(embedder, run, photos, weights, tmp_path):
    for asked in ("tensorrt", "", "Torch"):
        with pytest.raises(ArgumentError, match="choose auto, torch, onnx, openvino"):
            runtime_trials.check_asked(asked)
    with pytest.raises(FirstsightError, match="cannot run on this machine"):
        candidates(embedder, "cuda-bf16")

    status, _, error = run("index", photos, "--gallery", tmp_path / "n", "--weights", weights, "--runtime", "fast")
    assert status == 2
    assert "choose auto, torch, onnx, openvino" in error
    assert not (tmp_path / "n").exists()


# -- chosen by trying --------------------------------------------------------------------------------------


def wrong(embedder, noise):
    """A runtime that computes with errors."""

    def run(pixels):
        vectors = embedder.embed_pixels(list(pixels))
        bad = vectors + noise * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
        return bad / np.linalg.norm(bad, axis=1, keepdims=True)

    return Running("torch-bf16", run, embedder.dim)


class Fake:
    """A family with one runtime: that one, a little faster than any other."""

    SUFFIXES = ()

    def __init__(self, name, run, takes=0.0):
        self.name, self.run, self.loaded, self.TAKES = name, run, 0, takes

    def names(self, embedder):
        return [self.name]

    def make(self, embedder, name, calibration, path):
        pass

    def load(self, embedder, name, path, threads=None):
        self.loaded += 1
        return Running(self.name, self.run, embedder.dim)


@pytest.fixture
def only(monkeypatch):
    """Let these be the only families."""

    def put(**families):
        monkeypatch.setattr(runtime_trials, "FAMILIES", families)

    return put


@pytest.mark.parametrize(
    ("worst", "mean", "noise", "trusted"),
    [
        (1, 1, 0, True),
        (0.95, 0.99, 0.25, True),
        (0.949, 0.999, 0.1, False),
        (0.985, 0.989, 0.1, False),
        (0.999, 0.999, 0.26, False),
        (0.999999, 0.999999, 9, True),
        (float("nan"), 1, 0, False),
    ],
)
def test_what_is_trusted_keeps_to_three_bounds_or_is_exact(worst, mean, noise, trusted):
    assert Agreement(worst, mean, noise).trusted is trusted


def test_agreement_is_counted_image_by_image():
    truth = np.eye(4, dtype=np.float32)
    turned = truth.copy()
    turned[1] = [0.6, 0.8, 0, 0]
    agreement = Agreement.between(truth, turned)
    assert agreement.worst == pytest.approx(0.8)
    assert agreement.mean == pytest.approx((3 + 0.8) / 4)
    assert agreement.noise == 0
    assert not Agreement.between(truth, np.full_like(truth, np.nan)).trusted
    assert not Agreement.between(truth, truth[:, :3]).trusted
    same = np.ones((3, 4), np.float32) / 2
    assert Agreement.between(same, same).trusted


@pytest.mark.parametrize("noise", [0.3, np.nan])
def test_a_fast_runtime_that_computes_wrongly_is_not_chosen(noise, embedder, pixels, only, tmp_path):
    exact = Fake("torch-float32", plain(embedder).run)  # in bfloat16, where a processor has it, it may be as fast
    only(torch=exact, openvino=Fake("openvino-float32", wrong(embedder, noise).run))

    choice, running, _ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path)

    assert choice.name == running.name == "torch-float32"
    assert choice.left_out["openvino-float32"].startswith("differs from float32")
    assert choice.agreement.worst > 0.9999
    with pytest.raises(RuntimeMismatch, match="use --runtime torch"):
        choose(embedder, pixels, asked="openvino", others=[], scratch=tmp_path)


def test_no_more_images_are_tried_at_once_than_there_is_memory_for(embedder, pixels, only, tmp_path):
    seen = []

    def run(batch):
        seen.append(len(batch))
        return plain(embedder).embed(batch)

    only(torch=Fake("torch-float32", run))

    few, *_ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path, most=9)
    assert (max(seen), few.batch_size <= 8) == (8, True)
    seen.clear()
    choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path, most=0)
    assert set(seen) == {1}


def test_an_image_on_a_gpu_takes_none_of_the_memory_of_the_process(embedder):
    assert embedder.working == BYTES_A_PIXEL * 16**2
    assert embedder.to("meta").working == 0


def test_nothing_is_held_while_a_runtime_is_made_and_one_other_while_it_is_tried(embedder, pixels, only, tmp_path):
    held, made, loaded = weakref.WeakSet(), [], []

    class Held(Fake):
        def make(self, embedder, name, calibration, path):
            gc.collect()
            made.append(len(held))

        def load(self, embedder, name, path, threads=None):
            gc.collect()
            loaded.append(len(held))

            def run(batch):
                if self.run is None:
                    return plain(embedder).embed(batch)
                raise RuntimeError("no such instruction")

            held.add(run)
            return Running(self.name, run, embedder.dim)

    kinds = {f"kind{number}": Held(f"kind{number}-float32", None) for number in range(6)}
    only(**kinds, **{f"broken{number}": Held(f"broken{number}-float32", "broken") for number in range(2)})

    choice, *_ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path)

    assert choice.left_out == {f"broken{number}-float32": "fails: no such instruction" for number in range(2)}
    assert set(choice.rates) == {f"kind{number}-float32" for number in range(6)}
    assert made == [0] * 8
    assert len(loaded) >= 6 + 5
    assert max(loaded) == 1


def test_a_runtime_that_there_is_no_memory_to_convert_is_tried_only_where_it_is_the_first(
    embedder, pixels, only, tmp_path
):
    run, huge = plain(embedder).run, 1e9  # bytes for each byte of weights
    only(torch=Fake("torch-float32", run), onnx=Fake("onnx-int8", run, huge), openvino=Fake("openvino-int8", run, huge))

    bounded, *_ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path, memory=10**11)
    free, *_ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path)

    assert set(bounded.rates) == {"openvino-int8", "torch-float32"}
    assert set(bounded.left_out) == {"onnx-int8"}
    assert bounded.left_out["onnx-int8"].startswith("takes ")
    assert set(free.rates) == {"openvino-int8", "onnx-int8", "torch-float32"}


def test_a_folded_copy_goes_with_what_runs_it():
    made = Embedder("conv4", preprocessing=Preprocessing.whole(16)).eval()
    running = runtime_torch.load(made, "torch-float32", Path())
    folded = weakref.ref(runtime_torch._folded(made, "torch-float32"))

    assert folded() is not None
    del running
    gc.collect()

    assert folded() is None


@pytest.mark.parametrize("backbone", ["conv4", "resnet101-slim"])
def test_what_a_runtime_is_converted_to_changes_nothing_of_the_embedder(backbone):
    made = Embedder(backbone, dim=5, preprocessing=Preprocessing.whole(32)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    before, truth = {name: tensor.clone() for name, tensor in made.state_dict().items()}, plain(made).embed(pixels)

    rough = runtime_torch.load(made, "torch-bf16", Path())

    assert Agreement.between(truth, rough.embed(pixels)).mean > 0.9
    assert all(tensor.dtype == before[name].dtype for name, tensor in made.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert np.array_equal(plain(made).embed(pixels), truth)


def test_threads_share_one_folded_copy_which_goes_with_the_embedder():
    made = Embedder("conv4", preprocessing=Preprocessing.whole(16)).eval()
    one, other = (runtime_torch.load(made, "torch-float32", Path(), count) for count in (1, 2))
    folded = weakref.ref(runtime_torch._folded(made, "torch-float32"))
    pixels = some_pixels()[:3]

    np.testing.assert_allclose(one.embed(pixels), other.embed(pixels), atol=1e-6)
    assert len(runtime_torch._FOLDED[made]) == 1
    del one, other, made
    gc.collect()
    assert folded() is None


def test_a_runtime_that_fails_is_passed_over_and_told(embedder, pixels, only, tmp_path):
    def fail(pixels):
        raise RuntimeError("no kernel\nfor this")

    only(torch=Fake("torch-float32", plain(embedder).run), onnx=Fake("onnx-float32", fail))

    choice, *_ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path)

    assert choice.name == "torch-float32"
    assert choice.left_out == {"onnx-float32": "fails: no kernel"}


def test_the_fastest_that_agrees_is_chosen(embedder, pixels, only, tmp_path):
    known = {image.tobytes(): vector for image, vector in zip(pixels, embedder.embed_pixels(list(pixels)), strict=True)}
    quick = Fake("onnx-float32", lambda batch: np.array([known[image.tobytes()] for image in batch]))
    only(torch=runtime_torch, onnx=quick)

    choice, running, _ = choose(embedder, pixels, asked="auto", others=[], scratch=tmp_path)

    assert choice.name == "onnx-float32"
    assert choice.rates["onnx-float32"] > choice.rates["torch-float32"] > 0
    np.testing.assert_allclose(running.embed(pixels), plain(embedder).embed(pixels), atol=1e-5)


def test_embeddings_that_may_differ_too_much_are_not_mixed(embedder, pixels, only, tmp_path):
    near = Fake("openvino-int8", wrong(embedder, 0.02).run)
    only(torch=runtime_torch, openvino=near)
    alone, *_ = choose(embedder, pixels, asked="openvino", others=[], scratch=tmp_path)
    assert 0.98 < alone.agreement.worst < 0.9999
    assert alone.label.startswith("openvino-int8-")

    far = Runtime("openvino-int8-of-others", 0.951)
    with pytest.raises(RuntimeMismatch, match="openvino-int8-of-others, which made embeddings of this gallery"):
        choose(embedder, pixels, asked="openvino", others=[far], scratch=tmp_path)
    exact = Runtime("torch-float32", 1.0)
    assert choose(embedder, pixels, asked="openvino", others=[exact], scratch=tmp_path)[0].name == "openvino-int8"


# -- kept for the gallery ----------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch, only):
    """Let anything be worth a trial, and PyTorch be all there is."""
    monkeypatch.setattr(runtimes, "WORTH", -1.0)
    only(torch=runtime_torch)


def test_nothing_is_tried_for_a_few_images(photos, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "choose", lambda *_, **__: pytest.fail("tried"))
    with Recognizer.create(tmp_path / "g", weights=weights, device="cpu") as made:
        made.index(photos)
        made.learn("pink", photos / "red" / "0.png")
        assert made.recognize(photos / "red" / "1.png").name
        assert made.runtimes.name == "torch-float32"
        assert made.gallery.runtimes() == [Runtime("torch-float32", 1.0)]


def test_what_was_chosen_is_used_again_and_tried_once(photos, weights, tmp_path, slow, monkeypatch):
    index_folder(photos, tmp_path / "g", weights=weights, device="cpu")
    [record] = (tmp_path / "g" / runtime_kept.FOLDER).glob("*.json")
    assert json.loads(record.read_bytes())["choice"]["name"]

    monkeypatch.setattr(runtimes, "choose", lambda *_, **__: pytest.fail("tried again"))
    with Recognizer.open(tmp_path / "g", device="cpu") as again:
        assert again.runtimes.choice is not None
        assert again.index(photos).unchanged == 12
        assert again.recognize(photos / "red" / "1.png", k=1).name == "red"


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}', "cut"])
def test_a_damaged_choice_is_as_none_and_is_made_anew(damage, photos, weights, tmp_path, slow):
    index_folder(photos, tmp_path / "g", weights=weights, device="cpu")
    place = tmp_path / "g" / runtime_kept.FOLDER
    [record] = place.glob("*.json")
    whole = record.read_text()
    record.write_text(whole[:-9] if damage == "cut" else damage)
    (place / "left-over.bin").write_bytes(b"of a run that was killed")

    with Recognizer.open(tmp_path / "g", device="cpu") as opened:
        assert opened.runtimes.choice is None
        assert opened.recognize(photos / "red" / "1.png", k=1).name == "red"
        opened.index(photos)
        assert opened.runtimes.choice is not None
    assert json.loads(record.read_text())["choice"]["name"]
    assert not (place / "left-over.bin").exists()


def test_a_choice_is_for_its_weights_processor_and_versions(embedder, gallery, pixels, tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"network")
    choice, *_ = choose(embedder, pixels, asked="torch", others=[], scratch=tmp_path)
    runtime_kept.save(gallery.path, embedder, choice, [tmp_path / "m.onnx"])
    kept, [file] = runtime_kept.load(gallery.path, embedder)
    assert kept == choice
    assert file.read_bytes() == b"network"

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(runtime_kept, "_version", lambda package: "0")
        assert runtime_kept.load(gallery.path, embedder) is None
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(runtime_kept, "_processor", lambda: "another")
        assert runtime_kept.load(gallery.path, embedder) is None
    assert runtime_kept.load(gallery.path, Embedder("tiny", preprocessing=Preprocessing.whole(32))) is None
    file.write_bytes(b"netwurk")
    assert runtime_kept.load(gallery.path, embedder) is None
    file.unlink()
    assert runtime_kept.load(gallery.path, embedder) is None


# -- a gallery remembers -----------------------------------------------------------------------------------


def test_a_gallery_says_what_made_its_embeddings_and_refuses_what_differs(embedder, gallery, pixels, tmp_path):
    vectors = embedder.embed_pixels(list(pixels))
    gallery.runtime = Runtime("openvino-int8-aa", 0.965)
    gallery.add("one", [("1", None, vectors[0])])
    gallery.runtime = Runtime("openvino-int8-bb", 0.965)
    before = gallery.revision
    with pytest.raises(RuntimeMismatch, match=r"openvino-int8-aa .* use --runtime torch"):
        gallery.add("two", [("2", None, vectors[1])])
    assert gallery.revision == before
    assert gallery.staged_or_known(["2"]) == set()

    gallery.runtime = Runtime("torch-float32", 1.0)
    gallery.add("two", [("2", None, vectors[1])])
    assert [one.name for one in gallery.runtimes()] == ["openvino-int8-aa", "torch-float32"]
    assert gallery.verify() == []


def test_measured_worse_a_runtime_counts_by_that(gallery, embedder, pixels):
    vectors = embedder.embed_pixels(list(pixels[:3]))
    for number, (cosine, vector) in enumerate(zip([0.999, 0.99, 0.995], vectors, strict=True)):
        gallery.runtime = Runtime("onnx-int8-aa", cosine)
        gallery.add("one", [(str(number), None, vector)])
    assert gallery.runtimes() == [Runtime("onnx-int8-aa", 0.99)]


def test_plain_float32_may_always_ask_what_a_trusted_runtime_made():
    from indexer import runtimes as law

    worst = Runtime("any", runtime_trials.Agreement(0.95, 0.99, 0.2).worst)
    assert law.strangers(Runtime("torch-float32", 1.0), [worst]) == []
    assert law.strangers(worst, [Runtime("other", 0.9999)]) == [Runtime("other", 0.9999)]
    assert law.strangers(worst, [worst]) == []
    assert runtime_trials.Agreement(0.95, 1, 0).worst >= law.MIXED


def test_a_merge_keeps_what_made_each_embedding(embedder, pixels, gallery, tmp_path):
    import indexer

    vectors = embedder.embed_pixels(list(pixels[:4]))
    gallery.add("mine", [("0", None, vectors[0])])
    with Gallery.create(tmp_path / "o", dim=embedder.dim, fingerprint=embedder.fingerprint) as other:
        other.add("untold", [("1", None, vectors[1])])
        other.runtime = Runtime("onnx-float32", 0.9999)
        other.add("told", [("2", None, vectors[2])])
    indexer.merge(gallery.path, tmp_path / "o")
    assert gallery.runtimes() == [Runtime("onnx-float32", 0.9999)]
    assert gallery.classes() == {"mine": 1, "told": 1, "untold": 1}
