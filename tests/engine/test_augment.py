from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.augment import Augment, cut_mix
from indexer.errors import ArgumentError

OFF = Augment(rotation=0, translation=0, scale=0, shear=0, flip=False, colour=0, blur=0)


def images(n=6, side=24):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_everything_switched_off_changes_nothing():
    torch.testing.assert_close(OFF(images(), seeded()), images(), atol=1e-5, rtol=0)


def test_only_flipping_gives_the_image_or_its_mirror_image():
    views = Augment(0, 0, 0, 0, flip=True, colour=0)(images(20), seeded())

    mirrored = [torch.allclose(view, image.flip(2), atol=1e-4) for view, image in zip(views, images(20), strict=True)]
    same = [torch.allclose(view, image, atol=1e-4) for view, image in zip(views, images(20), strict=True)]

    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 3 < sum(mirrored) < 17


def test_the_same_seed_gives_the_same_views_and_another_seed_others():
    augment = Augment(15, 0.1, 0.2, 10, True, 0.3, 0.05)

    assert torch.equal(augment(images(), seeded(3)), augment(images(), seeded(3)))
    assert not torch.equal(augment(images(), seeded(3)), augment(images(), seeded(4)))


def test_the_images_given_stay_as_they_are():
    given = images()

    Augment(15, 0.1, 0.2, 10, True, 0.3, 0.05)(given, seeded())

    assert torch.equal(given, images())


def test_views_stay_in_range():
    views = Augment(30, 0.2, 0.5, 20, True, 0.9, 0.1)(images(40), seeded())

    assert views.min() >= 0
    assert views.max() <= 1


def test_translation_moves_the_content_by_at_most_the_share_it_is_given():
    dot = torch.zeros(200, 3, 41, 41)
    dot[:, :, 20, 20] = 1

    views = Augment(0, 0.1, 0, 0, flip=False, colour=0)(dot, seeded())

    place = views[:, 0].flatten(1).argmax(1)
    shift = torch.stack([place // 41 - 20, place % 41 - 20], 1).abs()
    assert 3 <= shift.max() <= 5  # a tenth of 41 pixels, and half a pixel of sampling


def test_rotation_keeps_distances_from_the_centre():
    dot = torch.zeros(100, 3, 41, 41)
    dot[:, :, 20, 32] = 1

    views = Augment(90, 0, 0, 0, flip=False, colour=0)(dot, seeded())

    place = views[:, 0].flatten(1).argmax(1)
    radius = torch.stack([place // 41 - 20, place % 41 - 20], 1).float().norm(dim=1)
    assert (radius - 12).abs().max() < 1
    assert (place // 41).max() - (place // 41).min() > 10


def test_blur_keeps_the_mean_and_lowers_the_contrast_of_each_image_by_itself():
    views = Augment(0, 0, 0, 0, flip=False, colour=0, blur=0.1)(images(30), seeded())

    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    spread = views[inner].std((1, 2, 3)) / images(30)[inner].std((1, 2, 3))
    assert torch.all(spread <= 1)
    assert spread.max() - spread.min() > 0.3
    assert (views.mean() - images(30).mean()).abs() < 0.01


def test_a_flat_image_is_not_changed_by_contrast_but_by_brightness():
    flat = torch.full((10, 3, 8, 8), 0.5)

    views = Augment(0, 0, 0, 0, flip=False, colour=0.4)(flat, seeded())

    assert views.std((1, 2, 3)).max() < 1e-5
    assert views.mean((1, 2, 3)).std() > 0.05


def test_what_is_switched_off_draws_nothing_from_the_seed():
    plain, strong = Augment(), Augment(randaugment=2, erase=0.3)

    assert torch.equal(replace(strong, randaugment=0, erase=0)(images(), seeded(3)), plain(images(), seeded(3)))
    assert not torch.equal(strong(images(), seeded(3)), plain(images(), seeded(3)))
    assert torch.equal(strong(images(), seeded(3)), strong(images(), seeded(3)))


def rectangle(mask):
    """The sides of the rectangle that a mask ``(h, w)`` shows; the mask must be one."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    if not len(rows):
        return 0, 0
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    assert mask.sum() == height * width
    return height, width


def test_erasing_covers_one_rectangle_of_at_most_that_share_with_the_mean_colour():
    given = images(200, side=40)
    views = replace(OFF, erase=0.4)(given, seeded())
    means = given.mean((2, 3))

    shares, shapes = [], []
    for view, image, mean in zip(views, given, means, strict=True):
        erased = ((view - image).abs() > 1e-4).any(0)
        height, width = rectangle(erased)
        shares.append(height * width / 1600)
        if height * width > 100:
            shapes.append(height / width)
        torch.testing.assert_close(view[:, erased], mean[:, None].expand(3, int(erased.sum())), atol=1e-4, rtol=0)

    assert max(shares) <= 0.4
    assert 0.15 < sum(shares) / 200 < 0.25
    assert min(shapes) < 0.5
    assert max(shapes) > 2


def test_cut_mix_takes_each_pixel_from_one_of_two_images_and_tells_their_shares_exactly():
    given = images(60, side=30)
    kept = given.clone()

    mixed, partner, share = cut_mix(given, seeded())

    assert torch.equal(given, kept)
    assert sorted(partner.tolist()) == list(range(60))
    for row in range(60):
        own = (mixed[row] == given[row]).all(0)
        assert torch.equal(mixed[row][:, ~own], given[partner[row]][:, ~own])
        if partner[row] != row:
            height, width = rectangle(~own)
            assert height == width
            assert share[row].item() == pytest.approx(1 - height * width / 900, abs=1e-6)
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert 0.4 < share.mean() < 0.65


def test_cut_mix_cuts_anywhere_and_the_same_for_the_same_seed():
    ground = torch.arange(400.0).view(-1, 1, 1, 1).expand(400, 1, 20, 20)

    mixed, partner, _ = cut_mix(ground, seeded(5))

    cut = (mixed != ground)[:, 0].float().mean(0)
    assert cut.min() > 0.01  # the corners too
    assert cut.argmax() in [20 * row + column for row in range(6, 14) for column in range(6, 14)]
    again, partner_again, _ = cut_mix(ground, seeded(5))
    assert torch.equal(mixed, again)
    assert torch.equal(partner, partner_again)


def test_an_image_without_a_second_one_is_mixed_with_itself():
    mixed, partner, _ = cut_mix(images(1), seeded())

    assert torch.equal(mixed, images(1))
    assert partner.tolist() == [0]


@pytest.mark.parametrize(
    "wrong", [{"rotation": -1}, {"blur": -0.1}, {"scale": 1.0}, {"colour": 2.0}, {"erase": 1.0}, {"randaugment": 1.5}]
)
def test_a_senseless_strength_is_refused_when_it_is_given(wrong):
    with pytest.raises(ArgumentError):
        Augment(**wrong)


def test_a_thicker_pen_widens_dark_lines_by_at_most_its_share_on_each_side_and_leaves_light_alone():
    paper = torch.ones(60, 3, 40, 40)
    paper[:, :, :, 20] = 0

    views = replace(OFF, stroke=0.1)(paper, seeded())  # up to 4 of 40 pixels

    ink = (1 - views[:, 0, 20]).sum(1)  # the width of the line, in pixels
    assert ink.min() >= 1
    assert ink.max() <= 9
    assert ink.max() > 8
    assert ink.std() > 1
    assert torch.equal(views[:, :, :, :16], paper[:, :, :, :16])


def test_coarse_views_have_pixels_of_at_most_their_share_and_keep_their_mean():
    side = 48
    pictures = images(200, side)

    views = replace(OFF, coarse=6 / side)(pictures, seeded())

    torch.testing.assert_close(views.mean((2, 3)), pictures.mean((2, 3)), atol=0.02, rtol=0)
    untouched = torch.isclose(views, pictures, atol=1e-4).flatten(1).all(1).float().mean()
    assert untouched < 0.1
    # A picture of white noise taken down to pixels of s x s keeps 1 / s² of its variance, enlarging takes a part of it.
    kept = views.flatten(1).var(1) / pictures.flatten(1).var(1)
    assert kept.min() > 1 / 6**2 / 4
    assert kept.min() < 1 / 5**2
    assert kept.max() > 5 * kept.min()


def test_a_coarse_view_of_what_has_no_detail_is_the_picture_itself():
    plain = torch.full((20, 3, 32, 32), 0.6)

    torch.testing.assert_close(replace(OFF, coarse=0.2)(plain, seeded()), plain)


def test_elastic_views_wander_by_at_most_their_share_and_neighbours_go_along():
    side, most = 40, 0.05
    place = torch.arange(side) / side
    ramp = place.expand(30, 3, side, side)  # its brightness tells which column a pixel came from

    views = replace(OFF, elastic=most)(ramp, seeded())

    wandered = (views - ramp)[:, 0]
    assert wandered.abs().max() <= 1.5 * most  # a curve through the knots may pass beyond them
    assert wandered.abs().max() > 0.8 * most
    assert wandered.diff(dim=1).abs().max() < most / 2
    assert torch.equal(views, replace(OFF, elastic=most)(ramp, seeded()))


def test_elastic_views_of_a_batch_wander_each_its_own_way():
    ramp = (torch.arange(40) / 40).expand(2, 3, 40, 40)

    one, other = replace(OFF, elastic=0.05)(ramp, seeded())

    assert (one - other).abs().max() > 0.02


def test_on_white_keeps_one_rounded_part_of_its_share_of_the_images_and_nothing_else():
    pictures = 0.9 * images(400, 32)

    views = replace(OFF, on_white=0.3)(pictures, seeded())

    kept = torch.isclose(views, pictures, atol=1e-4).all(1)
    assert torch.equal(views.permute(0, 2, 3, 1)[~kept], torch.ones(int((~kept).sum()), 3))
    cut = kept[~kept.flatten(1).all(1)]
    assert 0.2 < len(cut) / 400 < 0.4
    assert 0.2 < cut.float().mean() < 0.9
    for lines in (cut, cut.transpose(1, 2)):  # rounded: in each row and column what is kept is one piece
        edges = lines.int().diff(dim=2, prepend=torch.zeros(len(cut), 32, 1), append=torch.zeros(len(cut), 32, 1))
        assert (edges == 1).sum(2).max() == 1


def test_on_white_is_a_share():
    with pytest.raises(ArgumentError, match="share"):
        Augment(on_white=1.5)
