"""RandAugment: a few changes of an image, each drawn at random out of fourteen.

Cubuk, Zoph, Shlens, Le 2020, "RandAugment: Practical automated data augmentation with a reduced search space"
(arXiv:1909.13719). The changes and their largest strengths are the paper's; the strength is drawn anew each time, which
the paper finds as good as a tuned constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
Row = tuple[Tensor | float, Tensor | float, Tensor | float]


def rand_augment(images: Tensor, operations: int, generator: torch.Generator) -> Tensor:
    """Return images ``(n, 3, h, w)`` of range 0..1, each after as many random changes; the given ones stay as they are.

    Everything is drawn on the CPU, so that a seed means the same on any device.
    """
    views, n = images.clone(), len(images)
    for _ in range(operations):
        chosen = torch.randint(len(OPERATIONS), (n,), generator=generator)
        strength = torch.rand(n, generator=generator)
        sign = 2.0 * torch.randint(2, (n,), generator=generator) - 1
        for number, operation in enumerate(OPERATIONS.values()):
            rows = (chosen == number).nonzero().flatten()
            if len(rows):
                numbers = (part[rows].to(images).view(-1, 1, 1, 1) for part in (strength, sign))
                rows = rows.to(images.device)
                views[rows] = operation(views[rows], *numbers)
    return views


def resampled(images: Tensor, theta: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Return images as seen through ``theta (n, 2, 3)``: for each place of the view, which place it shows.

    Places run from -1 to 1 along each axis; what lies beyond the border looks like the border. ``shifts (n, 2, a, b)``
    move the places further, each its own way: smoothly between the ``a`` times ``b`` knots that they are given for.
    """
    grid = functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    if shifts is not None:
        smooth = functional.interpolate(shifts.to(images), images.shape[2:], mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


# An operation takes images (n, 3, h, w), strengths (n, 1, 1, 1) of 0..1 and signs (n, 1, 1, 1), -1 or 1.


def _identity(images: Tensor, _strength: Tensor, _sign: Tensor) -> Tensor:
    return images


def _auto_contrast(images: Tensor, _strength: Tensor, _sign: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high == low
    return torch.where(flat, images, (images - low) / (high - low).masked_fill(flat, 1.0))


def _equalise(images: Tensor, _strength: Tensor, _sign: Tensor) -> Tensor:
    """Spread each channel's 256 levels so that they are used alike often, as Pillow does it."""
    levels = _levels(images).flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, device=images.device, dtype=torch.long)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    total = counts.cumsum(2)
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (total[..., -1:] - brightest) // 255
    table = ((step // 2 + total - counts) // step.clamp(min=1)).clamp(max=255)
    spread = table.gather(2, levels).view_as(images) / 255
    return torch.where((step == 0)[..., None], images, spread.to(images))


def _rotate(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    angle = math.radians(30) * sign * strength
    return _mapped(images, (angle.cos(), -angle.sin(), 0.0), (angle.sin(), angle.cos(), 0.0))


def _shear_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _mapped(images, (1.0, 0.3 * sign * strength, 0.0), (0.0, 1.0, 0.0))


def _shear_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _mapped(images, (1.0, 0.0, 0.0), (0.3 * sign * strength, 1.0, 0.0))


def _translate_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _mapped(images, (1.0, 0.0, 0.9 * sign * strength), (0.0, 1.0, 0.0))  # 0.45 of the side, 2 long


def _translate_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _mapped(images, (1.0, 0.0, 0.0), (0.0, 1.0, 0.9 * sign * strength))


def _posterise(images: Tensor, strength: Tensor, _sign: Tensor) -> Tensor:
    """Keep 8 to 4 bits of a pixel."""
    step = 2 ** (4 * strength).round().long()
    return ((_levels(images) // step) * step).to(images) / 255


def _solarise(images: Tensor, strength: Tensor, _sign: Tensor) -> Tensor:
    """Invert what is bright: nothing at strength 0, everything at 1."""
    return torch.where(_levels(images) < 256 * (1 - strength), images, 1 - images)


def _colour(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _away_from(_grey(images), images, strength, sign)


def _contrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _away_from(_grey(images).mean((2, 3), keepdim=True), images, strength, sign)


def _brightness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _away_from(torch.zeros_like(images), images, strength, sign)


def _sharpness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    kernel = torch.ones(3, 1, 3, 3).to(images)
    kernel[:, :, 1, 1] = 5.0
    smooth = images.clone()  # the outermost pixels have no neighbours all around: they stay
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(images, kernel / 13, groups=3)
    return _away_from(smooth, images, strength, sign)


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalise": _equalise,
    "rotate": _rotate,
    "solarise": _solarise,
    "colour": _colour,
    "posterise": _posterise,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


def _levels(images: Tensor) -> Tensor:
    return (255 * images).round().long()


def _grey(images: Tensor) -> Tensor:
    """How bright a colour looks (ITU-R 601)."""
    return (images * torch.tensor([0.299, 0.587, 0.114]).to(images).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _away_from(poor: Tensor, images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """Go up to nine tenths of the way from the images to a poorer version of them, or the other way."""
    return (poor + (1 + 0.9 * sign * strength) * (images - poor)).clamp(0, 1)


def _mapped(images: Tensor, across: Row, down: Row) -> Tensor:
    """Return ``images``, the place ``(x, y)`` of each view showing the place ``(across, down) @ (x, y, 1)``."""
    theta = torch.zeros(len(images), 2, 3).to(images)
    for row, numbers in enumerate((across, down)):
        for column, number in enumerate(numbers):
            theta[:, row, column] = number.flatten() if isinstance(number, Tensor) else number
    return resampled(images, theta)
