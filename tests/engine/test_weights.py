from __future__ import annotations

import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engine import weights as weights_module
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.weights import (
    BUNDLED,
    checkpoint_file,
    load_embedder,
    read_checkpoint,
    save_checkpoint,
    split_size,
    weights_name,
)
from indexer.errors import ArgumentError, WeightsError

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def test_a_checkpoint_gives_back_the_embedder_to_half_precision(embedder, weights):
    again = load_embedder(weights)

    np.testing.assert_allclose(again.embed(IMAGE), embedder.embed(IMAGE), atol=2e-3)
    assert again.preprocessing == embedder.preprocessing


@pytest.mark.parametrize("size", ["", "@48"])
def test_loading_draws_no_weights_to_replace_them(weights, size):
    before = torch.get_rng_state()
    loaded = load_embedder(f"{weights}{size}")

    assert torch.equal(torch.get_rng_state(), before)
    filters = [tensor for tensor in loaded.state_dict().values() if tensor.ndim == 4]
    assert filters
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in filters)


def test_weights_with_a_size_are_the_same_network_shown_images_of_that_many_pixels(weights):
    own, larger = load_embedder(weights), load_embedder(f"{weights}@48")
    pixels = np.asarray(Image.fromarray(IMAGE).resize((48, 48), Image.Resampling.BILINEAR))

    assert (own.preprocessing.size, larger.preprocessing.size) == (32, 48)
    assert np.array_equal(larger.prepare(Image.fromarray(IMAGE)), pixels[np.newaxis])
    naive = own(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255)[0]
    np.testing.assert_allclose(larger.embed(IMAGE)[0], naive.numpy(), atol=1e-6)
    assert own.fingerprint != larger.fingerprint
    assert own.fingerprint == load_embedder(f"{weights}@32").fingerprint


@pytest.mark.parametrize(("wide", "high"), [(200, 120), (120, 200), (120, 120)])
def test_weights_with_two_sizes_see_the_middle_of_an_image(weights, wide, high):
    across, down = np.meshgrid(np.arange(wide), np.arange(high))
    image = np.stack([across, down, 0 * down], axis=2).astype(np.uint8)  # red and green tell where a pixel lies
    embedder = load_embedder(f"{weights}@32of64")

    (seen,) = embedder.prepare(Image.fromarray(image)).astype(float)

    assert seen.shape == (32, 32, 3)
    for channel, side, shown in ((0, wide, seen[16]), (1, high, seen[:, 16])):
        pixels = 120 / 64  # of the image to one that is seen: the shorter side becomes 64
        expected = side / 2 + pixels * (np.arange(32) - 15.5) - 0.5
        np.testing.assert_allclose(shown[:, channel], expected, atol=2)
    assert embedder.fingerprint != load_embedder(f"{weights}@32of65").fingerprint


def test_all_of_a_square_image_is_its_middle(weights):
    whole, middle = load_embedder(weights), load_embedder(f"{weights}@32of32")

    np.testing.assert_array_equal(middle.prepare(Image.fromarray(IMAGE)), whole.prepare(Image.fromarray(IMAGE)))


@pytest.mark.parametrize("size", ["48of47", "32of2049", f"32of{10**30}", "32of0"])
def test_the_middle_of_an_image_that_cannot_be_is_refused_in_one_line(weights, size):
    with pytest.raises(ArgumentError, match=rf"^size {size}: an image of which [^\n]+ to 2048 a side$"):
        load_embedder(f"{weights}@{size}")


def test_a_gallery_finds_weights_with_two_sizes_again(weights):
    assert weights_name(f"{weights}@48of64") == f"{weights.absolute()}@48of64"
    assert weights_name("bundled@64of107") == "bundled@64of107"
    assert checkpoint_file(f"{weights}@48of64") == weights


def test_a_file_whose_own_name_ends_like_a_size_is_a_file(weights, embedder):
    named = weights.rename(weights.with_name("mine@64"))

    assert split_size(named) == (str(named), "")
    assert load_embedder(named).preprocessing == embedder.preprocessing
    assert load_embedder(f"{named}@48").preprocessing.size == 48
    assert checkpoint_file(f"{named}@48") == named


@pytest.mark.parametrize("size", [0, 31, 2049, 10**30])
def test_a_size_that_the_network_cannot_see_is_refused_in_one_line(weights, size):
    with pytest.raises(ArgumentError, match=rf"^size {size}: the network needs at least 32 pixels, [^\n]+$"):
        load_embedder(f"{weights}@{size}")


def test_a_head_that_fits_one_size_alone_is_refused_at_others_in_one_line(tmp_path):
    torch.manual_seed(0)
    made = Embedder("conv4", dim=5, preprocessing=Preprocessing.whole(28))
    save_checkpoint(tmp_path / "w.safetensors", made, torch.nn.Module(), {})

    with pytest.raises(ArgumentError, match=r"^size 84: these weights' head fits images of 28 pixels alone$"):
        load_embedder(tmp_path / "w.safetensors@84")


@pytest.mark.parametrize(
    "name",
    [
        *("@64", "bundled@", "bundled@big", "bundled@-64", "bundled@6.4", "nowhere@64"),
        *("bundled@of64", "bundled@64of", "bundled@64of107of200", "nowhere@64of107"),
    ],
)
def test_what_is_no_size_is_part_of_a_name_that_there_is_not(name):
    with pytest.raises(WeightsError, match="no weights"):
        load_embedder(name)


def test_loading_twice_gives_the_same_fingerprint(weights):
    assert load_embedder(weights).fingerprint == load_embedder(str(weights)).fingerprint


def test_the_card_and_the_recipe_travel_with_the_weights(embedder, tmp_path):
    recipe = torch.nn.Linear(3, 1)
    save_checkpoint(tmp_path / "a.safetensors", embedder, recipe, {"recipe": "x", "training": {"seed": 7}})

    card, state = read_checkpoint(tmp_path / "a.safetensors")

    assert card["training"] == {"seed": 7}
    torch.testing.assert_close(state["recipe.weight"], recipe.weight.detach(), atol=1e-3, rtol=1e-3)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(embedder, weights, monkeypatch):
    before = weights.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_module.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(weights, embedder, torch.nn.Module(), {})

    assert weights.read_bytes() == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04\x95 a pickle", b"\xff" * 100])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)

    with pytest.raises(WeightsError) as refused:
        load_embedder(tmp_path / "w.safetensors")

    assert "\n" not in str(refused.value)
    assert "w.safetensors" in str(refused.value)


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")

    with pytest.raises(WeightsError, match="not a checkpoint that `firstsight train` wrote"):
        load_embedder(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda card: card["embedder"].update(backbone="vgg"),
        lambda card: card["embedder"].update(backbone="resnet101-slim"),
        lambda card: card["embedder"].update(dim=7),
        lambda card: card["embedder"].pop("preprocessing"),
        lambda card: card.update(format=99),
    ],
)
def test_weights_that_do_not_fit_their_description_are_refused(weights, spoil):
    card, state = read_checkpoint(weights)
    spoil(card)
    save_file(state, weights, metadata={"firstsight": json.dumps(card)})

    with pytest.raises(WeightsError) as refused:
        load_embedder(weights)

    assert "\n" not in str(refused.value)


def test_missing_weights_are_refused_with_the_choices():
    with pytest.raises(WeightsError, match=r"'imagenet', 'bundled' or a file"):
        load_embedder("nowhere.safetensors")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A stand-in for the host of torchvision's weights."""
    folder = tmp_path / "host"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{http.server_port}")
        http.shutdown()


@pytest.fixture
def small_imagenet(server, tmp_path, monkeypatch):
    """Weights that torchvision could have published, of the tiny network; and an empty cache to download to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights_module, "Embedder", lambda _: Embedder("tiny", preprocessing=Preprocessing.whole(32)))
    torch.manual_seed(5)
    state = Embedder("tiny").backbone.state_dict() | {"fc.weight": torch.zeros(10, 216), "fc.bias": torch.zeros(10)}
    torch.save(state, server.folder / "draft.pth")
    digest = hashlib.sha256((server.folder / "draft.pth").read_bytes()).hexdigest()[:8]
    name = f"resnet101-{digest}.pth"
    (server.folder / "draft.pth").rename(server.folder / name)
    monkeypatch.setattr(weights_module, "IMAGENET", SimpleNamespace(url=f"{server.url}/{name}"))
    return SimpleNamespace(state=state, file=server.folder / name)


def test_imagenet_weights_are_downloaded_once_and_then_cached(small_imagenet):
    first = load_embedder("imagenet")
    small_imagenet.file.unlink()
    second = load_embedder("imagenet")

    assert torch.equal(first.backbone.convolution.weight, small_imagenet.state["convolution.weight"])
    assert first.fingerprint == second.fingerprint


def test_a_download_whose_content_is_not_what_its_name_promises_is_refused(small_imagenet):
    small_imagenet.file.write_bytes(b"something else")

    with pytest.raises(WeightsError, match="bundled"):
        load_embedder("imagenet")


def test_without_a_network_the_error_names_the_other_two_choices(small_imagenet, monkeypatch):
    monkeypatch.setattr(weights_module, "IMAGENET", SimpleNamespace(url="http://127.0.0.1:9/resnet101-00000000.pth"))

    with pytest.raises(WeightsError, match=r"bundled.*FILE") as refused:
        load_embedder("imagenet")

    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")
def test_the_bundled_weights_are_small_and_embed_alike_twice():
    embedder = load_embedder("bundled")

    assert BUNDLED.stat().st_size < 20e6
    assert embedder.dim == 512 + 32
    np.testing.assert_array_equal(embedder.embed(IMAGE), load_embedder("bundled").embed(IMAGE))
