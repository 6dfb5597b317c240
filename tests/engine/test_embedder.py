from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet101_Weights, resnet101

from engine.embedder import BACKBONES, Embedder
from engine.preprocessing import Preprocessing
from indexer.errors import ArgumentError, ImageError


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def test_embeddings_are_float32_unit_vectors(embedder):
    vectors = embedder.embed([noise(50, 40, seed) for seed in range(5)])

    assert vectors.shape == (5, embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_one_image_is_embedded_alike_however_it_is_given(embedder, tmp_path):
    image = noise(50, 40)
    image.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()

    ways = [image, np.array(image), tmp_path / "a.png", str(tmp_path / "a.png"), data, io.BytesIO(data)]

    first = embedder.embed(image)
    assert first.shape == (1, embedder.dim)
    for way in ways:
        np.testing.assert_array_equal(embedder.embed(way), first)


def test_a_list_longer_than_a_batch_is_embedded_in_order(embedder):
    images = [noise(32, 32, seed) for seed in range(7)]

    together = embedder.embed(images, batch_size=3)

    np.testing.assert_allclose(together, np.concatenate([embedder.embed(image) for image in images]), atol=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_a_bad_image_raises_an_image_error(embedder, tmp_path):
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        embedder.embed([noise(32, 32), tmp_path / "missing.jpg"])


def test_training_mode_is_left_as_it_was_and_does_not_touch_an_embedding(embedder):
    before = embedder.embed(noise(32, 32))
    embedder.train()

    np.testing.assert_array_equal(embedder.embed(noise(32, 32)), before)
    assert embedder.training


def test_the_fingerprint_tells_weights_and_preprocessing_apart_and_nothing_else():
    def fresh(seed=0, size=32, dim=None):
        torch.manual_seed(seed)
        return Embedder("tiny", dim=dim, preprocessing=Preprocessing.whole(size)).fingerprint

    assert fresh() == fresh()
    assert len({fresh(), fresh(seed=1), fresh(size=40), fresh(dim=8)}) == 4


def test_a_projection_gives_the_dimension_asked_for():
    embedder = Embedder("tiny", dim=16, preprocessing=Preprocessing.whole(32))

    assert embedder.dim == 16
    assert embedder.embed(noise(32, 32)).shape == (1, 16)
    assert Embedder.from_description(embedder.description()).dim == 16


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(ArgumentError, match="resnet101-slim"):
        Embedder("resnet102")


def test_the_default_preprocessing_is_that_of_torchvisions_weights():
    transform = ResNet101_Weights.IMAGENET1K_V1.transforms()
    preprocessing = Preprocessing()

    for width, height in [(300, 400), (640, 480), (256, 256), (100, 80), (257, 311)]:
        image = noise(width, height)
        theirs = transform(image)
        pixels = torch.from_numpy(preprocessing.pixels(image)).permute(2, 0, 1)[None] / 255
        ours = preprocessing.normalize(pixels)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_whole_preprocessing_shows_the_whole_image():
    image = Image.new("RGB", (100, 40))
    image.paste((255, 0, 0), (0, 0, 10, 40))
    image.paste((0, 255, 0), (90, 0, 100, 40))

    pixels = Preprocessing.whole(50).pixels(image)

    assert pixels.shape == (50, 50, 3)
    assert pixels[25, 1].tolist() == [255, 0, 0]
    assert pixels[25, -2].tolist() == [0, 255, 0]


def test_resnet101_computes_torchvisions_pooled_features():
    torch.manual_seed(0)
    theirs = resnet101(weights=None).eval()
    ours = Embedder("resnet101").eval()
    ours.backbone.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    theirs.fc = torch.nn.Identity()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        features = theirs(ours.preprocessing.normalize(images))
        expected = features / features.norm(dim=1, keepdim=True)
        torch.testing.assert_close(ours(images), expected, atol=1e-4, rtol=1e-3)
    assert ours.dim == 2048


def test_the_slim_resnet101_has_the_same_features_from_a_fifth_of_the_parameters():
    slim = BACKBONES["resnet101-slim"](64)

    assert slim.fc.in_features == 2048
    assert 8.7e6 < sum(p.numel() for name, p in slim.named_parameters() if not name.startswith("fc.")) < 8.9e6


@pytest.mark.parametrize(("size", "features"), [(28, 64), (84, 1600), (105, 2304)])
def test_conv4_has_the_papers_features_for_their_sizes_of_image(size, features):
    embedder = Embedder("conv4", preprocessing=Preprocessing.whole(size)).eval()

    assert embedder.dim == features
    assert embedder(torch.rand(2, 3, size, size)).shape == (2, features)
