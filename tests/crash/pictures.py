"""The world of the crash tests: sixty small pictures, known by their numbers, and two embedders that project them."""

from __future__ import annotations

import hashlib
import io
from functools import cache

import numpy as np
from PIL import Image

COUNT, DIM = 60, 16


class Toy:
    """Says of any image of 8 x 8 pixels what it has always said, whoever else is in the batch."""

    def __init__(self, fingerprint, dim):
        self.fingerprint, self.dim = fingerprint, dim
        self.projection = np.random.default_rng(dim).normal(size=(192, dim)).astype(np.float32)

    def prepare(self, image):
        return np.asarray(image.resize((8, 8)), np.float32).ravel() / 255 - 0.5

    def embed(self, images):
        vectors = np.einsum("ij,jk->ik", np.stack(images), self.projection)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


EMBEDDERS = {"toy": Toy("toy", DIM), "newer": Toy("newer", 24)}


@cache
def file(number):
    """The bytes of a picture that only this number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


@cache
def content(number):
    return hashlib.sha256(file(number)).hexdigest()


@cache
def vector(number, embedder="toy"):
    toy = EMBEDDERS[embedder]
    return toy.embed([toy.prepare(Image.open(io.BytesIO(file(number))))])[0]


@cache
def numbers():
    """The numbers of the pictures by their contents."""
    return {content(number): number for number in range(COUNT)}
