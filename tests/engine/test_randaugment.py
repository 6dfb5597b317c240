"""The oracle is Pillow, one image at a time; where Pillow has no such thing, the definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from engine.randaugment import OPERATIONS, rand_augment

LEVEL = 1 / 255


def photos(n=12, side=24):
    """Noise of few levels on a slope, every image of another brightness and contrast."""
    generator = torch.Generator().manual_seed(1)
    slope = torch.linspace(0, 1, side).view(1, 1, 1, side)
    noise = torch.rand(n, 3, side, side, generator=generator)
    low, width = (torch.rand(n, 3, 1, 1, generator=generator) * share for share in (0.4, 0.6))
    return (255 * (low + width * (0.6 * slope + 0.4 * noise))).round() / 255


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(n, seed=0):
    """Strengths and signs."""
    strength = torch.rand(n, generator=seeded(seed)).view(-1, 1, 1, 1)
    return strength, torch.where(torch.rand(n, generator=seeded(seed + 1)) < 0.5, -1.0, 1.0).view(-1, 1, 1, 1)


def pillow(image):
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def solarised(image, strength, _):
    return ImageOps.solarize(image, math.ceil(256 * (1 - strength)))


def posterised(image, strength, _):
    return ImageOps.posterize(image, 8 - round(4 * strength))


ORACLES = {
    "identity": lambda image, *_: image,
    "auto_contrast": lambda image, *_: ImageOps.autocontrast(image),
    "equalise": lambda image, *_: ImageOps.equalize(image),
    "solarise": solarised,
    "posterise": posterised,
    "colour": lambda image, strength, sign: ImageEnhance.Color(image).enhance(1 + 0.9 * sign * strength),
    "contrast": lambda image, strength, sign: ImageEnhance.Contrast(image).enhance(1 + 0.9 * sign * strength),
    "brightness": lambda image, strength, sign: ImageEnhance.Brightness(image).enhance(1 + 0.9 * sign * strength),
    "sharpness": lambda image, strength, sign: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * sign * strength),
}


@pytest.mark.parametrize("name", ORACLES)
def test_colours_change_as_pillow_changes_them(name):
    strength, sign = numbers(12)

    views = OPERATIONS[name](photos(), strength, sign)

    for view, image, *drawn in zip(views, photos(), strength.flatten().tolist(), sign.flatten().tolist(), strict=True):
        expected = np.array(ORACLES[name](pillow(image), *drawn)).transpose(2, 0, 1) / 255
        exact = name in ("equalise", "solarise", "posterise")  # else Pillow rounds in between
        np.testing.assert_allclose(view, expected, atol=1e-6 if exact else 2.1 * LEVEL)


@pytest.mark.parametrize("name", ["auto_contrast", "equalise"])
def test_a_flat_image_has_no_contrast_to_stretch(name):
    flat = torch.full((2, 3, 8, 8), 100 * LEVEL)

    torch.testing.assert_close(OPERATIONS[name](flat, *numbers(2)), flat)


GEOMETRY = {  # where the place (x, y) of a view lies in the image, from -1 to 1
    "rotate": lambda x, y, s: (
        math.cos(math.radians(30 * s)) * x - math.sin(math.radians(30 * s)) * y,
        math.sin(math.radians(30 * s)) * x + math.cos(math.radians(30 * s)) * y,
    ),
    "shear_x": lambda x, y, s: (x + 0.3 * s * y, y),
    "shear_y": lambda x, y, s: (x, y + 0.3 * s * x),
    "translate_x": lambda x, y, s: (x + 0.9 * s, y),
    "translate_y": lambda x, y, s: (x, y + 0.9 * s),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_places_move_as_the_definition_says(name):
    side = 25
    axis = (2 * torch.arange(side) + 1) / side - 1
    places = torch.stack([axis.expand(side, side), axis[:, None].expand(side, side)])  # an image that shows its places
    places = torch.cat([places, torch.zeros(1, side, side)]).expand(6, 3, side, side)
    strength, sign = numbers(6, seed=3)

    views = OPERATIONS[name](places, strength, sign)

    for view, signed in zip(views, (strength * sign).flatten().tolist(), strict=True):
        x, y = GEOMETRY[name](places[0, 0], places[0, 1], signed)
        edge = float(axis[-1])
        torch.testing.assert_close(view[0], x.clamp(-edge, edge), atol=1e-4, rtol=0)
        torch.testing.assert_close(view[1], y.clamp(-edge, edge), atol=1e-4, rtol=0)


def test_every_image_gets_one_of_the_operations_and_all_of_them_come_up():
    given = photos(1).expand(300, 3, 24, 24)

    views = rand_augment(given, 1, seeded())

    generator = seeded()
    chosen = torch.randint(len(OPERATIONS), (300,), generator=generator).tolist()
    strengths = torch.rand(300, generator=generator)
    signs = 2.0 * torch.randint(2, (300,), generator=generator) - 1
    for row, (number, view) in enumerate(zip(chosen, views, strict=True)):
        operation = list(OPERATIONS.values())[number]
        expected = operation(given[row : row + 1], strengths[row].view(1, 1, 1, 1), signs[row].view(1, 1, 1, 1))
        torch.testing.assert_close(view, expected[0], atol=1e-5, rtol=0)
    assert set(chosen) == set(range(len(OPERATIONS)))


def test_the_same_seed_gives_the_same_views_in_range_and_the_images_stay_as_they_are():
    given = photos(60)

    views = rand_augment(given, 3, seeded(4))

    assert torch.equal(views, rand_augment(given, 3, seeded(4)))
    assert not torch.equal(views, rand_augment(given, 3, seeded(5)))
    assert torch.equal(given, photos(60))
    assert views.min() >= 0
    assert views.max() <= 1


def test_no_operation_changes_nothing_and_no_image_gives_none():
    assert torch.equal(rand_augment(photos(), 0, seeded()), photos())
    assert rand_augment(photos()[:0], 2, seeded()).shape == (0, 3, 24, 24)


def test_an_operation_sees_each_image_by_itself():
    strength, sign = numbers(12)

    for operation in OPERATIONS.values():
        together = operation(photos(), strength, sign)
        alone = [operation(photos()[row : row + 1], strength[row : row + 1], sign[row : row + 1]) for row in range(12)]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
