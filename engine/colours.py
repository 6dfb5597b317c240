"""The colours of an image, beside what a network sees in it."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

HUES: Final = 12
LIGHT: Final = (0.125, 0.375, 0.625, 0.875)  # from black to white
STRONG: Final = (0.1, 0.22, 0.38)  # how far from grey: the plane of blue and red differences reaches to 0.5
CELLS: Final = 16  # along a side: a colour is the mean of a cell
WIDTH: Final = 0.05  # of a colour, where it shades off into the next ones
GREY, COLOURED = 0.03, 0.15  # by how much channels differ: up to the one no colour, from the other on in full
MIDDLE: Final = 0.5  # standard deviation of the weight of places, from the centre; the corner is at (1, 1)


class Colours(nn.Module):
    """A histogram of an image's colours, projected; nothing at all of an image in shades of grey.

    Colours tell things apart where shapes are strange (Swain and Ballard 1991, "Color indexing"), and a network whose
    training photos changed in colour from view to view hardly knows them. A cell counts for several colours of a
    palette, the nearer the more, and the more the nearer it lies to the centre; roots keep one large area from deciding
    alone. What is grey counts for none: white paper is no colour of what lies on it, and drawings have no colours.

    Args:
        dim: floats that come out.
    """

    palette: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("palette", _palette())
        self.projection = nn.Linear(len(self.palette), dim, bias=False)

    @property
    def dim(self) -> int:
        """Floats that come out."""
        return self.projection.out_features

    def forward(self, images: Tensor) -> Tensor:
        """Return what is said of the colours, ``(n, dim)``, of images ``(n, 3, h, w)`` whose values lie in 0..1.

        Its length is the share that colours take beside a network's features of length 1.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.projection(self.histogram(images.float()))

    def histogram(self, images: Tensor) -> Tensor:
        """Return the root of how much of an image each colour of the palette fills, ``(n, colours)``."""
        cells = nn.functional.avg_pool2d(images, max(1, min(images.shape[2:]) // CELLS))
        seen = cells.flatten(2).transpose(1, 2)  # (n, cells, 3)
        # Negative squared distances, halved and in units of WIDTH, but for what all colours share.
        colours = self.palette / WIDTH**2
        near = (colours @ _opponents(images.device)).T, (self.palette * colours).sum(1) / -2
        shares = torch.addmm(near[1], seen.flatten(0, 1), near[0]).softmax(1).view(*seen.shape[:2], -1)
        coloured = ((seen.amax(2) - seen.amin(2) - GREY) / (COLOURED - GREY)).clamp(0, 1)
        weight = coloured * _places(cells.shape[2], cells.shape[3], images.device).flatten()
        return (weight[:, None] @ shares)[:, 0].sqrt()


def _opponents(device: torch.device) -> Tensor:
    """Lightness, at half its weight, and how much blue and red exceed it (ITU-R BT.601), of RGB."""
    lightness = torch.tensor([0.299, 0.587, 0.114], device=device)
    red, _, blue = torch.eye(3, device=device)
    return torch.stack([lightness / 2, (blue - lightness) / 1.772, (red - lightness) / 1.402])


def _palette() -> Tensor:
    """Colours all around grey, ``(colours, 3)``, as ``_opponents`` says them."""
    return torch.tensor(
        [
            [light / 2, strong * math.cos(angle), strong * math.sin(angle)]
            for row, light in enumerate(LIGHT)
            for strong in STRONG
            for angle in (2 * math.pi * (hue + row % 2 / 2) / HUES for hue in range(HUES))
        ]
    )


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """The weight of each place, ``(height, width)``, most in the middle; all of them sum to 1."""
    down, across = (
        (torch.arange(count, device=device) * 2 + 1 - count).div(count).square().div(-2 * MIDDLE**2).exp()
        for count in (height, width)
    )
    weight = torch.outer(down, across)
    return weight / weight.sum()
