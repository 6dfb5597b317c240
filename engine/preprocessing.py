"""How a photo becomes the pixels that a network sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.paper import find_ink, shown


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Part of an embedder's identity: stored with its weights, included in its fingerprint.

    Attributes:
        size: side of the square that the network sees, in pixels.
        resize: side to which the image is resized first; more than ``size`` cuts a border off in mode "crop".
        fit: "crop" keeps the aspect ratio and cuts out the centre, as ImageNet networks are tested;
            "stretch" always shows the whole image.
        mean: subtracted from each RGB channel, in units of the range 0..1.
        std: each channel is divided by it.
        ink: shares of the square's side that what is drawn fills in further looks at a drawing on even paper
            (``engine.paper``); of any other image there is one look.
    """

    size: int = 224
    resize: int = 256
    fit: Literal["crop", "stretch"] = "crop"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    ink: tuple[float, ...] = ()

    @classmethod
    def whole(cls, size: int) -> Preprocessing:
        """Return the preprocessing that shows the whole image, resized to ``size`` pixels square."""
        return cls(size=size, resize=size, fit="stretch")

    def resized(self, size: int) -> Preprocessing:
        """Return the same preprocessing for a network that sees ``size`` pixels: the same share of the image."""
        return replace(self, size=size, resize=round(self.resize * size / self.size))

    def middle(self, size: int, side: int) -> Preprocessing:
        """Return the one that shows the middle ``size`` pixels square of images whose shorter side is made ``side``."""
        return replace(self, size=size, resize=side, fit="crop")

    @property
    def enough(self) -> int:
        """Pixels along its shorter side that an image need have: twice what it is resized to (``images.decode``)."""
        return 2 * self.resize

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """Return the preprocessing that ``as_dict`` described."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; without ink, as before there was any: it makes fingerprints."""
        return {name: value for name, value in asdict(self).items() if name != "ink" or value}

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return an RGB image as the ``(size, size, 3)`` uint8 array that the network learns from, and sees first."""
        if self.fit == "stretch":
            return np.array(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        short = min(image.size)
        width, height = (self.resize * side // short for side in image.size)  # rounded down, as torchvision does
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (round((side - self.size) / 2) for side in (width, height))
        return np.array(image.crop((left, top, left + self.size, top + self.size)))

    def looks(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return all that the network will see of an RGB image, ``(n, size, size, 3)`` uint8: ``pixels`` first."""
        whole = self.pixels(image)
        found = find_ink(image) if self.ink else None
        if found is None:
            return whole[np.newaxis]
        return np.stack([whole, *(shown(image, found, self.size, share) for share in self.ink)])

    def normalize(self, images: Tensor) -> Tensor:
        """Return images ``(n, 3, h, w)`` of range 0..1 with each channel shifted and scaled."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std


def to_unit_range(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return uint8 pixels ``(n, h, w, 3)`` as a float tensor ``(n, 3, h, w)`` of range 0..1, channels last."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(255)
