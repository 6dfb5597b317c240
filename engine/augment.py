"""Random views of images, a whole batch at a time and on whatever device it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from engine.randaugment import rand_augment, resampled
from indexer.errors import ArgumentError

KNOTS = 5
"""Places along each side that ``elastic`` moves on their own; all others go along with their neighbours."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What a class looks like from elsewhere: with it, one image a class is enough to train on.

    Every number is the largest change; 0 switches that change off.

    Attributes:
        rotation: degrees either way.
        translation: share of the side, either way, along each axis.
        scale: share by which each axis grows or shrinks; half of it is common to both axes.
        shear: degrees either way.
        elastic: share of the side by which places wander, neighbours alike, as if the paper were rubber: what one hand
            does differently from another (Simard, Steinkraus, Platt 2003, "Best Practices for Convolutional Neural
            Networks Applied to Visual Document Analysis").
        flip: mirror left and right half of the time; not for letters, a flipped letter is another letter.
        colour: share by which brightness, contrast and saturation change.
        blur: standard deviation of a Gaussian blur, as a share of the side.
        coarse: largest pixel, as a share of the side, that an image is taken down to and enlarged from again: how sharp
            a picture is then tells nothing.
        stroke: share of the side by which whatever is dark grows on every side, as if drawn with a thicker pen.
        randaugment: how many changes of RandAugment follow, each of random kind and strength; photos take 1 or 2.
        erase: share of the area that a rectangle covers with the image's mean colour (random erasing, Zhong et al.
            2020, arXiv:1708.04896, with the area drawn from 0 up instead of erasing only some of the images).
        on_white: share of the images of which only a rounded part stays, on white, as a catalogue shows things: what
            lies on white is then no kind of its own.
    """

    rotation: float = 10.0
    translation: float = 0.1
    scale: float = 0.2
    shear: float = 0.0
    elastic: float = 0.0
    flip: bool = True
    colour: float = 0.3
    blur: float = 0.0
    coarse: float = 0.0
    stroke: float = 0.0
    randaugment: int = 0
    erase: float = 0.0
    on_white: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ArgumentError(f"{field.name} cannot be negative: 0 switches it off")
        if max(self.scale, self.colour, self.coarse, self.erase) >= 1:
            raise ArgumentError("scale, colour, coarse and erase are shares: give a number below 1")
        if self.on_white > 1:
            raise ArgumentError("on_white is a share of the images: give a number from 0 to 1")
        if not isinstance(self.randaugment, int):
            raise ArgumentError("randaugment counts changes: give a whole number")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one random view of each image ``(n, 3, h, w)`` of range 0..1; the images stay as they are."""
        views = self._move(images, generator)
        if self.stroke:
            views = self._thicken(views, generator)
        if self.randaugment:
            views = rand_augment(views, self.randaugment, generator)
        if self.colour:
            views = self._recolour(views, generator)
        if self.on_white:
            views = self._cut_out(views, generator)
        if self.blur:
            views = self._blur(views, generator)
        if self.coarse:
            views = self._coarsen(views, generator)
        if self.erase:
            views = self._erase(views, generator)
        return views

    def _move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draw = _Draw(len(images), generator)
        angle, shear = math.radians(self.rotation) * draw.signed(), math.radians(self.shear) * draw.signed()
        common = 0.5 * self.scale * draw.signed()
        width, height = (1 + common + 0.5 * self.scale * draw.signed() for _ in range(2))
        mirror = torch.where(draw.signed() < 0, -1.0, 1.0) if self.flip else torch.ones(len(images))
        cos, sin, slope = angle.cos(), angle.sin(), shear.tan()
        # grid_sample asks, for each place of the view, which place of the image it shows: the inverse map.
        matrix = torch.stack(
            [
                torch.stack([mirror * cos / width, mirror * (cos * slope - sin) / height], 1),
                torch.stack([sin / width, (sin * slope + cos) / height], 1),
            ],
            1,
        )
        shift = 2 * self.translation * torch.stack([draw.signed(), draw.signed()], 1)
        shifts = None
        if self.elastic:
            shifts = 2 * self.elastic * (2 * torch.rand(len(images), 2, KNOTS, KNOTS, generator=generator) - 1)
        return resampled(images, torch.cat([matrix, shift[:, :, None]], 2), shifts)

    def _recolour(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draw = _Draw(len(images), generator)
        brightness, contrast, saturation = (
            (1 + self.colour * draw.signed()).view(-1, 1, 1, 1).to(images) for _ in range(3)
        )
        grey = images.mean(1, keepdim=True)
        images = grey + saturation * (images - grey)
        middle = images.mean((1, 2, 3), keepdim=True)
        return (brightness * (middle + contrast * (images - middle))).clamp(0, 1)

    def _thicken(self, images: Tensor, generator: torch.Generator) -> Tensor:
        pixels = self.stroke * images.shape[-1] * _Draw(len(images), generator).share().to(images)
        for step in range(math.ceil(self.stroke * images.shape[-1])):
            thicker = -functional.max_pool2d(-images, 3, stride=1, padding=1)
            images = torch.lerp(images, thicker, (pixels - step).clamp(0, 1).view(-1, 1, 1, 1))
        return images

    def _blur(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, channels, side = len(images), images.shape[1], images.shape[-1]
        sigma = (self.blur * side * _Draw(n, generator).share()).clamp(min=0.1).view(-1, 1)
        radius = max(1, math.ceil(2 * self.blur * side))
        offsets = torch.arange(-radius, radius + 1)
        kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), 1).to(images).repeat_interleave(channels, 0)
        # Each image has a kernel of its own: its channels become groups of one convolution, rows first, then columns.
        flat = functional.pad(images.reshape(1, n * channels, *images.shape[2:]), [radius] * 4, mode="replicate")
        flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
        return functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels).view_as(images).clamp(0, 1)

    def _coarsen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        side = images.shape[-1]
        largest = max(1.0, self.coarse * side)
        # Of each pixel size as many, not of each number of pixels: there are more of these among the fine ones.
        pixels = (side / (1 + (largest - 1) * _Draw(len(images), generator).share())).round().long()
        views = images.clone()
        for count in pixels[pixels < side].unique().tolist():
            some = (pixels == count).to(images.device)
            fewer = functional.interpolate(images[some], size=(count, count), mode="area")
            views[some] = functional.interpolate(fewer, size=images.shape[2:], mode="bilinear")
        return views

    def _cut_out(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draw = _Draw(len(images), generator)
        chosen, power = draw.share() < self.on_white, 2 + 4 * draw.share()  # of an ellipse, or nearly a rectangle
        beyond = []
        for side in images.shape[2:]:
            middle, reach = 0.15 * draw.signed(), 0.6 + 0.4 * draw.share()
            place = torch.linspace(-1, 1, side) - middle[:, None]
            beyond.append((place.abs() / reach[:, None]) ** power[:, None])
        outside = (beyond[0][:, None, :, None] + beyond[1][:, None, None, :] > 1) & chosen.view(-1, 1, 1, 1)
        return images.masked_fill(outside.to(images.device), 1.0)

    def _erase(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draw = _Draw(len(images), generator)
        area = self.erase * draw.share()
        aspect = (math.log(3.3) * draw.signed()).exp()  # 0.3 to 3.3, as in the paper
        covered = _rectangles(images, area, aspect, draw)
        return torch.where(covered, images.mean((2, 3), keepdim=True), images)


def cut_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return images ``(n, c, h, w)`` in each of which a rectangle shows another one of them, and what each now shows.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features"
    (arXiv:1905.04899). The rectangle has the image's proportions and lies inside, so that all shares are as likely.

    Returns:
        The mixed images; for each the row of its partner ``(n,)``, which may be itself; and the share of its pixels
        ``(n,)`` that is still its own: a loss counts its own label by that, the partner's by the rest.
    """
    draw = _Draw(len(images), generator)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    cut = _rectangles(images, draw.share(), torch.ones(len(images)), draw)
    return torch.where(cut, images[partner], images), partner, 1 - cut.float().mean((1, 2, 3))


def _rectangles(images: Tensor, area: Tensor, aspect: Tensor, draw: _Draw) -> Tensor:
    """Return a mask ``(n, 1, h, w)``: one rectangle an image, of at most that share of the area, anywhere inside."""
    inside = []
    for side, share in zip(images.shape[2:], ((area * aspect).sqrt(), (area / aspect).sqrt()), strict=True):
        length = (share.clamp(max=1) * side).floor()
        first = (draw.share() * (side - length + 1)).floor()
        place = torch.arange(side)
        inside.append((place >= first[:, None]) & (place < (first + length)[:, None]))
    return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)


class _Draw:
    """Random numbers for the images of one batch, always drawn on the CPU so that a seed means the same anywhere."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator = n, generator

    def share(self) -> Tensor:
        return torch.rand(self.n, generator=self.generator)

    def signed(self) -> Tensor:
        return 2 * self.share() - 1
