from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from engine import colours as module
from engine.colours import Colours
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.weights import load_embedder, save_checkpoint
from indexer.errors import WeightsError


def coloured(dim=6, size=32):
    torch.manual_seed(0)
    return Embedder("tiny", dim=10, preprocessing=Preprocessing.whole(size), colours=dim).eval()


def colourless(embedder):
    """The same weights, without colours."""
    made = Embedder("tiny", dim=10, preprocessing=embedder.preprocessing)
    made.load_state_dict({name: t for name, t in embedder.state_dict().items() if not name.startswith("colours.")})
    return made.eval()


def pictures(count=4, size=32, seed=0):
    spots = np.random.default_rng(seed).integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return spots.repeat(8, axis=1).repeat(8, axis=2)


def tensor(pixels):
    return torch.from_numpy(np.asarray(pixels)).permute(0, 3, 1, 2).float() / 255


def plain(*colour, size=32):
    return np.full((1, size, size, 3), colour, np.uint8)


def naive(pixels, palette):
    """The histogram of one image, pixel by pixel and colour by colour, in float64."""
    side = len(pixels)
    step = max(1, side // module.CELLS)
    cells = side // step
    found, total = np.zeros(len(palette)), 0.0
    for row in range(cells):
        for column in range(cells):
            cell = pixels[row * step : (row + 1) * step, column * step : (column + 1) * step].reshape(-1, 3)
            red, green, blue = (cell / 255).mean(0)
            light = 0.299 * red + 0.587 * green + 0.114 * blue
            seen = np.array([light / 2, (blue - light) / 1.772, (red - light) / 1.402])
            near = np.array([math.exp(-((seen - colour) ** 2).sum() / (2 * module.WIDTH**2)) for colour in palette])
            down, across = ((2 * place + 1) / cells - 1 for place in (row, column))
            place = math.exp(-(down**2 + across**2) / (2 * module.MIDDLE**2))
            strength = (max(red, green, blue) - min(red, green, blue) - module.GREY) / (module.COLOURED - module.GREY)
            found += place * min(1.0, max(0.0, strength)) * near / near.sum()
            total += place
    return np.sqrt(found / total)


@pytest.mark.parametrize("size", [16, 32, 40, 64])
def test_the_histogram_is_that_of_naive_loops(size):
    seen, pixels = Colours(4), pictures(2, size)

    found = seen.histogram(tensor(pixels)).numpy()

    for image, row in zip(pixels, found, strict=True):
        np.testing.assert_allclose(row, naive(image, seen.palette.double().numpy()), atol=1e-4)


def test_what_is_grey_is_embedded_as_without_colours():
    embedder, grey = coloured(), pictures()[..., :1].repeat(3, axis=3)

    found = embedder.embed(list(grey))

    np.testing.assert_array_equal(found[:, 10:], 0)
    np.testing.assert_allclose(found[:, :10], colourless(embedder).embed(list(grey)), atol=1e-6)


def test_nearly_grey_counts_little_and_no_step_is_large():
    tints = np.stack([plain(128 + step, 128, 128 - step)[0] for step in range(64)])

    lengths = Colours(4).histogram(tensor(tints)).square().sum(1)

    assert lengths[:3].max() == 0
    assert lengths[-1] == pytest.approx(1, abs=1e-4)
    assert (lengths.diff() >= -1e-5).all()
    assert lengths.diff().max() < 0.1


def test_the_nearest_colour_of_the_palette_is_the_one_that_counts_most():
    seen = Colours(4)
    red, redder, blue = (
        seen.histogram(tensor(plain(*colour)))[0] for colour in ((200, 40, 40), (215, 45, 40), (40, 40, 200))
    )

    assert red @ redder > 0.8
    assert red @ blue < 0.01
    for amount in (red, redder, blue):
        assert amount.square().sum() == pytest.approx(1, abs=1e-4)


def test_the_middle_counts_more_than_the_border():
    seen, inside, outside = Colours(4), plain(255, 255, 255), plain(255, 255, 255)
    inside[:, 12:20, 12:20] = outside[:, :8, :8] = (200, 40, 40)

    middle, corner = (seen.histogram(tensor(image)).square().sum() for image in (inside, outside))

    assert middle > 5 * corner > 0


def test_embeddings_have_length_one_and_do_not_mind_company():
    embedder, pixels = coloured(), pictures(5)

    together = embedder.embed(list(pixels))

    assert embedder.dim == together.shape[1] == 16
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([embedder.embed(image) for image in pixels]), atol=1e-6)


def test_two_things_of_one_shape_are_told_apart_by_their_colours():
    """The same lightness everywhere, so that the network, which sees colours hardly, has little to go by."""
    embedder, shape = coloured(), pictures(1)[..., :1].repeat(3, axis=3)
    dyed = [np.clip(shape[0] * np.array(dye), 0, 255).astype(np.uint8) for dye in ((1, 0.7, 0.7), (0.7, 0.7, 1))]
    with torch.no_grad():
        embedder.colours.projection.weight.mul_(3)

    with_colours, without = (one.embed(dyed) for one in (embedder, colourless(embedder)))

    assert with_colours[0] @ with_colours[1] < without[0] @ without[1] - 0.05


def test_a_checkpoint_keeps_the_colours(tmp_path):
    embedder, image = coloured(), Image.fromarray(pictures(1)[0])
    save_checkpoint(tmp_path / "c.safetensors", embedder, torch.nn.Module(), {})

    found, larger = (load_embedder(f"{tmp_path / 'c.safetensors'}{size}") for size in ("", "@48"))

    assert found.description() == embedder.description()
    np.testing.assert_allclose(found.embed(image), embedder.embed(image), atol=2e-3)
    red, large_red = (tensor(plain(200, 40, 40, size=size)) for size in (32, 48))
    np.testing.assert_allclose(larger.colours(large_red), found.colours(red), atol=1e-5)


def test_a_checkpoint_whose_colours_do_not_fit_is_refused_in_one_line(tmp_path):
    embedder = coloured()
    embedder.colours.projection = torch.nn.Linear(7, 6, bias=False)
    save_checkpoint(tmp_path / "c.safetensors", embedder, torch.nn.Module(), {})

    with pytest.raises(WeightsError, match="do not fit") as refused:
        load_embedder(tmp_path / "c.safetensors")

    assert "\n" not in str(refused.value)


def test_weights_without_colours_are_described_as_ever():
    assert "colours" not in Embedder("tiny", preprocessing=Preprocessing.whole(32)).description()


def test_a_new_head_sees_features_alone_and_the_old_one_keeps_its_colours():
    embedder = coloured()

    kept = embedder.adapted(dim=None, preprocessing=embedder.preprocessing)
    new = embedder.adapted(dim=7, preprocessing=embedder.preprocessing)

    assert kept.fingerprint == embedder.fingerprint
    assert (new.dim, new.colours) == (7, None)


def test_how_much_colours_count_is_learnt():
    embedder, pixels = coloured().train(), tensor(pictures(6))

    embedder(pixels).square()[:, 10:].sum().backward()

    assert embedder.colours.projection.weight.grad.abs().sum() > 0
    assert embedder.colours.palette.grad is None
